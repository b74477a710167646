"""Acquisition core of the LImA2 suite: cameras, frames, pipelines and the services that run them.

Usable without Tango: `open_camera` gives the frames of an installed camera.
"""

from lima2_core.service.local import LocalCamera, open_camera

__all__ = ["LocalCamera", "open_camera"]
