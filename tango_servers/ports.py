"""Receivers in other servers, as the coordinator sees them: its ports on Tango.

Tango's own limits of time are soft: a call to a stopped process may take nine seconds, whatever
limit its proxy has. So every call is made on a thread of its own, and given up when its time is
over.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import tango

from lima2_core.data.encoding import decode_image
from lima2_core.data.frame import Frame
from lima2_core.data.news import unpack
from lima2_core.errors import Lima2Error, NotAvailableError
from lima2_core.ids import AcqId, FrameIdx
from lima2_core.service.mailbox import Mailbox, Pending
from lima2_core.state.device import AcqState
from lima2_core.system.ports import (
    ReceiverStatus,
    RunDescription,
    RunNews,
    RunOrder,
    UnreachableError,
)
from lima2_core.system.wire import description_from_tree, order_to_tree, status_from_tree
from tango_servers.base import text_of
from tango_servers.errors import error_of, sentence_of, timed_out
from tango_servers.process import PROCESS

PREPARE_S = 2.5
COMMAND_S = 1.8
ASK_S = 1.0
"""Limits of a prepare, of another command, and of a question; Tango's own is 3 s."""
MOST_PROXIES = 8
"""Connections that a line keeps: nobody tells it when frames of a run are asked for no more."""


class Line:
    """Calls to devices of one server, one after the other, each with a hard limit of time.

    Args:
        name: of the server, or of a device in it.

    Threads: everything from any thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._box = Mailbox(f"line-{name}")
        self._proxies: dict[str, tango.DeviceProxy] = {}
        self._last: Pending | None = None
        self._turn = threading.Lock()

    def ask(
        self, device: str, question: Callable[[tango.DeviceProxy], Any], timeout_s: float
    ) -> Any:
        """What ``question`` gives, asked of a device.

        Raises:
            UnreachableError: no answer within ``timeout_s``, or nobody is there (``dead``).
            Lima2Error: the device refuses.
        """
        until_s = time.monotonic() + timeout_s
        late = UnreachableError(f"{device} does not answer", device=device)
        if not self._turn.acquire(timeout=timeout_s):
            raise late
        try:
            # A call that was given up may still occupy the thread.
            if self._last is not None and not self._last.done.wait(until_s - time.monotonic()):
                raise late
            self._last = call = self._box.submit(lambda: self._ask(device, question))
            if not call.done.wait(max(0.0, until_s - time.monotonic())):
                raise late
        finally:
            self._turn.release()
        if call.error is not None:
            raise call.error
        return call.value

    def command(self, device: str, name: str, argument: Any = None, limit_s: float = ASK_S) -> Any:
        """What a command of a device answers; errors as of `ask`."""
        arguments = () if argument is None else (argument,)
        return self.ask(device, lambda proxy: proxy.command_inout(name, *arguments), limit_s)

    def close(self) -> None:
        """Ask no more. Does not wait for a call that was given up."""
        last = self._last
        if last is None or last.done.wait(ASK_S):
            self._box.close()

    def _ask(self, device: str, question: Callable[[tango.DeviceProxy], Any]) -> Any:
        with tango.EnsureOmniThread():
            try:
                proxy = self._proxies.pop(device, None)
                if proxy is None:
                    with PROCESS.devices_lock:
                        proxy = tango.DeviceProxy(device)
                self._proxies[device] = proxy  # the last in line to be given up
                for old in list(self._proxies)[:-MOST_PROXIES]:
                    self._proxies.pop(old, None)
                # No limit is set here: where nobody answers, that waits for the connection, and
                # PyTango 10.3 keeps all threads of this process from running meanwhile.
                return question(proxy)
            except tango.DevFailed as failed:
                error = error_of(failed, device)
                if isinstance(error, UnreachableError) and not timed_out(failed):
                    # A proxy that failed tries again only after a second. One of a process that
                    # stands still goes on with it; to make another takes 3 s, with the lock held.
                    self._proxies.pop(device, None)
                raise error from failed

    def forget(self, device: str) -> None:
        """Keep no connection to a device that is not needed any more."""
        self._proxies.pop(device, None)


class TangoRun:
    """One run of a receiver in another server.

    Threads: `news` by one at a time; everything else from any.
    """

    def __init__(
        self, device: str, description: RunDescription, listener: int, lines: tuple[Line, Line]
    ) -> None:
        self.device = device
        self._description = description
        self._listener = listener
        self._line, self._frames = lines
        self._number = 1

    def describe(self) -> RunDescription:
        return self._description

    def news(self) -> RunNews:
        """What came since the last call; what an answer that got lost told is told again."""
        asked = [self._listener, self._number]
        _, block = self._line.command(self.device, "readNews", asked)
        tree, records = unpack(block)
        self._number += 1
        return RunNews(status_from_tree(tree), records)

    def frame(self, source: str, idx: int, step: int = 1) -> Frame:
        asked = json.dumps({"source": source, "idx": idx, "step": step})
        _, block = self._frames.command(self.device, "getSourceFrame", asked)
        found, data = decode_image(block)
        return Frame(FrameIdx(found), data)

    def close(self) -> None:
        try:
            self._line.command(self.device, "closeNews", self._listener)
        except Lima2Error:
            return  # nobody is there to tell
        finally:
            self._line.forget(self.device)


class TangoReceiver:
    """A receiver in any server.

    Threads: commands by one at a time.
    """

    def __init__(self, device: str) -> None:
        self.name = device
        self._lines = (Line(device), Line(f"{device}-frames"))

    def prepare(self, order: RunOrder) -> TangoRun:
        text = self._command("prepareRun", json.dumps(order_to_tree(order)), PREPARE_S)
        answer = json.loads(text)
        description = description_from_tree(answer["description"])
        # Its devices are in the database that it was found in.
        host = self.name[: -len("/".join(self.name.split("/")[-3:]))]
        device = host + str(answer["device"])
        return TangoRun(device, description, int(answer["listener"]), self._lines)

    def start(self) -> None:
        self._command("Start")

    def stop(self) -> None:
        self._command("Stop")

    def reset(self) -> None:
        self._command("Reset")

    def process(self, acq_id: AcqId) -> None:
        self._command("processRun", acq_id)

    def erase(self, acq_id: AcqId) -> None:
        self._command("erasePipeline", acq_id)

    def status(self) -> ReceiverStatus:
        names = ["acq_state", "last_error", "current_pipeline"]
        state, error, acq_id = self._lines[0].ask(
            self.name,
            lambda proxy: [item.value for item in proxy.read_attributes(names)],
            ASK_S,
        )
        found = sentence_of(text_of(error))
        return ReceiverStatus(AcqState(int(state)), found, AcqId(acq_id) if acq_id else None)

    def close(self) -> None:
        """Ask no more."""
        for line in self._lines:
            line.close()

    def _command(self, name: str, argument: Any = None, limit_s: float = COMMAND_S) -> Any:
        try:
            return self._lines[0].command(self.name, name, argument, limit_s)
        except NotAvailableError as error:
            if error.details.get("device") == self.name:  # not even in the database
                raise UnreachableError(error.message, device=self.name, dead=True) from error
            raise
