"""What a receiver tells the coordinator about one of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from lima2_core.data.memory import PoolStats
from lima2_core.data.record import Cursor
from lima2_core.data.rows import LEDGER
from lima2_core.service.run import Run
from lima2_core.state.run import RunState
from lima2_core.system.books import ROWS
from lima2_core.system.ports import RunDescription, RunNews, RunStatus, SavedDescription

_NOT_MERGED = ("frame_idx",)
"""Streams about the order of one receiver, which mean nothing among several."""


def describe(run: Run) -> RunDescription:
    """What the run will give."""
    pipeline = run.pipeline
    return RunDescription(
        input_spec=pipeline.input_spec,
        output_spec=pipeline.output_spec,
        streams={
            name: stream.spec
            for name, stream in pipeline.streams.items()
            if name not in _NOT_MERGED
        },
        saved={
            name: SavedDescription(saved.spec, saved.files)
            for name, saved in pipeline.saved.items()
        },
        sources=tuple(pipeline.taps),
        depth=pipeline.joint.depth if pipeline.joint is not None else 1,
        keeps_rows=run.keeps_rows,
        placement=run.placement,
        output_placement=pipeline.placement,
        fill=run.fill,
        output_fill=pipeline.fill,
        remarks=(*run.remarks, *pipeline.remarks),
        reaches={name: part.reach for name, part in pipeline.parts.items()},
    )


class RunReporter:
    """News of one run for one listener, who gets everything once.

    Threads: `news` by one at a time.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        streams = {LEDGER: run.streams[LEDGER]}
        streams |= {ROWS + name: saved.rows for name, saved in run.pipeline.saved.items()}
        streams |= {
            name: stream for name, stream in run.pipeline.streams.items() if name not in _NOT_MERGED
        }
        streams |= {name: part.stream for name, part in run.pipeline.parts.items()}
        self._cursors: dict[str, Cursor] = {name: s.cursor() for name, s in streams.items()}

    def news(self, memory: Mapping[str, PoolStats], memory_limit_bytes: int) -> RunNews:
        """Everything since the last call."""
        status = self._status(memory, memory_limit_bytes)  # first: see `RunNews`
        records: dict[str, NDArray[Any]] = {}
        for name, cursor in self._cursors.items():
            new = cursor.read()
            if len(new):
                records[name] = new
        return RunNews(status, records)

    def close(self) -> None:
        """Tell no more."""
        for cursor in self._cursors.values():
            cursor.close()

    def _status(self, memory: Mapping[str, PoolStats], limit_bytes: int) -> RunStatus:
        run = self._run
        # One that could not be activated has nothing to finish.
        finished = run.finished or run.state is RunState.FAILED
        stats = run.stats()
        queues: dict[str, tuple[int, int]] = {}
        if stats is not None:
            queues["camera"] = (stats.queue.level, stats.queue.capacity)
            queues |= {name: (one.level, one.capacity) for name, one in stats.lanes.items()}
        used = sum(one.in_use * one.slot_bytes for one in memory.values())
        return RunStatus(
            state=run.state.value,
            finished=finished,
            received=run.received,
            lost=run.lost,
            counters=dict(run.progress()),
            flushed={name: saved.flushed() for name, saved in run.pipeline.saved.items()},
            queues=queues,
            readings=run.pipeline.readings(),
            error=str(run.error) if run.error is not None else "",
            error_code=run.error.code if run.error is not None else "",
            memory_bytes=used,
            memory_limit_bytes=limit_bytes,
        )
