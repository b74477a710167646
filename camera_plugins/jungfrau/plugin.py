"""The entry point of the JUNGFRAU."""

from __future__ import annotations

from camera_plugins.jungfrau.control import JungfrauControl
from camera_plugins.jungfrau.installation import PROPERTIES
from camera_plugins.jungfrau.params import JungfrauParams
from camera_plugins.jungfrau.receiver import JungfrauReceiver
from lima2_core.camera.api import CameraPlugin

PLUGIN = CameraPlugin(
    name="Jungfrau",
    params=JungfrauParams,
    make_control=JungfrauControl,
    make_receiver=JungfrauReceiver,
    properties=PROPERTIES,
)
