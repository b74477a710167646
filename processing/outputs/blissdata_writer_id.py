"""Who publishes a scan: a process of a computer, so that another can tell whether it is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_START_FIELD = 19
"""Of what follows the name in ``/proc/<pid>/stat``: when the process began."""


def writer() -> dict[str, Any]:
    """What tells the process that asks from all others."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "began": _began(pid)}


def is_gone(told: Mapping[str, Any]) -> bool:
    """Whether a writer ran on this computer and has ended; False if that cannot be known."""
    try:
        return (
            str(told["host"]) == socket.gethostname() and _began(int(told["pid"])) != told["began"]
        )
    except (LookupError, TypeError, ValueError):
        return False


def _began(pid: int) -> str:
    """When a process began, in the clock of the kernel; empty if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[_START_FIELD]
