"""The shipped suite over the sinks of core and pipelines."""

import itertools
from contextlib import contextmanager
from unittest import mock

import h5py
import hdf5plugin  # noqa: F401  the filters that h5py reads with
import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec, Validity
from lima2_core.data.memory import BufferPool
from lima2_core.data.record import RecordSpec, RecordStream
from lima2_core.data.rows import ROW_RECORD, RowSink
from lima2_core.flow.record_sink import FrameIdxSink, RecordSink
from lima2_core.flow.tap import Tap
from lima2_core.ids import AcqId, FrameIdx, ReceiverIdx
from lima2_core.testing.doubles import CollectSink
from lima2_core.testing.sink_suite import SinkCase, SinkSuite
from processing.codecs import CODECS, EncodedChunk
from processing.hits import Hits
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5 import Hdf5Sink
from processing.sinks.hdf5_sparse import SparseSink

SPEC = FrameSpec((1, 4, 6), np.dtype(np.uint16))


def image(row):
    """Never zero, as rows of gaps read."""
    return np.full(SPEC.shape, row + 1, np.uint16)


def frame(row, **details):
    return Frame(FrameIdx(row), image(row), **details)


class TestTap(SinkSuite):
    @pytest.fixture(params=["keepable", "copied"])
    def case(self, request):
        pool = BufferPool(SPEC.nbytes)
        pool.grow(3)
        taps = []

        def make():
            taps.append(Tap(SPEC, 20, pool=pool))
            return taps[-1]

        def read():
            rows = {}
            for row in range(20):
                try:
                    rows[row] = taps[-1].get(2 * row + 1).data
                except LookupError:
                    continue
            return rows

        if request.param == "copied":
            return SinkCase(make, lambda row: frame(row, keepable=False), read)
        return SinkCase(make, frame, read, keeps=20)


class TestCollectSink(SinkSuite):
    @pytest.fixture
    def case(self):
        sinks = []

        def make():
            sinks.append(CollectSink())
            return sinks[-1]

        def read():
            return {
                row.local: row.value for row in sinks[-1].rows if isinstance(row.value, np.ndarray)
            }

        return SinkCase(make, frame, read)


class Streams:
    """A new stream for each run, and a cursor that reads it."""

    def __init__(self, dtype):
        self._dtype = dtype
        self._cursor = None
        self.records = []

    def new(self):
        stream = RecordStream(RecordSpec("records", self._dtype))
        self._cursor = stream.cursor()
        self.records = []
        return stream

    def read(self):
        self.records += list(self._cursor.read())
        return self.records


class TestRecordSink(SinkSuite):
    @pytest.fixture
    def case(self):
        dtype = np.dtype([("frame_idx", "<i4"), ("sum", "<f4")])
        streams = Streams(dtype)

        def record(row, total):
            return np.array([(2 * row + 1, total)], dtype)

        return SinkCase(
            make=lambda: RecordSink(
                streams.new(), lambda idx: record((idx - 1) // 2, np.float32(-1))
            ),
            value=lambda row: record(row, np.float32(row)),
            read=lambda: {
                int(each["frame_idx"]) // 2: np.array([each])
                for each in streams.read()
                if each["sum"] >= 0
            },
            expected=lambda row: record(row, np.float32(row)),
        )


class TestFrameIdxSink(SinkSuite):
    @pytest.fixture
    def case(self):
        streams = Streams(np.dtype([("recv_idx", "<i4"), ("frame_idx", "<i4")]))
        # Gaps are frames here as well: nothing to compare row by row.
        return SinkCase(lambda: FrameIdxSink(streams.new(), ReceiverIdx(1)), frame)


class TestRowSink(SinkSuite):
    @pytest.fixture
    def case(self):
        streams = Streams(ROW_RECORD)
        return SinkCase(
            make=lambda: RowSink(streams.new()),
            value=frame,
            read=lambda: {
                int(each["row"]): (int(each["frame_idx"]), int(each["code"]))
                for each in streams.read()
                if each["code"] == Validity.VALID
            },
            expected=lambda row: (2 * row + 1, 0),
        )


class TestHdf5Sink(SinkSuite):
    @pytest.fixture(params=["overwrite", "abort"])
    def case(self, request, tmp_path):
        params = SavingParams(
            enabled=True,
            base_path=str(tmp_path),
            nb_frames_per_file=8,
            file_exists_policy=request.param,
        )
        codec = CODECS[params.compression]

        def read():
            rows = {}
            for number, path in enumerate(sorted(tmp_path.glob("*.h5"))):
                with h5py.File(path) as file:
                    data = file["entry_0000/instrument/detector/data"][()]
                for n, pixels in enumerate(data.reshape(-1, *SPEC.shape)):
                    if pixels.any():
                        rows[8 * number + n] = pixels
            return rows

        @contextmanager
        def broken():
            full = OSError("No space left on device")
            with mock.patch("processing.sinks.hdf5_files.GrowingFile.add", side_effect=full):
                yield

        return SinkCase(
            make=lambda: Hdf5Sink(params, SPEC, FileMetadata(AcqId("a"))),
            value=lambda row: EncodedChunk(codec.encode(image(row))),
            read=read,
            expected=image,
            broken=broken,
        )


class TestSparseSink(SinkSuite):
    @pytest.fixture
    def case(self, tmp_path):
        params = SavingParams(enabled=True, base_path=str(tmp_path), nb_frames_per_file=8)
        sizes = SPEC.shape[1:]

        def hits(row):
            return Hits(np.arange(row % 5 + 1, dtype=np.int32), np.full(row % 5 + 1, row, "u2"))

        def read():
            rows = {}
            for number, path in enumerate(sorted(tmp_path.glob("*.h5"))):
                with h5py.File(path) as file:
                    data = file["entry_0000/instrument/detector/data"]
                    pointers = data["frame_ptr"][()].tolist()
                    for n, (first, last) in enumerate(itertools.pairwise(pointers)):
                        if last > first:
                            rows[8 * number + n] = data["intensity"][first:last]
            return rows

        @contextmanager
        def broken():
            full = OSError("No space left on device")
            with mock.patch("processing.sinks.hdf5_sparse_files.SparseFile.add", side_effect=full):
                yield

        return SinkCase(
            make=lambda: SparseSink(params, SPEC, FileMetadata(AcqId("a")), image_shape=sizes),
            value=hits,
            read=read,
            expected=lambda row: hits(row).intensity,
            broken=broken,
        )
