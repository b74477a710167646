"""A detector system as a user has it: parameters in, runs out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from client import wire
from client.errors import CameraError, ClientError, NotAvailableError, UnreachableError
from client.events import Event, Watcher
from client.everyday import Everyday
from client.link import Device, TangoDevice
from client.params import Params
from client.run import Run
from client.waiting import Wait, check_timeout

COMMAND_S = 6.0
"""Limit of commands; the front itself answers within 3 s."""
READY_S = 60.0
"""How long a detector may take to be configured."""
RETRY_S = 0.5
_AT_REST = ("idle", "fault")


class Lima2:
    """A detector with all its receivers.

    Args:
        name: of the control device: ``domain/family/member``, where TANGO_HOST names the
            database, or ``tango://host:port/domain/family/member``.

    Threads: everything from any thread, but parameters by one at a time.
    """

    def __init__(self, name: str, *, device: Device | None = None) -> None:
        self._device: Device = TangoDevice(name) if device is None else device
        self._params: Params | None = None

    def __repr__(self) -> str:
        return f"<Lima2 {self._device.name}>"

    # Parameters

    @property
    def params(self) -> Params:
        """The parameters of the next acquisition; at first those that the server has now.

        They are this client's own: `prepare` sends all of them.
        """
        if self._params is None:
            self._params = self.read_params()
        return self._params

    def read_params(self) -> Params:
        """The parameters that the server has now, as a new object.

        Raises:
            ClientError: the device has none: it is no control device, or of another version.
        """
        return Params.of_schema(self.schema, str(self._device.read(wire.FRONT_PARAMS)))

    @property
    def schema(self) -> str:
        """What parameters there are: the JSON schema of the server.

        Raises:
            ClientError: as `read_params`.
        """
        schema = self._device.attribute_property(wire.FRONT_PARAMS, wire.SCHEMA)
        if not schema:
            raise ClientError(
                f"{self._device.name} has no schema of parameters in the Tango database: it is no "
                "control device of this suite, or of an older version",
                device=self._device.name,
            )
        return schema

    # What goes on

    @property
    def state(self) -> str:
        """idle, prepared, running, fault, foreign (busy for another client) or terminate."""
        return str(self._device.read(wire.FRONT_STATE))

    @property
    def status(self) -> str:
        """What goes on, in a sentence."""
        return str(self._device.read(wire.STATUS))

    @property
    def error(self) -> str:
        """What failed or was refused last; empty if all is well."""
        text = str(self._device.read(wire.FRONT_ERROR))
        return "" if text == wire.NO_ERROR else text

    @property
    def receivers(self) -> tuple[str, ...]:
        """Each receiver and what it does."""
        return tuple(self._device.read(wire.RECEIVER_STATES) or ())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the current run: disk, memory, speed."""
        return tuple(self._device.read(wire.PREFLIGHT) or ())

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs that the server knows, oldest first."""
        return tuple(self.run(uuid) for uuid in self._device.read(wire.RUNS) or ())

    def run(self, uuid: str = "") -> Run:
        """A run by its id; without one, the one prepared last.

        Raises:
            NotAvailableError: there is no current run.
        """
        found = uuid or str(self._device.read(wire.CURRENT_RUN))
        if not found:
            raise NotAvailableError(f"{self._device.name} has not prepared anything yet")
        device = self._device.peer(wire.run_device(self._device.name, found))
        return Run(found, device, self._device)

    def events(self, timeout_s: float | None = None) -> Iterator[Event]:
        """The system now, and after every change of state, phase or progress.

        Args:
            timeout_s: how long to watch; None: until the loop is left.
        """
        return Watcher(self._device).events(timeout_s)

    # Commands

    def prepare(self, changes: Mapping[str, Any] | None = None) -> Run:
        """Prepare control and receivers with `params`.

        A detector that says that it needs some time to be configured is asked again until it is
        ready, for a minute. A part that gave no answer in time, and is alive, is asked once more:
        the first time a server has much to load.

        Args:
            changes: other values for this acquisition only, by path.

        Raises:
            ParamError: a value is refused; the path says which.
            StateError: an acquisition is running.
            UnreachableError: a part of the system does not answer.
            CameraError: the detector refuses, or is not ready after a minute.
        """
        params = self.params.copy()
        params.update(changes or {})
        until_s = time.monotonic() + READY_S
        again = False
        while True:
            try:
                # Not by way of the attributes: they are the same for all clients.
                uuid = self._device.call(wire.PREPARE_WITH, params.to_json(), timeout_s=COMMAND_S)
                return self.run(str(uuid))
            except CameraError as error:
                if "left_s" not in error.details or time.monotonic() > until_s:
                    raise
            except UnreachableError:
                if again or not self._all_answer():
                    raise
                again = True
                continue
            time.sleep(RETRY_S)

    def start(self, run: Run | None = None) -> None:
        """Start what was prepared.

        Args:
            run: if given, only if it is this one that is prepared.

        Raises:
            StateError: nothing is prepared, or another run.
        """
        if run is None:
            self._device.call(wire.START, timeout_s=COMMAND_S)
        else:
            self._device.call(wire.START_RUN, run.uuid, timeout_s=COMMAND_S)

    def trigger(self) -> None:
        """Give one software trigger."""
        self._device.call(wire.TRIGGER, timeout_s=COMMAND_S)

    def stop(self) -> None:
        """End the acquisition early; frames that were taken are processed and saved."""
        self._device.call(wire.STOP, timeout_s=COMMAND_S)

    def abort(self) -> None:
        """End the acquisition at once, or give up what is prepared."""
        self._device.call(wire.ABORT, timeout_s=COMMAND_S)

    def reset(self) -> None:
        """Bring control and receivers to rest, whoever made them work."""
        self._device.call(wire.RESET, timeout_s=COMMAND_S)

    def wait(self, timeout_s: float | None = None) -> str:
        """Wait until the system takes no frames, so that it can be prepared; gives the state.

        Earlier runs may still be processed: `Run.wait` waits for one of them.

        Raises:
            DeadlineError: not within ``timeout_s``.
        """
        wait = Wait(f"the end of the acquisition of {self._device.name}", timeout_s)
        while (state := wait.ask(lambda: self.state)) not in _AT_REST:
            wait.pause()
        return state

    def acquire(
        self,
        changes: Mapping[str, Any] | None = None,
        *,
        nb_frames: int | None = None,
        exposure_s: float | None = None,
        latency_s: float | None = None,
        save_to: str | os.PathLike[str] | None = None,
        prefix: str | None = None,
        wait: bool = True,
        timeout_s: float | None = None,
    ) -> Run:
        """Prepare and start an acquisition, and wait for its end.

        What is given here is for this acquisition only; `params` stay as they are.

        Args:
            changes: values by path.
            nb_frames: 0 = until `stop`.
            exposure_s: integration time of one frame.
            latency_s: from the end of one exposure to the start of the next.
            save_to: folder for files, a relative one below the present folder; it switches saving
                on.
            prefix: first part of the names of files.
            wait: False gives the run as soon as it is started.
            timeout_s: limit for the wait, from 0 on; None for none, as long as the server answers.

        Returns:
            The run; `Run.complete` and `Run.verdict` tell whether all frames are there, and
            `Run.check` raises if not.

        Raises:
            ParamError: a value is refused; the path says which.
            StateError: an acquisition is running.
            DeadlineError: it has not ended within ``timeout_s``; it goes on.
        """
        check_timeout(timeout_s)
        draft = self.params.copy()
        draft.update(changes or {})
        everyday = Everyday(nb_frames, exposure_s, latency_s, save_to, prefix)
        draft.update(everyday.values(draft))
        run = self.prepare(draft.to_dict())
        self.start(run)
        return run.wait(timeout_s) if wait else run

    # How it works

    def _all_answer(self) -> bool:
        """Whether control and receivers are alive; one that is still busy is given time."""
        try:
            for line in self.receivers:
                self._device.peer(line.partition(": ")[0]).read(wire.STATUS)
        except ClientError:
            return False
        return True
