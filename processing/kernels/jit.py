"""Loops over pixels, compiled by numba in the background, one version per pixel type.

Numba takes 0.6 s to import and up to a second to compile a loop, so neither happens before
`warm_up` is called, and nobody waits for it: whoever prepares a run asks `Accelerated.compiled`
once and takes numpy if there is nothing yet. The choice then holds for the whole run.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Loop = Callable[..., None]

_LOCK_FILE = "lima2_kernels.lock"
_LOCK_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Argument:
    """Type of one argument of a loop: a C-contiguous array, or a scalar if ``ndim`` is 0."""

    dtype: np.dtype[Any]
    ndim: int = 0
    written: bool = False
    """Whether the loop writes to it; only then a read-only array is refused."""


class Accelerated:
    """A loop that is worth compiling, and its compiled versions as far as they are ready.

    Args:
        loop: a function of a module, in the subset of Python that numba compiles.
        arguments: types of the arguments for one pixel type; None if there is no such version.
        reorder_sums: lets the compiler add floats in another order, which is faster.

    Threads: `compile` on one thread at a time; `compiled` on any.
    """

    def __init__(
        self,
        loop: Loop,
        arguments: Callable[[np.dtype[Any]], tuple[Argument, ...] | None],
        *,
        reorder_sums: bool = False,
    ) -> None:
        self.name: str = loop.__name__
        self._loop = loop
        self._arguments = arguments
        self._fastmath: set[str] | bool = {"reassoc", "nsz"} if reorder_sums else False
        self._versions: dict[np.dtype[Any], Loop] = {}

    def compiled(self, dtype: np.dtype[Any]) -> Loop | None:
        """Give the version for pixels of ``dtype``, or None: not ready (or there is none)."""
        return self._versions.get(dtype)

    def compile(self, dtype: np.dtype[Any], stop: threading.Event) -> None:
        """Make the version for ``dtype``, from numba's cache on disk if it is there.

        Raises:
            ImportError: numba is not installed.
            Exception: whatever numba raises where it cannot compile.
        """
        arguments = self._arguments(dtype)
        if arguments is None or dtype in self._versions:
            return
        numba = importlib.import_module("numba")
        types = [_numba_type(numba, argument) for argument in arguments]
        signature = numba.void(*types)
        options = {"nogil": True, "error_model": "numpy", "fastmath": self._fastmath}
        try:
            dispatcher = numba.njit(cache=True, **options)(self._loop)
        except RuntimeError:  # no writable folder for the cache at all
            dispatcher = numba.njit(**options)(self._loop)
        with _alone_in(dispatcher.stats.cache_path, stop) as granted:
            if not granted:
                return
            dispatcher.compile(signature)
        dispatcher.disable_compile()  # a wrong argument is an error, not a pause of a second
        self._versions[dtype] = dispatcher


def _numba_type(numba: Any, argument: Argument) -> Any:
    scalar = numba.from_dtype(argument.dtype)
    if argument.ndim == 0:
        return scalar
    return numba.types.Array(scalar, argument.ndim, "C", readonly=not argument.written)


@contextlib.contextmanager
def _alone_in(folder: str | None, stop: threading.Event) -> Iterator[bool]:
    """Hold the cache folder against other processes; yields False if stopped meanwhile.

    Numba numbers the files of its cache: two processes that store different versions of a
    loop at the same time may use one number twice, and a third would load the wrong version.
    """
    if folder is None:
        yield not stop.is_set()
        return
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, _LOCK_FILE), "a") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go when the file closes
            except BlockingIOError:
                stop.wait(_LOCK_POLL_S)
            else:
                yield True
                return
        yield False


def warm_up(
    dtypes: Iterable[np.dtype[Any]],
    kernels: Iterable[Accelerated],
    stop: threading.Event,
) -> None:
    """Compile ``kernels`` for pixels of ``dtypes``, the most wanted type first.

    Takes milliseconds per version that is in the cache and about a second per other one.
    ``stop`` ends it after the version in work; what is ready by then stays usable.

    Threads: call it on a background thread; several processes may do so at the same time.

    Raises:
        ImportError: numba is not installed; the numpy versions serve.
        Exception: numba cannot compile here; the numpy versions serve.
    """
    kernels = tuple(kernels)
    for dtype in dtypes:
        for kernel in kernels:
            if stop.is_set():
                return
            kernel.compile(dtype, stop)
