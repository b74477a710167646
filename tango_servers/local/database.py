"""A Tango database for a demonstration or a test: NosqlTangoDB, in memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import tango

from lima2_core.errors import BusyError, StorageError
from tango_servers.deployment import Deployment
from tango_servers.local.processes import (
    LOOPBACK,
    ChildProcess,
    Surroundings,
    find_program,
    free_port,
)


class EmbeddedDatabase(Surroundings):
    """A Tango database that begins with a deployment, or empty, and forgets all when it stops.

    It listens on 127.0.0.1 only. TANGO_HOST is left alone: give `tango_host` to who needs it.

    Args:
        folder: takes its log and a copy of the deployment.
    """

    def __init__(
        self,
        folder: Path,
        deployment: Deployment | None = None,
        *,
        port: int | None = None,
        ready_timeout_s: float = 15.0,
    ) -> None:
        self.port = free_port() if port is None else port
        self._folder = folder
        self._deployment = deployment or Deployment("empty", ())
        self._ready_timeout_s = ready_timeout_s
        self._child: ChildProcess | None = None

    @property
    def tango_host(self) -> str:
        """What TANGO_HOST would be."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Its process id, None if it does not run."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start it, or start it afresh, and wait until it answers.

        Raises:
            ChildError, BusyError: it does not come up, or another answers at its port.
            NotAvailableError: nosqltangodb is not installed.
        """
        self.stop()
        refuse_taken(self.port)
        content = self._folder / "nosqltangodb"
        shutil.rmtree(content, ignore_errors=True)  # all files in it would be read
        self._deployment.write(content)
        child = ChildProcess(
            "the embedded Tango database",
            (
                find_program("NosqlTangoDB"),
                *("--host", LOOPBACK, "--port", str(self.port)),
                *("--db_access", f"yaml:{content}", "2"),
            ),
            log_file=self._folder / "nosqltangodb.log",
        )
        child.start()
        child.wait_ready(lambda: database_answers(self.port), self._ready_timeout_s)
        self._child = child

    def stop(self) -> None:
        """Stop it; what was written into it is lost."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def put_property(self, device: str, name: str, value: str) -> None:
        """Set a property of a device; a server reads it at its start.

        Raises:
            StorageError: the database refuses.
        """
        try:
            tango.Database(LOOPBACK, self.port).put_device_property(device, {name: [value]})
        except tango.DevFailed as error:
            raise StorageError(f"{device} does not get {name}: {error.args[0].desc}") from error


def database_answers(port: int) -> bool:
    """Whether a Tango database answers on this port of 127.0.0.1."""
    try:
        tango.Database(LOOPBACK, port)
    except tango.DevFailed:
        return False
    return True


def refuse_taken(port: int) -> None:
    """Make sure that no other database answers in the place of the one to be started.

    Raises:
        BusyError: one does.
    """
    if database_answers(port):
        raise BusyError(f"A Tango database answers at {LOOPBACK}:{port} already; take another port")
