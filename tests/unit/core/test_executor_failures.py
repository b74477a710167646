import pytest

from lima2_core.data.frame import Validity
from lima2_core.errors import PipelineError, StorageError
from lima2_core.flow.channel import ChannelClosedError
from lima2_core.flow.pipeline import OUTPUT, Lane
from lima2_core.testing.doubles import LIMIT_S, CollectSink, eventually
from lima2_core.worker import Worker
from tests.unit.core.executor_parts import (
    NONE_THERE,
    Execution,
    FailAt,
    SumJoint,
    Total,
    both,
    pipeline_of,
    two_stages,
    values,
)


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
    total = Total()
    queued, _, lanes = both(carries=total)
    execution = Execution(pipeline_of(*lanes, tasks=[total, FailAt(3)]), workers=1)

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
