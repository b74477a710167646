"""The shipped suite over every installed camera; a new one is checked without being named here."""

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from camera_plugins.jungfrau import emulator_backend
from lima2_core import registry
from lima2_core.camera import paced
from lima2_core.testing.camera_suite import CameraCase, CameraSuite
from lima2_core.testing.doubles import LIMIT_S
from tango_servers.local.processes import free_udp_addresses

QUICK = {"acq": {"expo_time": 2000, "latency_time": 0}}

# Three receivers of a JUNGFRAU are some twenty processes.
pytestmark = pytest.mark.timeout(60)


def simulator(folder: Path) -> CameraCase:
    generator = {
        "gauss": {"peaks": [{"x0": 16, "y0": 8, "fwhm": 8, "max": 50}], "grow_factor": 0.1},
        "pixel_type": "gray16",
        "nb_channels": 2,
    }
    det = {"generator": generator, "nb_prefetch_frames": 4}
    return CameraCase(
        registry.load(registry.CAMERAS, "Simulator"),
        tree={**QUICK, "det": det},
        properties={"rows": "24", "cols": "32"},
        lossy={**QUICK, "det": {**det, "dropped_frame_idx": 5}},
        partial={**QUICK, "det": {**det, "dispatch_mode": "partial_frame"}},
    )


def reader(folder: Path) -> CameraCase:
    path = folder / "frames.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(7 * 24 * 32, dtype=np.uint16).reshape(7, 24, 32)
    return CameraCase(
        registry.load(registry.CAMERAS, "Reader"),
        tree={**QUICK, "det": {"file": f"{path}::data", "loop": True, "nb_prefetch_frames": 4}},
    )


def jungfrau(folder: Path) -> CameraCase:
    # Longer than any pause of a busy computer among frames that come.
    patient = {"frame_timeout_ms": 2000, "silence_ms": 5000}
    det = {"readout_rows": 8, "nb_buffers": 24, **patient}
    return CameraCase(
        registry.load(registry.CAMERAS, "Jungfrau"),
        tree={**QUICK, "det": det},
        properties={"modules": "6", "udp_addresses": free_udp_addresses(3, 6)},
        lossy={**QUICK, "det": {**det, "emulator": {"faults": ["drop:frame=4"]}}},
        partial={**QUICK, "det": {**det, "dispatch_mode": "partial_frame"}},
    )


# Cameras that need more than their defaults.
CASES: dict[str, Callable[[Path], CameraCase]] = {
    "Simulator": simulator,
    "Reader": reader,
    "Jungfrau": jungfrau,
}


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A computer that is busy takes its time to start an emulator, or to give the last frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulator_backend, "_PREPARE_S", LIMIT_S)
        patch.setattr(paced, "STOP_LIMIT_S", LIMIT_S)
        yield


class TestCameras(CameraSuite):
    @pytest.fixture(params=registry.names(registry.CAMERAS))
    def case(self, request: pytest.FixtureRequest, tmp_path: Path) -> CameraCase:
        name: str = request.param
        if name in CASES:
            return CASES[name](tmp_path)
        return CameraCase(registry.load(registry.CAMERAS, name), tree=QUICK)


def test_all_installed_cameras_load():
    failures = {
        entry.name: entry.failure for entry in registry.survey(registry.CAMERAS) if entry.failure
    }

    assert failures == {}
    assert {"Simulator", "Reader", "Jungfrau"} <= set(registry.names(registry.CAMERAS))
