"""The receiver part of a JUNGFRAU: one packet engine, lent to one run at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from camera_plugins.jungfrau.engine import Engine, EngineSetup
from camera_plugins.jungfrau.installation import Installation
from camera_plugins.jungfrau.source import JungfrauSource
from camera_plugins.jungfrau.wire import PACKET_BYTES
from lima2_core.camera.api import CameraEnv, CameraReceiver, SourceRequest
from lima2_core.data.memory import PoolSet
from lima2_core.host import Host, HostNeeds, warnings
from lima2_core.net import FrameReceiver


class JungfrauReceiver(CameraReceiver):
    """Keeps the listeners, which take a while to start, from run to run.

    The run opened last has them. If it is given up before it began, the one before it, which may
    still be waiting for its start, gets them back.
    """

    def __init__(self, env: CameraEnv) -> None:
        self.installation = Installation.of(env.properties)
        self.installation.check_cores(Host().online())
        self._clock = env.clock
        self._engine = Engine(self.installation.modules * self.installation.interfaces)
        self._lock = threading.RLock()
        self._open: list[tuple[JungfrauSource, PoolSet]] = []

    def source(self, request: SourceRequest) -> JungfrauSource:
        return JungfrauSource(self, request, self._clock)

    def arm(self, source: JungfrauSource, pools: PoolSet) -> FrameReceiver:
        """Lend the listeners to a source, ready to receive.

        Raises:
            ParamError, CameraError, BusyError: not possible; another run keeps them then.
        """
        with self._lock:
            try:
                receiver = self._armed(source, pools)
            except BaseException:
                self._arm_last()
                raise
            self._open.append((source, pools))
            return receiver

    def disarm(self, source: JungfrauSource) -> None:
        """Take the listeners back; harmless for a source that has none."""
        with self._lock:
            had = bool(self._open) and self._open[-1][0] is source
            self._open = [pair for pair in self._open if pair[0] is not source]
            if had:
                if self._engine.receiver is not None:
                    self._engine.receiver.stop()
                self._arm_last()

    def owns(self, source: JungfrauSource) -> bool:
        """Whether a source has the listeners."""
        with self._lock:
            return bool(self._open) and self._open[-1][0] is source

    def remarks(self, setup: EngineSetup) -> tuple[str, ...]:
        """What is not as it should be on this computer, and with which listeners."""
        needs = HostNeeds(
            addresses=tuple(dict.fromkeys(host for host, _ in setup.addresses)),
            receive_buffer_bytes=setup.options.buffer_bytes,
            packet_bytes=PACKET_BYTES,
            realtime=setup.options.priority,
            cpus=setup.options.cpus,
        )
        refused: dict[str, list[str]] = {}
        ports = self.counters().get("ports", ())
        for port in ports:
            if "refused" in port["priority"]:
                refused.setdefault(port["priority"], []).append(port["name"])
        return (
            *warnings(needs),
            *(f"priority of listener {', '.join(names)}: {got}" for got, names in refused.items()),
            *(
                f"{port['failed_before']}, and was replaced; see the log and the memory of this "
                "computer"
                for port in ports
                if port["failed_before"]
            ),
        )

    def counters(self) -> Mapping[str, Any]:
        """What became of the packets of each port in the current or last acquisition."""
        with self._lock:
            receiver = self._engine.receiver
            if receiver is None:
                return {}
            ports = []
            for stats in receiver.stats():
                tree = asdict(stats)
                ports.append({"name": tree.pop("name"), **tree.pop("counts"), **tree})
        return {"ports": ports}

    def close(self) -> None:
        with self._lock:
            self._open.clear()
            self._engine.close()

    def _armed(self, source: JungfrauSource, pools: PoolSet) -> FrameReceiver:
        if self._engine.receiver is not None:
            self._engine.receiver.stop()
        receiver = self._engine.get(source.setup, source.wanted_buffers(pools), pools)
        source.begin(receiver)
        return receiver

    def _arm_last(self) -> None:
        if self._open:
            source, pools = self._open[-1]
            source.lend(self._armed(source, pools))
