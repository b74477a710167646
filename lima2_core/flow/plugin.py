"""What a pipeline plugin declares: parameters, what clients can ask of it, how it is built.

An entry point of the group ``lima2.pipelines`` names a `PipelinePlugin`. The servers make the
Tango class of the pipeline from this declaration, so a new pipeline touches no server file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import AcquisitionParams
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.data.memory import PoolSet
from lima2_core.errors import PluginError
from lima2_core.flow.pipeline import Pipeline
from lima2_core.ids import AcqId
from lima2_core.schema import ParamsModel


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A place whose frames clients can fetch."""

    name: str
    """As in the URLs of clients: ``frame``, ``input_frame``."""
    getter: str
    """Tango command."""
    label: str
    """Counter ``nb_frames_<label>`` and entry ``<label>_idx`` of the last frames."""
    doc: str = ""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """Records that clients can read."""

    name: str
    pop: str
    """Tango command."""
    waiting: str = ""
    """Tango attribute that counts the records not yet popped; empty for none."""
    doc: str = ""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a pipeline is built for."""

    acq_id: AcqId
    spec: FrameSpec
    """Frames as the camera gives them."""
    share: Share
    acquisition: AcquisitionParams
    pools: PoolSet
    workers: int
    """Threads of the chain."""
    keeps_rows: bool = True
    parts: bool = False
    """Whether each receiver has a part of every frame."""
    placement: Placement | None = None
    """Where these parts lie in whole frames, as the camera gives them."""
    fill: float = 0
    """What pixels of the camera read that never came."""
    spare_frames: int = 0
    """Frames of the camera that queues may hold in place of copies."""
    nb_expected: int | None = None
    """Rows this receiver will get; None if not known."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What files should tell about detector and run."""
    allowed_commands: tuple[str, ...] = ()
    """Programs that parameters may ask to run."""
    frame_fields: tuple[FrameField, ...] = ()
    """Values that come with every frame of the camera."""

    @property
    def deal(self) -> Share:
        """The place among the receivers that frames are dealt out to; alone, if all get all."""
        return Share() if self.parts else self.share


@dataclass(frozen=True, slots=True)
class PipelinePlugin:
    """What an entry point of the group ``lima2.pipelines`` names."""

    class_name: str
    """Tango class, and ``class_name`` in the parameters."""
    params: type[ParamsModel]
    build: Callable[[Any, BuildContext], Pipeline]
    """Resolve everything for given parameters and context, without effects outside memory.

    Raises `ParamError`, also for missing or wrong files, full or unwritable folders.
    """
    sources: tuple[SourceInfo, ...] = ()
    streams: tuple[StreamInfo, ...] = ()
    version: str = "core-1.2.0"
    """Of the interface towards clients, as they compare it (contract 02, section 6)."""
    preload: Callable[[Collection[str]], None] | None = None
    """Import what is slow; called on a background thread when a server starts, with the names of
    the cameras whose frames it takes."""


def check_declared(plugin: PipelinePlugin, pipeline: Pipeline) -> None:
    """See whether a built pipeline is what its plugin declared: clients find things by these names.

    Raises:
        PluginError: something has no declaration, or a declared source no counter.
    """
    sources = {source.name for source in plugin.sources}
    streams = {stream.name for stream in plugin.streams}
    counters = {f"nb_frames_{source.label}" for source in plugin.sources} | {"nb_frames_source"}
    wrong = [f"the tap {name!r} is no declared source" for name in set(pipeline.taps) - sources]
    wrong += [f"the stream {name!r} is not declared" for name in set(pipeline.streams) - streams]
    wrong += [f"the counter {name!r} is missing" for name in counters - set(pipeline.counters)]
    if wrong:
        raise PluginError(
            f"the pipeline {plugin.class_name} contradicts its declaration: {'; '.join(wrong)}",
            name=plugin.class_name,
        )
