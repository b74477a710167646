"""The device of one run of the whole system: its frames, records, books and progress.

It stays until the run is forgotten, so that overlapping runs can be read at the same time. Readers
of Lima's own images (blissdata among them) find here what they ask for.
"""

from __future__ import annotations

import enum
import json
from typing import Any

import numpy as np
import tango
from numpy.typing import NDArray
from tango.server import attribute, command

from lima2_core.data.encoding import DATA_ARRAY, encode_image, encode_image2d
from lima2_core.data.news import NEWS, pack
from lima2_core.errors import NotAvailableError, ParamError
from lima2_core.schema import json_tree
from lima2_core.state.system import Phase
from lima2_core.system.entries import end_of, entries_of
from lima2_core.system.images import main_source
from lima2_core.system.notes import add_from_tree
from lima2_core.system.run import SystemRun
from tango_servers.base import text_of, wire_text
from tango_servers.errors import as_dev_failed
from tango_servers.front_run import FrontRun
from tango_servers.process import PROCESS
from tango_servers.run_readings import RunReadings

PhaseLabel = enum.IntEnum(  # type: ignore[misc]
    "PhaseLabel", {phase.name.lower(): number for number, phase in enumerate(Phase)}
)
"""Where a run is; labels of DevEnum attributes."""

LIMA_VERSION = "1.10.0"
"""Of the Lima whose way of giving images this is."""
_LIMA_TRIGGER_MODES = {
    "internal": "INTERNAL_TRIGGER",
    "software": "INTERNAL_TRIGGER_MULTI",
    "external": "EXTERNAL_TRIGGER_MULTI",
    "gate": "EXTERNAL_GATE",
}
_DEV_STATES = {
    Phase.PREPARED: tango.DevState.STANDBY,
    Phase.RUNNING: tango.DevState.RUNNING,
    Phase.DRAINING: tango.DevState.RUNNING,
    Phase.ENDING: tango.DevState.RUNNING,
    Phase.DONE: tango.DevState.ON,
    Phase.INCOMPLETE: tango.DevState.ALARM,
    Phase.DISCARDED: tango.DevState.OFF,
}


def image_answer(front_run: FrontRun, idx: int) -> tuple[str, bytes]:
    """A frame in the form of Lima's readImage: the first band of the main source."""
    frame = front_run.frame("", idx)
    return DATA_ARRAY, encode_image2d(frame.data[0], frame.idx)


def ledger_answer(run: SystemRun, source: str, first: int, last: int) -> tuple[str, bytes]:
    """What became of frames of a source, empty for those of the detector; ``last`` -1: all."""
    end = end_of(run, source)
    entries = entries_of(run, source, first, max(first, end if last < 0 else min(end, last)))
    arrays: dict[str, NDArray[Any]] = {
        "code": entries.code,
        "receiver": entries.receiver,
        "timestamp_s": entries.timestamp_s,
        "row": entries.row.reshape(-1),
    }
    return NEWS, pack({"first": first, "parts": run.layout.parts, "end": end}, arrays)


def note_answer(front_run: FrontRun, text: str) -> float:
    """Attach a value to a run; when it came, seconds since 1970."""
    return add_from_tree(front_run.run.notes, json_tree(text_of(text)))


class Lima2Run(RunReadings):
    """One run of the whole system.

    Threads: Tango calls in on its own threads.
    """

    front_run: FrontRun

    @as_dev_failed
    def init_device(self) -> None:
        super().init_device()
        found = PROCESS.system_runs.get(self.get_name().lower())
        if found is None:
            raise NotAvailableError(f"{self.get_name()} belongs to no run of this server")
        self.front_run = found

    @property
    def shown(self) -> FrontRun:
        return self.front_run

    def dev_state(self) -> tango.DevState:
        return _DEV_STATES[self.front_run.phase]

    def dev_status(self) -> str:
        return wire_text(self.front_run.sentence())

    # What readers of Lima's images look at

    @attribute(dtype=str, label="Acquisition mode", doc="SINGLE, as in Lima")
    def acq_mode(self) -> str:
        return "SINGLE"

    @attribute(dtype=str, label="Trigger mode", doc="What starts exposures, in Lima's words")
    @as_dev_failed
    def acq_trigger_mode(self) -> str:
        mode = str(self.front_run.run.view.applied["acq"]["trigger_mode"])
        return _LIMA_TRIGGER_MODES.get(mode, mode.upper())

    @attribute(dtype=str, label="Lima version", doc="Of the Lima whose images these are like")
    def lima_version(self) -> str:
        return LIMA_VERSION

    @attribute(
        dtype="DevLong64", label="Frames", unit="frames", doc="Frames asked for; 0: until a stop"
    )
    @as_dev_failed
    def acq_nb_frames(self) -> int:
        return self.front_run.run.expected or 0

    @command(
        dtype_in="DevLong",
        doc_in="index in the acquisition; -1 = the newest",
        dtype_out="DevEncoded",
        doc_out=f"{DATA_ARRAY}: two dimensions; a frame that is missing is all zeros",
    )
    @as_dev_failed
    def readImage(self, idx: int) -> tuple[str, bytes]:
        """Give a processed frame (its first band), or those of the camera if there are no others.

        One that is not there yet is refused with the words "not available yet".
        """
        return image_answer(self.front_run, idx)

    # Progress

    @attribute(dtype=PhaseLabel, label="Phase", doc="Where the run is, until done or incomplete")
    def phase(self) -> Any:
        return PhaseLabel[self.front_run.phase.name.lower()]

    @attribute(
        dtype="DevLong64",
        label="Settled",
        unit="frames",
        doc="It is known what became of all frames below this index",
    )
    def ledger_front(self) -> int:
        return self.front_run.run.ledger.front if self.front_run.there else 0

    @attribute(dtype=str, label="Progress", doc="Counts, rates and levels as of now (JSON)")
    def progress(self) -> str:
        now = self.front_run.progress
        tree = {name: getattr(now, name) for name in now.__slots__}
        # Strict JSON has no infinity.
        overrun_s = tree.pop("time_to_overrun_s")
        tree["time_to_overrun_s"] = overrun_s if np.isfinite(overrun_s) else None
        return json.dumps({**tree, "percent": now.percent})

    @attribute(
        dtype=str,
        label="Readings",
        doc="What pipelines tell besides frames, such as a drift, by receiver and name (JSON)",
    )
    def readings(self) -> str:
        members = self.front_run.run.members if self.front_run.there else ()
        told = {one.name: dict(one.status.readings) for one in members if one.status is not None}
        return json.dumps({name: values for name, values in told.items() if values})

    # What it was asked for, and what it gives

    @attribute(dtype=str, label="Parameters", doc="Asked for, applied, and how it is done (JSON)")
    @as_dev_failed
    def parameters(self) -> str:
        run = self.front_run.run
        tree = {
            "acquisition": dict(run.view.requested),
            "applied": dict(run.view.applied),
            "processing": dict(run.view.processing),
            "policy": run.order.policy.to_tree(),
            "metadata": dict(run.view.metadata),
            "deferred": run.order.deferred,
            "topology": run.view.topology,
            "receivers": list(run.view.receivers),
        }
        return json.dumps(tree)

    @attribute(
        dtype=str,
        label="Notes",
        doc="Values attached to the run so far (JSON): by name the newest value with its unit and "
        "time (seconds since 1970), and how many there are",
    )
    def notes(self) -> str:
        return json.dumps(self.front_run.last_notes())

    @command(
        dtype_in=str,
        doc_in="name, value (boolean, number, text or list of numbers), unit if it has one (JSON)",
        dtype_out="DevDouble",
        doc_out="when it came, seconds since 1970",
    )
    @as_dev_failed
    def addNote(self, text: str) -> float:
        """Attach a value to the run, such as the temperature of the sample; as often as needed.

        It goes into the master file with its time. Once all frames are saved it is refused.
        """
        return note_answer(self.front_run, text)

    @attribute(
        dtype=str,
        label="Sources",
        doc="Frames for getFrame, and what they are like (JSON): shape (bands, rows, columns), "
        "dtype, unit, affine (3 x 3 matrix, a list of its three rows, from positions (row, col, 1) "
        "in a frame to those on the detector, in pixels), accessible (frames below this index can "
        "be asked for), depth (frames of the detector in each)",
    )
    @as_dev_failed
    def sources(self) -> str:
        return json.dumps(self.front_run.sources())

    @attribute(dtype=str, label="Streams", doc="Records for openCursor, and their layout (JSON)")
    @as_dev_failed
    def streams(self) -> str:
        tree = {
            name: {
                "dtype": np.lib.format.dtype_to_descr(stream.spec.dtype),
                "rows_per_frame": stream.spec.rows_per_frame,
            }
            for name, stream in self.front_run.run.view.streams.items()
        }
        return json.dumps(tree)

    @command(
        dtype_in=str,
        doc_in="an index, or JSON with idx (-1 = the newest) and source",
        dtype_out="DevEncoded",
        doc_out=f"{DATA_ARRAY}: three dimensions; a frame that is missing is all zeros",
    )
    @as_dev_failed
    def getFrame(self, text: str) -> tuple[str, bytes]:
        """Give a whole frame of any source, all its bands."""
        asked = text_of(text).strip()
        tree = json_tree(asked) if asked.startswith("{") else {"idx": _number(asked)}
        idx, source = tree.get("idx", -1), tree.get("source", "")
        if not isinstance(idx, int) or not isinstance(source, str):
            raise ParamError("idx is a whole number, source a name", path="frame")
        frame = self.front_run.frame(source, idx)
        return DATA_ARRAY, encode_image(frame.data, frame.idx)

    @command(dtype_in=str, doc_in="name of a stream", dtype_out="DevLong64", doc_out="cursor")
    @as_dev_failed
    def openCursor(self, stream: str) -> int:
        """Read a stream of records in frame order, from its start on if it is not too long."""
        return self.front_run.cursors.open(text_of(stream))

    @command(
        dtype_in="DevLong64",
        doc_in="cursor",
        dtype_out="DevEncoded",
        doc_out=f"{NEWS}: stream, first (number of the first record), finished; array records",
    )
    @as_dev_failed
    def readCursor(self, cursor: int) -> tuple[str, bytes]:
        """Give a client all records that it has not had; others are not concerned."""
        finished = self.front_run.run.view.finished()
        stream, first, records = self.front_run.cursors.read(cursor)
        tree = {"stream": stream, "first": first, "finished": finished}
        return NEWS, pack(tree, {"records": records})

    @command(dtype_in="DevLong64", doc_in="cursor")
    @as_dev_failed
    def closeCursor(self, cursor: int) -> None:
        """Read no more."""
        self.front_run.cursors.close(cursor)

    @command(
        dtype_in="DevVarLong64Array",
        doc_in="first index, index behind the last one (-1 = all)",
        dtype_out="DevEncoded",
        doc_out=f"{NEWS}: first, parts; arrays code, receiver, timestamp_s, row (parts of each)",
    )
    @as_dev_failed
    def readLedger(self, asked: Any) -> tuple[str, bytes]:
        """Say what became of frames: class, receiver and row of each; at most a million at once."""
        if len(asked) != 2 or asked[0] < 0:
            raise ParamError("first index and index behind the last are wanted", path="range")
        return ledger_answer(self.front_run.run, "", int(asked[0]), int(asked[1]))

    @command(
        dtype_in=str,
        doc_in="source (empty = that of getFrame), first, last as for readLedger (JSON)",
        dtype_out="DevEncoded",
        doc_out=f"{NEWS}: as of readLedger",
    )
    @as_dev_failed
    def readSourceLedger(self, text: str) -> tuple[str, bytes]:
        """Say what became of the frames of a source, which may be sums of those of the detector.

        Of sums that are not saved, where nobody knows beforehand who gets a frame, it stays open.
        """
        tree = json_tree(text_of(text))
        source, first, last = tree.get("source", ""), tree.get("first", 0), tree.get("last", -1)
        if not (isinstance(source, str) and isinstance(first, int) and isinstance(last, int)):
            raise ParamError("source is a name, first and last are whole numbers", path="ledger")
        run = self.front_run.run
        source = source or main_source(run)
        if first < 0 or source not in run.view.sources:
            known = ", ".join(run.view.sources) or "none"
            raise ParamError(f"give one of the sources {known}, and indices from 0", path="ledger")
        return ledger_answer(run, source, first, last)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ParamError(f"{text!r} is neither a number nor JSON", path="frame") from error
