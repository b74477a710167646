"""What was taken, played again and saved again: the files tell the same."""

from contextlib import closing

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest

from lima2_core import registry
from lima2_core.state.system import Phase
from lima2_core.system.run import SystemOrder
from lima2_core.testing.fake_camera import FakeCamera
from tests.integration.coordinated import Simulated, comes_to

pytestmark = pytest.mark.usefixtures("patient_commands")

DETECTOR = "entry_0000/instrument/detector"


def take(plugin, folder, prefix, det):
    saving = {"enabled": True, "base_path": str(folder), "filename_prefix": prefix}
    order = SystemOrder(
        {"acq": {"nb_frames": 8, "expo_time": 100}, "det": det},
        {"class_name": "LimaProcessingLegacy", "saving_input": saving},
    )
    with closing(Simulated(1, plugin=plugin)) as system:
        run = system.begin(order)
        assert comes_to(run, Phase.DONE, Phase.INCOMPLETE)
        return run.ledger.summary()


def test_raw_frames_played_again_are_as_they_were_taken(tmp_path):
    camera = FakeCamera(fields=True)
    first = take(camera.plugin, tmp_path, "first", {"gaps": [2, 7]})
    file = str(tmp_path / "first_0_00000.h5")

    again = take(registry.load(registry.CAMERAS, "Reader"), tmp_path, "again", {"file": file})

    assert again == first
    with h5py.File(file) as one, h5py.File(tmp_path / "again_0_00000.h5") as other:
        names = [f"{DETECTOR}/{name}" for name in ("data", "validity")]
        names += [f"{DETECTOR}/frame_metadata/{n}" for n in one[f"{DETECTOR}/frame_metadata"]]
        assert len(names) == 5
        for name in names:
            assert np.array_equal(one[name], other[name], equal_nan=True)
            assert dict(one[name].attrs) == dict(other[name].attrs)
