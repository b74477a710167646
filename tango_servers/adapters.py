"""Ports of the core on Tango: how a control part reaches its receivers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

import tango

from lima2_core.camera.api import CameraMessage
from lima2_core.errors import Lima2Error
from lima2_core.ids import AcqId
from lima2_core.service.link import Deliver, FanOut, to_text
from lima2_core.service.receiver import ReceiverService
from tango_servers.errors import error_of, timed_out
from tango_servers.names import CAMERA_MESSAGE
from tango_servers.process import PROCESS

log = logging.getLogger(__name__)


class RemoteReceiver:
    """Hands messages to a receiver in another server.

    Threads: one; the connection is made by the first call, so that a dead receiver delays nobody.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._proxy: tango.DeviceProxy | None = None

    def __call__(self, message: CameraMessage) -> None:
        with tango.EnsureOmniThread():
            try:
                self._send(to_text(message))
            except tango.DevFailed as failed:
                error = error_of(failed, self._device)
                if not error.details.get("dead"):
                    raise error from failed
            else:
                return
            # The server may have been started again since the last message.
            try:
                self._send(to_text(message))
            except tango.DevFailed as failed:
                raise error_of(failed, self._device) from failed

    def _send(self, text: str) -> None:
        proxy, self._proxy = self._proxy, None
        if proxy is None:
            with PROCESS.devices_lock:
                proxy = tango.DeviceProxy(self._device)
        try:
            proxy.command_inout(CAMERA_MESSAGE, text)
        except tango.DevFailed as failed:
            # One that failed tries again only after a second. One of a process that stands still
            # goes on with it; to make another takes 3 s, with the lock held.
            if timed_out(failed):
                self._proxy = proxy
            raise
        self._proxy = proxy


class TangoLink:
    """The camera link of a control device: direct calls within the process, commands elsewhere.

    Threads: `broadcast` from any; `connect` and `close` from one at a time.
    """

    def __init__(
        self,
        local: Mapping[str, ReceiverService],
        on_lost: Callable[[str, Lima2Error], None],
    ) -> None:
        self._local = local
        self._on_lost = on_lost
        self._fan_out: FanOut | None = None
        self._lock = threading.Lock()

    @property
    def receivers(self) -> Sequence[str]:
        """Names of the receivers, in the order of their indices."""
        fan_out = self._fan_out
        return fan_out.receivers if fan_out is not None else ()

    def connect(self, receivers: Sequence[str]) -> None:
        """Send to these receivers from now on; opens connections in the background."""
        with self._lock:
            if self._fan_out is not None and tuple(receivers) == tuple(self._fan_out.receivers):
                return
            if self._fan_out is not None:
                self._fan_out.close()
            targets: dict[str, Deliver] = {}
            for name in receivers:
                targets[name] = self._target(name)
            self._fan_out = FanOut(targets, self._on_lost)
            # A message that nobody is concerned by makes the connections before they matter.
            self._fan_out.broadcast(CameraMessage(AcqId(""), "hello"))

    def broadcast(self, message: CameraMessage) -> None:
        with self._lock:
            if self._fan_out is not None:
                self._fan_out.broadcast(message)

    def _target(self, name: str) -> Deliver:
        remote = RemoteReceiver(name)

        def deliver(message: CameraMessage) -> None:
            # Looked up each time: Init gives a receiver a new service.
            service = self._local.get(name.lower())
            if service is None:
                remote(message)
            else:
                service.deliver(message)

        return deliver

    def close(self) -> None:
        """Deliver what is queued, and end."""
        with self._lock:
            if self._fan_out is not None:
                self._fan_out.close()
                self._fan_out = None
