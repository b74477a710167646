"""A pipeline as it was resolved: one parallel chain, ordered lanes, places to look at.

A pipeline has one stage, or two with a `Joint` between them that makes one item of several
(accumulation). Each stage is a chain of tasks and a number of lanes. There is no general graph.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lima2_core.data.frame import Frame, FrameSpec, Gap
from lima2_core.data.geometry import Placement
from lima2_core.data.pooling import Reach
from lima2_core.data.record import RecordStream
from lima2_core.flow.sink import Sink
from lima2_core.flow.tap import Tap
from lima2_core.flow.task import Reduction, Task, Transform
from lima2_core.ids import FrameIdx


class Carries(enum.Enum):
    """What a lane may carry besides the products of a reduction."""

    INPUT = "frames before the chain"
    OUTPUT = "frames after the chain"


INPUT, OUTPUT = Carries.INPUT, Carries.OUTPUT


@dataclass(frozen=True, slots=True)
class Lane:
    """Carries one value per frame, in order, to a sink.

    ``carries`` is `INPUT`, `OUTPUT`, or a reduction of the stage, whose products it carries. A
    lane with ``depth`` 0 is served by the thread that delivers: for sinks that only touch memory.
    Others have a thread and a queue of their own.
    """

    name: str
    sink: Sink
    carries: Carries | Reduction
    depth: int = 0


class Counts(Protocol):
    """A number that only grows."""

    @property
    def value(self) -> int: ...


class Counter:
    """A number that only grows; written by one thread, read by any."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """A chain of tasks and the lanes behind it."""

    tasks: tuple[Task, ...] = ()
    lanes: tuple[Lane, ...] = ()
    counters: tuple[Counter, ...] = ()
    """Count the rows, once the lanes without a queue have taken them."""

    @property
    def transforms(self) -> bool:
        """Whether frames leave otherwise than they came."""
        return any(isinstance(task, Transform) for task in self.tasks)

    @property
    def reductions(self) -> tuple[Reduction, ...]:
        """The tasks that give products, in the order of these."""
        return tuple(task for task in self.tasks if isinstance(task, Reduction))

    def place(self, lane: Lane) -> int | None:
        """Position of what ``lane`` carries among the products; None if it carries frames.

        Raises:
            ValueError: the reduction is not one of this stage.
        """
        return None if isinstance(lane.carries, Carries) else self.reductions.index(lane.carries)


class Joint(Protocol):
    """Makes one frame of ``depth`` consecutive rows.

    Threads: `add` from several at the same time, also for the same group.
    """

    depth: int

    def add(self, group: int, item: Frame | Gap) -> None:
        """Take one row of a group."""
        ...

    def index(self, group: int) -> FrameIdx:
        """Index of the frame of a group."""
        ...

    def finish(self, group: int) -> Frame | Gap:
        """The frame of a complete group, or of what came until the stream ended."""
        ...


@dataclass(frozen=True, slots=True)
class SavedFiles:
    """Where one receiver puts the frames of one source: row k is in file k // rows_per_file.

    Shapes: frames (bands, rows, cols); datasets have an axis for bands if ``bands_axis``.
    """

    folder: str
    prefix: str
    rank: int
    rows_per_file: int
    dataset: str
    """Path of the dataset in each file."""
    bands_axis: bool
    entry: str
    detector: str
    """Paths of the NXentry and of the NXdetector in each file."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Values that are no measurements, by the names that they have in the files."""
    collections: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """How the frames were made: trees of plain values, by the name of a group."""
    frame_fields: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """What the camera told of every frame: `FrameField.to_tree` by its name."""
    block: str = ""
    """Name of the group of parameters that asked for them."""
    hits: bool = False
    """Whether the files hold the hits of frames, not images; ``dataset`` is then a group with
    ``index``, ``intensity`` and ``frame_ptr``, and positions are those in whole frames."""
    threshold: float = 0
    """What a pixel has to reach to be a hit."""
    sampling: int = 1
    """One of so many frames is in them; rows of the others are empty."""


@dataclass(frozen=True, slots=True)
class SavedSource:
    """Frames that are saved: which, where, and how many rows are safe by now."""

    spec: FrameSpec
    files: SavedFiles
    rows: RecordStream
    """Of `lima2_core.data.rows.ROW_RECORD`: which frame is in which row."""
    flushed: Callable[[], int]
    """Rows that outlive a crash."""


@dataclass(frozen=True, slots=True)
class PartRecords:
    """Records of parts of frames, of which the system makes those of whole frames."""

    stream: RecordStream
    """Of `lima2_core.data.pooling.PART_RECORD`."""
    reach: Reach
    """Records to which pixels of this part contribute."""


@dataclass(slots=True)
class Pipeline:
    """All that the run of a pipeline consists of; made by a plugin, run by `Executor`."""

    input_spec: FrameSpec
    output_spec: FrameSpec
    first: Stage
    second: Stage | None = None
    joint: Joint | None = None
    taps: Mapping[str, Tap] = field(default_factory=dict)
    """By the name of the frame source that clients ask for."""
    streams: Mapping[str, RecordStream] = field(default_factory=dict)
    """By the name of the record stream."""
    parts: Mapping[str, PartRecords] = field(default_factory=dict)
    """By the name of a record stream, if this receiver has a part of every frame: what the system
    gets in its place."""
    counters: Mapping[str, Counts] = field(default_factory=dict)
    """By the name clients know: ``nb_frames_source`` ..."""
    activate: Callable[[], None] | None = None
    """Called at Start, before the first frame; may fail."""
    queue_frames: int = 100
    """Frames that may wait between the camera and the chain."""
    files: Callable[[], Sequence[str]] | None = None
    """Files written so far."""
    saved: Mapping[str, SavedSource] = field(default_factory=dict)
    """By the name of the frame source."""
    placement: Placement | None = None
    """Where the output lies in that of all receivers, if each has a part of every frame; None:
    where the input lies."""
    fill: float = 0
    """What pixels of the whole output read that no receiver has."""
    remarks: tuple[str, ...] = ()
    """What users should know before the start."""

    def __post_init__(self) -> None:
        if (self.second is None) != (self.joint is None):
            raise ValueError("a joint and a second stage need each other")

    @property
    def lanes(self) -> tuple[Lane, ...]:
        return self.first.lanes + (self.second.lanes if self.second is not None else ())

    def open(self) -> None:
        """Get all sinks ready; those already open are ended again if one cannot be.

        Raises:
            StorageError: a sink will not be able to write.
        """
        opened: list[Sink] = []
        try:
            for lane in self.lanes:
                lane.sink.open()
                opened.append(lane.sink)
        except BaseException:
            for sink in opened:
                sink.abort()
            raise

    def release(self) -> None:
        """Let go of the frames that are kept to be looked at."""
        for tap in self.taps.values():
            tap.clear()

    def readings(self) -> dict[str, float]:
        """What its sinks want to tell."""
        return {name: value for lane in self.lanes for name, value in lane.sink.readings().items()}

    def progress(self) -> dict[str, int]:
        """Counters by name; none is seen ahead of those before it in the flow."""
        values = {name: self.counters[name].value for name in reversed(list(self.counters))}
        return {name: values[name] for name in self.counters}


@dataclass(slots=True)
class Result:
    """What the chain of a stage made of one row."""

    idx: FrameIdx
    source: Frame | Gap
    item: Frame | Gap
    products: list[object]
