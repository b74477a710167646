"""A thousand acquisitions in a row over Tango: how fast they go, and what they leave behind.

Real servers and a real database on this computer: one control, two receivers, each in a process of
its own, driven by the client, while another client watches the system. What a process holds is
looked at again and again, with the system at rest.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import Result, result
from client import Lima2
from lima2_core.worker import Worker
from tango_servers.deployment import Deployment, load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.servers import ServerGroup
from tango_servers.names import is_run_device

ACQUISITIONS = int(os.environ.get("LIMA2_BENCH_ACQUISITIONS", "1000"))
WARM_UP = max(20, ACQUISITIONS // 3)
SAMPLES = 40
FEW = 5
LIMIT_S = 10.0
MOST_KB = 2.0
"""Tango itself keeps some hundred bytes of every device that was ever made."""
MOST_LEFT = {"threads": 4, "files": 4, "devices": 0}
"""omniORB opens connections and threads as calls meet, and closes them minutes later."""
REGION = {"topleft": {"x": 1, "y": 1}, "dimensions": {"x": 20, "y": 20}}
PARAMS = {
    "acquisition.img.roi.topleft": {"x": 1000, "y": 1010},
    "acquisition.img.roi.dimensions": {"x": 48, "y": 32},
    "processing.statistics.enabled": True,
    "processing.statistics.rect_rois": [REGION],
}


@dataclass(frozen=True, slots=True)
class Held:
    """What one server has at a time."""

    threads: int
    files: int
    resident_bytes: int
    devices: int
    """Devices of runs in the process."""


class Servers:
    """The servers of a deployment, looked at from outside.

    Args:
        host: of the database.
        group: the processes.
    """

    def __init__(self, host: str, deployment: Deployment, group: ServerGroup) -> None:
        import tango

        self._database = tango.Database(*host.split(":"))
        self._pids = {one.full_name: group.pid(one.instance) for one in deployment.servers}
        self._admins = {
            name: tango.DeviceProxy(f"tango://{host}/dserver/{name}") for name in self._pids
        }

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._pids)

    def held(self, name: str) -> Held:
        """What a server has now."""
        process = Path(f"/proc/{self._pids[name]}")
        pages = int((process / "statm").read_text(encoding="ascii").split()[1])
        listed = self._admins[name].QueryDevice()
        return Held(
            threads=len(list((process / "task").iterdir())),
            files=len(list((process / "fd").iterdir())),
            resident_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
            devices=sum(is_run_device(one.partition("::")[2]) for one in listed),
        )

    def in_database(self) -> int:
        """Devices of runs of all servers in the database."""
        listed = [self._database.get_device_class_list(name)[::2] for name in self.names]
        return sum(is_run_device(device) for devices in listed for device in devices)


@contextmanager
def system(folder: Path) -> Iterator[tuple[Lima2, Servers]]:
    """A running system, by its client and from outside."""
    deployment = load_deployment("round_robin_2")
    with (
        EmbeddedDatabase(folder, deployment) as database,
        ServerGroup(folder, database.tango_host, deployment) as group,
    ):
        lima2 = Lima2(f"tango://{database.tango_host}/{deployment.control.name}")
        yield lima2, Servers(database.tango_host, deployment, group)


def one_after_the_other(lima2: Lima2, count: int) -> None:
    """Acquire; each once the one before has ended."""
    for _ in range(count):
        run = lima2.acquire(PARAMS, nb_frames=2, exposure_s=1e-4, timeout_s=LIMIT_S)
        assert run.complete, run.verdict


def growth(samples: Sequence[int], every: int) -> float:
    """How much a number grows with each acquisition, by a straight line through the samples."""
    runs = every * np.arange(len(samples))
    return float(np.polyfit(runs, np.array(samples, np.float64), 1)[0])


def left(held: Sequence[Held], what: str) -> int:
    """What there is more of at the end; the least of some looks, as the last run may still go."""
    counts = [int(getattr(one, what)) for one in held]
    return min(counts[-FEW:]) - min(counts[:FEW])


def main() -> list[Result]:
    """Acquire, and look again and again what the servers have."""
    every = max(1, ACQUISITIONS // SAMPLES)
    rounds = max(2, ACQUISITIONS // every)
    samples: dict[str, list[Held]] = {}
    elapsed_s = 0.0
    with tempfile.TemporaryDirectory() as name, system(Path(name)) as (lima2, servers):
        watcher = Worker("watcher", lambda: _watch(lima2))
        one_after_the_other(lima2, WARM_UP)
        listed = servers.in_database()
        for _ in range(rounds):
            for server in servers.names:
                samples.setdefault(server, []).append(servers.held(server))
            began_s = time.perf_counter()
            one_after_the_other(lima2, every)
            elapsed_s += time.perf_counter() - began_s
        listed = servers.in_database() - listed
        assert watcher.alive, "the system could not be watched"
    watcher.join(LIMIT_S)
    rate_hz = every * rounds / elapsed_s
    results = [result("row.acquisitions_of_2_frames", rate_hz, "1/s", at_least=3)]
    for server, held in samples.items():
        who = server.rpartition("/")[2]
        kb = growth([one.resident_bytes for one in held], every) / 1e3
        results += [
            result(f"row.{who}.memory", kb, "kB/acquisition", at_most=MOST_KB),
            *(
                result(f"row.{who}.{what}_left", left(held, what), what, at_most=most)
                for what, most in MOST_LEFT.items()
            ),
        ]
    results.append(result("row.database.devices_left", listed, "devices", at_most=0))
    return results


def _watch(lima2: Lima2) -> None:
    for event in lima2.events():
        if event.state == "unreachable":
            return
