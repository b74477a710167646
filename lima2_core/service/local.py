"""One camera in one script: no servers, no Tango (G30).

::

    with open_camera("Simulator", {"acq": {"nb_frames": 10, "expo_time": 1000}}) as camera:
        for frame in camera:
            print(frame.idx, frame.data.mean())
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from lima2_core import registry
from lima2_core.camera.api import CameraEnv, CameraMessage, CameraPlugin, SourceRequest
from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import AcquisitionParams
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import Frame, FrameSpec, Gap
from lima2_core.data.memory import PoolSet
from lima2_core.errors import EndOfFrames
from lima2_core.ids import AcqId

_MEMORY_BYTES = 2**31


def open_camera(
    name: str,
    params: Mapping[str, Any] | None = None,
    properties: Mapping[str, str] | None = None,
) -> LocalCamera:
    """Prepare a camera for one acquisition.

    Args:
        name: an installed camera, such as ``Simulator``; ``lima2 plugins`` lists them.
        params: acquisition parameters; what is not given has its default. Times are in
            microseconds.
        properties: settings of the installation, such as the address of the detector.

    Raises:
        PluginError: no such camera.
        ParamError: a parameter is refused.
        CameraError: the detector cannot be prepared.
    """
    plugin: CameraPlugin = registry.load(registry.CAMERAS, name)
    env = CameraEnv(properties=dict(properties or {}))
    return LocalCamera(plugin, plugin.params.from_tree(dict(params or {})), env)


class LocalCamera:
    """A prepared camera; iterate over it once to start it and to get its frames.

    Threads: one; `trigger` and `stop` from any.
    """

    def __init__(self, plugin: CameraPlugin, params: AcquisitionParams, env: CameraEnv) -> None:
        acq_id = AcqId(str(uuid.uuid1()))
        self.control = plugin.make_control(env, self)
        """The control part of the camera, with what is special to it."""
        with ExitStack() as opened:
            receiver = plugin.make_receiver(env)
            opened.callback(receiver.close)
            self._source = receiver.source(SourceRequest(acq_id, params, Share()))
            opened.callback(self._source.close)
            opened.callback(self.control.release)
            opened.callback(self.control.close)
            opened.callback(self.control.stop)
            self.control.check(params)
            self.spec: FrameSpec = self._source.resolve()
            """What every frame looks like."""
            self.fields: tuple[FrameField, ...] = self._source.frame_fields
            """Values that come with every frame."""
            self._source.open(PoolSet(_MEMORY_BYTES))
            self.params: AcquisitionParams = self.control.prepare(acq_id, params, 1)
            """The parameters as the camera took them."""
            self._opened = opened.pop_all()
        self.gaps: list[Gap] = []
        """Frames that are missing, and why."""

    def broadcast(self, message: CameraMessage) -> None:
        """Carry a message from the control part to the source."""
        self._source.deliver(message)

    def trigger(self) -> None:
        """Give one software trigger."""
        self.control.trigger()

    def stop(self) -> None:
        """End early; the iteration ends soon."""
        self.control.stop()
        self._source.interrupt()

    def __iter__(self) -> Iterator[Frame]:
        self.control.start()
        while True:
            try:
                items = self._source.next_frames(timeout_s=0.1)
            except EndOfFrames:
                return
            for item in items:
                if isinstance(item, Frame):
                    yield item
                else:
                    self.gaps.append(item)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Bring the camera to rest."""
        self._opened.close()
