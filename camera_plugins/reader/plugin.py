"""The entry point of the camera that plays recorded files."""

from __future__ import annotations

from camera_plugins.reader.control import ReaderControl
from camera_plugins.reader.params import ReaderParams
from camera_plugins.reader.source import ReaderReceiver
from lima2_core.camera.api import CameraPlugin

PLUGIN = CameraPlugin(
    name="Reader",
    params=ReaderParams,
    make_control=ReaderControl,
    make_receiver=ReaderReceiver,
    properties={
        "data_root": "Only files below this folder are played; without it, any readable file.",
        "pixel_size_m": (
            "Edge of a pixel of the detector that made the files, metres; 75e-6 if not given."
        ),
    },
)
