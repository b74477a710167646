"""Where results end: a file, a ring, a stream of records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lima2_core.data.frame import Gap
from lima2_core.ids import FrameIdx, LocalIdx


@dataclass(slots=True)
class Row:
    """One place in the order of a receiver, and what stands there.

    ``value`` is what the lane carries: a `Frame`, the product of a `Reduction`, or the `Gap`
    that takes its place.
    """

    local: LocalIdx
    idx: FrameIdx
    value: object

    @property
    def gap(self) -> Gap | None:
        """The gap, if nothing else stands here."""
        return self.value if isinstance(self.value, Gap) else None


class Sink(ABC):
    """The end of an ordered lane.

    Called in this order: `open` once (at Prepare), `write` any number of times, then either
    `close` or `abort` once. All from one thread at a time.
    """

    name: str = "sink"

    def open(self) -> None:
        """Make ready; what exists from earlier runs is cleared here, nothing new is made yet.

        Raises:
            StorageError: it will not be possible to write.
        """

    @abstractmethod
    def write(self, rows: Sequence[Row]) -> None:
        """Take rows, in order, without holes in ``local``.

        Raises:
            StorageError: the medium failed. The lane ends, `abort` follows.
        """

    def idle(self) -> None:
        """Called now and then while no rows come, so that what was written can be flushed."""

    def close(self) -> None:
        """End well: everything written is safe when this returns."""

    def abort(self) -> None:
        """End after a failure: keep what was written so far readable; must not raise."""

    def readings(self) -> Mapping[str, float]:
        """What users may want to know while it works, by names with units; from any thread."""
        return {}
