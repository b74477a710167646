"""The service behind a control device: configures and drives one detector."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from lima2_core.camera.api import CameraEnv, CameraLink, CameraPlugin, Capabilities, Failure
from lima2_core.camera.params import AcquisitionParams
from lima2_core.errors import CameraError, Lima2Error, ParamError, StateError
from lima2_core.ids import AcqId
from lima2_core.service.events import ServiceEvent, StateChanged
from lima2_core.service.mailbox import Mailbox
from lima2_core.service.receiver import COMMAND_S
from lima2_core.state.control import Effect, Event, control_machine
from lima2_core.state.device import AcqState

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""How often a detector that exposes is asked whether it still does."""

_STATUS_WORDS = {
    AcqState.IDLE: "idle",
    AcqState.PREPARED: "prepared",
    AcqState.RUNNING: "acquiring",
    AcqState.STOPPED: "stopped",
    AcqState.FAULT: "fault",
    AcqState.TERMINATE: "terminating",
}


class ControlService:
    """Drives one detector.

    Args:
        announce_as: name of the plugin that clients are told; empty for its own.

    Threads: everything from any thread. The detector is called on the mailbox thread, except
    for its readings.
    """

    def __init__(
        self,
        name: str,
        plugin: CameraPlugin,
        env: CameraEnv,
        link: CameraLink,
        n_receivers: Callable[[], int],
        *,
        announce_as: str = "",
    ) -> None:
        self.name = name
        self.plugin = plugin
        self._announce_as = announce_as
        self.events: queue.SimpleQueue[ServiceEvent | None] = queue.SimpleQueue()
        """What happened, for one reader; None at the end."""
        self._n_receivers = n_receivers
        self._camera = plugin.make_control(env, link)
        self._machine = control_machine(name)
        self._requested: AcquisitionParams = plugin.params()
        self._applied: AcquisitionParams | None = None
        self._acq_id: AcqId | None = None
        self._last_error: Lima2Error | None = None
        self._doubt = ""
        self._mailbox = Mailbox(name)

    @property
    def acquisition_text(self) -> str:
        """The parameters last asked for, as JSON."""
        return self._requested.to_json()

    def request_acquisition(self, text: str) -> None:
        """Take acquisition parameters for the next Prepare.

        Raises:
            ParamError: refused; those before stay.
        """
        self._requested = self.plugin.params.from_json(text)

    @property
    def applied_text(self) -> str:
        """The parameters as the detector took them at the last Prepare; empty before (G16)."""
        return self._applied.to_json() if self._applied is not None else ""

    def check_preparable(self) -> None:
        """Refuse now what Prepare would have to refuse.

        Raises:
            StateError: not in this state.
            ParamError: the detector cannot do it.
        """
        self._machine.require(Event.PREPARED, "Prepare")
        self._camera.check(self._requested)

    def check(self, params: AcquisitionParams) -> None:
        """Refuse parameters that the detector cannot fulfil, whoever asks for them.

        Raises:
            ParamError: the path names the parameter.
        """
        self._camera.check(params)

    def check_startable(self) -> None:
        """Refuse Start in a wrong state.

        Raises:
            StateError: not in this state.
        """
        self._machine.require(Event.START, "Start")

    def check_triggerable(self) -> None:
        """Refuse Trigger where none is waited for.

        Raises:
            StateError: not running, or triggers come from elsewhere.
        """
        self._machine.require(Event.TRIGGER, "Trigger")
        mode = (self._applied or self._requested).acq.trigger_mode
        if mode != "software":
            raise StateError(
                f"Trigger needs acq.trigger_mode software; it is {mode}", trigger_mode=mode
            )

    def prepare(self, acq_id: AcqId) -> None:
        """Configure and arm the detector; the state is PREPARED afterwards.

        Raises:
            Lima2Error: not possible; the state is what it was.
        """
        self._mailbox.call(partial(self._prepare, acq_id), COMMAND_S)

    def start(self) -> None:
        """Begin.

        Raises:
            StateError: not prepared.
            CameraError: the detector failed; the state is FAULT.
        """
        self._mailbox.call(lambda: self._feed(Event.START), COMMAND_S)

    def trigger(self) -> None:
        """Give one software trigger.

        Raises:
            StateError: not running.
        """
        self._mailbox.call(lambda: self._feed(Event.TRIGGER), COMMAND_S)

    def stop(self) -> None:
        """End early; harmless in any state."""
        self._mailbox.call(lambda: self._feed(Event.STOP), COMMAND_S)

    def close_acquisition(self) -> None:
        """Back to rest after an acquisition; harmless in any state, FAULT stays."""
        self._mailbox.call(lambda: self._feed(Event.CLOSE), COMMAND_S)

    def reset(self) -> None:
        """Back to rest from any state."""
        self._mailbox.call(self._reset, COMMAND_S)

    def report_lost(self, receiver: str, error: Lima2Error) -> None:
        """Note that a receiver cannot be reached."""
        log.warning("%s: receiver %s cannot be reached: %s", self.name, receiver, error)
        self._last_error = error

    @property
    def state(self) -> AcqState:
        return self._machine.state

    @property
    def acq_id(self) -> AcqId | None:
        """What the detector was prepared for last; None before."""
        return self._acq_id

    @property
    def last_error(self) -> Lima2Error | None:
        """What went wrong last since Prepare; None if all is well."""
        return self._last_error

    @property
    def doubt(self) -> str:
        """Why the detector may give no more frames, where it is not certain; empty if all is well.

        Who knows whether frames still come decides.
        """
        return self._doubt if self.state is AcqState.RUNNING else ""

    @property
    def nb_frames_acquired(self) -> int:
        """Frames exposed to their end in the current or last acquisition."""
        return self._camera.nb_frames_acquired()

    def detector_info(self) -> dict[str, Any]:
        """What the detector is, by the keys of the wire (contract 02, 5.1)."""
        info = self._camera.info()
        height_m, width_m = info.pixel_size_m
        return {
            "plugin": self._announce_as or self.plugin.name,
            "model": info.model,
            "sn": info.sn,
            "pixel_size": {"x": width_m, "y": height_m},
            "dimensions": {"x": info.cols, "y": info.rows},
            **info.extra,
        }

    def detector_status(self) -> dict[str, Any]:
        """Present readings, by the keys of the wire (contract 02, 5.2)."""
        # Clients of other detectors ask for these and fail where they are missing.
        usual = {"temperature": 0.0, "humidity": 0.0} if self._announce_as else {}
        return {"state": _STATUS_WORDS[self.state], **usual, **self._camera.status()}

    def detector_capabilities(self) -> dict[str, Any]:
        """What the detector can do, by the keys of the wire; times in nanoseconds there."""
        able = self.capabilities
        return {
            "trigger_modes": list(able.trigger_modes),
            "expo_time_range": [round(t * 1e9) for t in able.expo_time_range_s],
            "latency_time_range": [round(t * 1e9) for t in able.latency_time_range_s],
            "nb_frames_per_trigger_range": list(able.nb_frames_per_trigger_range),
        }

    @property
    def capabilities(self) -> Capabilities:
        """What the detector can do."""
        return self._camera.capabilities()

    def close(self) -> None:
        """End everything.

        Raises:
            CameraError: the detector could not be brought to rest.
        """
        try:
            self._mailbox.call(lambda: self._feed(Event.TERMINATE), COMMAND_S)
        finally:
            self._mailbox.close()
            self._camera.release()
            self.events.put(None)

    # On the mailbox thread

    def _prepare(self, acq_id: AcqId) -> None:
        self._machine.require(Event.PREPARED, "Prepare")
        if not acq_id:
            raise ParamError("an acquisition needs an id", path="uuid")
        self._camera.check(self._requested)
        self._applied = self._camera.prepare(acq_id, self._requested, self._n_receivers())
        self._acq_id = acq_id
        self._last_error, self._doubt = None, ""
        self._feed(Event.PREPARED)

    def _reset(self) -> None:
        self._feed(Event.RESET)
        self._last_error, self._doubt = None, ""

    def _look(self, acq_id: AcqId | None) -> None:
        """See whether the detector still exposes, as long as it should."""
        if self.state is not AcqState.RUNNING or self._acq_id != acq_id:
            return
        failure = self._failure()
        if failure is not None and failure.certain:
            log.warning("%s: %s", self.name, failure.reason)
            self._last_error = CameraError(failure.reason)
            with suppress(Lima2Error):  # that it does not stop either has been logged
                self._feed(Event.FAILED)
            return
        if failure is not None and not self._doubt:
            log.warning("%s: %s", self.name, failure.reason)
        self._doubt = failure.reason if failure is not None else ""
        self._mailbox.post(partial(self._look, acq_id), LOOK_S)

    def _failure(self) -> Failure | None:
        try:
            return self._camera.failure()
        except Exception as error:  # cameras are foreign code
            log.debug("%s cannot be asked how it is", self.name, exc_info=error)
            text = f"it cannot be asked how it is: {type(error).__name__}: {error}"
            return Failure(text, certain=False)

    def _feed(self, event: Event) -> None:
        before = self.state
        try:
            failure = self._carry_out_all(self._machine.feed(event))
            if self._machine.allows(Event.FAILED) and not isinstance(failure, StateError | None):
                self._last_error = failure
                self._carry_out_all(self._machine.feed(Event.FAILED))
        finally:
            if self.state is not before:
                log.info("%s: %s after %s", self.name, self.state.name, event.name)
                self.events.put(StateChanged(self.state))
        if failure is not None:
            raise failure

    def _carry_out_all(self, effects: Sequence[Effect]) -> Lima2Error | None:
        """Do all of them, as far as they can be done; the first error."""
        failure: Lima2Error | None = None
        for effect in effects:
            try:
                self._carry_out(effect)
            except Lima2Error as error:
                log.warning("%s: %s failed: %s", self.name, effect.value, error)
                failure = failure or error
            except Exception as error:  # cameras are foreign code
                log.warning("%s: %s broke off", self.name, effect.value, exc_info=error)
                text = f"the camera broke off: {type(error).__name__}: {error}"
                failure = failure or CameraError(text)
        return failure

    def _carry_out(self, effect: Effect) -> None:
        if effect is Effect.START:
            self._camera.start()
            self._mailbox.post(partial(self._look, self._acq_id), LOOK_S)
        elif effect is Effect.TRIGGER:
            self._camera.trigger()
        elif effect is Effect.STOP:
            self._camera.stop()
        else:
            self._camera.close()
