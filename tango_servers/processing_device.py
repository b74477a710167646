"""The device of one run, made by its receiver: frames, records, progress, end and errors.

Each installed pipeline gives one Tango class, made from what its plugin declares.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import tango
from tango.server import Device, attribute, command

from lima2_core.data.encoding import DATA_ARRAY, STRUCTURED_ARRAY, encode_image, encode_records
from lima2_core.data.frame import Frame, FrameSpec, pixel_type_of
from lima2_core.data.news import NEWS
from lima2_core.errors import NotAvailableError, ParamError
from lima2_core.flow.plugin import PipelinePlugin, SourceInfo, StreamInfo
from lima2_core.schema import json_tree
from lima2_core.service.run import Run
from lima2_core.state.run import RunState
from lima2_core.system.reporter import describe
from lima2_core.system.wire import description_to_tree
from tango_servers.base import text_of, wire_text
from tango_servers.errors import as_dev_failed, payload_or_none
from tango_servers.process import PROCESS
from tango_servers.resources import as_tree

_DEV_STATES = {
    RunState.PREPARED: tango.DevState.STANDBY,
    RunState.RUNNING: tango.DevState.RUNNING,
    RunState.DRAINING: tango.DevState.RUNNING,
    RunState.DONE: tango.DevState.ON,
    RunState.FAILED: tango.DevState.FAULT,
    RunState.DISCARDED: tango.DevState.OFF,
}


def frame_info(spec: FrameSpec) -> str:
    """What frames look like, as clients read it (contract 03, section 3)."""
    bands, rows, cols = spec.shape
    return json.dumps(
        {
            "nb_channels": bands,
            "dimensions": {"x": cols, "y": rows},
            "pixel_type": pixel_type_of(spec.dtype),
        }
    )


class Lima2Processing(Device):
    """One run on one receiver; base of the classes of the pipelines.

    Threads: Tango calls in on its own threads; events are pushed by the receiver's pump.
    """

    plugin: ClassVar[PipelinePlugin]
    run: Run

    @as_dev_failed
    def init_device(self) -> None:
        super().init_device()
        run = PROCESS.runs.get(self.get_name().lower())
        if run is None:
            raise NotAvailableError(f"{self.get_name()} belongs to no run of this server")
        self.run = run
        self.listeners = PROCESS.listeners[self.get_name().lower()]
        self.cursors = {name: stream.cursor() for name, stream in run.pipeline.streams.items()}
        for name in ("is_finished", "last_error"):
            self.set_data_ready_event(name, True)

    def delete_device(self) -> None:
        for cursor in self.cursors.values():
            cursor.close()

    def dev_state(self) -> tango.DevState:
        return _DEV_STATES[self.run.state]

    def dev_status(self) -> str:
        error = f" ({self.run.error})" if self.run.error is not None else ""
        return wire_text(f"The run is {self.run.state.value}{error}.")

    @attribute(dtype=bool, label="Finished", doc="True once all that came has been processed")
    def is_finished(self) -> bool:
        return self.run.finished

    @attribute(dtype=str, label="Last error", doc="'No error', or why the processing failed (JSON)")
    def last_error(self) -> str:
        return payload_or_none(self.run.error)

    @attribute(dtype=str, label="Progress", doc="Frames that have passed each stage (JSON)")
    def progress_counters(self) -> str:
        return json.dumps(dict(self.run.progress()))

    @attribute(
        dtype=str,
        label="Last frames",
        doc="Index of the newest frame of each source, -1 while there is none (JSON)",
    )
    def last_frames(self) -> str:
        taps = self.run.pipeline.taps
        newest = {
            f"{source.label}_idx": taps[source.name].last_idx
            for source in self.plugin.sources
            if source.name in taps
        }
        return json.dumps({"source_idx": max(newest.values(), default=-1), **newest})

    @attribute(dtype=str, label="Input frames", doc="What comes from the camera (JSON)")
    def input_frame_info(self) -> str:
        return frame_info(self.run.pipeline.input_spec)

    @attribute(dtype=str, label="Processed frames", doc="What leaves the pipeline (JSON)")
    def processed_frame_info(self) -> str:
        return frame_info(self.run.pipeline.output_spec)

    @attribute(
        dtype=str,
        label="Geometry",
        doc="3 x 3 matrix from positions (row, col, 1) in a processed frame to (row, col, 1) on "
        "the detector, in pixels (JSON: a list of its three rows)",
    )
    def processed_frame_affine(self) -> str:
        return json.dumps(self.run.pipeline.output_spec.affine.matrix.tolist())

    @attribute(
        dtype=str, label="Acquisition parameters", doc="Those of this run, as asked for (JSON)"
    )
    def acq_params(self) -> str:
        return self.run.params.requested.to_json()

    @attribute(
        dtype=str, label="Processing parameters", doc="Those of this run, as asked for (JSON)"
    )
    def proc_params(self) -> str:
        return self.run.params.processing.to_json()

    @attribute(
        dtype=str,
        label="Queues",
        doc="Level, capacity and peak of the queues of the run: where it waits (JSON)",
    )
    def queues(self) -> str:
        stats = self.run.stats()
        return json.dumps(as_tree(stats) if stats is not None else {})

    @attribute(dtype=(str,), max_dim_x=100_000, label="Files", doc="Files written so far")
    def files(self) -> list[str]:
        listed = self.run.pipeline.files
        return [wire_text(name) for name in listed()] if listed is not None else []

    # For the front of the system, which puts the runs of all receivers together

    @attribute(dtype=str, label="Description", doc="What this run will give, for the front (JSON)")
    def description(self) -> str:
        return json.dumps(description_to_tree(describe(self.run)))

    @command(dtype_out="DevLong64", doc_out="id of the listener")
    @as_dev_failed
    def openNews(self) -> int:
        """Listen to this run from now on; for the front."""
        return self.listeners.open()

    @command(
        dtype_in="DevVarLong64Array",
        doc_in="id of the listener, number of the news from 1; the same number gives the same",
        dtype_out="DevEncoded",
        doc_out=f"{NEWS}: status, and records since the news before",
    )
    @as_dev_failed
    def readNews(self, asked: Any) -> tuple[str, bytes]:
        """Give a listener what is new; for the front."""
        if len(asked) != 2:
            raise ParamError("id of the listener and number of the news are wanted", path="asked")
        return NEWS, self.listeners.read(int(asked[0]), int(asked[1]))

    @command(dtype_in="DevLong64", doc_in="id of the listener")
    @as_dev_failed
    def closeNews(self, listener: int) -> None:
        """Listen no more."""
        self.listeners.close(listener)

    @command(
        dtype_in=str,
        doc_in="JSON with source, idx (-1 = the newest here) and step (every so many pixels)",
        dtype_out="DevEncoded",
        doc_out=f"{DATA_ARRAY}: the frame",
    )
    @as_dev_failed
    def getSourceFrame(self, text: str) -> tuple[str, bytes]:
        """Give a frame of any source that this run keeps; for the front."""
        tree = json_tree(text_of(text))
        source, idx, step = tree.get("source"), tree.get("idx"), tree.get("step", 1)
        if not (isinstance(source, str) and isinstance(idx, int) and isinstance(step, int)):
            raise ParamError("source, idx and step are wanted", path="frame")
        frame = self._frame(source, idx)
        return DATA_ARRAY, encode_image(frame.data[:, :: max(1, step), :: max(1, step)], frame.idx)

    def _frame(self, source: str, idx: int) -> Frame:
        tap = self.run.pipeline.taps.get(source)
        if tap is None:
            raise NotAvailableError(f"{source} is not kept in this run", source=source)
        return tap.get(idx)


def processing_class(plugin: PipelinePlugin) -> type[Lima2Processing]:
    """The Tango class of a pipeline, with a getter for each source and a pop for each stream."""
    members: dict[str, Any] = {"plugin": plugin, "__doc__": (plugin.params.__doc__ or "")}
    for source in plugin.sources:
        members[source.getter] = command(
            dtype_in="DevLong64",
            doc_in="index of the frame in the acquisition; -1 = the newest here",
            dtype_out="DevEncoded",
            doc_out=f"{DATA_ARRAY}: {source.doc}",
        )(_getter(source))
    for stream in plugin.streams:
        members[stream.pop] = command(
            dtype_out="DevEncoded",
            doc_out=f"{STRUCTURED_ARRAY}: {stream.doc}, all since the last call",
        )(_pop(stream))
        if stream.waiting:
            members[stream.waiting] = attribute(
                dtype="DevLong64",
                label=f"{stream.name} waiting",
                unit="records",
                min_value=0,
                doc=f"Records that {stream.pop} would return",
                fget=_waiting(stream),
            )
    made: type[Lima2Processing] = type(plugin.class_name, (Lima2Processing,), members)
    return made


def _getter(source: SourceInfo) -> Callable[[Lima2Processing, int], tuple[str, bytes]]:
    @as_dev_failed
    def get(self: Lima2Processing, idx: int) -> tuple[str, bytes]:
        frame = self._frame(source.name, idx)
        return DATA_ARRAY, encode_image(frame.data, frame.idx)

    get.__name__ = source.getter
    return get


def _pop(stream: StreamInfo) -> Callable[[Lima2Processing], tuple[str, bytes]]:
    @as_dev_failed
    def pop(self: Lima2Processing) -> tuple[str, bytes]:
        cursor = self.cursors.get(stream.name)
        if cursor is None:  # not enabled: an error would end the stream for the client
            return STRUCTURED_ARRAY, encode_records(np.empty(0, np.uint8))
        return STRUCTURED_ARRAY, encode_records(cursor.read())

    pop.__name__ = stream.pop
    return pop


def _waiting(stream: StreamInfo) -> Callable[[Lima2Processing], int]:
    def waiting(self: Lima2Processing) -> int:
        cursor = self.cursors.get(stream.name)
        return cursor.waiting() if cursor is not None else 0

    waiting.__name__ = f"read_{stream.waiting}"
    return waiting
