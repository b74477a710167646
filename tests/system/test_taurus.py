"""A panel of Taurus on the front: the attributes tell it all that it needs, and images change."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tango
from PIL import Image

from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.servers import ServerGroup

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PANEL = Path(__file__).with_name("taurus_panel.py")
LIMIT_S = 160
OFFSCREEN = {"QT_QPA_PLATFORM": "offscreen"}


def environment(**more):
    return {**os.environ, **OFFSCREEN, **more}


@pytest.fixture(scope="module")
def qt():
    """Skips where there is no Taurus, or where its Qt cannot run for want of system libraries."""
    for module in ("taurus", "taurus_pyqtgraph", "PyQt5"):
        if find_spec(module) is None:
            pytest.skip(f'there is no {module}: pip install "lima2-suite[taurus]"')
    probe = "from PyQt5.QtWidgets import QApplication; QApplication([])"
    done = subprocess.run(
        (sys.executable, "-c", probe),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"Qt does not start here: {done.stderr.strip()[-300:]}")


@pytest.fixture
def control(tmp_path, qt):
    """The front of a small simulated system, with images that grow."""
    deployment = load_deployment("round_robin_2")
    with (
        EmbeddedDatabase(tmp_path, deployment) as database,
        ServerGroup(tmp_path, database.tango_host, deployment),
    ):
        device = tango.DeviceProxy(f"tango://{database.tango_host}/{deployment.control.name}")
        params = json.loads(device.front_params)
        params["acquisition"]["det"]["generator"]["gauss"]["grow_factor"] = 0.1
        device.front_params = json.dumps(params)
        device.acq_expo_time = 0.1
        device.image_max_size = 512
        yield database.tango_host, f"tango://{database.tango_host}/{deployment.control.name}"


def test_a_panel_shows_attributes_starts_an_acquisition_and_sees_the_image_change(
    control, tmp_path
):
    tango_host, name = control
    screenshot = tmp_path / "panel.png"

    done = subprocess.run(
        (sys.executable, str(PANEL), name, str(screenshot)),
        env=environment(TANGO_HOST=tango_host),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    values = seen["values"]
    assert seen["before"] == "none"
    assert seen["ended"], seen
    assert seen["images"] >= 3, seen
    assert seen["shape"] == [512, 512]
    assert values["acq_progress"].startswith("100")
    assert values["acq_nb_frames"] == "30"
    assert values["frames_processed"] == "30"
    assert values["acq_trigger_mode"] == "internal"
    assert values["verdict"] == "all 30 frames are valid"
    assert values["front_state"] == "idle"
    assert values["state"] == "ON"
    assert seen["to_write"] == "/tmp"
    with Image.open(screenshot) as picture:
        assert picture.size == (1200, 600)
        right = np.asarray(picture.convert("L"))[20:560, 520:]
    assert right.max() > 200  # the spot
    assert np.median(right) < 50
