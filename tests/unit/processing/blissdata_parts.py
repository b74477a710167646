"""A run without receivers, for the publication of it: a ledger and records filled by hand."""

import numpy as np

from lima2_core.data.frame import FrameSpec, Validity
from lima2_core.data.record import RecordSpec
from lima2_core.data.rows import ROW_RECORD
from lima2_core.flow.pipeline import SavedFiles
from lima2_core.ids import AcqId
from lima2_core.system.ledger import Ledger
from lima2_core.system.merge import RecordMerger
from lima2_core.system.outputs import RunView, SavedView

ROI_RECORD = np.dtype([("frame_idx", "<i4"), ("recv_idx", "<i4"), ("avg", "<f4"), ("sum", "<f8")])
PEAKS_RECORD = np.dtype([("frame_idx", "<i4"), ("recv_idx", "<i4"), ("nb_peaks", "<i4")])


def saved_files(folder="/data", prefix="scan", *, bands_axis=False):
    detector = "entry_0000/instrument/detector"
    return SavedFiles(
        folder, prefix, 0, 1000, f"{detector}/data", bands_axis, "entry_0000", detector
    )


class Run:
    """One run; `view` is what an output sees of it.

    With ``depth`` several frames make one, of whose sums `sums` has the books.
    """

    def __init__(self, *, expected=10, shape=(1, 4, 6), records=(), files=None, depth=1, **changes):
        self.spec = FrameSpec(shape, np.dtype("u2"))
        self.ledger = Ledger(expected)
        nb_sums = expected and -(-expected // depth)
        self.sums = Ledger(nb_sums) if depth > 1 else self.ledger
        self.mergers = {spec.name: RecordMerger(spec) for spec in records}
        self.started_wall_s = 0.0
        self.over = False
        saved = {}
        if files is not None:
            saved["frame"] = SavedView(
                "frame", self.spec, (files,), (), (self.spec,), self.sums, lambda receiver: 0
            )
        values = {
            "acq_id": AcqId("0b3e"),
            "device": "",
            "detector": {"plugin": "Simulator", "sn": "7"},
            "requested": {},
            "applied": {"acq": {"nb_frames": expected or 0, "expo_time": 1000}},
            "processing": {},
            "metadata": {},
            "receivers": ("r0",),
            "topology": "single",
            "ledger": self.ledger,
            "sources": {"frame": self.spec},
            "saved": saved,
            "streams": {name: merger.stream for name, merger in self.mergers.items()},
            "started_wall_s": lambda: self.started_wall_s,
            "finished": lambda: self.over,
            "verdict": lambda: self.ledger.summary().sentence(),
            "accessible": lambda source: self.sums.front,
            "depth_of": lambda name: 1 if name == "input_frame" else depth,
            "expected_of": lambda name: expected if name == "input_frame" else nb_sums,
        }
        self.view = RunView(**(values | changes))

    def start(self):
        self.started_wall_s = 1.7e9

    def take(self, *indices, code=Validity.VALID):
        """Frames come; those that are there give records, whose values are their indices."""
        self.tell(self.ledger, indices, code)
        if self.sums is self.ledger:
            self._record(indices, code)

    def take_sums(self, *indices, code=Validity.VALID):
        """The same of sums."""
        self.tell(self.sums, indices, code)
        self._record(indices, code)

    def tell(self, ledger, indices, code):
        rows = np.zeros(len(indices), ROW_RECORD)
        rows["frame_idx"] = indices
        rows["code"] = code
        rows["timestamp_s"] = 1.7e9
        ledger.tell(0, rows)

    def _record(self, indices, code):
        for merger in self.mergers.values():
            if code != Validity.VALID:
                merger.miss(np.array(indices))
                continue
            records = np.zeros((len(indices), merger.spec.rows_per_frame), merger.spec.dtype)
            for name in merger.spec.dtype.names:
                records[name] = np.array(indices)[:, None]
            merger.put(records.reshape(-1))

    def end(self):
        """Nothing more comes: what is open was never sent."""
        for ledger in {self.ledger, self.sums}:
            ledger.end(ledger.expected or ledger.highest)
        for merger in self.mergers.values():
            merger.miss(merger.open_indices(self.sums.highest))
        self.over = True


def roi_statistics(rois=1):
    return RecordSpec("roi_statistics", ROI_RECORD, rois)


def roi_profiles(length):
    return RecordSpec("roi_profiles", ROI_RECORD, length)


def peak_counters():
    return RecordSpec("peak_counters", PEAKS_RECORD)
