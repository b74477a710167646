"""The errors of the suite: a sentence for people, facts for programs, a code for the wire.

::

    Lima2Error
    ├── ParamError            a parameter is wrong; `path` names it            (also ValueError)
    ├── StateError            the command does not fit the present state
    ├── BusyError             no answer within the time limit of a command     (also TimeoutError)
    ├── CameraError           the detector or its driver failed
    │   ├── OverrunError      frames came faster than they were taken
    │   └── PartialFrameError a frame is incomplete, and the user wants none such
    ├── PipelineError         a processing task failed
    ├── StorageError          a file could not be made or written
    ├── MemoryLimitError      no memory for so many frame buffers              (also MemoryError)
    ├── NotAvailableError     no such frame, run or record (any more)          (also LookupError)
    └── PluginError           a camera or a pipeline is missing or does not load

`EndOfFrames` is not an error: a source raises it when its sequence is complete.
"""

from __future__ import annotations

from typing import ClassVar


class Lima2Error(Exception):
    """Base of all errors of the suite.

    Args:
        message: what was wrong, where, and what to do; one or two sentences.
        details: facts for programs; numbers and short texts.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class ParamError(Lima2Error, ValueError):
    """A parameter is refused; `path` is its place in the tree, such as ``saving.base_path``."""

    code = "param"

    def __init__(self, message: str, *, path: str, **details: object) -> None:
        super().__init__(f"{path}: {message}" if path else message, path=path, **details)
        self.path = path


class StateError(Lima2Error):
    """The command does not fit the present state; the message tells what would."""

    code = "state"


class BusyError(Lima2Error, TimeoutError):
    """A part of the system gave no answer within the time limit."""

    code = "busy"


class CameraError(Lima2Error):
    """The detector or its driver failed; the acquisition ends."""

    code = "camera"


class OverrunError(CameraError):
    """Frames came faster than they were taken; ``first_lost`` names the first lost frame."""

    code = "overrun"


class PartialFrameError(CameraError):
    """A frame is incomplete, and the run shall end with the first such frame, on all receivers."""

    code = "partial_frame"


class PipelineError(Lima2Error):
    """A processing task failed; ``task`` and ``frame_idx`` say where."""

    code = "pipeline"


class StorageError(Lima2Error):
    """A file could not be made or written; ``file`` says which."""

    code = "storage"


class MemoryLimitError(Lima2Error, MemoryError):
    """There is no memory for so many frame buffers."""

    code = "memory"


class NotAvailableError(Lima2Error, LookupError):
    """No such frame, run or record: not yet, or not any more."""

    code = "not_available"


class PluginError(Lima2Error):
    """A plugin is missing or does not load; the message carries the reason."""

    code = "plugin"


class EndOfFrames(Exception):  # noqa: N818  an end is not an error
    """A frame source has delivered its last frame."""
