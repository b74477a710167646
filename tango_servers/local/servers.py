"""The Tango servers of a deployment as child processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tango

from lima2_core.errors import ParamError, StateError
from tango_servers.deployment import Deployment, ServerEntry
from tango_servers.local.processes import (
    LOOPBACK,
    ChildProcess,
    Surroundings,
    find_program,
    stop_all,
)

STOP_S = 1.0
"""Time from SIGTERM to the end of a server that clients count on (contract 01, 1.3)."""

MPI_ENVIRON = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
"""Open MPI otherwise refuses to run as root, and to run more processes than there are cores."""


class ServerGroup(Surroundings):
    """All servers of a deployment: plain processes, or one MPI job with the control as rank 0.

    A plain server can be killed and started again alone; in an MPI job mpiexec ends all when one
    dies.

    Args:
        folder: takes the logs, one for each process started.
        options: passed to every server, before its instance name.
        mpi: start one MPI job.
        environ: variables added for the servers.
        program: what to start for a server; the default is its executable.
    """

    def __init__(
        self,
        folder: Path,
        tango_host: str,
        deployment: Deployment,
        *,
        options: Sequence[str] = (),
        mpi: bool = False,
        environ: Mapping[str, str] | None = None,
        program: Callable[[ServerEntry], Sequence[str]] | None = None,
        ready_timeout_s: float = 20.0,
    ) -> None:
        self.deployment = deployment
        self._folder = folder
        self._tango_host = tango_host
        self._options = tuple(options)
        self._mpi = mpi
        self._program = program or (lambda server: (find_program(server.executable),))
        self._ready_timeout_s = ready_timeout_s
        self._environ = {
            "TANGO_HOST": tango_host,
            # Requests and events on 127.0.0.1 only; omniORB and Tango both read it.
            "ORBendPoint": f"giop:tcp:{LOOPBACK}:",
            **(MPI_ENVIRON if mpi else {}),
            **(environ or {}),
        }
        self._children: dict[str, ChildProcess] = {}

    def start(self) -> None:
        """Start all that do not run and wait until every device answers.

        Raises:
            ChildError: one ended instead.
            BusyError: not all answer in time.
            NotAvailableError: a program is missing.
        """
        try:
            if self._mpi:
                if not self._runs("mpiexec"):
                    self._launch("mpiexec", self._mpi_command())
                self._wait_ready("mpiexec", self.deployment.servers)
            else:
                for server in self.deployment.servers:
                    if not self._runs(server.instance):
                        self._launch(server.instance, self._command(server))
                for server in self.deployment.servers:
                    self._wait_ready(server.instance, (server,))
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout_s: float = STOP_S) -> tuple[str, ...]:
        """End all; the instances (or ``mpiexec``) that had to be killed after ``timeout_s``."""
        children, self._children = self._children, {}
        return stop_all(children.values(), timeout_s)

    def kill(self, instance: str) -> None:
        """End one server without warning, as a crash would.

        Raises:
            ParamError: there is no such instance.
            StateError: the servers are one MPI job, or this one does not run.
        """
        self._running(instance).kill()

    def restart(self, instance: str, timeout_s: float = STOP_S) -> None:
        """Stop one server if it still runs, start it again and wait for its devices.

        Raises:
            ParamError: there is no such instance.
            StateError: the servers are one MPI job, or this one was never started.
            ChildError, BusyError: it does not come up again.
        """
        self._child(instance).stop(timeout_s)
        server = self._server(instance)
        self._launch(instance, self._command(server))
        self._wait_ready(instance, (server,))

    def running(self, instance: str) -> bool:
        """Whether the process of an instance runs (of all of them: the MPI job)."""
        self._server(instance)
        return self._runs("mpiexec" if self._mpi else instance)

    def pid(self, instance: str) -> int:
        """Process id of a server.

        Raises:
            ParamError: there is no such instance.
            StateError: the servers are one MPI job, or this one does not run.
        """
        return self._running(instance).pid

    def log_file(self, instance: str) -> Path:
        """Where the output of an instance goes: the same file for all of an MPI job."""
        self._server(instance)
        return self._folder / f"{'mpiexec' if self._mpi else instance}.log"

    def _command(self, server: ServerEntry) -> tuple[str, ...]:
        return (*self._program(server), *self._options, server.instance)

    def _mpi_command(self) -> tuple[str, ...]:
        command = [find_program("mpiexec")]
        for rank, server in enumerate(self.deployment.servers):
            command += [*([":"] if rank else []), "-n", "1", *self._command(server)]
        return tuple(command)

    def _launch(self, name: str, command: Sequence[str]) -> None:
        child = ChildProcess(
            name, command, log_file=self._folder / f"{name}.log", environ=self._environ
        )
        child.start()
        self._children[name] = child

    def _wait_ready(self, name: str, servers: Sequence[ServerEntry]) -> None:
        silent = [device.name for server in servers for device in server.devices]

        def all_answer() -> bool:
            while silent and self._answers(silent[0]):
                silent.pop(0)
            return not silent

        self._children[name].wait_ready(all_answer, self._ready_timeout_s)

    def _answers(self, device: str) -> bool:
        try:
            # A new proxy each time: one that failed tries again only after a second.
            tango.DeviceProxy(f"tango://{self._tango_host}/{device}").ping()
        except tango.DevFailed:
            return False
        return True

    def _runs(self, name: str) -> bool:
        return name in self._children and self._children[name].alive

    def _server(self, instance: str) -> ServerEntry:
        for server in self.deployment.servers:
            if server.instance == instance:
                return server
        known = ", ".join(server.instance for server in self.deployment.servers)
        raise ParamError(f"there is no '{instance}'; the instances are {known}", path="instance")

    def _child(self, instance: str) -> ChildProcess:
        self._server(instance)
        if self._mpi:
            raise StateError("The servers are one MPI job; start them as plain processes instead")
        if instance not in self._children:
            raise StateError(f"{instance} was not started")
        return self._children[instance]

    def _running(self, instance: str) -> ChildProcess:
        child = self._child(instance)
        if not child.alive:
            raise StateError(f"{instance} does not run: {child.log_tail()}")
        return child
