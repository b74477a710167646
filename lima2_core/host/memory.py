"""Memory: huge pages, locked memory, files in shared memory."""

from __future__ import annotations

import os
import re
from typing import Final

from lima2_core.host import remedies
from lima2_core.host.finding import Answer, Verdict, good, unknown
from lima2_core.host.needs import HostNeeds
from lima2_core.host.text import size
from lima2_core.host.tree import Host

_TRANSPARENT: Final = "sys/kernel/mm/transparent_hugepage/shmem_enabled"
_IN_USE: Final = ("always", "within_size", "force")
_CAP_IPC_LOCK: Final = 14


def huge_pages(host: Host, needs: HostNeeds) -> Answer:
    """Whether enough huge pages are reserved."""
    lines = re.findall(r"^(\w+):\s+(\d+)", host.text("proc/meminfo"), re.MULTILINE)
    values = {name: int(value) for name, value in lines}
    if "HugePages_Free" not in values:
        return unknown("this kernel has no huge pages")
    page = values["Hugepagesize"] * 1024
    free = values["HugePages_Free"] * page
    found = f"{size(free)} free"
    if not needs.huge_bytes:
        return good(f"{found}, none asked for")
    if free >= needs.huge_bytes:
        return good(found, size(needs.huge_bytes))
    missing = -(-(needs.huge_bytes - free) // page)
    return Answer(
        Verdict.FAULT,
        found,
        size(needs.huge_bytes),
        "What asks for huge pages does not get its memory.",
        remedies.sysctl("vm.nr_hugepages", values["HugePages_Total"] + missing),
    )


def transparent_huge_pages(host: Host, needs: HostNeeds) -> Answer:
    """Whether shared memory, of which frame buffers are made, gets huge pages by itself."""
    chosen = re.search(r"\[(\w+)\]", host.text(_TRANSPARENT))
    found = chosen[1] if chosen else "never"
    if found in _IN_USE:
        return good(found, "within_size")
    return Answer(
        Verdict.WARNING,
        found,
        "within_size",
        "Frame buffers are made of pages of 4 KiB: making new ones ready takes some five times as "
        "long.",
        remedies.write_all(f"/{_TRANSPARENT}", "within_size"),
    )


def locked_memory(host: Host, needs: HostNeeds) -> Answer:
    """How much memory this process may lock."""
    most = None if host.capable(_CAP_IPC_LOCK) else host.limit("Max locked memory")
    found = "any amount" if most is None else size(most)
    if not needs.locked_bytes:
        return good(f"{found} allowed, none asked for")
    if most is None or most >= needs.locked_bytes:
        return good(found, size(needs.locked_bytes))
    return Answer(
        Verdict.WARNING,
        found,
        size(needs.locked_bytes),
        "Buffers may be paged out, and reception waits for the disk.",
        remedies.limit("memlock", -(-needs.locked_bytes // 1024), "K"),
    )


def shared_memory(host: Host, needs: HostNeeds) -> Answer:
    """Whether there is room for files in /dev/shm."""
    state = os.statvfs(host.root / "dev/shm")
    free, whole = state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
    found = f"{size(free)} of {size(whole)} free"
    wanted = f"at least {size(needs.shared_bytes)}"
    if free >= needs.shared_bytes:
        return good(found, wanted)
    mebibytes = -(-(whole - free + needs.shared_bytes) // 2**20)
    return Answer(
        Verdict.WARNING,
        found,
        wanted,
        "MPI and other programs that share memory through files do not start, or end with a bus "
        "error.",
        f"mount -o remount,size={mebibytes}M /dev/shm  # of a container: --shm-size={mebibytes}m\n"
        f"echo 'tmpfs /dev/shm tmpfs size={mebibytes}M 0 0' >> /etc/fstab",
    )
