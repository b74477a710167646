import fcntl
import logging
import os
import signal
import subprocess
import sys
from datetime import datetime

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest
import silx.io
from silx.io.nxdata import get_default

from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.geometry import Affine
from lima2_core.errors import StorageError
from lima2_core.flow.sink import Row
from lima2_core.ids import AcqId
from lima2_core.testing.fake_camera import FIELDS, told_of
from processing.codecs import CODECS
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5 import Hdf5Sink
from processing.sinks.hdf5_rows import FLUSH_PERIOD_S
from processing.tasks.encode_chunk import EncodeChunk

DETECTOR = "entry_0000/instrument/detector"
DATA = "entry_0000/instrument/detector/data"
VALIDITY = "entry_0000/instrument/detector/validity"
FRAME_IDX = "entry_0000/instrument/detector/frame_idx"
SPEC = FrameSpec((1, 4, 6), np.dtype("u2"))
METADATA = FileMetadata(
    AcqId("0b3e"),
    detector={"plugin": "Simulator", "pixel_size": {"x": 1e-4, "y": 1e-4}},
    acquisition={"acq": {"nb_frames": 8}, "det": {"peaks": [{"x0": 1.0}, {"x0": 2.0}]}},
    processing={"fifo": {"nb_fifo_frames": 100}, "path": "a/b", "a/b": [1, 2], "nothing": None},
)


class ManualClock:
    """A clock in the hands of the test."""

    def __init__(self):
        self.s = 1000.0

    def now_s(self):
        return self.s

    def wall_s(self):
        return 1_700_000_000.0 + self.s


def image(number, spec=SPEC):
    return np.full(spec.shape, number + 1, spec.dtype)


class Writer:
    """A sink with the task before it: takes frames by their number."""

    def __init__(
        self,
        folder,
        spec=SPEC,
        *,
        expected=None,
        frame_idx=False,
        fields=(),
        stride=1,
        **changed,
    ):
        changed = {"base_path": str(folder), "nb_frames_per_file": 4, **changed}
        self.params = SavingParams(enabled=True, **changed)
        self.task = EncodeChunk(self.params)
        self.task.resolve(spec)
        self.clock = ManualClock()
        self.spec = spec
        self.stride = stride
        self.fields = fields
        self.sink = Hdf5Sink(
            self.params,
            spec,
            METADATA,
            expected_rows=expected,
            with_frame_idx=frame_idx,
            fields=fields,
            clock=self.clock,
        )

    def path(self, number):
        return self.params.path(number)

    def row(self, local, validity=Validity.VALID):
        fields = told_of(local) if self.fields else None
        frame = Frame(
            local * self.stride, image(local, self.spec), validity=validity, fields=fields
        )
        return Row(local, frame.idx, self.task.process(frame))

    def gap(self, local, cause):
        idx = local * self.stride
        return Row(local, idx, Gap(idx, cause))

    def write(self, *locals_):
        self.sink.write([self.row(local) for local in locals_])

    def run(self, n):
        self.sink.open()
        self.write(*range(n))
        self.sink.close()


def first_pixels(path):
    with h5py.File(path) as file:
        return file[DATA][()].reshape(len(file[DATA]), -1)[:, 0].tolist()


def validity(path):
    with h5py.File(path) as file:
        return file[VALIDITY][()].tolist()


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4"])
@pytest.mark.parametrize("bands", [1, 2])
@pytest.mark.parametrize("compression", sorted(CODECS))
def test_plain_hdf5_reads_what_was_written(tmp_path, compression, bands, dtype):
    spec = FrameSpec((bands, 33, 65), np.dtype(dtype))
    writer = Writer(tmp_path, spec, compression=compression, nb_frames_per_file=3)
    frames = np.random.default_rng(0).poisson(2.0, (3, *spec.shape)).astype(dtype)

    writer.sink.open()
    writer.sink.write(
        [Row(n, n, writer.task.process(Frame(n, frames[n]))) for n in range(len(frames))]
    )
    writer.sink.close()

    with h5py.File(writer.path(0)) as file:
        data = file[DATA]
        assert data.dtype == spec.dtype
        assert data.shape == ((3, 33, 65) if bands == 1 else (3, 2, 33, 65))
        assert data.chunks == (1, *data.shape[1:])
        np.testing.assert_array_equal(data[()].reshape(frames.shape), frames)


def test_one_band_has_an_axis_if_asked_for(tmp_path):
    writer = Writer(tmp_path, nb_dimensions="dim_4d")

    writer.run(1)

    with h5py.File(writer.path(0)) as file:
        assert file[DATA].shape == (1, 1, 4, 6)


def test_each_file_takes_its_number_of_rows_and_the_last_what_is_left(tmp_path):
    writer = Writer(tmp_path, frame_idx=True, stride=2)

    writer.run(10)

    assert sorted(os.listdir(tmp_path)) == [f"lima2_0_0000{n}.h5" for n in range(3)]
    assert first_pixels(writer.path(0)) == [1, 2, 3, 4]
    assert first_pixels(writer.path(1)) == [5, 6, 7, 8]
    assert first_pixels(writer.path(2)) == [9, 10]
    assert validity(writer.path(2)) == [0, 0]
    with h5py.File(writer.path(2)) as file:
        assert file[FRAME_IDX].dtype == np.uint32
        assert file[FRAME_IDX][()].tolist() == [16, 18]


def test_frame_idx_is_there_only_if_asked_for(tmp_path):
    plain = Writer(tmp_path, filename_rank=0)
    asked = Writer(tmp_path, filename_rank=1, include_frame_idx=True)

    plain.run(1)
    asked.run(1)

    with h5py.File(plain.path(0)) as file:
        assert FRAME_IDX not in file
    with h5py.File(asked.path(0)) as file:
        assert file[FRAME_IDX][()].tolist() == [0]


def test_a_gap_keeps_its_row_and_says_why(tmp_path):
    writer = Writer(tmp_path, frame_idx=True)
    rows = [
        writer.row(0),
        writer.gap(1, Validity.PACKET_LOSS),
        writer.row(2, Validity.PARTIAL),
        writer.gap(3, Validity.NEVER_SENT),
        writer.gap(4, Validity.NEVER_SENT),
    ]

    writer.sink.open()
    writer.sink.write(rows)
    writer.sink.close()

    assert first_pixels(writer.path(0)) == [1, 0, 3, 0]
    assert validity(writer.path(0)) == [0, 3, 1, 9]
    assert first_pixels(writer.path(1)) == [0]
    with h5py.File(writer.path(0)) as file:
        assert file[DATA].id.get_num_chunks() == 2
        assert file[FRAME_IDX][()].tolist() == [0, 1, 2, 3]
        codes = h5py.check_enum_dtype(file[VALIDITY].dtype)
        assert codes == {code.name: code.value for code in Validity}
    assert writer.sink.stats().frames_saved == 2
    assert writer.sink.stats().rows_saved == 5


def test_what_the_camera_tells_of_each_frame_is_beside_it(tmp_path):
    writer = Writer(tmp_path, fields=FIELDS)
    writer.sink.open()
    writer.write(0)
    writer.sink.write([writer.gap(1, Validity.DROPPED)])
    writer.clock.s += FLUSH_PERIOD_S
    writer.write(2, 3, 4, 5)
    writer.sink.close()

    nothing = 2**64 - 1
    with h5py.File(writer.path(0)) as file:
        group = file[f"{DETECTOR}/frame_metadata"]
        assert group.attrs["NX_class"] == "NXcollection"
        assert list(group) == ["bunch_id", "delay", "packets"]
        assert group["bunch_id"].dtype == np.uint64
        assert group["bunch_id"][()].tolist() == [1000, nothing, 1002, 1003]
        assert group["bunch_id"].fillvalue == nothing
        assert group["bunch_id"].attrs["description"] == "bunch that made the frame"
        assert group["delay"].attrs["units"] == "s"
        assert np.array_equal(group["delay"], np.float32([0, np.nan, 1, 1.5]), equal_nan=True)
        assert group["packets"][()].tolist() == [[255, 0], [255, 255], [255, 2], [255, 3]]
    with h5py.File(writer.path(1)) as file:
        assert file[f"{DETECTOR}/frame_metadata/bunch_id"][()].tolist() == [1004, 1005]


def test_a_frame_of_which_nothing_was_told_reads_as_a_gap_does(tmp_path):
    writer = Writer(tmp_path, fields=FIELDS)
    chunk = writer.task.process(Frame(0, image(0)))

    writer.sink.open()
    writer.sink.write([Row(0, 0, chunk)])
    writer.sink.close()

    with h5py.File(writer.path(0)) as file:
        assert file[f"{DETECTOR}/frame_metadata/packets"][()].tolist() == [[255, 255]]


def test_values_that_were_not_declared_so_are_refused(tmp_path):
    writer = Writer(tmp_path, fields=FIELDS)
    frame = Frame(1, image(1), fields=np.zeros(1, "u4,u4")[0])
    writer.sink.open()
    writer.write(0)

    with pytest.raises(StorageError, match="not what it declared"):
        writer.sink.write([Row(1, 1, writer.task.process(frame))])
    writer.sink.abort()

    assert first_pixels(writer.path(0)) == [1]


def test_without_such_values_there_is_no_place_for_them(tmp_path):
    writer = Writer(tmp_path)

    writer.run(1)

    with h5py.File(writer.path(0)) as file:
        assert "frame_metadata" not in file[DETECTOR]


def test_a_file_appears_with_its_first_row_and_is_locked_until_it_is_full(tmp_path):
    writer = Writer(tmp_path)

    writer.sink.open()
    assert os.listdir(tmp_path) == []
    writer.write(0, 1, 2)
    # As HDF5 does in another process; in this one it would find the file open and use that.
    with writer.path(0).open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    writer.write(3)

    assert first_pixels(writer.path(0)) == [1, 2, 3, 4]
    assert os.listdir(tmp_path) == ["lima2_0_00000.h5"]
    writer.sink.close()


def test_the_last_expected_row_completes_its_file(tmp_path):
    writer = Writer(tmp_path, expected=6)

    writer.sink.open()
    writer.write(*range(6))

    assert first_pixels(writer.path(1)) == [5, 6]
    writer.sink.close()


def test_without_rows_there_is_no_file(tmp_path):
    Writer(tmp_path).run(0)

    assert os.listdir(tmp_path) == []


def test_a_row_out_of_order_is_an_error_and_what_is_written_stays(tmp_path):
    writer = Writer(tmp_path)
    writer.sink.open()
    writer.write(0, 1)

    with pytest.raises(StorageError, match="row 3 came where row 2 was due"):
        writer.write(3)
    writer.sink.abort()

    assert first_pixels(writer.path(0)) == [1, 2]


def test_the_tree_is_nexus_and_carries_the_metadata(tmp_path):
    spec = SPEC.changed(unit="photons", step=Affine.crop(5, 7))
    writer = Writer(tmp_path, spec)

    writer.run(2)

    with h5py.File(writer.path(0)) as file:
        groups = {
            "/": "NXroot",
            "entry_0000": "NXentry",
            "entry_0000/measurement": "NXcollection",
            "entry_0000/instrument": "NXinstrument",
            "entry_0000/instrument/detector": "NXdetector",
            "entry_0000/instrument/detector/plot": "NXdata",
        }
        assert {path: file[path].attrs["NX_class"] for path in groups} == groups
        assert file.attrs["creator"] == "lima2-suite"
        assert file["entry_0000/entry_identifier_uuid"].asstr()[()] == "0b3e"
        assert file["entry_0000/measurement/data"] == file[DATA]
        assert file["entry_0000/instrument/detector/plot/data"] == file[DATA]
        assert dict(file[DATA].attrs) == {"interpretation": "image", "units": "photons"}
        detector = file["entry_0000/instrument/detector"]
        np.testing.assert_array_equal(detector["image_to_detector"], spec.affine.matrix)
        pixel_size = detector["detector_information/pixel_size"]
        assert pixel_size["x"][()] == 1e-4
        assert [pixel_size[axis].attrs["units"] for axis in "xy"] == ["m", "m"]
        assert pixel_size["x"].attrs["description"] == "width of a pixel, along a row"
        assert detector["params/acquisition/det/peaks/1/x0"][()] == 2.0
        assert detector["params/processing/a|b"][()].tolist() == [1, 2]
        assert detector["params/processing/path"].asstr()[()] == "a/b"
        assert "nothing" not in detector["params/processing"]
        times = [
            datetime.fromisoformat(file[f"entry_0000/{name}"].asstr()[()]).timestamp()
            for name in ("start_time", "end_time")
        ]
        assert times == [1_700_001_000.0, 1_700_001_000.0]


def test_the_oldest_file_format_is_used(tmp_path):
    writer = Writer(tmp_path)

    writer.run(1)

    assert writer.path(0).read_bytes()[8] == 0  # version of the superblock


def test_silx_opens_the_images_by_default(tmp_path):
    writer = Writer(tmp_path)

    writer.run(3)

    with silx.io.open(str(writer.path(0))) as file:
        plot = get_default(file)
        assert plot is not None
        assert plot.is_valid
        assert plot.interpretation == "image"
        assert plot.signal.shape == (3, 4, 6)


def test_overwrite_removes_the_files_of_this_prefix_and_rank_only(tmp_path):
    Writer(tmp_path).run(10)
    Writer(tmp_path, filename_rank=1).run(1)
    writer = Writer(tmp_path, file_exists_policy="overwrite")
    writer.params.draft.touch()  # as a crash leaves it

    writer.sink.open()

    assert os.listdir(tmp_path) == ["lima2_1_00000.h5"]
    writer.write(0)
    writer.sink.close()
    assert first_pixels(writer.path(0)) == [1]


def test_files_of_an_earlier_run_are_not_touched_without_overwrite(tmp_path):
    Writer(tmp_path).run(2)

    with pytest.raises(StorageError, match=r"lima2_0_00000\.h5 exists"):
        Writer(tmp_path).sink.open()

    assert first_pixels(Writer(tmp_path).path(0)) == [1, 2]


def test_a_file_made_meanwhile_is_not_replaced(tmp_path):
    writer = Writer(tmp_path)
    writer.sink.open()
    writer.path(0).write_text("precious")

    with pytest.raises(StorageError, match="somebody else"):
        writer.write(0)
    writer.sink.abort()

    assert writer.path(0).read_text() == "precious"


def test_a_folder_that_goes_away_is_a_storage_error_that_names_the_file(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    writer = Writer(folder)
    writer.sink.open()
    folder.rmdir()

    with pytest.raises(StorageError) as failed:
        writer.write(0)
    writer.sink.abort()

    assert failed.value.details["file"] == str(writer.path(0))


@pytest.mark.parametrize("name_format", ["x_{file_number}", "{"])
def test_a_name_format_that_is_not_followed_is_told_once(tmp_path, caplog, name_format):
    with caplog.at_level(logging.WARNING):
        Writer(tmp_path, filename_format=name_format).run(5)

    assert [name_format in record.getMessage() for record in caplog.records] == [True]


def test_what_is_flushed_counts_as_saved_and_nothing_else_does(tmp_path):
    writer = Writer(tmp_path, nb_frames_per_file=100)
    writer.sink.open()

    writer.write(0, 1, 2)
    assert writer.sink.stats().rows_saved == 0
    writer.clock.s += FLUSH_PERIOD_S
    writer.sink.idle()
    flushed = writer.sink.stats()
    writer.write(3)
    assert writer.sink.stats() is flushed
    writer.clock.s += FLUSH_PERIOD_S
    writer.write(4)
    again = writer.sink.stats()
    writer.write(5)
    writer.sink.close()
    closed = writer.sink.stats()

    assert (flushed.rows_saved, again.rows_saved, closed.rows_saved) == (3, 5, 6)
    assert flushed.bytes_saved == sum(writer.row(local).value.nbytes for local in range(3))
    assert flushed.rate_bytes_s == flushed.bytes_saved / FLUSH_PERIOD_S
    assert flushed.file == writer.path(0)


def test_nothing_is_flushed_twice(tmp_path):
    writer = Writer(tmp_path)
    writer.sink.open()
    writer.write(0)
    writer.clock.s += FLUSH_PERIOD_S
    writer.sink.idle()
    flushed = writer.sink.stats()

    writer.clock.s += FLUSH_PERIOD_S
    writer.sink.idle()

    assert writer.sink.stats() is flushed
    writer.sink.close()


CHILD = """
import sys, importlib.util
spec = importlib.util.spec_from_file_location("writer", {here!r})
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
writer = tests.Writer({folder!r}, nb_frames_per_file=1000, frame_idx=True, compression={codec!r})
writer.sink.open()
writer.write(*range(500))
writer.clock.s += 1
writer.sink.idle()
writer.write(*range(500, 800))
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

    assert told.strip() == "500"
    path = tmp_path / "lima2_0_00000.h5"
    assert validity(path) == [0] * 500 + [Validity.CRASH] * 500
    assert first_pixels(path)[:500] == list(range(1, 501))
    with h5py.File(path) as file:
        assert file[FRAME_IDX][499:501].tolist() == [499, 2**32 - 1]


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


def fill(writer):
    """Write frames that do not pack until there is no more space; how many there were."""
    pixels = np.random.default_rng(0).integers(0, 2**16, writer.spec.shape, "u2")
    for local in range(10**6):
        pixels[0, 0, 0] = local
        row = Row(local, local, writer.task.process(Frame(local, pixels)))
        try:
            writer.sink.write([row])
        except StorageError as error:
            return local, error
    raise AssertionError("the disk is never full")


def test_the_end_of_a_file_has_its_place_from_the_beginning(tmp_path):
    # On a full disk HDF5 lets go of what it finds no place for, and the process dies of it later.
    writer = Writer(tmp_path)
    writer.sink.open()
    writer.write(0)

    copy = tmp_path / "copy.h5"
    copy.write_bytes(writer.path(0).read_bytes())
    with h5py.File(copy) as file:
        places = [file[f"entry_0000/{name}_time"].id.get_offset() for name in ("start", "end")]

    writer.sink.close()
    assert None not in places


@pytest.mark.parametrize("rows_per_file", [10, 10_000])
@pytest.mark.parametrize("side", [16, 128, 700])
def test_on_a_full_disk_all_frames_before_the_failing_one_are_readable(
    small_disk, side, rows_per_file
):
    spec = FrameSpec((1, side, side), np.dtype("u2"))
    writer = Writer(small_disk, spec, nb_frames_per_file=rows_per_file)
    writer.sink.open()

    written, error = fill(writer)
    writer.sink.abort()

    assert "No space left" in str(error)
    assert "MiB are free" in str(error)
    assert error.details["file"] == str(writer.path(written // rows_per_file))
    assert writer.sink.stats().frames_saved == written
    files = writer.params.existing_files()
    read = [number for path in files for number in first_pixels(path)]
    assert read == [number % 2**16 for number in range(written)]
    assert [code for path in files for code in validity(path)] == [0] * written
