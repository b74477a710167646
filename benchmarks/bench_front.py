"""From the start of an acquisition to its first frame, for a client and for a blissdata consumer.

Real servers, a real database and a real Redis on this computer: one control, two receivers, each
in a process of its own. Also what publication adds to the time of a run.
"""

from __future__ import annotations

import importlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import Result, result
from lima2_core.worker import Worker
from tango_servers.deployment import DeviceEntry, load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.redis import EmbeddedRedis
from tango_servers.local.servers import ServerGroup

RUNS = 30
LIMIT_S = 10.0
NB_FRAMES = 1000


@contextmanager
def system(folder: Path, redis_url: str) -> Iterator[Any]:
    """The front of a running system that publishes to ``redis_url``; empty: nowhere."""
    import tango

    plain = load_deployment("round_robin_2")
    servers = tuple(
        replace(server, devices=tuple(_publishing(one, redis_url) for one in server.devices))
        for server in plain.servers
    )
    deployment = replace(plain, servers=servers)
    with ExitStack() as stack:
        database = stack.enter_context(EmbeddedDatabase(folder, deployment))
        stack.enter_context(ServerGroup(folder, database.tango_host, deployment))
        name = f"tango://{database.tango_host}/{deployment.control.name}"
        yield tango.DeviceProxy(name)


def _publishing(device: DeviceEntry, redis_url: str) -> DeviceEntry:
    if not device.is_control or not redis_url:
        return device
    return replace(device, properties={**device.properties, "redis_url": (redis_url,)})


def _blissdata() -> Any:
    """The library, which has no types."""
    return importlib.import_module("blissdata")


class FirstFrame:
    """Waits for the first frame of the next scan, as any consumer of blissdata does."""

    def __init__(self, url: str) -> None:
        self._store = _blissdata().DataStore(url)
        self._since = self._store.get_last_scan_timetag()
        self.seen_s = 0.0
        self._worker = Worker("consumer", self._wait)

    def _wait(self) -> None:
        prepared = _blissdata().ScanState.PREPARED
        _, key = self._store.get_next_scan(since=self._since, timeout=LIMIT_S)
        scan = self._store.load_scan(key)
        while scan.state < prepared:
            scan.update(timeout=LIMIT_S)
        scan.streams["frame"].cursor().read(timeout=LIMIT_S)
        self.seen_s = time.perf_counter()

    def join(self) -> float:
        """When the frame was there."""
        self._worker.join(LIMIT_S)
        return self.seen_s


def first_frames(control: Any, url: str) -> tuple[list[float], list[float]]:
    """Seconds from Start to the first frame, for a client of the run device and for a consumer."""
    import tango

    control.acq_nb_frames = 20
    control.acq_expo_time = 0.001
    control.saving_enabled = False
    client_s, consumer_s = [], []
    tick = threading.Event()
    host = f"tango://{control.get_db_host()}:{control.get_db_port()}/"
    for _ in range(RUNS):
        control.prepareAcq()
        run = tango.DeviceProxy(host + control.current_run_device)
        consumer = FirstFrame(url)
        start = time.perf_counter()
        control.startAcq()
        while True:
            try:
                run.readImage(0)
                break
            except tango.DevFailed:
                tick.wait(0.001)
        client_s.append(time.perf_counter() - start)
        consumer_s.append(consumer.join() - start)
        _wait_ended(run)
    return client_s, consumer_s


def run_times(control: Any, folder: Path) -> tuple[float, float]:
    """Median seconds from Start until all is processed and saved, and until the books are closed.

    The runs save, and have statistics of two regions.
    """
    import tango

    control.acq_nb_frames = NB_FRAMES
    control.acq_expo_time = 0.001
    control.saving_enabled = True
    control.saving_directory = str(folder)
    control.saving_overwrite_policy = "overwrite"
    control.statistics_rois = "[[900, 900, 256, 128], [300, 400, 256, 128]]"
    host = f"tango://{control.get_db_host()}:{control.get_db_port()}/"
    saved_s, closed_s = [], []
    for _ in range(8):
        control.prepareAcq()
        run = tango.DeviceProxy(host + control.current_run_device)
        start = time.perf_counter()
        control.startAcq()
        _wait_ended(run, "ending")
        saved_s.append(time.perf_counter() - start)
        _wait_ended(run)
        closed_s.append(time.perf_counter() - start)
    return statistics.median(saved_s[1:]), statistics.median(closed_s[1:])


def _wait_ended(run: Any, *phases: str) -> None:
    """Wait for one of ``phases``, or the end."""
    tick = threading.Event()
    until_s = time.monotonic() + 60
    while run.phase.name not in ("done", "incomplete", *phases) and time.monotonic() < until_s:
        tick.wait(0.005)


def main() -> list[Result]:
    """Measure first frames, and the same runs with and without publication."""
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis(Path(name) / "redis") as redis:
        folder = Path(name)
        _blissdata().DataStore(redis.url, init_db=True)
        (folder / "data").mkdir()
        with system(folder / "published", redis.url) as control:
            client_s, consumer_s = first_frames(control, redis.url)
            published = run_times(control, folder / "data")
        with system(folder / "plain", "") as control:
            plain = run_times(control, folder / "data")
    return [
        result("front.first_frame.client.median", statistics.median(client_s), "s"),
        result("front.first_frame.client.p99", float(np.percentile(client_s, 99)), "s"),
        result("front.first_frame.blissdata.median", statistics.median(consumer_s), "s"),
        result("front.first_frame.blissdata.p99", float(np.percentile(consumer_s, 99)), "s"),
        result("front.publication.saved", published[0], "s", reference=plain[0], at_most=1.02),
        result("front.publication.books_closed", published[1], "s", reference=plain[1]),
    ]
