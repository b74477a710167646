"""One run of the whole system, with what its device serves."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from lima2_core.data.frame import Frame
from lima2_core.errors import NotAvailableError
from lima2_core.ids import AcqId
from lima2_core.state.system import ENDED, Phase
from lima2_core.system.cursors import Cursors
from lima2_core.system.images import frame_of, main_source
from lima2_core.system.output_thread import OutputThread
from lima2_core.system.progress import Progress, ProgressMeter
from lima2_core.system.run import SystemRun
from lima2_core.system.stuck import ActivityWatch, why_stuck
from lima2_core.system.wire import spec_to_tree

_FRESH_S = 0.05


class FrontRun:
    """There before its run, which is put in place once it is prepared.

    Threads: everything from any thread.
    """

    def __init__(self, acq_id: AcqId, device: str) -> None:
        self.acq_id = acq_id
        self.device = device
        self.warnings: tuple[str, ...] = ()
        """What spoke against the run when it was prepared."""
        self._run: SystemRun | None = None
        self._cursors: Cursors | None = None
        self._meter: ProgressMeter | None = None
        self._activity: ActivityWatch | None = None
        self._stuck = ""
        self._looked_s = -math.inf
        self._phase_seen: Phase | None = None
        self._over = False
        self._lock = threading.Lock()

    def attach(self, run: SystemRun) -> None:
        """Put the run in place, before its first record comes."""
        self._cursors = Cursors(run.view.streams)
        self._meter = ProgressMeter(run)
        self._activity = ActivityWatch(run)
        self._run = run

    @property
    def run(self) -> SystemRun:
        """The run itself.

        Raises:
            NotAvailableError: it is being prepared.
        """
        if self._run is None:
            raise NotAvailableError(f"run {self.acq_id} is not available yet", acq_id=self.acq_id)
        return self._run

    @property
    def there(self) -> bool:
        """Whether the run is in place."""
        return self._run is not None

    @property
    def cursors(self) -> Cursors:
        """The clients that read its records."""
        if self._cursors is None:
            raise NotAvailableError(f"run {self.acq_id} is not available yet", acq_id=self.acq_id)
        return self._cursors

    @property
    def phase(self) -> Phase:
        """Where the run is; prepared also while it is being prepared."""
        return self._run.phase if self._run is not None else Phase.PREPARED

    @property
    def alive(self) -> bool:
        """Whether anything may still change."""
        return self.phase not in ENDED

    @property
    def progress(self) -> Progress:
        """How far it is."""
        self.look()
        return self._meter.progress if self._meter is not None else Progress()

    @property
    def stuck(self) -> str:
        """What the run waits for; empty if it goes on."""
        self.look()
        return self._stuck

    @property
    def over(self) -> bool:
        """Whether it was looked at for the last time: nothing will change any more."""
        return self._over

    @property
    def bottleneck(self) -> str:
        """The queue that was full last; empty if none was."""
        return self._meter.bottleneck if self._meter is not None else ""

    @property
    def last_image_ready(self) -> int:
        """All frames up to this one can be asked for, gaps counted; -1 if none."""
        run = self._run
        if run is None or not run.view.sources:
            return -1
        return run.accessible(main_source(run)) - 1

    def frame(self, source: str, idx: int, step: int = 1) -> Frame:
        """A whole frame; errors as of `lima2_core.system.images.frame_of`."""
        return frame_of(self.run, source, idx, step)

    def sources(self) -> dict[str, dict[str, Any]]:
        """Sources of frames, and what they are like."""
        run = self.run
        return {
            name: {
                **spec_to_tree(spec),
                "accessible": run.accessible(name),
                "depth": run.layout.depth_of(name),
            }
            for name, spec in run.view.sources.items()
        }

    def results(self) -> list[str]:
        """What the outputs made: files, or addresses."""
        return [name for one in self._outputs() for name in one.results()]

    def last_notes(self) -> dict[str, Any]:
        """The newest value of each note, as strict JSON can hold it."""
        last = self._run.notes.last() if self._run is not None else {}
        return {name: {**one, "value": _strict(one["value"])} for name, one in last.items()}

    def troubles(self) -> list[str]:
        """What does not work at present."""
        return [one.trouble for one in self._outputs() if one.trouble]

    def look(self) -> None:
        """See how far it is, and take new records; unless that was done just now.

        What was seen in another phase is never told as of this one.
        """
        if self._meter is None or self._activity is None or self._cursors is None or self._over:
            return
        with self._lock:
            phase, now_s = self.phase, time.monotonic()  # first: what is seen at the end is final
            ended = phase in ENDED
            known = phase is self._phase_seen and now_s < self._looked_s + _FRESH_S
            if known and not ended:
                return
            self._phase_seen, self._looked_s = phase, now_s
            progress = self._meter.update(now_s)
            self._stuck = why_stuck(self._activity.look(now_s, progress.processed))
            self._cursors.gather()
            if ended:
                self._meter.rest()
                self._over = True

    def close(self) -> None:
        """The run is forgotten: nobody can ask for its frames any more."""
        for one in self._outputs():
            one.output.end_live_frames()
        if self._cursors is not None:
            self._cursors.close_all()

    def sentence(self) -> str:
        """How it goes, for people; with what went wrong, even if it goes on."""
        troubles = self.troubles() if self.phase is not Phase.DISCARDED else []
        if self.phase is Phase.ENDING:
            troubles = []  # it waits for them, and says so
        causes = self._run.causes if self._run is not None else []
        if self.phase in ENDED:
            causes = []  # the verdict has them
        wrong = "; ".join((*causes, *troubles))
        return self._course() + (f" Trouble: {wrong}." if wrong else "")

    def _course(self) -> str:
        now, total = self.progress, self.progress.expected
        of = f" of {total}" if total is not None else ""
        stuck = f" Stuck: {self.stuck}." if self.stuck else ""
        match self.phase:
            case Phase.PREPARED:
                warned = f" Mind: {'; '.join(self.warnings)}." if self.warnings else ""
                number = "any number of" if total is None else total
                return f"Prepared for {number} frames.{warned}"
            case Phase.RUNNING:
                full = (
                    f" A queue will be full in {now.time_to_overrun_s:.0f} s."
                    if math.isfinite(now.time_to_overrun_s) and not stuck
                    else ""
                )
                rate = f", {now.rate_hz:.0f} per second" if now.rate_hz else ""
                return f"{now.received}{of} frames taken{rate}.{stuck}{full}"
            case Phase.DRAINING:
                return f"{now.received} frames taken, {now.processed} processed so far.{stuck}"
            case Phase.ENDING:
                return f"All is processed; outputs are being completed.{stuck}"
            case Phase.DISCARDED:
                return "Given up before its start."
        return f"Ended: {self.run.verdict()}."

    def _outputs(self) -> tuple[OutputThread, ...]:
        return self._run.outputs.threads if self._run is not None else ()


def _strict(value: Any) -> Any:
    """The same for strict JSON, which has no infinity and no not-a-number."""
    if isinstance(value, list):
        return [_strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
