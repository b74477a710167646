"""A camera under test: its parameters, and its parts joined without servers."""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from lima2_core.camera.api import (
    CameraControl,
    CameraEnv,
    CameraPlugin,
    CameraReceiver,
    FrameSource,
    SourceRequest,
)
from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import AcquisitionParams
from lima2_core.data.frame import Frame, FrameSpec, Gap
from lima2_core.data.memory import PoolSet
from lima2_core.errors import EndOfFrames
from lima2_core.ids import AcqId, ReceiverIdx
from lima2_core.testing.fakes import DirectLink

LIMIT_S = 20.0
"""How long a short acquisition may take, on a computer that is busy with other things."""


@dataclass(frozen=True, slots=True)
class CameraCase:
    """A camera to be checked, set so that it is quick."""

    plugin: CameraPlugin
    tree: Mapping[str, Any] = field(default_factory=dict)
    """Acquisition parameters; what is not given has its default."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Settings of the installation."""
    lossy: Mapping[str, Any] | None = None
    """Parameters, instead of ``tree``, with which ten frames lose at least one."""
    dispatch: bool = True
    """Whether it can deal frames out to several receivers."""
    partial: Mapping[str, Any] | None = None
    """Parameters, instead of ``tree``, with which each receiver gets a part of every frame."""

    def params(self, tree: Mapping[str, Any] | None = None, **acq: Any) -> AcquisitionParams:
        """Parameters with some of the group ``acq`` replaced."""
        whole = copy.deepcopy(dict(self.tree if tree is None else tree))
        whole["acq"] = {**whole.get("acq", {}), **acq}
        return self.plugin.params.from_tree(whole)


class CameraRig:
    """The parts of one camera, joined without servers; one run after the other."""

    def __init__(self, case: CameraCase, n_receivers: int = 1) -> None:
        env = CameraEnv(properties=dict(case.properties))
        self.link = DirectLink()
        self.pools = PoolSet(2**30)
        self.control: CameraControl = case.plugin.make_control(env, self.link)
        self.receivers: list[CameraReceiver] = [
            case.plugin.make_receiver(env) for _ in range(n_receivers)
        ]
        self.sources: list[FrameSource] = []
        self.specs: list[FrameSpec] = []
        self.params: AcquisitionParams = case.params()

    def prepare(self, params: AcquisitionParams) -> None:
        """Arm a new run."""
        self.end_run()
        acq_id = AcqId(str(uuid.uuid4()))
        self.control.check(params)
        for number, receiver in enumerate(self.receivers):
            share = Share(ReceiverIdx(number), len(self.receivers))
            source = receiver.source(SourceRequest(acq_id, params, share))
            self.sources.append(source)
            self.specs.append(source.resolve())
            source.open(self.pools)
        self.link.sources[:] = self.sources
        self.params = self.control.prepare(acq_id, params, len(self.receivers))

    def run(self, params: AcquisitionParams) -> list[list[Frame | Gap]]:
        """Everything that the receivers get in a whole run."""
        self.prepare(params)
        self.control.start()
        return self.collect()

    def collect(self) -> list[list[Frame | Gap]]:
        """What the receivers still get, up to the end."""
        return [list(until_the_end(source)) for source in self.sources]

    def end_run(self) -> None:
        """Bring the camera to rest."""
        self.control.stop()
        self.control.close()
        for source in self.sources:
            source.close()
        self.link.sources.clear()
        self.sources.clear()
        self.specs.clear()

    def close(self) -> None:
        """Let go of everything."""
        self.end_run()
        self.control.release()
        for receiver in self.receivers:
            receiver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def until_the_end(source: FrameSource, limit_s: float = LIMIT_S) -> Iterator[Frame | Gap]:
    """Give what the source gives; copies of what must not be held.

    Raises:
        AssertionError: it does not end within ``limit_s``.
    """
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        try:
            items = source.next_frames(0.05)
        except EndOfFrames:
            return
        for item in items:
            if isinstance(item, Frame) and not item.keepable:
                item = replace(item, data=item.data.copy(), lease=None)
            yield item
    raise AssertionError(f"the source has not ended after {limit_s} s")


def indices(items: Sequence[Frame | Gap]) -> list[int]:
    """The frame indices of frames and gaps."""
    return [item.idx for item in items]
