"""Overhead of the engine with small frames, and its memory over a million of them."""

from __future__ import annotations

import json
import time
import uuid

from benchmarks import Result, result
from lima2_core import registry
from lima2_core.camera.api import CameraEnv, CameraMessage
from lima2_core.camera.dispatch import Share
from lima2_core.ids import AcqId
from lima2_core.service.receiver import ReceiverService, ReceiverSettings

NB_FRAMES = 1_000_000
PERIOD_S = 0.05


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def main() -> list[Result]:
    """Run a million 64 x 64 frames through a receiver while a client reads the frame indices."""
    service = ReceiverService(
        "bench",
        registry.load(registry.CAMERAS, "Simulator"),
        CameraEnv({"rows": "64", "cols": "64"}),
        Share,
        ReceiverSettings(workers=2, memory_bytes=2**30),
    )
    service.requested.ask_acquisition(
        json.dumps({"acq": {"nb_frames": NB_FRAMES, "expo_time": 1, "latency_time": 0}})
    )
    service.requested.ask_processing(
        json.dumps({"class_name": "LimaProcessingLegacy", "frame_idx_enabled": True})
    )
    acq_id = AcqId(str(uuid.uuid1()))
    run = service.prepare(acq_id).run
    cursor = run.pipeline.streams["frame_idx"].cursor()
    service.start()
    start = time.perf_counter()
    run.deliver(CameraMessage(acq_id, "start", {"t0_wall_s": time.time()}))
    seen, base = 0, 0
    while seen < NB_FRAMES:
        time.sleep(PERIOD_S)
        seen += len(cursor.read())
        if not base and seen >= 10_000:
            base = _resident_bytes()
    elapsed_s = time.perf_counter() - start
    grown = _resident_bytes() - base
    service.close()
    return [
        result("engine.small_frames", NB_FRAMES / elapsed_s, "frames/s", at_least=20_000),
        result("engine.memory_growth", grown / 1e6, "MB", at_most=10),
    ]
