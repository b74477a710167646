"""Frame memory: pools of equal slots in shared memory, and leases on them."""

from __future__ import annotations

import ctypes
import mmap
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lima2_core.errors import MemoryLimitError

_PAGE = mmap.PAGESIZE
_MADV_POPULATE_WRITE = 23  # Linux 5.14
_RECHECK_S = 0.05
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def _whole_pages(nbytes: int) -> int:
    return max(1, -(-nbytes // _PAGE)) * _PAGE


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A snapshot of one pool."""

    slot_bytes: int
    slots: int
    in_use: int
    peak: int
    leases: int
    """Leases given since the pool exists."""
    waits: int
    """Leases that had to wait for a free slot."""

    @property
    def total_bytes(self) -> int:
        return self.slot_bytes * self.slots


@dataclass(frozen=True, slots=True)
class PoolHandle:
    """What another process of the same user needs to map a pool: see `map_slots`."""

    pid: int
    slot_bytes: int
    segments: tuple[tuple[int, int], ...]
    """(file descriptor in process ``pid``, number of slots) of each segment."""


class Lease:
    """The right to one slot, for as long as something refers to this object.

    There is nothing to release: the slot goes back to its pool when the last reference ends.
    ``(slot, generation)`` names the content for other processes.

    Shapes: ``view`` (slot_bytes,) uint8.
    """

    __slots__ = ("_give_back", "generation", "slot", "view")

    def __init__(
        self,
        slot: int,
        generation: int,
        view: NDArray[np.uint8],
        give_back: Callable[[int], None],
    ) -> None:
        self.slot = slot
        self.generation = generation
        self.view = view
        self._give_back = give_back

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """The beginning of the slot as an array; keep the lease as long as the array."""
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape)) * dtype.itemsize
        return self.view[:nbytes].view(dtype).reshape(shape)

    def __del__(self) -> None:
        self._give_back(self.slot)


class BufferPool:
    """Slots of equal size in anonymous shared memory, grown only, aligned to pages.

    The memory has no name in the file system, so nothing is left behind after a crash; other
    processes map it through `PoolHandle`.

    Threads: everything from any thread.
    """

    def __init__(self, slot_bytes: int, name: str = "frames") -> None:
        self.name = name
        self.slot_bytes = _whole_pages(slot_bytes)
        self._segments: list[tuple[int, mmap.mmap, int]] = []
        self._views: list[NDArray[np.uint8]] = []
        self._generations: list[int] = []
        # Slots come back from __del__, which the interpreter may run on any thread at any point,
        # also inside a method of this class: SimpleQueue is made for that, a lock is not.
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._fresh: queue.SimpleQueue[int] = queue.SimpleQueue()  # never leased nor touched
        self._grow_lock = threading.Lock()
        self._peak = 0
        self._leases = 0
        self._waits = 0

    def grow(self, slots: int) -> None:
        """Have at least ``slots`` slots in all.

        Raises:
            MemoryLimitError: the system has not that much shared memory.
        """
        with self._grow_lock:
            missing = slots - len(self._views)
            if missing <= 0:
                return
            nbytes = missing * self.slot_bytes
            fd = os.memfd_create(f"lima2-{self.name}", os.MFD_CLOEXEC)
            try:
                os.ftruncate(fd, nbytes)
                memory = mmap.mmap(fd, nbytes)
            except OSError as error:
                os.close(fd)
                raise MemoryLimitError(
                    f"{nbytes / 2**20:.0f} MiB for {missing} {self.name} buffers: {error}"
                ) from error
            self._segments.append((fd, memory, missing))
            whole = np.frombuffer(memory, np.uint8)
            first = len(self._views)
            for n in range(missing):
                self._views.append(whole[n * self.slot_bytes : (n + 1) * self.slot_bytes])
                self._generations.append(0)
            for slot in range(first, first + missing):
                self._fresh.put(slot)

    def touch(self) -> bool:
        """Make the system provide the memory of one slot now, so that no frame pays for it.

        Returns:
            False if there is none left whose memory is not there.
        """
        try:
            slot = self._fresh.get_nowait()
        except queue.Empty:
            return False
        address = self._views[slot].ctypes.data
        # Both calls let other threads run, which an assignment of a few pages does not.
        if _LIBC.madvise(ctypes.c_void_p(address), self.slot_bytes, _MADV_POPULATE_WRITE) != 0:
            ctypes.memset(address, 0, self.slot_bytes)
        self._free.put(slot)
        return True

    def lease(self, timeout_s: float | None = 0.0) -> Lease | None:
        """A free slot; None if there is none within ``timeout_s`` (None: wait for ever)."""
        slot = self._take()
        if slot is None and timeout_s != 0.0:
            self._waits += 1
            slot = self._wait(timeout_s)
        if slot is None:
            return None
        self._generations[slot] += 1
        self._leases += 1
        self._peak = max(self._peak, len(self._views) - self._nb_free)
        return Lease(slot, self._generations[slot], self._views[slot], self._free.put)

    @property
    def _nb_free(self) -> int:
        return self._free.qsize() + self._fresh.qsize()

    def _take(self) -> int | None:
        """A slot that was used before, whose memory is there, rather than a fresh one."""
        for source in (self._free, self._fresh):
            try:
                return source.get_nowait()
            except queue.Empty:
                continue
        return None

    def _wait(self, timeout_s: float | None) -> int | None:
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = _RECHECK_S if until_s is None else until_s - time.monotonic()
            if left_s <= 0:
                return None
            try:
                return self._free.get(timeout=min(left_s, _RECHECK_S))
            except queue.Empty:
                slot = self._take()  # the pool may have grown
                if slot is not None:
                    return slot

    def handle(self) -> PoolHandle:
        """Description for another process."""
        with self._grow_lock:
            segments = tuple((fd, slots) for fd, _, slots in self._segments)
        return PoolHandle(os.getpid(), self.slot_bytes, segments)

    def stats(self) -> PoolStats:
        slots = len(self._views)
        in_use = slots - self._nb_free
        return PoolStats(self.slot_bytes, slots, in_use, self._peak, self._leases, self._waits)

    def __del__(self) -> None:
        for fd, _, _ in self._segments:
            os.close(fd)


def map_slots(handle: PoolHandle) -> list[NDArray[np.uint8]]:
    """Map the pool of another process of the same user: one (slot_bytes,) array per slot.

    Raises:
        OSError: the process is gone, or belongs to somebody else.
    """
    views: list[NDArray[np.uint8]] = []
    for fd, slots in handle.segments:
        with open(f"/proc/{handle.pid}/fd/{fd}", "r+b") as file:
            memory = mmap.mmap(file.fileno(), slots * handle.slot_bytes)
        whole = np.frombuffer(memory, np.uint8)
        views += [whole[n * handle.slot_bytes : (n + 1) * handle.slot_bytes] for n in range(slots)]
    return views


class PoolSet:
    """The pools of one receiver, by slot size; they outlive the runs that use them.

    Args:
        limit_bytes: memory that all pools together may take.

    Threads: everything from any thread.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._pools: dict[tuple[str, int], BufferPool] = {}
        self._lock = threading.Lock()

    def pool(self, name: str, slot_bytes: int) -> BufferPool:
        """The pool for ``name`` and slots of ``slot_bytes``; made when first asked for."""
        rounded = _whole_pages(slot_bytes)
        with self._lock:
            if (name, rounded) not in self._pools:
                self._pools[name, rounded] = BufferPool(slot_bytes, name)
            return self._pools[name, rounded]

    def fitting(self, slot_bytes: int, wanted: int, least: int = 1) -> int:
        """How many slots may be asked for, at most ``wanted``, within what is left.

        Raises:
            MemoryLimitError: not even ``least`` fit.
        """
        left = self.limit_bytes - sum(stats.total_bytes for stats in self.stats().values())
        count = min(wanted, max(0, left) // _whole_pages(slot_bytes))
        if count < least:
            raise MemoryLimitError(
                f"{least} buffers of {slot_bytes / 2**20:.1f} MiB do not fit into the "
                f"{self.limit_bytes / 2**20:.0f} MiB allowed for frames"
            )
        return count

    def outlook(self, name: str, slot_bytes: int) -> tuple[int, int]:
        """Slots of a pool that are in use, and how many it could come to; makes no pool."""
        rounded = _whole_pages(slot_bytes)
        with self._lock:
            pool = self._pools.get((name, rounded))
        in_use, there = (0, 0) if pool is None else (pool.stats().in_use, pool.stats().slots)
        left = self.limit_bytes - sum(stats.total_bytes for stats in self.stats().values())
        return in_use, there + max(0, left) // rounded

    def touch(self) -> bool:
        """Make the system provide the memory of one slot; False if all of it is there."""
        with self._lock:
            pools = list(self._pools.values())
        return any(pool.touch() for pool in pools)

    def trim(self) -> None:
        """Give back the memory of pools that nothing is leased from."""
        with self._lock:
            idle = [key for key, pool in self._pools.items() if pool.stats().in_use == 0]
            for key in idle:
                del self._pools[key]

    def stats(self) -> dict[str, PoolStats]:
        """Snapshots by ``name/slot_bytes``."""
        with self._lock:
            pools = dict(self._pools)
        return {f"{name}/{size}": pool.stats() for (name, size), pool in pools.items()}
