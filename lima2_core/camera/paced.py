"""The control part and the sources of cameras whose frames become due by the clock.

The control part is the detector. It tells the sources when it started, was triggered and was
stopped; both sides compute from that, with `Exposures`, which frames exist at any moment. So a
source that is late catches up, and no frame is lost. The messages:

========= ============================== ====================================================
kind      values                         meaning
========= ============================== ====================================================
start     t0_wall_s [, edge_period_s]    the first exposure starts now; or the first edge comes
                                         after ``edge_period_s``, and then one after the other
trigger   count, t_wall_s                the trigger number ``count``, from 1
stop      nb_exposed                     frames from this index on will never be exposed
========= ============================== ====================================================
"""

from __future__ import annotations

import logging
import math
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lima2_core.camera.api import (
    CameraControl,
    CameraEnv,
    CameraLink,
    CameraMessage,
    FrameSource,
    Scalar,
    SourceRequest,
)
from lima2_core.camera.dispatch import DispatchMode, frames_of, frames_share, keeps_rows
from lima2_core.camera.exposures import ENDLESS, Exposures
from lima2_core.camera.limits import check_against
from lima2_core.camera.params import AcquisitionParams
from lima2_core.clock import Clock
from lima2_core.data.frame import Frame, Gap
from lima2_core.errors import EndOfFrames, StateError
from lima2_core.ids import AcqId

log = logging.getLogger(__name__)

STOP_LEAD_S = 0.05
"""A stop still counts the exposures that end so soon after it. A source that hears of it later has
given frames that the detector does not count, and the sources may have given unequal numbers."""
STOP_WAIT_S = 0.6
"""How long an interrupted source waits to be told where the detector stopped."""
STOP_LIMIT_S = 1.0
"""How long an interrupted source gives frames that were exposed before the detector stopped."""
MESSAGE_AGE_LIMIT_S = 5.0
"""A message that seems older comes from a computer whose clock is not synchronised."""
BATCH = 64
"""Frames that a source gives at once."""


@dataclass(slots=True)
class _Run:
    """One acquisition of the control part."""

    acq_id: AcqId
    params: AcquisitionParams
    exposures: Exposures
    started_s: float | None = None
    t0_wall_s: float = 0.0
    nb_final: int | None = None
    """Frames exposed by the stop; None before it."""
    closed: bool = False


class PacedControl(CameraControl):
    """A detector that is only a clock; what it is and can do is left to the subclass.

    Args:
        edge_period_s: time between the edges of a simulated external trigger; 0 = there is none.
    """

    def __init__(self, env: CameraEnv, link: CameraLink, edge_period_s: float = 0.0) -> None:
        self._clock = env.clock
        self._link = link
        self._edge_period_s = edge_period_s
        self._run: _Run | None = None

    def status(self) -> Mapping[str, Scalar]:
        run = self._run
        if run is None or run.closed:
            state = "idle"
        elif run.started_s is None or run.nb_final is not None:
            state = "armed" if run.nb_final is None else "stopped"
        else:
            state = "acquiring"
        # No sensor: what one would see in a room with slow changes.
        wave = math.sin(self._clock.now_s() / 100)
        return {
            "state": state,
            "temperature": round(25 + 0.5 * wave, 2),
            "humidity": round(40 - 2 * wave, 1),
        }

    def check(self, params: AcquisitionParams) -> None:
        check_against(params, self.capabilities())

    def prepare(
        self, acq_id: AcqId, params: AcquisitionParams, n_receivers: int
    ) -> AcquisitionParams:
        self.check(params)
        self.close()
        self._run = _Run(acq_id, params, Exposures.asked_by(params.acq))
        return params

    def start(self) -> None:
        run = self._run
        if run is None or run.started_s is not None or run.nb_final is not None:
            raise StateError("the camera is not armed; prepare an acquisition first")
        now_s, run.t0_wall_s = self._clock.now_s(), self._clock.wall_s()
        values: dict[str, Scalar] = {"t0_wall_s": run.t0_wall_s}
        if run.params.acq.trigger_mode == "internal":
            run.exposures.trigger(now_s)
        elif run.params.acq.trigger_mode == "external":
            values["edge_period_s"] = self._edge_period_s
            run.exposures.train(now_s + self._edge_period_s, self._edge_period_s)
        run.started_s = now_s
        self._tell(run, "start", values)

    def trigger(self) -> None:
        run = self._run
        if run is None or run.started_s is None or run.nb_final is not None:
            raise StateError("the camera takes triggers only between its start and its stop")
        acq = run.params.acq
        if acq.trigger_mode != "software":
            raise StateError(f"the trigger mode is {acq.trigger_mode!r}, not 'software'")
        if acq.nb_frames and run.exposures.nb_triggers * acq.nb_frames_per_trigger >= acq.nb_frames:
            log.warning("A trigger beyond the %d frames asked for is ignored.", acq.nb_frames)
            return
        now_s = self._clock.now_s()
        run.exposures.trigger(now_s)
        # From the monotonic clock, so that a clock that is set meanwhile changes nothing.
        t_wall_s = run.t0_wall_s + (now_s - run.started_s)
        self._tell(run, "trigger", {"count": run.exposures.nb_triggers, "t_wall_s": t_wall_s})

    def stop(self) -> None:
        run = self._run
        if run is not None and run.nb_final is None:
            run.nb_final = self._exposed(run, STOP_LEAD_S)
            self._tell(run, "stop", {"nb_exposed": run.nb_final})

    def close(self) -> None:
        self.stop()
        if self._run is not None:
            self._run.closed = True

    def nb_frames_acquired(self) -> int:
        run = self._run
        if run is None:
            return 0
        return self._exposed(run) if run.nb_final is None else run.nb_final

    def _most(self, params: AcquisitionParams) -> int:
        """Frames that it can expose in an acquisition."""
        return params.acq.nb_frames or ENDLESS

    def _exposed(self, run: _Run, in_s: float = 0.0) -> int:
        """Frames exposed to their end by now, or ``in_s`` from now."""
        ended = run.exposures.ended(self._clock.now_s() + in_s)
        return min(ended, self._most(run.params))

    def _tell(self, run: _Run, kind: str, values: Mapping[str, Scalar]) -> None:
        self._link.broadcast(CameraMessage(run.acq_id, kind, values))


class PacedSource(FrameSource):
    """Gives the frames of one receiver when they are due; how they are made is left to `_take`.

    Args:
        nb_frames: of the whole system; 0 = endless.
        exposures: to be triggered by the messages of the control part.
    """

    def __init__(
        self,
        request: SourceRequest,
        clock: Clock,
        *,
        mode: DispatchMode = "round_robin",
        nb_frames: int,
        exposures: Exposures,
    ) -> None:
        self._request = request
        self._clock = clock
        self._mode = mode
        self._nb_frames = nb_frames or ENDLESS
        self._exposures = exposures
        self._indices = frames_of(request.share, mode, request.acq_id)
        self._next = next(self._indices)
        """The frame of this receiver that comes next."""
        self._wall_offset_s = 0.0
        """Time since 1970 on the computer of the control part, less the monotonic time here."""
        self._synchronised = False
        self._stop_at: int | None = None
        self._interrupted_s: float | None = None
        self._wake = threading.Event()
        self._message_lock = threading.Lock()

    @property
    def keeps_rows(self) -> bool:
        return keeps_rows(self._mode, self._request.share)

    def expected_frames(self) -> int | None:
        # Once the detector has been stopped, what it exposed is all there is to expect.
        stop_at = self._stop_at
        total = self._nb_frames if stop_at is None else min(stop_at, self._nb_frames)
        if total == ENDLESS or not self.keeps_rows:
            return None
        return frames_share(self._mode, self._request.share).count(total)

    def deliver(self, message: CameraMessage) -> None:
        if message.acq_id != self._request.acq_id:
            return
        with self._message_lock:
            values = message.values
            if message.kind == "start":
                t0_s = self._local_s(float(values["t0_wall_s"]))
                if "edge_period_s" in values:
                    every_s = float(values["edge_period_s"])
                    self._exposures.train(t0_s + every_s, every_s)
                elif self._request.params.acq.trigger_mode == "internal":
                    self._exposures.trigger(t0_s)
            elif message.kind == "trigger":
                at_s = self._local_s(float(values["t_wall_s"]))
                while self._exposures.nb_triggers < int(values["count"]):
                    self._exposures.trigger(at_s)
            elif message.kind == "stop":
                self._stop_at = int(values["nb_exposed"])
        self._wake.set()

    def interrupt(self) -> None:
        if self._interrupted_s is None:
            self._interrupted_s = self._clock.now_s()
        self._wake.set()

    def next_frames(self, timeout_s: float) -> Sequence[Frame | Gap]:
        now_s = self._clock.now_s()
        until_s = now_s + timeout_s
        while True:
            self._wake.clear()
            ready = self._ready(now_s)
            frames = self._take(ready)
            # A frame that is due and yet not given waits for something that the clock cannot tell.
            if frames or now_s >= until_s or self._next < ready:
                return frames
            if not self._work_ahead():
                self._clock.wait(self._wake, min(until_s, self._next_event_s()))
            now_s = self._clock.now_s()

    @abstractmethod
    def _take(self, ready: int) -> list[Frame | Gap]:
        """Make the next frames below index ``ready``, at most `BATCH`, and move `_next` on.

        Returns:
            Fewer than there are, or none, where it has to wait for a buffer.

        Raises:
            CameraError: the first of them cannot be made.
        """

    def _work_ahead(self) -> bool:
        """Use the time until the next frame for one piece of work; False if there is none."""
        return False

    def _timestamp_s(self, frame: int) -> float:
        """Start of an exposure, seconds since 1970."""
        return self._exposures.start_s(frame) + self._wall_offset_s

    def _ready(self, now_s: float) -> int:
        """The index below which all frames can be given.

        Raises:
            EndOfFrames: no more will come.
        """
        stop_at, interrupted_s = self._stop_at, self._interrupted_s
        last = self._nb_frames if stop_at is None else min(stop_at, self._nb_frames)
        if self._next >= last:
            raise EndOfFrames
        if interrupted_s is not None:
            patience_s = STOP_WAIT_S if stop_at is None else STOP_LIMIT_S
            if now_s >= interrupted_s + patience_s:
                raise EndOfFrames
        if stop_at is not None:
            # The control part counts them as exposed, whatever the clock says here.
            return last
        until_s = now_s if interrupted_s is None else min(now_s, interrupted_s)
        return min(last, self._exposures.ended(until_s))

    def _next_event_s(self) -> float:
        """When there may be something to do, if no message comes."""
        if self._interrupted_s is not None:
            patience_s = STOP_WAIT_S if self._stop_at is None else STOP_LIMIT_S
            return self._interrupted_s + patience_s
        return self._exposures.due_s(self._next)

    def _local_s(self, wall_s: float) -> float:
        """A moment of the control part by the monotonic clock here, not in the future."""
        if not self._synchronised:
            age_s = self._clock.wall_s() - wall_s
            if not -1.0 <= age_s <= MESSAGE_AGE_LIMIT_S:
                log.warning(
                    "The clocks of control and receiver differ by %.1f s; "
                    "the exposures are timed from the arrival of the start.",
                    age_s,
                )
                age_s = 0.0
            # Asked after the time of day: if this thread is held up in between, frames come later,
            # and not before the detector counts them.
            self._wall_offset_s = wall_s - (self._clock.now_s() - max(age_s, 0.0))
            self._synchronised = True
        return min(self._clock.now_s(), wall_s - self._wall_offset_s)
