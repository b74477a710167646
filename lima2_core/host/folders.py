"""Folders for frames: room, and how fast they take them."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lima2_core.host import remedies
from lima2_core.host.finding import Answer, Verdict, good, unknown
from lima2_core.host.needs import HostNeeds
from lima2_core.host.text import rate, size
from lima2_core.host.tree import Host

_LIMIT_BYTES: Final = 256 * 2**20
_LIMIT_S: Final = 1.0
_PIECE_BYTES: Final = 4 * 2**20
_PREFIX: Final = ".lima2-doctor-"
_NEARLY_FULL: Final = 0.05


@dataclass(frozen=True, slots=True)
class WriteRate:
    """What a folder took."""

    nbytes: int
    cache_bytes_s: float
    """Into the page cache."""
    disk_bytes_s: float
    """Until it was on the disk."""


def free_space(host: Host, needs: HostNeeds, folder: str) -> Answer:
    """Whether a folder is there, to be written to, and has room."""
    quoted = shlex.quote(folder)
    wanted = f"at least {size(needs.free_bytes)}" if needs.free_bytes else ""
    if not os.path.isdir(folder):
        return Answer(
            Verdict.FAULT,
            "no such folder",
            wanted or "a folder",
            "Prepare is refused, or makes the folder somewhere else than meant.",
            f"mkdir -p {quoted}  # after its file system is mounted",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        return Answer(
            Verdict.FAULT,
            "not to be written to",
            wanted or f"for {remedies.user()}",
            "No frame can be saved there.",
            f"setfacl -m u:{remedies.user()}:rwx {quoted}",
        )
    disk = shutil.disk_usage(folder)
    found = f"{size(disk.free)} of {size(disk.total)} free"
    if disk.free < needs.free_bytes:
        verdict, cost = Verdict.FAULT, "The disk is full before the last frame is saved."
    elif disk.free < _NEARLY_FULL * disk.total:
        verdict, cost = Verdict.WARNING, "The disk is nearly full; many file systems are slow then."
    else:
        return good(found, wanted)
    remedy = f"du -xh --max-depth=2 {quoted} | sort -h | tail  # what takes the space"
    return Answer(verdict, found, wanted or f"{100 * _NEARLY_FULL:g} %", cost, remedy)


def write_rate(host: Host, needs: HostNeeds, folder: str) -> Answer:
    """How fast a folder takes data, measured for about a second."""
    free = shutil.disk_usage(folder).free
    if free < 2 * _LIMIT_BYTES:
        return unknown(f"only {size(free)} are free, too little to measure")
    return judge(measure(folder), needs, folder)


def judge(measured: WriteRate, needs: HostNeeds, folder: str) -> Answer:
    """Hold what a folder took against what is wanted."""
    found = f"{rate(measured.disk_bytes_s)}, into the page cache {rate(measured.cache_bytes_s)}"
    wanted = f"at least {rate(needs.write_bytes_s)}" if needs.write_bytes_s else ""
    if measured.disk_bytes_s >= needs.write_bytes_s:
        return good(found, wanted)
    slow = measured.cache_bytes_s < needs.write_bytes_s
    cost = (
        "Frames come faster than they can be written: the buffers fill up and frames are lost."
        if slow
        else "The memory takes up what the disk does not for some time; a longer acquisition fills "
        "the buffers and loses frames."
    )
    return Answer(
        Verdict.FAULT if slow else Verdict.WARNING,
        found,
        wanted,
        cost,
        f"findmnt -T {shlex.quote(folder)}  # then choose a faster file system, compress more, or "
        "add receivers",
    )


def measure(folder: str, limit_bytes: int = _LIMIT_BYTES, limit_s: float = _LIMIT_S) -> WriteRate:
    """Write a file and remove it, whatever happens.

    The disk is waited for after ever larger pieces, so that a slow one is soon done with, and a
    fast one is not judged by the first wait.

    Raises:
        OSError: it could not be written.
    """
    piece = memoryview(os.urandom(min(_PIECE_BYTES, limit_bytes)))  # no disk compresses these
    fd, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
    try:
        # Without a name it is gone even if this process is killed; not all file systems can.
        with contextlib.suppress(OSError):
            os.unlink(name)
        done, cache_s, began_s, now_s = 0, 0.0, time.monotonic(), 0.0
        while done < limit_bytes and now_s < limit_s:
            before_s = time.monotonic()
            until = min(limit_bytes, max(len(piece), 2 * done))
            while done < until:
                done += os.write(fd, piece[: until - done])
            cache_s += time.monotonic() - before_s
            os.fdatasync(fd)
            now_s = time.monotonic() - began_s
    finally:
        os.close(fd)
        Path(name).unlink(missing_ok=True)
    return WriteRate(done, done / max(cache_s, 1e-9), done / max(now_s, 1e-9))
