"""Acquisition core of the LImA2 suite: cameras, frames, pipelines and the services that run them.

Usable without Tango: `open_camera` gives the frames of an installed camera.

What is offered here is imported when it is asked for: small processes, such as the listeners of
`lima2_core.net`, start without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lima2_core.service.local import LocalCamera, open_camera

__all__ = ["LocalCamera", "open_camera"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lima2_core.service import local

    return getattr(local, name)
