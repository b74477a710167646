import os
import subprocess
import sys
import threading

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec, Validity
from lima2_core.errors import ParamError, PipelineError
from lima2_core.ids import FrameIdx
from lima2_core.testing.doubles import LIMIT_S
from processing import codecs
from processing.codecs import CODECS
from processing.saving import SavingParams
from processing.tasks.encode_chunk import EncodeChunk

COMPRESSIONS = sorted(CODECS)
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"]


def pattern(shape, dtype):
    """Few values in many places and many in few, as detectors give them."""
    pixels = np.random.default_rng(1).poisson(0.5, shape)
    pixels.flat[::97] = np.arange(len(pixels.flat[::97])) % 120
    return pixels.astype(dtype)


def read_through_hdf5(path, codec, pixels, chunk):
    with h5py.File(path, "w") as file:
        properties = codec.creation_properties((1, *pixels.shape))
        space = h5py.h5s.create_simple((1, *pixels.shape))
        kind = h5py.h5t.py_create(pixels.dtype)
        dataset = h5py.h5d.create(file.id, b"data", kind, space, properties)
        dataset.write_direct_chunk((0,) * (pixels.ndim + 1), chunk)
    with h5py.File(path) as file:
        return file["data"][0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_hdf5_unpacks_what_a_codec_packed(tmp_path, compression, dtype):
    codec = CODECS[compression]
    pixels = pattern((2, 61, 67), dtype)  # neither a multiple of a block nor of eight

    chunk = codec.encode(pixels)

    read = read_through_hdf5(tmp_path / "a.h5", codec, pixels, chunk)
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_view_with_steps_and_a_frame_that_must_not_be_written_are_packed(tmp_path, compression):
    codec = CODECS[compression]
    pixels = pattern((1, 64, 128), "u2")[:, ::-1, ::2]
    pixels.flags.writeable = False

    chunk = codec.encode(pixels)

    read = read_through_hdf5(tmp_path / "a.h5", codec, pixels, chunk)
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_frame_smaller_than_a_block_is_packed(tmp_path, compression):
    codec = CODECS[compression]
    pixels = np.array([[[7, 8, 9]]], "u4")

    read = read_through_hdf5(tmp_path / "a.h5", codec, pixels, codec.encode(pixels))

    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("compression", ["zip", "bshuf_lz4", "bshuf_zstd"])
def test_real_frames_get_smaller(detector_frames, compression):
    with h5py.File(detector_frames) as file:
        raw = file["raw"][0]

    assert len(CODECS[compression].encode(raw)) < 0.9 * raw.nbytes


def test_the_openmp_threads_of_others_stay_as_they_are():
    openmp = codecs._openmp()
    if openmp is None:
        pytest.skip("bitshuffle was built without OpenMP")
    seen = {}

    def look():
        openmp.omp_set_num_threads(5)
        with codecs._one_openmp_thread():
            seen["inside"] = openmp.omp_get_max_threads()
        seen["after"] = openmp.omp_get_max_threads()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(LIMIT_S)

    assert seen == {"inside": 1, "after": 5}


def test_bitshuffle_works_on_the_calling_thread_alone():
    openmp = codecs._openmp()
    if openmp is None:
        pytest.skip("bitshuffle was built without OpenMP")
    pixels = np.random.default_rng(1).integers(0, 50, (1, 512, 512), "u2")
    more = []

    def encode():
        openmp.omp_set_num_threads(4)  # for parts of programs that want it
        before = set(os.listdir("/proc/self/task"))
        for _ in range(5):
            CODECS["bshuf_lz4"].encode(pixels)
        # OpenMP keeps its threads for as long as that lives which called for them.
        more.append(set(os.listdir("/proc/self/task")) - before)

    thread = threading.Thread(target=encode)
    thread.start()
    thread.join(LIMIT_S)

    assert more == [set()]


def test_importing_the_modules_imports_no_library_for_files():
    code = (
        "import sys, processing.codecs, processing.sinks.hdf5, processing.tasks.encode_chunk;"
        "print({'h5py', 'hdf5plugin', 'bitshuffle'} & set(sys.modules))"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "set()"


SPEC = FrameSpec((1, 4, 8), np.dtype("u2"))


def frame(**changed):
    changed = {"keepable": True, **changed}
    return Frame(FrameIdx(3), np.arange(32, dtype="u2").reshape(1, 4, 8), **changed)


def test_a_chunk_says_that_its_frame_is_partial():
    task = EncodeChunk(SavingParams())
    task.resolve(SPEC)

    chunk = task.process(frame(validity=Validity.PARTIAL))

    assert chunk.validity is Validity.PARTIAL
    assert chunk.lease is None


def test_a_chunk_without_compression_is_the_memory_of_the_frame_and_keeps_it():
    task = EncodeChunk(SavingParams(compression="none"))
    task.resolve(SPEC)
    lease = object()
    whole = frame(lease=lease)

    chunk = task.process(whole)

    assert chunk.data is whole.data
    assert chunk.lease is lease
    assert chunk.nbytes == 64


def test_a_frame_that_must_not_be_kept_is_copied():
    task = EncodeChunk(SavingParams(compression="none"))
    task.resolve(SPEC)
    fleeting = frame(lease=object(), keepable=False)

    chunk = task.process(fleeting)

    assert not np.shares_memory(chunk.data, fleeting.data)
    assert chunk.lease is None
    np.testing.assert_array_equal(chunk.data, fleeting.data)


def test_a_frame_of_a_source_with_enough_of_them_may_wait_for_the_file():
    task = EncodeChunk(SavingParams(compression="none"), hold=True)
    task.resolve(SPEC)
    fleeting = frame(lease=object(), keepable=False)

    chunk = task.process(fleeting)

    assert chunk.data is fleeting.data
    assert chunk.lease is fleeting.lease


@pytest.mark.parametrize(
    "spec", [FrameSpec((1, 4, 4), np.dtype("c8")), FrameSpec((3, 40000, 40000), np.dtype("u1"))]
)
def test_frames_that_no_file_can_hold_are_refused_before_the_first(spec):
    with pytest.raises(ParamError) as refused:
        EncodeChunk(SavingParams(), "saving_dense").resolve(spec)

    assert refused.value.path == "saving_dense"


def test_a_frame_other_than_announced_is_an_error_that_names_it():
    task = EncodeChunk(SavingParams())
    task.resolve(SPEC)

    with pytest.raises(PipelineError, match="frame 3") as failed:
        task.process(Frame(FrameIdx(3), np.zeros((1, 4, 9), "u2")))

    assert failed.value.details["frame_idx"] == 3
