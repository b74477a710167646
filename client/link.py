"""Devices as the client sees them, and Tango devices in this form.

Every call has a limit of time. A connection that broke is made afresh by the next call.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import tango

from client import wire
from client.errors import ClientError, NoDeviceError, UnreachableError, error_for

CALL_S = 3.0
"""Limit of an ordinary call; commands of the front answer within it."""

Put = Callable[[Any], None]
"""Takes the value of an attribute, or None if there are no events for a while."""


class Device(Protocol):
    """What the client needs of a device.

    Raises:
        ClientError: from all methods, of the class that fits.
    """

    @property
    def name(self) -> str:
        """Its name as messages show it."""

    def read(self, attribute: str) -> Any:
        """Value of an attribute; of an enumeration the name."""

    def write(self, attribute: str, value: Any) -> None:
        """Set an attribute."""

    def call(self, command: str, argument: Any = None, timeout_s: float = CALL_S) -> Any:
        """What a command gives."""

    def attribute_property(self, attribute: str, name: str) -> str:
        """A property that the database has for an attribute of the class; empty without one."""

    def peer(self, name: str) -> Device:
        """Another device of the same control system."""

    def follow(self, attribute: str, put: Put) -> Callable[[], None]:
        """Tell of every change of an attribute, on a thread of Tango; the result ends it."""


class TangoDevice:
    """A device of a Tango control system.

    Args:
        name: ``domain/family/member``, or with ``tango://host:port/`` before it; what stands
            behind a ``#`` is left as it is.

    Threads: everything from any thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._proxy: tango.DeviceProxy | None = None
        self._labels: dict[str, tuple[str, ...]] = {}
        """Of enumerations, by attribute; as of the present connection."""

    def read(self, attribute: str) -> Any:
        reading = self._ask(lambda proxy: proxy.read_attribute(attribute), CALL_S)
        return self._plain(attribute, reading.value, reading.type)

    def write(self, attribute: str, value: Any) -> None:
        sent = _wire_text(value) if isinstance(value, str) else value
        self._ask(lambda proxy: proxy.write_attribute(attribute, sent), CALL_S)

    def call(self, command: str, argument: Any = None, timeout_s: float = CALL_S) -> Any:
        sent = _wire_text(argument) if isinstance(argument, str) else argument
        arguments = () if sent is None else (sent,)
        return _text_of(
            self._ask(lambda proxy: proxy.command_inout(command, *arguments), timeout_s)
        )

    def attribute_property(self, attribute: str, name: str) -> str:
        def ask(proxy: tango.DeviceProxy) -> Any:
            class_name = proxy.info().dev_class
            database = proxy.get_device_db()
            return database.get_class_attribute_property(class_name, attribute)

        found = self._ask(ask, CALL_S).get(attribute, {}).get(name, [])
        return str(found[0]) if found else ""

    def peer(self, name: str) -> Device:
        before, _, after = self.name.partition("#")
        stem = before.rsplit("/", 3)[0] if before.startswith("tango://") else ""
        return TangoDevice(f"{stem}/{name}" + (f"#{after}" if after else "") if stem else name)

    def follow(self, attribute: str, put: Put) -> Callable[[], None]:
        def take(event: Any) -> None:
            if event.err or event.attr_value is None:
                put(None)
                return
            try:
                put(self._plain(attribute, event.attr_value.value, event.attr_value.type))
            except ClientError:
                put(None)  # the server went before it could be asked what the number means

        kind = tango.EventType.CHANGE_EVENT
        proxy = self._connected(CALL_S)
        try:
            identity = proxy.subscribe_event(attribute, kind, take)
        except tango.DevFailed as failed:
            raise error_of(failed, self.name) from None

        def end() -> None:
            try:
                proxy.unsubscribe_event(identity)
            except tango.DevFailed:
                # The server is gone, and the subscription with it.
                return

        return end

    def _plain(self, attribute: str, value: Any, kind: Any) -> Any:
        if kind == tango.CmdArgType.DevEnum:
            labels = self._labels.get(attribute)
            if labels is None:
                config = self._ask(lambda proxy: proxy.get_attribute_config(attribute), CALL_S)
                labels = self._labels[attribute] = tuple(config.enum_labels)
            return labels[int(value)]
        return _text_of(value)

    def _ask(self, question: Callable[[tango.DeviceProxy], Any], timeout_s: float) -> Any:
        proxy = self._connected(timeout_s)
        try:
            proxy.set_timeout_millis(int(timeout_s * 1000))
            return question(proxy)
        except tango.DevFailed as failed:
            error = error_of(failed, self.name)
            if isinstance(error, UnreachableError):
                # A proxy that failed tries again only after a second.
                self._proxy = None
                self._labels.clear()
            # Tango's own text would bury the sentence; it is still in __context__.
            raise error from None

    def _connected(self, timeout_s: float) -> tango.DeviceProxy:
        proxy = self._proxy
        if proxy is None:
            try:
                proxy = tango.DeviceProxy(self.name)
                # It may have found nobody. To set a limit would then wait for the connection, and
                # PyTango 10.3 keeps all threads of this process from running meanwhile.
                proxy.ping()
            except tango.DevFailed as failed:
                raise error_of(failed, self.name) from None
            proxy.set_timeout_millis(int(timeout_s * 1000))
            self._proxy = proxy
        return proxy


_SILENT = ("TRANSIENT_CallTimedout", "API_DeviceTimedOut", "API_CommandTimedOut")
_GONE = (
    *("TRANSIENT_ConnectFailed", "API_CantConnectToDevice", "API_DeviceNotExported"),
    *("API_CorbaException", "API_CommunicationFailed", "API_CantConnectToDatabase"),
)
_UNKNOWN = ("API_DeviceNotDefined", "DB_DeviceNotDefined")
_OTHER_KIND = ("API_AttrNotFound", "API_CommandNotFound")


def error_of(failed: tango.DevFailed, device: str) -> ClientError:
    """What a call failed of."""
    for level in failed.args:
        if level.reason == wire.ERROR_REASON:
            return _told(str(level.desc), device)
    told = " ".join(f"{level.reason} {level.desc}" for level in failed.args)
    first = str(failed.args[0].desc).strip().splitlines()[0] if failed.args else "no reason given"
    if any(reason in told for reason in _OTHER_KIND):
        return ClientError(
            f"{device} does not know what was asked ({first}): it is no control device of this "
            "suite, or of another version",
            device=device,
        )
    if any(reason in told for reason in _SILENT):
        return UnreachableError(f"{device} does not answer", device=device)
    if any(reason in told for reason in _UNKNOWN):
        return NoDeviceError(f"there is no device {device}", device=device)
    if any(reason in told for reason in _GONE):
        return UnreachableError(f"{device} cannot be reached: {first}", device=device)
    return ClientError(f"{device}: {first}", device=device)


def _told(text: str, device: str) -> ClientError:
    """The error that a device of the suite raised."""
    try:
        tree = json.loads(_text_of(text))
        what, info = str(tree["what"]), dict(tree["errinfo"])
    except (ValueError, TypeError, KeyError):
        return ClientError(text, device=device)
    info.pop("stacktrace", None)
    code = str(info.pop("code", ""))
    details = {str(key): value for key, value in info.items()}
    return error_for(code, what, {"device": device, **details})


def _wire_text(text: str) -> str:
    """Any text as a Tango string: UTF-8 in the disguise of Latin-1."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _text_of(value: Any) -> Any:
    """A value with the texts in it as they were meant."""
    if isinstance(value, str):
        return value.encode("latin-1", "replace").decode("utf-8", "replace")
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        if len(value) == 2 and isinstance(value[1], bytes):  # a format and its bytes
            return value
        return tuple(_text_of(item) for item in value)
    return value
