"""Errors of the core to those of Tango, in the envelope that clients decode (contract 01, 7).

PyTango keeps the text of an error only where it leaves from an attribute write or read, or from
``is_<Command>_allowed``; a command body adds a third level, and clients then show a general
sentence. So what can be refused is refused there.
"""

from __future__ import annotations

import functools
import json
import logging
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import tango

from lima2_core.errors import Lima2Error, NotAvailableError, ParamError
from lima2_core.system.ports import UnreachableError
from tango_servers.names import ERROR_REASON, NO_ERROR

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def payload(error: BaseException) -> str:
    """An error as the JSON text that clients decode; plain ASCII."""
    info: dict[str, object] = {}
    if isinstance(error, Lima2Error):
        what = error.message if not error.args else str(error.args[0])
        info = {"code": error.code, **_plain(error.details)}
    else:
        what = f"{type(error).__name__}: {error}"
    info["stacktrace"] = "".join(traceback.format_exception(error))
    return json.dumps({"what": what, "errinfo": info}, ensure_ascii=True)


def payload_or_none(error: Lima2Error | None) -> str:
    """The text of a ``last_error`` attribute."""
    return NO_ERROR if error is None else payload(error)


def sentence_of(text: str) -> str:
    """What a ``last_error`` attribute tells, for people; empty if all is well."""
    return "" if text == NO_ERROR else str(_decoded(text))


def _plain(details: dict[str, object]) -> dict[str, object]:
    return {
        key: value if isinstance(value, int | float | str) else str(value)
        for key, value in details.items()
    }


def as_dev_failed(method: Callable[P, T]) -> Callable[P, T]:
    """Let a device method raise errors of the core, and clients read them."""

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except tango.DevFailed:
            raise
        except Lima2Error as error:
            raise dev_failed(error, method.__qualname__) from error
        except Exception as error:
            log.exception("%s failed", method.__qualname__)
            raise dev_failed(error, method.__qualname__) from error

    return wrapped


def dev_failed(error: BaseException, origin: str) -> tango.DevFailed:
    """The Tango exception that carries ``error``."""
    try:
        tango.Except.throw_exception(ERROR_REASON, payload(error), origin)
    except tango.DevFailed as failed:
        return failed
    raise AssertionError("throw_exception did not raise")


_SILENT = ("TRANSIENT_CallTimedout", "API_DeviceTimedOut", "API_CommandTimedOut")
"""It may still live: no answer in time, or another client holds it."""
_DEAD = ("TRANSIENT_ConnectFailed", "API_CantConnectToDevice", "API_DeviceNotExported")
"""Nobody is there."""
_BROKEN = ("API_CorbaException", "API_CommunicationFailed")
_UNKNOWN = ("API_DeviceNotDefined", "DB_DeviceNotDefined")


def error_of(failed: tango.DevFailed, device: str) -> Lima2Error:
    """What a call to a device of the suite failed of, as the class it had there.

    Returns:
        `UnreachableError` if nobody answers (``dead`` if nobody is there), `NotAvailableError` if
        there is no such device, else the error that the device raised.
    """
    for level in failed.args:
        if level.reason == ERROR_REASON:
            return _decoded(str(level.desc))
    told = _told(failed)
    first = str(failed.args[0].desc).strip().splitlines()[0] if failed.args else "no reason given"
    if timed_out(failed):
        return UnreachableError(f"{device} does not answer", device=device)
    if any(reason in told for reason in _UNKNOWN):
        return NotAvailableError(f"there is no device {device}", device=device)
    if any(reason in told for reason in _DEAD):
        return UnreachableError(f"{device} is not there", device=device, dead=True)
    if any(reason in told for reason in _BROKEN):
        return UnreachableError(f"the connection to {device} broke", device=device)
    return Lima2Error(f"{device}: {first}", device=device)


def timed_out(failed: tango.DevFailed) -> bool:
    """Whether a call failed because there was no answer in time: a process stands still, say."""
    told = _told(failed)
    return any(reason in told for reason in _SILENT)


def _told(failed: tango.DevFailed) -> str:
    return " ".join(f"{level.reason} {level.desc}" for level in failed.args)


def _decoded(text: str) -> Lima2Error:
    """The error whose `payload` is ``text``."""
    try:
        tree = json.loads(text)
        what, info = str(tree["what"]), dict(tree["errinfo"])
    except (ValueError, TypeError, KeyError):
        return Lima2Error(text)
    info.pop("stacktrace", None)
    kind = _CLASSES.get(str(info.pop("code", "")), Lima2Error)
    details = {str(key): value for key, value in info.items()}
    if issubclass(kind, ParamError):
        path = str(details.pop("path", ""))
        return kind(what.removeprefix(f"{path}: "), path=path, **details)
    return kind(what, **details)


def _classes(base: type[Lima2Error]) -> dict[str, type[Lima2Error]]:
    found = {base.code: base}
    for kind in base.__subclasses__():
        found |= _classes(kind)
    return found


_CLASSES = _classes(Lima2Error)
