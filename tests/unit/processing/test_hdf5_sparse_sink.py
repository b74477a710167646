import os
import signal
import subprocess
import sys

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest
import silx.io
from silx.io.nxdata import get_default

from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.errors import StorageError
from lima2_core.flow.sink import Row
from lima2_core.ids import AcqId
from lima2_core.testing.fake_camera import FIELDS, told_of
from processing.codecs import CODECS
from processing.file_locks import is_complete
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5_rows import FLUSH_PERIOD_S
from processing.sinks.hdf5_sparse import SparseSink
from processing.tasks.sparsify import Sparsify
from tests.unit.processing.test_hdf5_sink import ManualClock

DETECTOR = "entry_0000/instrument/detector"
SPEC = FrameSpec((1, 40, 60), np.dtype("u2"), unit="photons")


class Writer:
    """A sink with the task before it: takes frames by their number."""

    def __init__(self, folder, spec=SPEC, *, expected=None, frame_idx=False, fields=(), **changed):
        by_frame = changed.pop("by_frame", True)
        changed = {"base_path": str(folder), "nb_frames_per_file": 4, **changed}
        self.params = SavingParams(enabled=True, filename_prefix="lima2_sparse", **changed)
        self.task = Sparsify()
        self.task.resolve(spec)
        self.clock = ManualClock()
        self.spec = spec
        self.fields = fields
        self.sink = SparseSink(
            self.params,
            spec,
            FileMetadata(AcqId("0b3e"), detector={"plugin": "Simulator"}),
            image_shape=spec.shape[1:],
            by_frame=by_frame,
            expected_rows=expected,
            with_frame_idx=frame_idx,
            fields=fields,
            clock=self.clock,
        )

    def path(self, number=0):
        return self.params.path(number)

    def image(self, number, rate=0.05):
        """Another one for each number; every fifth is empty, every seventh full."""
        random = np.random.default_rng(number)
        rate = 0.0 if number % 5 == 4 else 9.0 if number % 7 == 6 else rate
        return random.poisson(rate, self.spec.shape).astype(self.spec.dtype)

    def row(self, local, validity=Validity.VALID, **how):
        told = told_of(local) if self.fields else None
        frame = Frame(local, self.image(local, **how), validity=validity, fields=told)
        return Row(local, local, self.task.process(frame))

    def write(self, *locals_):
        self.sink.write([self.row(local) for local in locals_])

    def run(self, n):
        self.sink.open()
        self.write(*range(n))
        self.sink.close()


def flat_frame(file, row):
    """As the writer of the conductor's master finds a frame."""
    data = file[f"{DETECTOR}/data"]
    first, last = (int(data["frame_ptr"][row + n]) for n in (0, 1))
    return data["index"][first:last], data["intensity"][first:last]


def own_frame(file, row):
    """As lima2.client finds a frame."""
    detector = file[DETECTOR]
    return detector["index"][row], detector["intensity"][row]


def dense(hits, spec=SPEC):
    index, intensity = hits
    pixels = np.zeros(spec.shape[1] * spec.shape[2], spec.dtype)
    pixels[index] = intensity
    return pixels.reshape(spec.shape)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4"])
@pytest.mark.parametrize("compression", sorted(CODECS))
def test_both_readers_find_every_hit_of_every_frame(tmp_path, compression, dtype):
    spec = FrameSpec((1, 200, 300), np.dtype(dtype))
    writer = Writer(tmp_path, spec, compression=compression, nb_frames_per_file=12)

    writer.run(12)

    with h5py.File(writer.path()) as file:
        data = file[f"{DETECTOR}/data"]
        assert (data["index"].dtype, data["intensity"].dtype) == (np.int32, spec.dtype)
        assert data["frame_ptr"].dtype == np.uint64
        assert data["frame_ptr"].shape == (13,)
        assert data["frame_ptr"][0] == 0
        assert data["frame_ptr"][-1] == len(data["index"]) == len(data["intensity"])
        assert len(file[f"{DETECTOR}/index"]) == len(file[f"{DETECTOR}/intensity"]) == 12
        for row in range(12):
            for read in (flat_frame, own_frame):
                assert np.array_equal(dense(read(file, row), spec), writer.image(row))


def test_packed_files_are_smaller(tmp_path):
    sizes = {}
    for compression in ("none", "bshuf_lz4"):
        folder = tmp_path / compression
        folder.mkdir()
        spec = FrameSpec((1, 500, 500), np.dtype("u2"))
        writer = Writer(folder, spec, compression=compression, by_frame=False)
        writer.run(4)
        sizes[compression] = writer.path().stat().st_size

    assert sizes["bshuf_lz4"] < 0.6 * sizes["none"]


def test_rows_by_frame_are_left_out_if_not_wanted(tmp_path):
    writer = Writer(tmp_path, by_frame=False)

    writer.run(4)

    with h5py.File(writer.path()) as file:
        assert "index" not in file[DETECTOR]
        assert np.array_equal(dense(flat_frame(file, 2)), writer.image(2))


def test_a_gap_is_a_row_without_hits_and_says_why(tmp_path):
    writer = Writer(tmp_path, frame_idx=True)
    writer.sink.open()
    writer.write(0)
    writer.sink.write([Row(1, 1, Gap(1, Validity.PACKET_LOSS))])
    writer.sink.write([writer.row(2, Validity.PARTIAL)])
    writer.sink.write([Row(3, 3, Gap(3, Validity.NEVER_SENT))])
    writer.sink.write([Row(4, 4, Gap(4, Validity.NEVER_SENT))])
    writer.sink.close()

    with h5py.File(writer.path()) as file:
        detector = file[DETECTOR]
        assert detector["validity"][()].tolist() == [0, 3, 1, 9]
        assert detector["frame_idx"][()].tolist() == [0, 1, 2, 3]
        pointers = detector["data/frame_ptr"][()].tolist()
        assert pointers[1] == pointers[2]
        assert pointers[3] == pointers[4]
        assert [len(own_frame(file, row)[0]) > 0 for row in range(4)] == [True, False, True, False]
        assert np.array_equal(dense(flat_frame(file, 2)), writer.image(2))
    with h5py.File(writer.path(1)) as file:
        assert file[f"{DETECTOR}/data/frame_ptr"][()].tolist() == [0, 0]
    assert writer.sink.stats().frames_saved == 2
    assert writer.sink.stats().rows_saved == 5


def test_what_the_camera_tells_of_each_frame_is_beside_it(tmp_path):
    writer = Writer(tmp_path, fields=FIELDS)
    writer.run(3)

    with h5py.File(writer.path()) as file:
        told = file[f"{DETECTOR}/frame_metadata/bunch_id"][()]
    assert told.tolist() == [int(told_of(row)["bunch_id"]) for row in range(3)]


def test_each_file_takes_its_number_of_rows_and_the_last_what_is_left(tmp_path):
    writer = Writer(tmp_path)

    writer.run(10)

    assert sorted(os.listdir(tmp_path)) == [f"lima2_sparse_0_0000{n}.h5" for n in range(3)]
    for row in range(10):
        with h5py.File(writer.path(row // 4)) as file:
            assert np.array_equal(dense(flat_frame(file, row % 4)), writer.image(row))
            assert len(file[f"{DETECTOR}/data/frame_ptr"]) == (5 if row < 8 else 3)
    assert writer.sink.files == tuple(str(writer.path(n)) for n in range(3))


def test_after_a_run_without_a_frame_there_is_file_0(tmp_path):
    writer = Writer(tmp_path)

    writer.run(0)

    assert os.listdir(tmp_path) == ["lima2_sparse_0_00000.h5"]
    assert writer.sink.files == (str(writer.path()),)
    with h5py.File(writer.path()) as file:
        assert file[f"{DETECTOR}/data/frame_ptr"][()].tolist() == [0]
        assert len(file[f"{DETECTOR}/data/index"]) == len(file[f"{DETECTOR}/validity"]) == 0


def test_a_run_that_never_began_leaves_no_file(tmp_path):
    writer = Writer(tmp_path)
    writer.sink.open()

    writer.sink.abort()

    assert os.listdir(tmp_path) == []


def test_a_file_is_closed_to_readers_until_it_is_complete(tmp_path):
    writer = Writer(tmp_path, expected=6)
    writer.sink.open()
    writer.write(0, 1)
    assert writer.path().exists()
    assert not is_complete(writer.path())

    writer.write(2, 3, 4, 5)

    for number, rows in enumerate((4, 2)):
        assert is_complete(writer.path(number))
        with h5py.File(writer.path(number)) as file:
            assert len(file[f"{DETECTOR}/validity"]) == rows
    writer.sink.close()


def test_what_is_flushed_counts_as_saved_and_nothing_else_does(tmp_path):
    writer = Writer(tmp_path, nb_frames_per_file=100)
    writer.sink.open()

    writer.write(0, 1, 2)
    assert writer.sink.stats().rows_saved == 0
    writer.clock.s += FLUSH_PERIOD_S
    writer.sink.idle()
    assert writer.sink.stats().rows_saved == 3
    copy = tmp_path / "copy.h5"
    copy.write_bytes(writer.path().read_bytes())
    with h5py.File(copy) as file:
        assert np.array_equal(dense(flat_frame(file, 2)), writer.image(2))
    writer.write(3)
    writer.sink.close()

    assert writer.sink.stats().rows_saved == 4
    with h5py.File(writer.path()) as file:
        for row in range(4):
            assert np.array_equal(dense(flat_frame(file, row)), writer.image(row))
            assert np.array_equal(dense(own_frame(file, row)), writer.image(row))


def test_chunks_that_were_flushed_incomplete_are_completed_where_they_are(tmp_path):
    spec = FrameSpec((1, 100, 100), np.dtype("u2"))
    writer = Writer(tmp_path, spec, nb_frames_per_file=100)
    writer.sink.open()
    for row in range(100):
        writer.write(row)
        if row % 3 == 0:
            writer.clock.s += FLUSH_PERIOD_S
            writer.sink.idle()
    writer.sink.close()

    with h5py.File(writer.path()) as file:
        for row in range(100):
            assert np.array_equal(dense(flat_frame(file, row), spec), writer.image(row))


def test_the_tree_is_nexus_and_tells_of_the_images(tmp_path):
    writer = Writer(tmp_path)

    writer.run(2)

    with h5py.File(writer.path()) as file:
        data = file[f"{DETECTOR}/data"]
        assert data.attrs["NX_class"] == "NXdata"
        assert data.attrs["image_shape"].tolist() == [40, 60]
        assert data.attrs["threshold"] == 1
        assert data["intensity"].attrs["units"] == "photons"
        assert file["entry_0000/measurement/data"] == data
        assert file["entry_0000/entry_identifier_uuid"].asstr()[()] == "0b3e"
    assert writer.path().read_bytes()[8] == 0  # version of the superblock: the oldest
    with silx.io.open(str(writer.path())) as file:
        plot = get_default(file)
        assert plot is not None
        assert plot.is_valid


def test_what_is_no_sparse_frame_is_refused(tmp_path):
    writer = Writer(tmp_path)
    writer.sink.open()

    with pytest.raises(StorageError, match="neither a sparse frame nor a gap"):
        writer.sink.write([Row(0, 0, np.zeros(3))])
    writer.sink.abort()

    assert os.listdir(tmp_path) == []


CHILD = """
import sys, importlib.util
spec = importlib.util.spec_from_file_location("writer", {here!r})
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
writer = tests.Writer({folder!r}, nb_frames_per_file=1000, compression={codec!r})
writer.sink.open()
for row in range(300):
    writer.write(row)
    if row % 100 == 99:
        writer.clock.s += 1
        writer.sink.idle()
writer.write(*range(300, 400))
print(writer.sink.stats().frames_saved, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("codec", ["none", "bshuf_lz4"])
def test_after_kill_9_everything_that_was_flushed_is_readable(tmp_path, codec):
    code = CHILD.format(here=__file__, folder=str(tmp_path), codec=codec)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as child:
        told = child.stdout.readline()
        child.send_signal(signal.SIGKILL)

    assert told.strip() == "300"
    writer = Writer(tmp_path)
    with h5py.File(writer.path()) as file:
        codes = file[f"{DETECTOR}/validity"][()].tolist()
        assert codes == [0] * 300 + [Validity.CRASH] * 700
        for row in range(300):
            assert np.array_equal(dense(flat_frame(file, row)), writer.image(row))
    assert sorted(os.listdir(tmp_path)) == [writer.path().name]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("rows_per_file", [10, 10_000])
@pytest.mark.parametrize(("side", "rate"), [(40, 0.05), (300, 0.05), (300, 2.0)])
def test_on_a_full_disk_all_frames_before_the_failing_one_are_readable(
    small_disk, side, rate, rows_per_file, flushes
):
    spec = FrameSpec((1, side, side), np.dtype("u2"))
    writer = Writer(small_disk, spec, nb_frames_per_file=rows_per_file)
    writer.sink.open()

    local, full = 0, None
    while full is None:
        writer.clock.s += 0.1 if flushes else 0
        row = writer.row(local, rate=rate)
        try:
            writer.sink.write([row])
            local += 1
        except StorageError as error:
            full = error
    writer.sink.abort()

    assert "No space left" in str(full)
    assert full.details["file"] == str(writer.path(local // rows_per_file))
    assert writer.sink.stats().frames_saved == local
    used = sum(path.stat().st_size for path in small_disk.iterdir())
    assert used > 4 * 2**20
    for first in range(0, local, rows_per_file):
        with h5py.File(writer.path(first // rows_per_file)) as file:
            rows = min(rows_per_file, local - first)
            assert file[f"{DETECTOR}/validity"][()].tolist() == [0] * rows
            for row in range(0, rows, 1 if rows < 50 else 37):
                image = writer.image(first + row, rate=rate)
                assert np.array_equal(dense(flat_frame(file, row), spec), image)
                assert np.array_equal(dense(own_frame(file, row), spec), image)
