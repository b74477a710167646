"""One acquisition of the whole system: what all its receivers told, merged into frame order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lima2_core.data.frame import FrameSpec, Validity
from lima2_core.data.rows import LEDGER
from lima2_core.ids import AcqId
from lima2_core.state.system import Phase, PhaseEvent, phase_machine
from lima2_core.system.layout import Layout, layout_of
from lima2_core.system.ledger import Ledger
from lima2_core.system.merge import RecordMerger
from lima2_core.system.outputs import RunView, SavedView
from lima2_core.system.policy import FaultPolicy
from lima2_core.system.ports import RunDescription, RunNews, RunPort, RunStatus

log = logging.getLogger(__name__)

ROWS = "rows/"
"""Prefix of the streams that tell which saved frame is in which row."""

_LOSS_CODES = {"overrun": Validity.OVERRUN}
_ACQUIRING = ("prepared", "running")


@dataclass(frozen=True, slots=True)
class SystemOrder:
    """What the system shall do in one acquisition."""

    acquisition: Mapping[str, Any]
    processing: Mapping[str, Any]
    policy: FaultPolicy = field(default_factory=FaultPolicy)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    deferred: bool = False


@dataclass(slots=True)
class Member:
    """One receiver in one run."""

    name: str
    port: RunPort
    status: RunStatus | None = None
    lost: str = ""
    """Why it is lost; empty if it is not."""
    asked_s: float = 0.0
    """When it was heard last."""
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Nothing more will come from it."""
        return bool(self.lost) or (self.status is not None and self.status.finished)

    @property
    def acquiring(self) -> bool:
        """Whether it may still take frames."""
        return not self.lost and (self.status is None or self.status.state in _ACQUIRING)


class SystemRun:
    """One acquisition of the system.

    Threads: `take` and `lose` on the threads of the receivers, decisions on the coordinator's,
    everything else from any.
    """

    def __init__(
        self,
        acq_id: AcqId,
        order: SystemOrder,
        applied: Mapping[str, Any],
        detector: Mapping[str, Any],
        members: Sequence[Member],
        descriptions: Sequence[RunDescription],
        device: str,
        changed: Callable[[SystemRun], None],
    ) -> None:
        self.acq_id = acq_id
        self.order = order
        self.members = tuple(members)
        self.descriptions = tuple(descriptions)
        self.layout: Layout = layout_of(descriptions)
        nb_frames = int(applied["acq"]["nb_frames"])
        self.expected: int | None = nb_frames or None
        self.ledger = Ledger(self.expected, self.layout.parts)
        self.causes: list[str] = []
        """What went wrong, in the order it was noticed."""
        self.exposed = 0
        """Frames that the detector has exposed, as far as it was asked."""
        self.started_wall_s = 0.0
        self.ended_wall_s = 0.0
        self._changed = changed
        self._phase = phase_machine(acq_id)
        self._lock = threading.Lock()
        self._mergers = {name: RecordMerger(spec) for name, spec in self.layout.streams.items()}
        self._saved = {
            name: Ledger(self._expected_of(name), self.layout.parts) for name in self.layout.saved
        }
        self.view = self._view(applied, detector, device)

    @property
    def phase(self) -> Phase:
        return self._phase.state

    def feed(self, event: PhaseEvent) -> None:
        """Note what happened; by the coordinator."""
        self._phase.feed(event)

    def allows(self, event: PhaseEvent) -> bool:
        """Whether ``event`` fits now."""
        return self._phase.allows(event)

    # What receivers tell

    def take(self, receiver: int, news: RunNews) -> None:
        """Take the news of a receiver."""
        member = self.members[receiver]
        with self._lock:
            if member.lost:
                return
            if LEDGER in news.records:
                rows = news.records[LEDGER]
                self.ledger.tell(receiver, rows)
                for name, ledger in self._saved.items():
                    if self.layout.depth_of(name) == 1:  # gaps that no saved row stands for
                        ledger.tell(receiver, rows[rows["row"] < 0])
            for name, ledger in self._saved.items():
                if ROWS + name in news.records:
                    ledger.tell(receiver, news.records[ROWS + name])
            for name, merger in self._mergers.items():
                if name in news.records:
                    merger.put(news.records[name])
            first_error = news.status.error and not (member.status and member.status.error)
            member.status = news.status
            member.asked_s = time.monotonic()
            if first_error:
                self.causes.append(f"{member.name}: {news.status.error}")
            if news.status.finished:
                self._settle_end(receiver)
            self._settle_lost()
            self._settle_records()
        self._changed(self)

    def lose(self, receiver: int, reason: str) -> None:
        """Note that nothing more will come from a receiver."""
        member = self.members[receiver]
        with self._lock:
            if member.ended:
                return
            member.lost = reason
            self.causes.append(reason)
            self._settle_lost()
            self._settle_records()
        self._changed(self)

    def _settle_end(self, receiver: int) -> None:
        """Give a class to frames that a receiver should have taken, and did not."""
        status = self.members[receiver].status
        if status is None or not status.error:
            return
        code = _LOSS_CODES.get(status.error_code, Validity.PROCESSING_FAULT)
        for ledger, total in self._totals():
            ledger.lose(self._indices_of(receiver, ledger, total), code, receiver)

    def _settle_lost(self) -> None:
        """Let nobody wait for the frames of a receiver that is gone."""
        for receiver, member in enumerate(self.members):
            if member.lost and self.layout.known:
                for ledger, total in self._totals():
                    indices = self._indices_of(receiver, ledger, total)
                    ledger.lose(indices, Validity.RECEIVER_LOST, receiver)

    def _totals(self) -> list[tuple[Ledger, int]]:
        """All ledgers, each with the number of frames that is sure to be reached."""
        ledgers = [(self.ledger, self.expected)]
        ledgers += [(ledger, self._expected_of(name)) for name, ledger in self._saved.items()]
        return [(ledger, total or ledger.highest) for ledger, total in ledgers]

    def _indices_of(self, receiver: int, ledger: Ledger, total: int) -> Any:
        """Open frames below ``total`` that can only be with this receiver."""
        is_open = ledger.open_indices(total, receiver)
        if self.layout.parts > 1 or len(self.members) == 1:
            return is_open
        if not self.layout.known:
            return is_open[:0]
        return is_open[is_open % len(self.members) == receiver]

    def _settle_records(self) -> None:
        """Make records for frames that are settled and have none coming."""
        for name, merger in self._mergers.items():
            gone = merger.open_indices(self._frames_known_of(name))
            owners = [n for n, member in enumerate(self.members) if member.ended]
            if len(owners) < len(self.members):
                if not self.layout.known or self.layout.parts > 1:
                    gone = gone[:0]
                else:
                    gone = gone[np.isin(gone % len(self.members), owners)]
            merger.miss(gone)

    def _frames_known_of(self, stream: str) -> int:
        """Frames whose records are due once their receivers have ended."""
        if self.layout.depth_of(stream) == 1:
            return self.ledger.front
        return -(-self.ledger.front // self.layout.depth_of(stream))

    def _expected_of(self, source: str) -> int | None:
        depth = self.layout.depth_of(source)
        if self.expected is None or depth == 1:
            return self.expected
        n = len(self.members)
        shares = [-(-max(0, self.expected - r) // n) for r in range(n)]
        last = [(-(-share // depth) - 1) * n + r for r, share in enumerate(shares) if share]
        return max(last) + 1

    # The end

    @property
    def acquiring(self) -> bool:
        """Whether any receiver may still take frames."""
        return any(member.acquiring for member in self.members)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come from any receiver."""
        return all(member.ended for member in self.members)

    def settle(self, survivors: Callable[[str, int], int | None]) -> None:
        """Give every frame its class; nothing more will come.

        Args:
            survivors: rows of a saved source that are readable in the files of a receiver that
                was lost; None if not known.
        """
        with self._lock:
            lost = [n for n, member in enumerate(self.members) if member.lost]
            for name, ledger in self._saved.items():
                for receiver in lost:
                    self._strike_unsaved(ledger, receiver, survivors(name, receiver))
            code = Validity.RECEIVER_LOST if lost else Validity.NEVER_SENT
            self.ledger.lose(self.ledger.open_indices(min(self.exposed, self._total())), code)
            self.ledger.end(self._total())
            for name, ledger in self._saved.items():
                total = self._expected_of(name) or ledger.highest
                ledger.lose(ledger.open_indices(min(total, self.exposed)), code)
                ledger.end(total)
            for name, merger in self._mergers.items():
                due = self._expected_of(name) or self._frames_known_of(name)
                merger.miss(merger.open_indices(due))

    def _total(self) -> int:
        return self.expected if self.expected is not None else self.ledger.highest

    def _strike_unsaved(self, ledger: Ledger, receiver: int, rows: int | None) -> None:
        """Rows that were told of and never reached the disk are lost with the crash."""
        flushed = self._flushed(ledger, receiver)
        safe = flushed if rows is None else max(rows, 0)
        entries = ledger.entries(0, ledger.highest)
        part = receiver if ledger.parts > 1 else 0
        mine = entries.row[:, part] >= safe
        if ledger.parts == 1:
            mine &= entries.receiver == receiver
        mine &= np.isin(entries.code, (Validity.VALID, Validity.PARTIAL))
        struck = np.flatnonzero(mine)
        ledger.revise(struck, Validity.CRASH, receiver)
        if ledger is self._main_saved and self.layout.depth_of(self._main_name) == 1:
            self.ledger.revise(struck[struck < self.ledger.highest], Validity.CRASH, receiver)

    @property
    def _main_name(self) -> str:
        return "frame" if "frame" in self._saved else next(iter(self._saved), "")

    @property
    def _main_saved(self) -> Ledger | None:
        return self._saved.get(self._main_name)

    def _flushed(self, ledger: Ledger, receiver: int) -> int:
        name = next(key for key, value in self._saved.items() if value is ledger)
        status = self.members[receiver].status
        return status.flushed.get(name, 0) if status is not None else 0

    @property
    def complete(self) -> bool:
        """Whether the run ended as its policy allows."""
        policy, summary = self.order.policy, self.ledger.summary()
        lost = [member for member in self.members if member.lost]
        if lost and policy.receiver_lost != "continue":
            return False
        ours = summary.counts.get(Validity.RECEIVER_LOST, 0) if lost else 0
        missing = summary.lost - ours
        if policy.frame_lost == "tolerate":
            total = max(1, summary.expected or 1)
            return missing / total <= policy.tolerated_fraction
        return missing == 0 and not (self.causes and not lost)

    def verdict(self) -> str:
        """One sentence for people."""
        causes = f" ({'; '.join(self.causes)})" if self.causes else ""
        return self.ledger.summary().sentence() + causes

    # What can be seen

    def accessible(self, source: str) -> int:
        """Frames of ``source`` below this index can be asked for; gaps counted."""
        if self.layout.depth_of(source) == 1:
            return self.ledger.front
        if source in self._saved:
            return self._saved[source].front
        n = len(self.members)
        counts = [
            (member.status.counters.get("nb_frames_processed", 0) if member.status else 0)
            for member in self.members
        ]
        return min(count * n + r for r, count in enumerate(counts))

    def counter(self, name: str) -> int:
        """Sum of a counter over the receivers."""
        return sum(member.status.counters.get(name, 0) for member in self.members if member.status)

    @property
    def received(self) -> int:
        """Frames that the receivers took; a part of a frame counts as its share."""
        taken = sum(member.status.received for member in self.members if member.status)
        return taken // self.layout.parts

    def _view(
        self, applied: Mapping[str, Any], detector: Mapping[str, Any], device: str
    ) -> RunView:
        saved: dict[str, SavedView] = {}
        for name, spec in self.layout.saved.items():
            each = [description.saved[name] for description in self.descriptions]
            saved[name] = SavedView(
                name=name,
                spec=spec,
                files=tuple(one.files for one in each),
                placements=self.layout.placements,
                part_specs=tuple(one.spec for one in each),
                ledger=self._saved[name],
                flushed=self._flushed_of(name),
            )
        sources: dict[str, FrameSpec] = dict(self.layout.sources)
        return RunView(
            acq_id=self.acq_id,
            device=device,
            detector=detector,
            requested=self.order.acquisition,
            applied=applied,
            processing=self.order.processing,
            metadata=self.order.metadata,
            receivers=tuple(member.name for member in self.members),
            topology=self.layout.topology,
            ledger=self.ledger,
            sources=sources,
            saved=saved,
            streams={name: merger.stream for name, merger in self._mergers.items()},
            started_wall_s=lambda: self.started_wall_s,
            finished=lambda: self.phase not in (Phase.PREPARED, Phase.RUNNING, Phase.DRAINING),
            verdict=self.verdict,
            accessible=self.accessible,
        )

    def _flushed_of(self, source: str) -> Callable[[int], int]:
        def flushed(receiver: int) -> int:
            status = self.members[receiver].status
            return status.flushed.get(source, 0) if status is not None else 0

        return flushed
