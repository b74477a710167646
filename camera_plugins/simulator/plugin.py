"""The entry point of the simulated detector."""

from __future__ import annotations

from camera_plugins.simulator.control import SimulatorControl
from camera_plugins.simulator.params import SimulatorParams
from camera_plugins.simulator.source import SimulatorReceiver
from lima2_core.camera.api import CameraPlugin

PLUGIN = CameraPlugin(
    name="Simulator",
    params=SimulatorParams,
    make_control=SimulatorControl,
    make_receiver=SimulatorReceiver,
    properties={
        "rows": "Rows of the detector, 1 to 65535; 2048 if not given.",
        "cols": "Columns of the detector, 1 to 65535; 2048 if not given.",
        "external_edge_period_s": (
            "Seconds between the edges of a simulated pulse generator at the external trigger "
            "input, the first one that long after the start. Without it, external trigger is not "
            "offered."
        ),
    },
)
