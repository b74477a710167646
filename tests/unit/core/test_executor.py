import threading
import time

import pytest

from lima2_core.flow.executor import frames_in_flight
from lima2_core.flow.pipeline import INPUT, OUTPUT, Counter, Lane, Pipeline, Stage
from lima2_core.testing.doubles import LIMIT_S, CollectSink, GatedSink, eventually
from lima2_core.worker import Worker
from tests.unit.core.executor_parts import (
    SPEC,
    AddHundred,
    Execution,
    SumJoint,
    Total,
    both,
    pipeline_of,
    two_stages,
    values,
)


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


def test_a_frame_that_takes_long_keeps_its_place_and_only_so_many_go_ahead():
    overtaken = threading.Event()

    def wait(frame):
        if frame.idx == 0:
            assert overtaken.wait(LIMIT_S)

    total = Total(wait)
    queued, _, lanes = both(carries=total)
    execution = Execution(pipeline_of(*lanes, tasks=[total]), workers=2)

    execution.send(*range(20))
    assert eventually(lambda: execution.executor.stats().out_of_order == 4)
    time.sleep(0.05)
    assert execution.executor.stats().out_of_order == 4 < frames_in_flight(2, SPEC.nbytes)
    assert execution.executor.stats().queue.level == 15
    assert queued.rows == []
    overtaken.set()
    execution.end()

    assert values(queued) == list(range(20))


def test_lanes_carry_frames_before_and_after_the_chain_and_its_products():
    first, last, before, after = (CollectSink() for _ in range(4))
    tasks = [Total(), AddHundred(), Total()]
    lanes = (
        Lane("first", first, tasks[0]),
        Lane("last", last, tasks[2], depth=2),
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
    total = Total()
    lanes = (Lane("products", products, total), Lane("frames", frames, INPUT, depth=4))
    execution = Execution(pipeline_of(*lanes, tasks=[AddHundred(), total]))

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


# Back-pressure and early ends


def test_a_slow_sink_slows_everything_down_to_the_source():
    sink = GatedSink()
    execution = Execution(
        pipeline_of(Lane("slow", sink, OUTPUT, depth=2)), workers=1, room=3, buffers=50
    )
    sender = Worker("sender", lambda: execution.send(*range(30)))
    assert sink.wait_until_holding()
    stats = execution.executor.stats
    assert eventually(lambda: stats().lanes["slow"].level == 2 and stats().queue.level == 3)

    # The sink holds 2 at most, its queue 2, the worker 1, the channel 3.
    assert not sender.join(0.05)
    assert execution.source.stats().sent <= 8
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

    assert eventually(lambda: 1 in queued.idle_at)
    execution.end()

    assert queued.calls == ["open", "write", "close"]


# Two stages


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
