"""Child processes that are ready when their start returns, and gone when their owner is."""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lima2_core.errors import BusyError, Lima2Error, NotAvailableError, StateError, StorageError

LOOPBACK = "127.0.0.1"
POLL_S = 0.05
"""Time between two questions whether a child is ready."""
KILL_S = 10.0
"""Only a process stuck in the kernel outlives its killing that long."""

# Run by a bare interpreter, which then becomes the program. If the owner dies without a word, the
# kernel ends the child (prctl 1 is PR_SET_PDEATHSIG); an owner already dead is seen by its id.
_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that wanted this one is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ChildError(Lima2Error):
    """A child process ended when it should not; the message carries the end of its log."""

    code = "child"


class Surroundings(ABC):
    """Something that runs beside this process: use it with ``with``, or start and stop it."""

    @abstractmethod
    def start(self) -> object:
        """Start it, and wait until it can be used."""

    @abstractmethod
    def stop(self) -> object:
        """End it, with all that belongs to it."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class ChildProcess(Surroundings):
    """One program, run once, in a session of its own; stopping it ends the whole session.

    Args:
        name: what messages call it.
        command: program and arguments; a program without a folder is looked for by
            `find_program`.
        log_file: takes what the program writes; appended to.
        environ: variables added to those of this process.

    Threads: used by one thread, which lives as long as the child: the kernel ends the child with
    the thread that started it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_file: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log_file = log_file
        self._environ = dict(environ or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group and session.

        Raises:
            StateError: it was not started.
        """
        return self._started().pid

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and not self.wait(0)

    @property
    def returncode(self) -> int | None:
        """As `subprocess.Popen.returncode`; None as long as it runs."""
        return self._started().returncode if self.wait(0) else None

    def start(self) -> None:
        """Start it and return at once.

        Raises:
            StateError: it was started before.
            NotAvailableError: there is no such program.
            StorageError: there is no place for its log.
        """
        if self._process is not None:
            raise StateError(f"{self.name} was started before; make a new object to run it again")
        program = find_program(self.command[0])
        owner = str(os.getpid())
        launcher = (sys.executable, "-I", "-S", "-c", _LAUNCHER, owner, program)
        make_folder(self.log_file.parent)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                (*launcher, *self.command[1:]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environ},
                start_new_session=True,
            )
        self._pidfd = os.pidfd_open(self._process.pid)

    def wait_ready(self, probe: Callable[[], bool], timeout_s: float) -> None:
        """Wait until ``probe`` says yes; otherwise the child is stopped.

        Raises:
            ChildError: it ended instead.
            BusyError: ``timeout_s`` passed.
        """
        until_s = time.monotonic() + timeout_s
        ready = False
        try:
            while not (ready := probe()):
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    raise BusyError(
                        f"{self.name} is not ready after {timeout_s:g} s; {self.log_tail()}",
                        log_file=str(self.log_file),
                    )
                if self.wait(min(POLL_S, left_s)):
                    break
            self.check()  # another process may have answered in its place
        finally:
            if not ready:
                self.stop()

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            ChildError: it has ended.
        """
        if not self.alive:
            raise ChildError(
                f"{self.name} ended by itself (status {self.returncode}); {self.log_tail()}",
                returncode=self.returncode,
                log_file=str(self.log_file),
            )

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within ``timeout_s``; what it left of its session is ended too."""
        process = self._started()
        if self._pidfd < 0:
            return True
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        if not poller.poll(1000 * max(0.0, timeout_s)):
            return False
        # As long as the child is not collected, no other session can bear its number.
        _kill_session(process.pid)
        process.wait()
        os.close(self._pidfd)
        self._pidfd = -1
        return True

    def terminate(self) -> None:
        """Ask it and its process group to end (SIGTERM), without waiting."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its whole session at once (SIGKILL)."""
        self._signal(signal.SIGKILL)
        if self._process is not None and not self.wait(KILL_S):
            raise BusyError(f"{self.name} (process {self.pid}) does not end, not even when killed")

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Ask it to end, kill it after ``timeout_s``; True if it ended in time or had not run."""
        return not stop_all((self,), timeout_s)

    def log_tail(self, lines: int = 20) -> str:
        """The end of its log, as a clause of a message."""
        text = self.log_file.read_text(encoding="utf-8", errors="replace")
        tail = "\n".join(text.splitlines()[-lines:])
        return f"the end of {self.log_file}:\n{tail}" if tail else f"{self.log_file} is empty"

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise StateError(f"{self.name} was not started")
        return self._process

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):  # ended in between
                os.killpg(self.pid, number)


def stop_all(children: Iterable[ChildProcess], timeout_s: float) -> tuple[str, ...]:
    """Ask all to end at once, kill what is left after ``timeout_s``, and name the killed."""
    running = [child for child in children if child.alive]
    for child in running:
        child.terminate()
    until_s = time.monotonic() + timeout_s
    late = [child for child in running if not child.wait(until_s - time.monotonic())]
    for child in late:
        child.kill()
    return tuple(child.name for child in late)


def make_folder(folder: Path) -> Path:
    """Make a folder that only its owner may enter, if it is not there.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"Cannot make folder {folder}: {os.strerror(error.errno or 0)}", file=str(folder)
        ) from error
    return folder


def find_program(name: str) -> str:
    """Path of a program: beside this interpreter, in PATH, or where servers of the system are.

    Raises:
        NotAvailableError: it is nowhere.
    """
    own = os.path.dirname(sys.executable)
    places = os.pathsep.join((own, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    found = shutil.which(name, path=places)
    if found is None:
        raise NotAvailableError(
            f"There is no program '{name}', neither in {own} nor in PATH", program=name
        )
    return found


def free_port() -> int:
    """A TCP port that nobody listens on now; no connection takes it before it is used."""
    with _bound(socket.SOCK_STREAM, "") as taken:
        return _port_of(taken)


def free_udp_addresses(receivers: int, ports: int) -> str:
    """For so many receivers with so many UDP ports each, that nobody uses now.

    As in the property ``udp_addresses``: receivers between semicolons, ports between commas.
    """
    with contextlib.ExitStack() as stack:

        def address() -> str:
            taken = stack.enter_context(_bound(socket.SOCK_DGRAM, LOOPBACK))
            return f"{LOOPBACK}:{_port_of(taken)}"

        return ";".join(",".join(address() for _ in range(ports)) for _ in range(receivers))


def _bound(kind: socket.SocketKind, address: str) -> socket.socket:
    """A socket at a port below the range from which the system takes ports by itself.

    So nobody gets it by chance before it is used, nor while its user has closed it for a moment.
    """
    lowest = 32768
    with contextlib.suppress(OSError, ValueError):
        limits = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
        lowest = int(limits.split()[0])
    for port in random.sample(range(10001, max(lowest, 12000)), 200):
        trial = socket.socket(socket.AF_INET, kind)
        try:
            trial.bind((address, port))
        except OSError:
            trial.close()
        else:
            return trial
    raise BusyError("No free port was found in 200 trials")


def _port_of(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


def _kill_session(session: int) -> None:
    """End the processes of a session, but for its leader, which has ended."""
    until_s = time.monotonic() + KILL_S
    while (members := _session_members(session)) and time.monotonic() < until_s:
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                try:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    select.select([pidfd], [], [], POLL_S)
                finally:
                    os.close(pidfd)


def _session_members(session: int) -> list[int]:
    members = []
    for folder in os.listdir("/proc"):
        if folder.isdecimal() and int(folder) != session:
            with contextlib.suppress(OSError):  # it has ended
                text = Path("/proc", folder, "stat").read_text(encoding="utf-8", errors="replace")
                # After the name in brackets: state, parent, group, session.
                state, _, _, owner = text.rpartition(")")[2].split()[:4]
                if int(owner) == session and state not in "ZX":
                    members.append(int(folder))
    return members
