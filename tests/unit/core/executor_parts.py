"""What the tests of the executor share: tasks, a joint, and a pipeline that runs."""

import threading
from collections import defaultdict

import numpy as np

from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.memory import BufferPool
from lima2_core.flow.channel import Channel
from lima2_core.flow.executor import Executor
from lima2_core.flow.pipeline import OUTPUT, Counter, Lane, Pipeline, Stage
from lima2_core.flow.task import Reduction, Transform
from lima2_core.ids import FrameIdx
from lima2_core.testing.doubles import LIMIT_S, CollectSink
from lima2_core.testing.fake_camera import pixels_of

# So large that a worker takes one frame at a time; the frames themselves are small.
SPEC = FrameSpec((1, 512, 512), np.dtype(np.uint16))
NONE_THERE = Validity.PROCESSING_FAULT


class AddHundred(Transform):
    name = "add_hundred"

    def resolve(self, spec):
        return spec

    def process(self, frame):
        return Frame(frame.idx, frame.data + 100)


class Total(Reduction):
    """The value of a pixel, once `wait` lets it."""

    name = "total"

    def __init__(self, wait=lambda frame: None):
        self.wait = wait

    def resolve(self, spec):
        pass

    def process(self, frame):
        self.wait(frame)
        return int(frame.data[0, 0, 0])


class FailAt(Reduction):
    name = "fail_at"

    def __init__(self, *idxs):
        self.idxs = idxs

    def resolve(self, spec):
        pass

    def process(self, frame):
        pixels = frame.data  # a variable that holds memory
        if frame.idx in self.idxs:
            raise ValueError(f"pixel {pixels[0, 0, 0]} is wrong")


class SumJoint:
    """Adds up the frames of a group; a gap if there is none."""

    def __init__(self, depth, fail_add=-1, fail_finish=-1):
        self.depth = depth
        self.items = defaultdict(list)
        self.fail_add, self.fail_finish = fail_add, fail_finish
        self.lock = threading.Lock()

    def add(self, group, item):
        if item.idx == self.fail_add:
            raise ValueError("it does not add up")
        with self.lock:
            self.items[group].append(item)

    def index(self, group):
        return FrameIdx(group)

    def finish(self, group):
        if group == self.fail_finish:
            raise ValueError("no memory for the sum")
        images = [item.data for item in self.items.pop(group) if isinstance(item, Frame)]
        if not images:
            return Gap(FrameIdx(group), Validity.DROPPED)
        return Frame(FrameIdx(group), np.sum(images, axis=0))


class Execution:
    """A pipeline that runs, its channel, and what it told."""

    def __init__(self, pipeline, workers=3, room=1000, buffers=40):
        self.pool = BufferPool(pixels_of(0).nbytes)
        self.pool.grow(buffers)
        self.source = Channel(room)
        self.failures = []
        self.done = 0
        self.ended_before_done = None
        pipeline.open()
        self.executor = Executor(
            pipeline, self.source, workers, self.failures.append, lambda: self.count_done(pipeline)
        )

    def count_done(self, pipeline):
        self.done += 1
        self.ended_before_done = [
            lane.sink.calls[-1] in ("close", "abort")
            for lane in pipeline.lanes
            if isinstance(lane.sink, CollectSink)
        ]

    def frame(self, idx):
        lease = self.pool.lease(timeout_s=LIMIT_S)
        data = lease.array((1, 2, 3), np.uint16)
        data[...] = idx
        return Frame(FrameIdx(idx), data, lease)

    def send(self, *idxs, gaps=()):
        for idx in idxs:
            gap = Gap(FrameIdx(idx), Validity.DROPPED, "told by the detector")
            self.source.send([gap if idx in gaps else self.frame(idx)])

    def end(self):
        """Close the channel and wait; whatever happened, this must hold."""
        self.source.close()
        assert self.executor.join(LIMIT_S)
        assert self.done == 1
        assert all(self.ended_before_done)
        assert len(self.failures) <= 1
        assert self.pool.stats().in_use == 0


def pipeline_of(*lanes, tasks=(), counters=()):
    return Pipeline(SPEC, SPEC, Stage(tuple(tasks), lanes, tuple(counters)))


def both(carries=OUTPUT, depth=4):
    """Two sinks, and a lane for each: with a queue and without."""
    queued, direct = CollectSink(), CollectSink()
    return queued, direct, (Lane("queued", queued, carries, depth), Lane("direct", direct, carries))


def values(sink):
    return [
        int(row.value[0, 0, 0]) if isinstance(row.value, np.ndarray) else row.value
        for row in sink.rows
    ]


def two_stages(joint, tasks=(), second_tasks=()):
    """A pipeline that sums; its sinks before and after the joint."""
    first, second = CollectSink(), CollectSink()
    pipeline = Pipeline(
        SPEC,
        SPEC,
        Stage(tuple(tasks), (Lane("first", first, OUTPUT),), (Counter(),)),
        Stage(tuple(second_tasks), (Lane("second", second, OUTPUT, depth=2),), (Counter(),)),
        joint,
    )
    return first, second, pipeline
