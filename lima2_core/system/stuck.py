"""Why is it stuck: the stage of a run that all others wait for, as a sentence for people.

A pure function of what is known about a run and of the times of its last activities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lima2_core.state.system import Phase
from lima2_core.system.run import SystemRun

PATIENCE_S = 1.0
"""Nothing is called stuck before it has stood still for so long, or for three frame times."""
_SILENCE_S = 0.7
_FULL = 0.95
_SAVING = "sav"
"""Part of the names of queues whose lane writes files."""
_CAMERA = "camera"
_SAVED = "_saved"
"""End of the names of counters of frames in files."""


@dataclass(frozen=True, slots=True)
class MemberView:
    """One receiver of a run."""

    name: str
    received: int = 0
    queues: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Level and capacity by name."""
    unheard_s: float = 0.0
    """Since its last answer."""
    lost: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a run."""

    phase: Phase
    trigger_mode: str
    expected: int | None
    exposed: int
    exposed_idle_s: float
    """Since the detector exposed its last frame, or since the start."""
    received_idle_s: float
    """Since a receiver took its last frame, or since the start."""
    front: int
    """All frames below this index are settled."""
    front_idle_s: float
    """Since it moved, or since the start."""
    period_s: float = 0.0
    """Start-to-start time of two frames, as asked for."""
    doubt: str = ""
    """Why the detector may give no more frames."""
    deferred: bool = False
    processed: int = 0
    saved_idle_s: float = 0.0
    """Since a frame was written last, or since the start."""
    owner: int | None = None
    """Receiver of the frame ``front``, where that is known."""
    members: tuple[MemberView, ...] = ()
    troubles: tuple[str, ...] = ()
    """Of the outputs."""

    @property
    def received(self) -> int:
        return sum(member.received for member in self.members)

    @property
    def patience_s(self) -> float:
        return max(PATIENCE_S, 3 * self.period_s)


def why_stuck(now: Situation) -> str:
    """The blocking stage; empty if nothing stands still."""
    if now.phase is Phase.RUNNING:
        return _silent(now) or _full(now) or _detector(now) or _missing(now)
    if now.phase is Phase.DRAINING:
        return _silent(now) or _deferred(now) or _full(now) or _writing(now) or _missing(now)
    if now.phase is Phase.ENDING and now.troubles:
        return f"waiting for the outputs: {'; '.join(now.troubles)}"
    return ""


def _silent(now: Situation) -> str:
    for member in now.members:
        if not member.lost and not member.ended and member.unheard_s > _SILENCE_S:
            return f"{member.name} has not answered for {member.unheard_s:.1f} s"
    return ""


def _full(now: Situation) -> str:
    """The last full queue of the flow is the one that holds up those before it."""
    for member in now.members:
        full = [
            name
            for name, (level, capacity) in member.queues.items()
            if capacity and level >= _FULL * capacity
        ]
        if not full or member.lost:
            continue
        last = full[-1]
        if _SAVING in last:
            return f"queue {last!r} of {member.name} is full: its writer waits for the disk"
        if last == _CAMERA:
            return f"the queue of {member.name} is full: processing is slower than the camera"
        return f"queue {last!r} of {member.name} is full: what it leads to is too slow"
    return ""


def _writing(now: Situation) -> str:
    """A writer with frames in its queue that has written none for a while: nothing else comes."""
    if now.saved_idle_s < now.patience_s:
        return ""
    for member in now.members:
        for name, (level, _) in member.queues.items():
            if _SAVING in name and level and not member.lost:
                return (
                    f"the writer of {member.name} waits for the disk, with {level} frames in its "
                    f"queue {name!r}"
                )
    return ""


def _detector(now: Situation) -> str:
    idle_s = now.exposed_idle_s
    if idle_s < now.patience_s or (now.expected is not None and now.exposed >= now.expected):
        return ""
    if now.doubt:
        silent = now.received_idle_s >= now.patience_s
        return f"the detector may be lost: {now.doubt}" if silent else ""
    if now.trigger_mode != "internal":
        which = "no trigger" if now.exposed == 0 else "no further trigger"
        remedy = "; triggerAcq gives one" if now.trigger_mode == "software" else ""
        return f"{which} ({now.trigger_mode}) seen for {idle_s:.0f} s{remedy}"
    what = "no frame" if now.exposed == 0 else f"no frame after the first {now.exposed}"
    return f"the detector is silent: {what} exposed for {idle_s:.0f} s"


def _missing(now: Situation) -> str:
    if now.front_idle_s < now.patience_s or now.received_idle_s < now.patience_s:
        return ""
    if now.expected is not None and now.front >= now.expected:
        return ""
    if now.front >= max(now.exposed, now.received):
        return ""
    who = f" of {now.members[now.owner].name}" if now.owner is not None else ""
    return f"waiting for frame {now.front}{who} for {now.front_idle_s:.0f} s"


def _deferred(now: Situation) -> str:
    if now.deferred and now.processed == 0 and now.received:
        return f"{now.received} frames are collected; processAcq begins to process them"
    return ""


class ActivityWatch:
    """Notes when things last moved in a run.

    Threads: one at a time.
    """

    def __init__(self, run: SystemRun) -> None:
        self._run = run
        self._seen: dict[str, tuple[int, float]] = {}

    def look(self, now_s: float, processed: int = 0) -> Situation:
        """The situation now."""
        run = self._run
        acq = run.view.applied["acq"]
        front = run.ledger.front
        received = [m.status.received if m.status is not None else 0 for m in run.members]
        known = run.layout.known and run.layout.parts == 1
        return Situation(
            phase=run.phase,
            trigger_mode=str(acq["trigger_mode"]),
            expected=run.expected,
            exposed=run.exposed,
            exposed_idle_s=self._idle_s("exposed", run.exposed, now_s),
            received_idle_s=self._idle_s("received", sum(received), now_s),
            front=front,
            front_idle_s=self._idle_s("front", front, now_s),
            period_s=(int(acq["expo_time"]) + int(acq["latency_time"])) * 1e-6,
            doubt=run.doubt,
            deferred=run.order.deferred,
            processed=processed,
            saved_idle_s=self._idle_s("saved", _saved(run), now_s),
            owner=front % len(run.members) if known else None,
            members=tuple(
                MemberView(
                    name=member.name,
                    received=count,
                    queues=dict(member.status.queues) if member.status is not None else {},
                    unheard_s=max(0.0, now_s - member.asked_s) if member.asked_s else 0.0,
                    lost=bool(member.lost),
                    ended=member.ended,
                )
                for member, count in zip(run.members, received, strict=True)
            ),
            troubles=tuple(one.trouble for one in run.outputs.threads if one.trouble),
        )

    def _idle_s(self, what: str, value: int, now_s: float) -> float:
        """Seconds for which a count has not moved; it does not move before the start."""
        before = self._seen.get(what)
        if before is None or before[0] != value or self._run.phase is Phase.PREPARED:
            self._seen[what] = (value, now_s)
            return 0.0
        return now_s - before[1]


def _saved(run: SystemRun) -> int:
    """Frames of all kinds that are safe in files."""
    return sum(
        count
        for member in run.members
        if member.status is not None
        for name, count in member.status.counters.items()
        if name.endswith(_SAVED)
    )
