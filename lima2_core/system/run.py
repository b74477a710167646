"""One acquisition of the whole system: what all its receivers told, merged into frame order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lima2_core.data.frame import FrameSpec, Validity
from lima2_core.errors import Lima2Error, ParamError, PartialFrameError
from lima2_core.ids import AcqId
from lima2_core.state.machine import Machine
from lima2_core.state.system import ENDED, Effect, Phase, PhaseEvent, phase_machine
from lima2_core.system.books import Books, left_open
from lima2_core.system.layout import Layout, layout_of
from lima2_core.system.ledger import Ledger
from lima2_core.system.member import Member
from lima2_core.system.notes import Notes
from lima2_core.system.output_thread import Outputs
from lima2_core.system.outputs import RunView, SavedView, Survivors
from lima2_core.system.policy import FaultPolicy
from lima2_core.system.ports import (
    RunDescription,
    RunNews,
    RunOrder,
    UnreachableError,
)
from lima2_core.system.targets import refuse_shared_files

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SystemOrder:
    """What the system shall do in one acquisition."""

    acquisition: Mapping[str, Any]
    processing: Mapping[str, Any]
    policy: FaultPolicy = field(default_factory=FaultPolicy)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    deferred: bool = False

    def part(self, receiver: int, acq_id: AcqId) -> RunOrder:
        """The order as one receiver gets it: with its own part of file names."""
        processing = {
            name: {**group, "filename_rank": receiver}
            if isinstance(group, Mapping) and "filename_prefix" in group
            else group
            for name, group in self.processing.items()
        }
        return RunOrder(acq_id, self.acquisition, processing, self.deferred)


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
        self._books = Books(self.layout, len(self.members), self.expected)
        self.ledger = self._books.ledger
        self.causes: list[str] = []
        """What went wrong, in the order it was noticed."""
        self.exposed = 0
        """Frames that the detector has exposed, as far as it was asked."""
        self.interrupted = False
        """Whether it was told to end early."""
        self.exposed_known = False
        """Whether it was asked at its end, or cannot be."""
        self.doubt = ""
        """Why the detector may give no more frames, as far as it was asked."""
        self.moved_s = 0.0
        """When a receiver took frames last, or when it was started."""
        self.notes = Notes(acq_id)
        """What clients attach to it while it is alive."""
        self._times = _Times()
        self.ended_wall_s = 0.0
        self._changed = changed
        self._phase = phase_machine(acq_id)
        self._lock = threading.Lock()
        self._failed = False
        self.broken_off = False
        """Whether its detector gave no more frames, though nobody ended it."""
        self._exact = False
        self.view = self._view(applied, detector, device)
        self.outputs = Outputs((), self.view, lambda: None)
        """What is written and published of it; put in place by the coordinator."""

    @property
    def phase(self) -> Phase:
        return self._phase.state

    @property
    def started_wall_s(self) -> float:
        """When it was started, seconds since 1970; 0 before."""
        return self._times.started_wall_s

    def note_start(self) -> None:
        """It is started now."""
        self._times.started_wall_s = time.time()
        self.moved_s = time.monotonic()
        self.feed(PhaseEvent.START)

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
            if member.lost or self.phase is Phase.DISCARDED:
                return
            self._books.tell(receiver, news.records)
            first_error = news.status.error and not (member.status and member.status.error)
            before = member.status.received if member.status is not None else 0
            member.status = news.status
            member.asked_s = time.monotonic()
            if news.status.received > before:
                self.moved_s = member.asked_s
            if first_error:
                self.causes.append(f"{member.name}: {news.status.error}")
            self._books.settle(self._gone())
        self._changed(self)

    def lose(self, receiver: int, reason: str) -> None:
        """Note that nothing more will come from a receiver."""
        member = self.members[receiver]
        with self._lock:
            if member.ended or self.phase is Phase.DISCARDED:
                return
            member.lost = reason
            self.causes.append(reason)
            self._books.settle(self._gone())
        self._changed(self)

    def fail(self, reason: str) -> None:
        """Note that the run cannot end well, and why."""
        with self._lock:
            self._failed = True
            if reason not in self.causes:
                self.causes.append(reason)

    def break_off(self, reason: str) -> None:
        """Note that its detector gives no more frames, though nobody ended it, and why."""
        self.fail(reason)
        with self._lock:
            self.broken_off = True

    def check_outputs(self, others: Iterable[SystemRun]) -> None:
        """Give up the run if one of its outputs refuses it, or it would write what others do.

        Raises:
            ParamError: it is given up.
        """
        try:
            refuse_shared_files(self.view, (other.view for other in others))
            self.outputs.check()
        except ParamError:
            self.discard()
            self.outputs.abandon()
            raise

    def discard(self) -> None:
        """Give up a run that was never started."""
        with self._lock:
            # Who sees that it is discarded finds its books closed.
            self.notes.close("it was given up before its start")
            self._books.end(0, True, self._gone())
            self._phase.feed(PhaseEvent.DISCARD)

    def _gone(self) -> Mapping[int, Validity]:
        """Receivers from which nothing more comes, and what became of the frames they leave."""
        gone: dict[int, Validity] = {}
        for receiver, member in enumerate(self.members):
            if member.lost:
                gone[receiver] = Validity.RECEIVER_LOST
            elif member.status is not None and member.status.finished:
                gone[receiver] = left_open(member.status)
        return gone

    # The end

    @property
    def acquiring(self) -> bool:
        """Whether any receiver may still take frames."""
        return any(member.acquiring for member in self.members)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come from any receiver."""
        return all(member.ended for member in self.members)

    def note_exposed(self, frames: int | None) -> None:
        """Note how many frames the detector has exposed in all; None if it cannot be asked."""
        if not self.exposed_known:
            self.exposed_known = True
            self._exact = frames is not None
            self.exposed = self.exposed if frames is None else frames

    def settle(self, survivors: Callable[[str, int], Survivors | None]) -> None:
        """Give every frame its class; nothing more will come.

        Args:
            survivors: what is readable of a saved source in the files of a receiver that was
                lost; None if not known.
        """
        # What the outputs know is asked before the lock is taken: others wait for it.
        safe = {
            (name, receiver): survivors(name, receiver) if member.lost else None
            for name in self._books.saved
            for receiver, member in enumerate(self.members)
        }
        with self._lock:
            gone = self._gone()
            for (name, receiver), found in safe.items():
                member = self.members[receiver]
                if found is not None:
                    self._books.recover(receiver, name, found)
                if member.lost or (member.status is not None and member.status.error):
                    code = Validity.CRASH if member.lost else gone[receiver]
                    row = member.flushed(name) if found is None else found.rows
                    self._books.strike(receiver, name, row, code)
            if self.broken_off:
                self._books.break_off(gone)
            elif self.expected is not None and self._ran_to_its_end:
                # Whatever the detector counts: some count late, and this one may be gone.
                self._books.end(self.expected, True, gone)
            else:
                self._books.end(self.exposed, self._exact, gone)

    @property
    def short(self) -> bool:
        """Whether the receivers have fewer frames than were asked for."""
        return self.expected is None or self.received < self.expected

    @property
    def _ran_to_its_end(self) -> bool:
        """Whether nothing ended it early, as those know who took their frames to the last."""
        return not self.interrupted and any(
            not member.lost and member.status is not None and not member.status.error
            for member in self.members
        )

    @property
    def complete(self) -> bool:
        """Whether the run ended as its policy allows."""
        policy = self.order.policy
        lost = any(member.lost for member in self.members)
        if self._failed or (lost and policy.receiver_lost != "continue"):
            return False
        missing = self._losses((Validity.RECEIVER_LOST, Validity.CRASH) if lost else ())
        if policy.frame_lost == "tolerate":
            return missing <= policy.tolerated_fraction * (self.ledger.expected or 0)
        return missing == 0 and not any(member.error for member in self.members)

    def breach(self) -> Lima2Error | None:
        """What the policy of the run does not allow, and has happened."""
        policy = self.order.policy
        lost = [member.lost for member in self.members if member.lost]
        if lost and policy.receiver_lost == "abort":
            return UnreachableError("; ".join(lost))
        ends = [m for m in self.members if m.error_code == PartialFrameError.code]
        if policy.receiver_lost == "abort":
            ends += [member for member in self.members if member.error]
        if ends:
            return Lima2Error(f"{ends[0].name}: {ends[0].error}")
        if policy.frame_lost == "fail" and not self.interrupted and self._losses():
            return Lima2Error("stopped at the first lost frame, as the policy of the run asks")
        return None

    def _losses(self, forgiven: Collection[Validity] = ()) -> int:
        """Frames that count as lost, but for those of some classes."""
        summary = self.ledger.summary()
        missing = summary.lost - sum(summary.counts.get(code, 0) for code in forgiven)
        if self.order.policy.frame_partial == "accept":
            return missing
        border: int | None = None
        if self.interrupted:  # the detector may have been cut off within its last frames
            last = len(self.members) if self.layout.parts == 1 else 1
            border = max(0, self.ledger.last_sent() - last)
        return missing + self.ledger.incomplete(forgiven, border)

    def verdict(self) -> str:
        """One sentence for people."""
        return _verdict(self.ledger, self.causes)

    # What can be seen

    def accessible(self, source: str) -> int:
        """Frames of ``source`` below this index can be asked for; gaps counted."""
        return _accessible(self._books, self.members, source)

    def counter(self, name: str) -> int:
        """Sum of a counter over the receivers."""
        return sum(member.counter(name) for member in self.members)

    @property
    def received(self) -> int:
        """Frames that the receivers took; a part of a frame counts as its share."""
        taken = sum(member.status.received for member in self.members if member.status)
        return taken // self.layout.parts

    def _view(
        self, applied: Mapping[str, Any], detector: Mapping[str, Any], device: str
    ) -> RunView:
        # Nothing in it refers to the run itself: as a ring both would stay in memory for long.
        times = self._times
        saved: dict[str, SavedView] = {}
        for name, spec in self.layout.saved.items():
            each = [description.saved[name] for description in self.descriptions]
            saved[name] = SavedView(
                name=name,
                spec=spec,
                files=tuple(one.files for one in each),
                placements=self.layout.placements(name),
                part_specs=tuple(one.spec for one in each),
                ledger=self._books.saved[name],
                flushed=partial(_flushed, self.members, name),
                fill=self.layout.fill(name),
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
            streams={name: merger.stream for name, merger in self._books.mergers.items()},
            started_wall_s=lambda: times.started_wall_s,
            finished=partial(_finished, self._phase),
            verdict=partial(_verdict, self.ledger, self.causes),
            causes=partial(tuple, self.causes),
            accessible=partial(_accessible, self._books, self.members),
            depth_of=self.layout.depth_of,
            expected_of=self._books.expected_of,
            notes=self.notes.series,
        )


@dataclass(slots=True)
class _Times:
    """When a run began, seconds since 1970; 0 before."""

    started_wall_s: float = 0.0


def _flushed(members: Sequence[Member], source: str, receiver: int) -> int:
    return members[receiver].flushed(source)


def _finished(phase: Machine[Phase, PhaseEvent, Effect]) -> bool:
    return phase.state is Phase.ENDING or phase.state in ENDED


def _verdict(ledger: Ledger, causes: Sequence[str]) -> str:
    because = f" ({'; '.join(causes)})" if causes else ""
    return ledger.summary().sentence() + because


def _accessible(books: Books, members: Sequence[Member], source: str) -> int:
    processed = [member.counter("nb_frames_processed") for member in members]
    return books.accessible(source, lambda n: members[n].ended, processed)
