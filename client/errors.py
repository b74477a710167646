"""The errors of the client: what went wrong, and what to do about it.

::

    ClientError                 anything else that a server tells
    ├── DecodeError             what a device sent is not what it should be   (also ValueError)
    ├── ParamError              a parameter is refused; `path` names it       (also ValueError)
    │   └── UnknownParamError   there is no such parameter                    (also AttributeError)
    ├── StateError              the command does not fit the present state
    ├── BusyError               a part of the system did not answer in time   (also TimeoutError)
    ├── DeadlineError           the time allowed for waiting is over          (also TimeoutError)
    ├── UnreachableError        a device does not answer                      (also ConnectionError)
    ├── CameraError             the detector or its driver failed
    │   ├── OverrunError        frames came faster than they were taken
    │   └── PartialFrameError   a frame is incomplete, and the run wants none such
    ├── PipelineError           a processing task failed
    ├── StorageError            a file could not be made or written
    ├── MemoryLimitError        no memory for so many frames                  (also MemoryError)
    ├── NotAvailableError       no such frame, run or record (any more)       (also LookupError)
    │   └── NoDeviceError       the Tango database does not know the device
    ├── PluginError             a camera or a pipeline does not load
    └── IncompleteError         a run ended with frames missing

Servers send a code with each error, by which the class is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class ClientError(Exception):
    """Base of all errors of the client.

    Args:
        message: what was wrong, and where.
        details: facts for programs; numbers and short texts.
    """

    code: ClassVar[str] = "error"
    """What servers call this class."""
    remedy: ClassVar[str] = ""
    """What helps, for people."""

    def __init__(self, message: str, **details: object) -> None:
        self.message = message
        self.details = details
        text = f"{message.rstrip().rstrip('.')}. {self.remedy}" if self.remedy else message
        super().__init__(text)


class DecodeError(ClientError, ValueError):
    """What a device sent is not what it should be; the message tells which part of it."""

    code = "decode"


class ParamError(ClientError, ValueError):
    """A parameter is refused; `path` is its place in the tree."""

    code = "param"
    remedy = "`print(lima.params)` and `lima2 params DEVICE` show names, units and ranges."

    def __init__(self, message: str, *, path: str = "", **details: object) -> None:
        told = message if path in message else f"{path}: {message}"
        super().__init__(told, path=path, **details)
        self.path = path


class UnknownParamError(ParamError, AttributeError):
    """There is no such parameter."""


class StateError(ClientError):
    """The command does not fit the present state; the message tells what would."""

    code = "state"
    remedy = "`lima.status` tells what goes on; `lima.wait()`, `stop()` or `reset()` end it."


class BusyError(ClientError, TimeoutError):
    """A part of the system gave no answer within the time limit."""

    code = "busy"
    remedy = "Try again in a moment; if it stays so, `lima.reset()` and the logs of the server."


class DeadlineError(ClientError, TimeoutError):
    """What was waited for did not happen in the time that was allowed; nothing was stopped."""

    code = "deadline"
    remedy = "Wait again with a longer timeout_s, or end it with `lima.stop()`."


class UnreachableError(ClientError, ConnectionError):
    """A device does not answer: it is dead, stopped, or cut off."""

    code = "unreachable"
    remedy = (
        "See that its server runs and look into its log, and that TANGO_HOST is right; "
        "the next call connects afresh."
    )


class CameraError(ClientError):
    """The detector or its driver failed."""

    code = "camera"
    remedy = "Look at the detector and at the log of the server, then prepare again."


class OverrunError(CameraError):
    """Frames came faster than they were taken; ``first_lost`` names the first lost frame."""

    code = "overrun"
    remedy = (
        "Take frames more slowly, do less with them, or use more receivers; "
        "`run.progress` shows which queue was full."
    )


class PartialFrameError(CameraError):
    """A frame is incomplete, and the run was to end with the first such frame."""

    code = "partial_frame"
    remedy = (
        "Find out where packets are lost (`lima2 doctor` on the computers of the receivers), or "
        "let the parameter partial_frames of the detector accept such frames."
    )


class PipelineError(ClientError):
    """A processing task failed; ``task`` and ``frame_idx`` say where."""

    code = "pipeline"
    remedy = "Check the processing parameters and the files that they name."


class StorageError(ClientError):
    """A file could not be made or written; ``file`` says which."""

    code = "storage"
    remedy = (
        "Check folder, rights and free space on the computers of the receivers and of the "
        "control; files of earlier runs are overwritten only if file_exists_policy says so."
    )


class MemoryLimitError(ClientError, MemoryError):
    """There is no memory for so many frame buffers."""

    code = "memory"
    remedy = "Ask for smaller frames or fewer buffers, or erase earlier runs."


class NotAvailableError(ClientError, LookupError):
    """No such frame, run or record: not yet, or not any more."""

    code = "not_available"
    remedy = "Servers keep the last runs only; what was saved stays in `run.files`."


class NoDeviceError(NotAvailableError):
    """The Tango database does not know the device."""

    code = "no_device"
    remedy = "Check its name and TANGO_HOST; the device of a run goes with the run."


class PluginError(ClientError):
    """A camera or a pipeline is missing or does not load; the message carries the reason."""

    code = "plugin"
    remedy = "`lima2 plugins` on the computer of the server lists what is installed."


class IncompleteError(ClientError):
    """A run ended with frames missing beyond what its policy allows."""

    code = "incomplete"
    remedy = "`run.ledger` tells of every frame what became of it; those that are there are good."


def _classes(base: type[ClientError]) -> Iterator[type[ClientError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _classes(kind)


def error_for(code: str, message: str, details: dict[str, object]) -> ClientError:
    """The error of a server as the class that belongs to its code."""
    # A derived class without a code of its own must not stand for its base.
    kinds = {kind.code: kind for kind in reversed(list(_classes(ClientError)))}
    kind = kinds.get(code, ClientError)
    if issubclass(kind, ParamError):
        return kind(message, path=str(details.pop("path", "")), **details)
    return kind(message, **details)
