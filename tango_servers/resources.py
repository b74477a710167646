"""Cores and memory of this computer, and how much of them a receiver takes by default."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

_MOST_WORKERS = 8
_MEMORY_SHARE = 0.3


def default_workers() -> int:
    """One thread per core that this process may use, at most 8."""
    return max(1, min(_MOST_WORKERS, len(os.sched_getaffinity(0))))


def default_memory_bytes() -> int:
    """30 % of the memory of the computer, or of what its container may use."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists():
        text = limit.read_text(encoding="ascii").strip()
        if text.isdigit():
            total = min(total, int(text))
    return int(total * _MEMORY_SHARE)


def as_tree(stats: Any) -> dict[str, Any]:
    """A snapshot as a dict for JSON."""
    return dataclasses.asdict(stats)
