"""A system without receivers: files written by hand, a ledger filled by hand, and their master."""

from dataclasses import replace

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np

from lima2_core.data.fields import fields_dtype
from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.geometry import Placement
from lima2_core.data.rows import ROW_RECORD
from lima2_core.flow.sink import Row
from lima2_core.ids import AcqId
from lima2_core.system.ledger import Ledger
from lima2_core.system.notes import Notes
from lima2_core.system.outputs import RunView, SavedView
from processing.outputs.master import MasterOutput
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5 import Hdf5Sink
from processing.tasks.encode_chunk import EncodeChunk

DETECTOR = "entry_0000/instrument/detector"
DATA = f"{DETECTOR}/data"


class ManualClock:
    """A clock in the hands of the test."""

    def __init__(self):
        self.s = 1000.0

    def now_s(self):
        return self.s

    def wall_s(self):
        return 1_700_000_000.0 + self.s


class Writer:
    """The files of one receiver."""

    def __init__(self, params, spec, expected_rows, clock, fields=(), details=None):
        self.params = params
        self.spec = spec
        self.rows = 0
        self.task = EncodeChunk(params)
        self.task.resolve(spec)
        self.fields = fields
        self.sink = Hdf5Sink(
            params,
            spec,
            FileMetadata(AcqId("0b3e"), **(details or {})),
            expected_rows=expected_rows,
            fields=fields,
            clock=clock,
        )
        self.sink.open()

    def write(self, idx, pixels, gap):
        told = None
        if self.fields:
            told = np.zeros(1, fields_dtype(self.fields))[0]
            for field in self.fields:
                value = 1000 * (1 + self.params.filename_rank) + idx
                told[field.name] = np.full(field.shape, value, "u8").astype(field.dtype)
        frame = Frame(idx, pixels, fields=told)
        value = Gap(idx, gap) if gap else self.task.process(frame)
        self.sink.write([Row(self.rows, idx, value)])
        self.rows += 1
        return self.rows - 1


class Parts:
    """Receivers, their files and ledger, and a master over them.

    Args:
        placements: of the parts, if every receiver has one of each frame.
        fields: what the camera tells of every frame, by receiver.
        details: marks and collections of the files.
    """

    def __init__(
        self,
        folder,
        receivers=2,
        *,
        shape=(1, 4, 6),
        expected=10,
        placements=(),
        segment_frames=1000,
        expected_rows=None,
        metadata=None,
        fill=0,
        dtype="u2",
        fields=(),
        details=None,
        **saving,
    ):
        self.clock = ManualClock()
        self.spec = FrameSpec(shape, np.dtype(dtype), unit="counts")
        self.placements = tuple(placements)
        self.fill = fill
        self.fields = fields or ((),) * receivers
        self.details = details or {}
        saving = {"base_path": str(folder), "nb_frames_per_file": 4, **saving}
        self.params = [
            SavingParams(enabled=True, filename_rank=rank, **saving) for rank in range(receivers)
        ]
        specs = [self.spec] * receivers
        if placements:
            self.sizes = [(shape[1] // 2, shape[2] // 2)] * receivers
            specs = [FrameSpec((shape[0], *size), self.spec.dtype) for size in self.sizes]
        self.writers = [self.make_writer(n, spec, expected_rows) for n, spec in enumerate(specs)]
        self.ledger = Ledger(expected, receivers if placements else 1)
        self.flushed = {}
        self.is_finished = False
        self.notes = Notes(AcqId("0b3e"))
        self.output = MasterOutput(segment_frames, self.clock)
        self.run = self._view({"saving": {"enabled": True, **saving}}, metadata or {}, specs)
        self.folder = folder
        self.prefix = self.params[0].filename_prefix

    def told(self):
        """What else is told of the files."""
        return {}

    def make_writer(self, receiver, spec, expected_rows):
        fields = self.fields[receiver]
        return Writer(self.params[receiver], spec, expected_rows, self.clock, fields, self.details)

    def _view(self, processing, metadata, specs):
        saved = SavedView(
            name="frame",
            spec=self.spec,
            files=tuple(
                replace(
                    params.saved_files(spec),
                    frame_fields={one.name: one.to_tree() for one in fields},
                    **self.details,
                    **self.told(),
                )
                for params, spec, fields in zip(self.params, specs, self.fields, strict=True)
            ),
            placements=self.placements,
            part_specs=tuple(specs),
            ledger=self.ledger,
            fill=self.fill,
            flushed=lambda receiver: self.flushed.get(
                receiver, self.writers[receiver].sink.stats().rows_saved
            ),
        )
        return RunView(
            acq_id=AcqId("0b3e"),
            device="id00/limacontrol/simulator",
            detector={
                "plugin": "Simulator",
                "nothing": None,
                "pixel_size": {"x": 75e-6, "y": 50e-6},
            },
            requested={"acq": {"nb_frames": 10, "expo_time": 1.5}},
            applied={"acq": {"nb_frames": 10, "expo_time": 2.0}},
            processing=processing,
            metadata=metadata,
            receivers=tuple(f"r{n}" for n in range(len(self.params))),
            topology="partial" if self.placements else "round_robin",
            ledger=self.ledger,
            sources={},
            saved={"frame": saved},
            streams={},
            started_wall_s=lambda: 1_700_000_000.0,
            finished=lambda: self.is_finished,
            verdict=lambda: self.ledger.summary().sentence() + " (as it was told)",
            notes=self.notes.series,
        )

    def image(self, idx):
        """What frame ``idx`` shows: every pixel of every frame is different."""
        count = int(np.prod(self.spec.shape))
        return (np.arange(count).reshape(self.spec.shape) + 1 + count * idx).astype(self.spec.dtype)

    def deliver(self, receiver, *indices, gap=None):
        """A receiver writes frames, or gaps in their places, and tells of them."""
        for idx in indices:
            pixels = self.image(idx)
            if self.placements:
                place, (rows, cols) = self.placements[receiver], self.sizes[receiver]
                pixels = pixels[:, place.row : place.row + rows, place.col : place.col + cols]
            row = self.writers[receiver].write(idx, pixels.copy(), gap)
            code = Validity.VALID if gap is None else gap
            self.tell(receiver, (idx, row, 100.0 + idx, code))

    def tell(self, receiver, *rows):
        self.ledger.tell(receiver, np.array(list(rows), ROW_RECORD))

    def flush(self):
        """All rows so far become safe; files that are not full stay locked."""
        self.clock.s += 1
        for writer in self.writers:
            writer.sink.idle()

    def finish(self, total=None):
        """The run ends well."""
        self.close()
        self.ledger.end(total if total is not None else self.ledger.expected or 0)
        self.is_finished = True
        self.output.finish()

    def run_in_turns(self):
        """A whole run of two receivers in turns: frames 0 to 9, of which 5 is dropped."""
        self.output.open(self.run)
        self.deliver(0, 0, 2, 4, 6, 8)
        self.deliver(1, 1, 3)
        self.deliver(1, 5, gap=Validity.DROPPED)
        self.deliver(1, 7, 9)
        self.finish()

    def close(self):
        for writer in self.writers:
            writer.sink.close()

    @property
    def index(self):
        return self.folder / f"{self.prefix}_master.h5"

    def segment(self, number):
        return self.folder / f"{self.prefix}_master_{number:05d}.h5"

    def hidden(self):
        """Names of the files that are not to be seen."""
        return sorted(path.name for path in self.folder.iterdir() if path.name.startswith("."))


def quadrants(rows, cols):
    """Places of four parts of an image."""
    half = [(row, col) for row in (0, rows // 2) for col in (0, cols // 2)]
    return [Placement(row, col, rows, cols) for row, col in half]


def read(path, name=DATA):
    with h5py.File(path) as file:
        return file[name][()]
