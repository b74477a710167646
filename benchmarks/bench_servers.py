"""How fast servers start and answer, and how fast two receivers acquire and save together."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks import Result, result
from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.processes import ChildProcess, find_program
from tango_servers.local.servers import ServerGroup

ROUNDS = 5
NB_FRAMES = 1000


class System:
    """Control and receivers of a deployment, driven directly over Tango."""

    def __init__(self, tango_host: str) -> None:
        import tango

        deployment = load_deployment("round_robin_2")
        self.control = tango.DeviceProxy(f"tango://{tango_host}/{deployment.control.name}")
        self.receivers = [
            tango.DeviceProxy(f"tango://{tango_host}/{name}") for name in deployment.receivers
        ]
        self.host = tango_host

    def prepare(self, acquisition: dict[str, Any], processing: dict[str, Any]) -> tuple[str, float]:
        """Prepare one after the other; the uuid, and the longest time of one device."""
        acq_id = str(uuid.uuid1())
        longest_s = 0.0
        for device in (self.control, *self.receivers):
            device.acq_params = json.dumps(acquisition)
            if device is not self.control:
                device.proc_params = json.dumps(processing)
            start = time.perf_counter()
            device.Prepare(acq_id)
            longest_s = max(longest_s, time.perf_counter() - start)
        return acq_id, longest_s

    def start(self) -> float:
        """Start all; the longest time of one device."""
        longest_s = 0.0
        for device in (*self.receivers, self.control):
            start = time.perf_counter()
            device.Start()
            longest_s = max(longest_s, time.perf_counter() - start)
        return longest_s

    def wait_finished(self, acq_id: str) -> None:
        """Wait until all runs are finished, then close the acquisition."""
        import tango

        runs = [
            tango.DeviceProxy(f"tango://{self.host}/id00/limaprocessing/{acq_id}@{n}")
            for n in range(len(self.receivers))
        ]
        tick = threading.Event()
        while not all(run.is_finished for run in runs):
            tick.wait(0.02)
        self.control.Close()


def _acquisition(nb_frames: int, pixel_type: str = "gray8") -> dict[str, Any]:
    return {
        "acq": {"nb_frames": nb_frames, "expo_time": 125, "latency_time": 125},
        "det": {
            "generator": {"pixel_type": pixel_type, "gauss": {"grow_factor": 0.1}},
            "nb_prefetch_frames": 16,
        },
    }


def _saving(folder: str) -> dict[str, Any]:
    return {
        "class_name": "LimaProcessingLegacy",
        "fifo": {"nb_fifo_frames": 1000},
        "saving": {
            "enabled": True,
            "base_path": folder,
            "file_exists_policy": "overwrite",
            "nb_frames_per_file": 100,
        },
    }


def _start_to_ping(folder: Path, tango_host: str) -> float:
    """Seconds from the start of a server process to its first answer."""
    import tango

    deployment = load_deployment("round_robin_2")
    command = (find_program("lima2_tango"), deployment.servers[0].instance)
    server = ChildProcess(
        "control", command, log_file=folder / "ping.log", environ={"TANGO_HOST": tango_host}
    )
    start = time.perf_counter()
    server.start()
    try:
        while True:
            try:
                # A proxy that failed tries again only after a second, so a new one each time.
                tango.DeviceProxy(f"tango://{tango_host}/{deployment.control.name}").ping()
                return time.perf_counter() - start
            except tango.DevFailed:
                time.sleep(0.005)
    finally:
        server.stop()


def main() -> list[Result]:
    """Measure start-up, Prepare, Start, and a burst of 1000 frames at 4 kHz with saving."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        data.mkdir()
        with EmbeddedDatabase(folder, load_deployment("round_robin_2")) as database:
            os.environ["TANGO_HOST"] = database.tango_host
            ping_s = statistics.median(
                _start_to_ping(folder, database.tango_host) for _ in range(ROUNDS)
            )
            with ServerGroup(folder, database.tango_host, load_deployment("round_robin_2")):
                system = System(database.tango_host)
                _, first_s = system.prepare(_acquisition(10, "gray16"), _saving(str(data)))
                again_s, starts_s, bursts_s = [], [], []
                for _ in range(ROUNDS):
                    acq_id, took_s = system.prepare(_acquisition(NB_FRAMES), _saving(str(data)))
                    again_s.append(took_s)
                    wall_s = time.time()
                    starts_s.append(system.start())
                    system.wait_finished(acq_id)
                    files = list(data.glob("*.h5"))
                    assert len(files) == NB_FRAMES // 100
                    bursts_s.append(max(file.stat().st_mtime for file in files) - wall_s)
    return [
        result("servers.start_to_ping", ping_s, "s", at_most=1.0),
        result("servers.first_prepare", first_s, "s", at_most=1.0),
        result("servers.next_prepare", statistics.median(again_s[1:]), "s", at_most=0.1),
        result("servers.start", statistics.median(starts_s), "s", at_most=0.02),
        result("servers.1000_frames_saved", statistics.median(bursts_s), "s", at_most=0.8),
    ]
