"""Which finished runs make room for new ones."""

from __future__ import annotations

from collections.abc import Container, Iterable

from lima2_core.ids import AcqId
from lima2_core.service.run import Run
from lima2_core.state.run import RunState

COORDINATED_KEPT = 8
"""More than a coordinator keeps before it erases them; the others are those of one that died."""

_ENDED = (RunState.DONE, RunState.FAILED, RunState.DISCARDED)


def beyond(runs: Iterable[Run], coordinated: Container[AcqId], kept: int) -> list[Run]:
    """The oldest finished runs beyond the ``kept`` newest; a coordinator erases its own."""
    ended = [run for run in runs if run.state in _ENDED]
    theirs = [run for run in ended if run.acq_id in coordinated]
    ours = [run for run in ended if run.acq_id not in coordinated]
    return ours[: max(0, len(ours) - kept)] + theirs[: max(0, len(theirs) - COORDINATED_KEPT)]
