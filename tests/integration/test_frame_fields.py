"""What a camera tells of every frame, from the camera into the files."""

from contextlib import closing

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest

from client.validate import validate
from lima2_core.camera.api import CameraEnv
from lima2_core.service.local import LocalCamera
from lima2_core.state.system import Phase
from lima2_core.system.run import SystemOrder
from lima2_core.testing.fake_camera import FIELDS, FakeCamera, FakeCameraParams, told_of
from processing.outputs.master import MasterOutput
from tests.integration.coordinated import Simulated, comes_to

pytestmark = pytest.mark.usefixtures("patient_commands")

DETECTOR = "entry_0000/instrument/detector"
TOLD = f"{DETECTOR}/frame_metadata"


def run(folder, n_receivers=1, *, camera=None, gaps=(), **processing):
    camera = camera or FakeCamera(fields=True)
    saving = {"enabled": True, "base_path": str(folder)}
    order = SystemOrder(
        {"acq": {"nb_frames": 6}, "det": {"gaps": list(gaps)}},
        {
            "class_name": "LimaProcessingLegacy",
            "saving": {**saving, "filename_prefix": "made"},
            "saving_input": {**saving, "filename_prefix": "raw"},
            **processing,
        },
    )
    with closing(Simulated(n_receivers, plugin=camera.plugin)) as system:
        system.given.append(MasterOutput())
        taken = system.begin(order)
        system.given.clear()
        assert comes_to(taken, Phase.DONE, Phase.INCOMPLETE)


def bunches(folder, prefix, receiver=0):
    with h5py.File(folder / f"{prefix}_{receiver}_00000.h5") as file:
        return file[f"{TOLD}/bunch_id"][()].tolist()


@pytest.mark.parametrize("geometry", [{}, {"flip": "left_right"}])
def test_it_stands_beside_frames_of_the_camera_and_beside_processed_ones(tmp_path, geometry):
    run(tmp_path, 2, gaps=[3], geometry=geometry)

    nothing = 2**64 - 1
    for prefix in ("raw", "made"):
        assert bunches(tmp_path, prefix, 0) == [1000, 1002, 1004]
        assert bunches(tmp_path, prefix, 1) == [1001, nothing, 1005]


@pytest.mark.parametrize("receivers", [1, 2, 3])
def test_the_master_shows_it_in_the_order_of_frames(tmp_path, receivers):
    run(tmp_path, receivers, gaps=[3])

    for prefix in ("raw", "made"):
        with h5py.File(tmp_path / f"{prefix}_master.h5") as file:
            shown = file[f"{TOLD}/bunch_id"][()].tolist()
        assert shown == [1000, 1001, 1002, 2**64 - 1, 1004, 1005]
        assert validate(tmp_path / f"{prefix}_master.h5").anomalies == []


def test_a_sum_of_frames_has_none_as_each_of_them_has_its_own(tmp_path):
    run(tmp_path, accumulation={"enabled": True, "nb_frames": 2})

    assert len(bunches(tmp_path, "raw")) == 6
    with h5py.File(tmp_path / "made_0_00000.h5") as file:
        assert len(file[f"{DETECTOR}/data"]) == 3
        assert "frame_metadata" not in file[DETECTOR]


def test_a_camera_that_tells_nothing_leaves_no_trace(tmp_path):
    run(tmp_path, camera=FakeCamera())

    with h5py.File(tmp_path / "raw_0_00000.h5") as file:
        assert "frame_metadata" not in file[DETECTOR]


def test_a_script_sees_it():
    plugin = FakeCamera(fields=True).plugin
    params = FakeCameraParams.from_tree({"acq": {"nb_frames": 2}})

    with LocalCamera(plugin, params, CameraEnv()) as camera:
        told = [frame.fields for frame in camera]

    assert camera.fields == FIELDS
    assert np.array_equal(told, [told_of(0), told_of(1)])
