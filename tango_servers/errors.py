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

from lima2_core.errors import Lima2Error
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


def from_dev_failed(failed: tango.DevFailed, what: str) -> Lima2Error:
    """The error that a remote device reported."""
    reasons = "; ".join(str(error.desc).strip() for error in failed.args[:1])
    return Lima2Error(f"{what}: {reasons}")
