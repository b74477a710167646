import threading
from collections import defaultdict

import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.memory import BufferPool
from lima2_core.errors import PipelineError, StorageError
from lima2_core.flow.channel import Channel, ChannelClosedError
from lima2_core.flow.executor import Executor
from lima2_core.flow.pipeline import INPUT, OUTPUT, Counter, Lane, Pipeline, Stage
from lima2_core.flow.task import Reduction, Transform
from lima2_core.ids import FrameIdx
from lima2_core.testing.doubles import LIMIT_S, CollectSink, GatedSink, eventually
from lima2_core.testing.fake_camera import pixels_of
from lima2_core.worker import Worker

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


def test_lanes_get_every_row_in_order():
    queued, direct, lanes = both()
    execution = Execution(pipeline_of(*lanes, tasks=[AddHundred()]))

    execution.send(*range(200))
    execution.end()

    assert execution.failures == []
    for sink in (queued, direct):
        assert [row.local for row in sink.rows] == list(range(200))
        assert sink.idxs == list(range(200))
        assert values(sink) == list(range(100, 300))
        assert sink.calls == ["open", "write", "close"]


def test_a_frame_that_takes_long_keeps_its_place():
    overtaken = threading.Event()

    def wait(frame):
        if frame.idx == 0:
            assert overtaken.wait(LIMIT_S)

    queued, _, lanes = both(carries=0)
    execution = Execution(pipeline_of(*lanes, tasks=[Total(wait)]), workers=2)

    execution.send(*range(10))
    assert eventually(lambda: execution.executor.stats().out_of_order == 9)
    assert queued.rows == []
    overtaken.set()
    execution.end()

    assert values(queued) == list(range(10))


def test_lanes_carry_frames_before_and_after_the_chain_and_its_products():
    first, last, before, after = (CollectSink() for _ in range(4))
    tasks = [Total(), AddHundred(), Total()]
    lanes = (
        Lane("first", first, 0),
        Lane("last", last, 1, depth=2),
        Lane("before", before, INPUT),
        Lane("after", after, OUTPUT, depth=2),
    )
    execution = Execution(pipeline_of(*lanes, tasks=tasks))

    execution.send(0, 1, 2)
    execution.end()

    assert [values(sink) for sink in (first, last, before, after)] == [
        [0, 1, 2],
        [100, 101, 102],
        [0, 1, 2],
        [100, 101, 102],
    ]


def test_rows_are_numbered_on_the_receiver_and_keep_their_index_in_the_acquisition():
    queued, _, lanes = both()
    execution = Execution(pipeline_of(*lanes))

    execution.send(1, 3, 5)
    execution.end()

    assert [(row.local, row.idx) for row in queued.rows] == [(0, 1), (1, 3), (2, 5)]


def test_gaps_pass_through_the_chain_and_stand_in_every_lane():
    products, frames = CollectSink(), CollectSink()
    lanes = (Lane("products", products, 0), Lane("frames", frames, INPUT, depth=4))
    execution = Execution(pipeline_of(*lanes, tasks=[AddHundred(), Total()]))

    execution.send(*range(6), gaps=(0, 3, 5))
    execution.end()

    for sink in (products, frames):
        assert sink.idxs == list(range(6))
        assert sink.gaps == [0, 3, 5]
        assert sink.rows[3].value.detail == "told by the detector"


def test_counters_count_the_rows_that_the_direct_lanes_have_taken():
    counter, seen = Counter(), []
    sink = CollectSink()
    sink.on_write = lambda: seen.append((counter.value, len(sink.rows)))
    execution = Execution(pipeline_of(Lane("direct", sink, OUTPUT), counters=[counter]))

    execution.send(*range(20), gaps=(7,))
    execution.end()

    assert counter.value == 20
    assert all(count == rows for count, rows in seen)


def test_without_a_lane_and_without_a_frame_it_still_ends():
    execution = Execution(pipeline_of())

    execution.end()

    assert execution.failures == []


def test_no_worker_is_one_worker():
    queued, _, lanes = both()
    execution = Execution(pipeline_of(*lanes), workers=0)

    execution.send(0, 1)
    execution.end()

    assert queued.idxs == [0, 1]


# What fails


@pytest.mark.parametrize("workers", [1, 3])
def test_a_failing_task_is_told_once_and_later_rows_become_gaps(workers):
    queued, direct, lanes = both()
    execution = Execution(pipeline_of(*lanes, tasks=[FailAt(5, 6, 9)]), workers)

    execution.send(*range(20))
    execution.end()

    (failure,) = execution.failures
    assert isinstance(failure, PipelineError)
    assert failure.details["task"] == "fail_at"
    assert failure.details["frame_idx"] in (5, 6, 9)
    assert "is wrong" in failure.message
    for sink in (queued, direct):
        assert sink.idxs == list(range(20))
        assert 5 in sink.gaps
        assert sink.gaps[-10:] == list(range(10, 20))
        assert {row.value.cause for row in sink.rows if row.idx in sink.gaps} == {NONE_THERE}
        assert sink.calls == ["open", "write", "close"]


def test_with_one_worker_the_gaps_begin_at_the_frame_that_failed():
    queued, _, lanes = both(carries=0)
    execution = Execution(pipeline_of(*lanes, tasks=[Total(), FailAt(3)]), workers=1)

    execution.send(*range(6))
    execution.end()

    assert values(queued)[:3] == [0, 1, 2]
    assert queued.gaps == [3, 4, 5]


def test_gaps_of_the_detector_keep_their_cause_after_a_failure():
    queued, _, lanes = both()
    execution = Execution(pipeline_of(*lanes, tasks=[FailAt(1)]), workers=1)

    execution.send(*range(5), gaps=(3,))
    execution.end()

    causes = [row.value.cause for row in queued.rows[1:]]
    assert causes == [NONE_THERE, NONE_THERE, Validity.DROPPED, NONE_THERE]


def test_the_reason_stays_with_the_error_and_the_pixels_do_not():
    execution = Execution(pipeline_of(tasks=[FailAt(0)]))

    execution.send(0)
    execution.end()  # nothing is leased, although the error is still here

    cause = execution.failures[0].__cause__
    assert isinstance(cause, ValueError)
    assert "in process" in cause.__notes__[0]


def test_a_failing_sink_with_a_queue_is_aborted_and_the_other_lanes_end_well():
    failing = CollectSink(fail_at=3, error=StorageError("the disk is full", file="a.h5"))
    good = CollectSink()
    lanes = (Lane("failing", failing, OUTPUT, depth=2), Lane("good", good, OUTPUT, depth=2))
    execution = Execution(pipeline_of(*lanes))

    execution.send(*range(30))
    execution.end()

    (failure,) = execution.failures
    assert isinstance(failure, StorageError)
    assert failure.details == {"file": "a.h5"}
    assert failing.calls == ["open", "write", "abort"]
    assert failing.idxs == [0, 1, 2]
    assert good.calls == ["open", "write", "close"]
    assert good.idxs == list(range(30))


def test_a_failing_sink_without_a_queue_gets_nothing_any_more_and_is_aborted():
    failing = CollectSink(fail_at=3, error=StorageError("the disk is full"))
    queued = CollectSink()
    lanes = (Lane("failing", failing, OUTPUT), Lane("queued", queued, OUTPUT, depth=2))
    execution = Execution(pipeline_of(*lanes), workers=1)

    execution.send(*range(10))
    execution.end()

    assert isinstance(execution.failures[0], StorageError)
    assert failing.idxs == [0, 1, 2]
    assert failing.calls == ["open", "write", "abort"]
    assert queued.calls == ["open", "write", "close"]
    assert queued.idxs == list(range(10))


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_of_a_sink_that_is_none_of_ours_names_the_lane(depth):
    failing = CollectSink(fail_at=0, error=KeyError("handle"))
    execution = Execution(pipeline_of(Lane("save", failing, OUTPUT, depth)))

    execution.send(0, 1)
    execution.end()

    (failure,) = execution.failures
    assert isinstance(failure, PipelineError)
    assert failure.details["task"] == "save"
    assert "KeyError" in failure.message
    assert failing.calls == ["open", "write", "abort"]


@pytest.mark.parametrize("depth", [0, 2])
def test_a_sink_that_cannot_be_closed_is_a_failure_and_all_ends(depth):
    failing = CollectSink(fail_in="close", error=StorageError("no space for the last chunk"))
    other = CollectSink()
    lanes = (Lane("failing", failing, OUTPUT, depth), Lane("other", other, OUTPUT, depth))
    execution = Execution(pipeline_of(*lanes))

    execution.send(0, 1)
    execution.end()

    assert [failure.message for failure in execution.failures] == ["no space for the last chunk"]
    assert failing.calls == ["open", "write", "close", "abort"]
    assert other.calls == ["open", "write", "close"]


def test_only_the_first_of_many_failures_is_told():
    lanes = tuple(
        Lane(f"lane-{n}", CollectSink(fail_at=n, fail_in="close"), OUTPUT, depth=n % 2)
        for n in range(4)
    )
    execution = Execution(pipeline_of(*lanes, tasks=[FailAt(*range(1, 20))]))

    execution.send(*range(20))
    execution.end()

    assert len(execution.failures) == 1


# Back-pressure and early ends


def test_a_slow_sink_slows_everything_down_to_the_source():
    sink = GatedSink()
    execution = Execution(
        pipeline_of(Lane("slow", sink, OUTPUT, depth=2)), workers=1, room=3, buffers=50
    )
    sender = Worker("sender", lambda: execution.send(*range(30)))
    assert sink.wait_until_holding()
    assert eventually(lambda: execution.source.stats().level == 3)
    sent = execution.source.stats().sent

    # Held by the sink up to 2, in its queue 2, on the worker 1, in the channel 3.
    assert not sender.join(0.05)
    assert sent <= 8
    assert execution.source.stats().sent == sent
    stats = execution.executor.stats()
    assert stats.lanes["slow"].level <= 2
    assert stats.queue.level == 3
    sink.open_gate()

    assert sender.join(LIMIT_S)
    execution.end()
    assert sink.idxs == list(range(30))


def test_joining_is_given_up_after_its_time():
    sink = GatedSink()
    execution = Execution(pipeline_of(Lane("slow", sink, OUTPUT, depth=2)))
    execution.send(0)
    execution.source.close()

    assert not execution.executor.join(0.01)
    assert execution.done == 0
    sink.open_gate()

    execution.end()


def test_breaking_the_channel_off_ends_it_with_what_was_taken():
    gate, entered = threading.Event(), threading.Event()

    def wait(frame):
        if frame.idx == 2:
            entered.set()
            assert gate.wait(LIMIT_S)

    queued, direct, lanes = both()
    execution = Execution(pipeline_of(*lanes, tasks=[Total(wait)]), workers=1)
    execution.send(*range(10))
    assert entered.wait(LIMIT_S)

    execution.source.break_off()
    gate.set()
    execution.end()

    assert execution.failures == []
    for sink in (queued, direct):
        assert sink.idxs == [0, 1, 2]
        assert sink.calls == ["open", "write", "close"]


def test_a_sink_that_waits_for_rows_may_flush_what_it_has():
    queued, _, lanes = both()
    execution = Execution(pipeline_of(*lanes))
    execution.send(0)

    assert eventually(lambda: "idle" in queued.calls)
    execution.end()

    assert queued.calls == ["open", "write", "idle", "close"]


# Two stages


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


@pytest.mark.parametrize("workers", [1, 4])
def test_groups_of_rows_become_one_row(workers):
    first, second, pipeline = two_stages(SumJoint(3), second_tasks=[AddHundred()])
    execution = Execution(pipeline, workers)

    execution.send(*range(30))
    execution.end()

    assert first.idxs == list(range(30))
    assert [row.local for row in second.rows] == list(range(10))
    assert values(second) == [100 + 9 * k + 3 for k in range(10)]
    assert pipeline.first.counters[0].value == 30
    assert pipeline.second.counters[0].value == 10


def test_a_group_leaves_as_soon_as_it_is_complete():
    _, second, pipeline = two_stages(SumJoint(2))
    execution = Execution(pipeline)

    execution.send(0, 1, 2)

    assert eventually(lambda: len(second.rows) == 1)
    execution.end()
    assert values(second) == [1, 2]


def test_the_last_group_may_be_incomplete():
    _, second, pipeline = two_stages(SumJoint(4))
    execution = Execution(pipeline)

    execution.send(*range(6))
    execution.end()

    assert values(second) == [0 + 1 + 2 + 3, 4 + 5]


def test_no_row_makes_no_group():
    _, second, pipeline = two_stages(SumJoint(4))
    execution = Execution(pipeline)

    execution.end()

    assert second.rows == []


def test_a_group_is_made_of_what_is_there_and_is_a_gap_without_any():
    _, second, pipeline = two_stages(SumJoint(2))
    execution = Execution(pipeline)

    execution.send(*range(6), gaps=(0, 2, 3))
    execution.end()

    assert second.gaps == [1]
    assert values(second)[::2] == [1, 9]


def test_a_joint_and_a_second_stage_need_each_other():
    with pytest.raises(ValueError, match="need each other"):
        Pipeline(SPEC, SPEC, Stage(), Stage())
    with pytest.raises(ValueError, match="need each other"):
        Pipeline(SPEC, SPEC, Stage(), joint=SumJoint(2))


def test_a_task_behind_the_joint_may_fail_as_well():
    _, second, pipeline = two_stages(SumJoint(2), second_tasks=[FailAt(1)])
    execution = Execution(pipeline, workers=1)

    execution.send(*range(8))
    execution.end()

    assert execution.failures[0].details["frame_idx"] == 1
    assert len(second.rows) == 4
    assert 1 in second.gaps


@pytest.mark.parametrize("joint", [SumJoint(2, fail_add=2), SumJoint(2, fail_finish=1)])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_joint_that_fails_is_told_once_and_all_ends(joint, workers):
    joint.items.clear()
    first, second, pipeline = two_stages(joint)
    execution = Execution(pipeline, workers)

    execution.send(*range(8))
    joint_failed = eventually(lambda: execution.failures)
    execution.send(8, 9)
    execution.source.close()
    execution.executor.join(LIMIT_S)
    joint.items.clear()
    execution.end()

    assert joint_failed
    assert execution.failures[0].details == {"task": "joint", "group": 1}
    assert first.idxs == list(range(10))
    assert len(second.rows) == 5


def test_an_error_of_the_executor_itself_ends_all_and_lets_go(expected_errors):
    expected_errors.allow("a processing thread ended", logger="lima2_core.flow.executor")
    queued, _, lanes = both()
    pipeline = pipeline_of(*lanes)
    execution = Execution(pipeline, workers=2)

    class Impossible:
        idx = property(lambda self: 1 // 0)

    execution.source.send([Impossible()])

    def send_on():
        with pytest.raises(ChannelClosedError):
            execution.send(*range(1000))

    sender = Worker("sender", send_on)
    assert sender.join(LIMIT_S)
    execution.end()

    (failure,) = execution.failures
    assert "processing broke off: ZeroDivisionError" in failure.message
    assert queued.calls[-1] == "close"


# Opening


def test_opening_opens_every_sink():
    queued, direct, lanes = both()

    pipeline_of(*lanes).open()

    assert queued.calls == direct.calls == ["open"]


def test_when_a_sink_cannot_open_those_before_it_are_ended_again():
    good, bad, later = CollectSink(), CollectSink(fail_in="open"), CollectSink()
    lanes = [Lane(f"lane-{n}", sink, OUTPUT) for n, sink in enumerate((good, bad, later))]

    with pytest.raises(RuntimeError, match="medium"):
        pipeline_of(*lanes).open()

    assert good.calls == ["open", "abort"]
    assert bad.calls == ["open"]
    assert later.calls == []


def test_progress_has_the_counters_in_their_order():
    source, processed = Counter(), Counter()
    pipeline = Pipeline(SPEC, SPEC, Stage(), counters={"source": source, "processed": processed})
    source.value = 3

    assert list(pipeline.progress().items()) == [("source", 3), ("processed", 0)]
