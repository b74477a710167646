"""The conductor of lima2-client as a child process."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tango_servers.deployment import Deployment
from tango_servers.local.processes import LOOPBACK, ChildProcess, Surroundings, free_port

REQUEST_TIMEOUT_S = 5.0


class Conductor(Surroundings):
    """Drives one control and its receivers for HTTP clients, at `url`.

    It listens on all interfaces and cannot be told otherwise. It ends at once where the devices
    are not in the database; whether they run, it does not mind.

    Args:
        topology: ``single``, ``round_robin`` or ``dynamic``.
        folder: takes its logs.
        tango_timeout_s: how long it waits for an answer of a device.
    """

    def __init__(
        self,
        folder: Path,
        tango_host: str,
        *,
        topology: str,
        control: str,
        receivers: Sequence[str],
        port: int | None = None,
        tango_timeout_s: int = 20,
        ready_timeout_s: float = 20.0,
    ) -> None:
        self.port = free_port() if port is None else port
        self._folder = folder
        self._devices = (tango_host, topology, control, *receivers)
        self._tango_timeout_s = tango_timeout_s
        self._ready_timeout_s = ready_timeout_s
        self._child: ChildProcess | None = None

    @classmethod
    def of_deployment(
        cls, folder: Path, tango_host: str, deployment: Deployment, *, port: int | None = None
    ) -> Self:
        """A conductor for the system that a deployment describes."""
        return cls(
            folder,
            tango_host,
            topology=deployment.topology,
            control=deployment.control.name,
            receivers=deployment.receivers,
            port=port,
        )

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def log_file(self) -> Path:
        """Its own log; what it prints is beside it, in ``conductor.out``."""
        return self._folder / "conductor.log"

    def start(self) -> None:
        """Start it, or start it afresh, and wait until its HTTP server answers.

        Raises:
            ChildError, BusyError: it does not come up.
            NotAvailableError: ``lima2-client[conductor]`` is not installed.
        """
        self.stop()
        child = ChildProcess(
            "the conductor",
            (
                *("lima2-conductor", "start", "--port", str(self.port)),
                # Left to itself it writes to a file that all conductors of a computer share.
                *("--log-path", str(self.log_file)),
                *("--tango-timeout", str(self._tango_timeout_s)),
                *self._devices,
            ),
            log_file=self._folder / "conductor.out",
        )
        child.start()
        child.wait_ready(self._answers, self._ready_timeout_s)
        self._child = child

    def stop(self) -> None:
        """Stop it."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=REQUEST_TIMEOUT_S)
        try:
            connection.request("GET", "/version/conductor")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()
