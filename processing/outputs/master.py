"""The master: all frames of a run in the order of their indices, whatever became of them.

A master is a sequence of segments, each a file of virtual datasets that show a fixed number of
frames where the receivers saved them, and an index file that links the segments. Up to
10 000 frames the index shows all of them in one dataset as well.

A segment is written as soon as it is known of all its frames what became of them and those that
are there are flushed. It gets its name once the files of the receivers that it shows are
complete, as HDF5 lets nobody open them before: a segment that is there can be read.

The file of a receiver that was killed can be read up to its last flush, under its own name. That of
one that is merely stopped stays locked until it goes on or is killed: at the end of a run the
master shows its flushed frames all the same, and reading them fails for that time, unless the
reader opens with ``locking=False``. Reading any other frame works.

Of sources that save the hits of frames a segment shows those, in frame order, and tells how many
each frame has. As only complete files tell that, such segments come a bit later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lima2_core.clock import Clock
from lima2_core.errors import ParamError
from lima2_core.system.outputs import OutputPlugin, RunOutput, RunView, Survivors
from processing.jungfrau.written import calibration_written
from processing.outputs.master_plan import (
    SEGMENT_FRAMES,
    MasterFiles,
    may_overwrite,
    saving_block,
    segment_frames,
)
from processing.outputs.master_source import SourceMaster

_MAIN = "frame"


class MasterOutput(RunOutput):
    """A master for every source that a run saves; nothing, if it saves none.

    It also names the calibration file that a run of dark frames leaves.

    Threads: as `RunOutput`; `survivors`, `results` and `trouble` from any thread.
    """

    name = "master"

    def __init__(self, segment_frames: int = SEGMENT_FRAMES, clock: Clock | None = None) -> None:
        self._segment_frames = segment_frames
        self._clock = clock
        self._sources: dict[str, SourceMaster] = {}
        self._run: RunView | None = None
        self._calibration: tuple[str, ...] = ()

    def check(self, run: RunView) -> None:
        for saved in run.saved.values():
            first = saved.files[0]
            existing = MasterFiles.of(saved).existing()
            if existing and not may_overwrite(run.processing, first):
                block = saving_block(run.processing, first)
                raise ParamError(
                    f"{existing[0]} exists; choose another filename_prefix or base_path, or the "
                    "policy overwrite to lose what is in it",
                    path=".".join(filter(None, ("processing", block, "file_exists_policy"))),
                    file=str(existing[0]),
                )

    def open(self, run: RunView) -> None:
        sources = {
            name: SourceMaster(run, saved, self._segment_frames, self._clock)
            # The master of processed frames is the one that is told of first.
            for name, saved in sorted(run.saved.items(), key=lambda one: one[0] != _MAIN)
        }
        for source in sources.values():
            source.open()
        self._sources = sources
        self._run = run

    def update(self) -> None:
        for source in self._sources.values():
            source.update()

    def finish(self) -> None:
        for source in self._sources.values():
            source.finish()
        if self._run is not None:
            self._calibration = calibration_written(self._run.processing, self._run.acq_id)

    def survivors(self, source: str, receiver: int) -> Survivors | None:
        master = self._sources.get(source)
        return master.survivors(receiver) if master is not None else None

    def results(self) -> Sequence[str]:
        masters = [path for source in self._sources.values() for path in source.results()]
        return [*masters, *self._calibration]

    @property
    def trouble(self) -> str:
        return "; ".join(source.trouble for source in self._sources.values() if source.trouble)


def make(settings: Mapping[str, str]) -> RunOutput | None:
    """The master of one run.

    Raises:
        ParamError: a setting is refused.
    """
    wanted = settings.get("master") or "on"
    if wanted not in ("on", "off"):
        raise ParamError(f"{wanted!r} is neither on nor off", path="master")
    if wanted == "off":
        return None
    return MasterOutput(segment_frames(settings))


PLUGIN = OutputPlugin(
    name="master",
    make=make,
    settings={
        "master": "Whether runs that save frames get a master file: on or off.",
        "master_segment_frames": "Frames in each segment of a master, 1 to 10000.",
    },
)
