"""The conformance suites accept what keeps the rules, and find what breaks them."""

import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec, Gap
from lima2_core.errors import ParamError, StorageError
from lima2_core.flow.sink import Sink
from lima2_core.flow.tap import Tap
from lima2_core.flow.task import Reduction, Transform
from lima2_core.ids import FrameIdx
from lima2_core.testing.sink_suite import SinkCase, SinkSuite
from lima2_core.testing.task_suite import TaskCase, TaskSuite, alike

SPEC = FrameSpec((1, 4, 6), np.dtype(np.uint16))
OTHER = FrameSpec((1, 4, 6), np.dtype(np.float64))


class Add(Transform):
    """A good one."""

    name = "add"

    def resolve(self, spec):
        if spec.dtype != np.uint16:
            raise ParamError("only 16 bit", path="add")
        return spec.changed(dtype=np.dtype(np.uint32))

    def process(self, frame):
        return self.made(frame, frame.data.astype(np.uint32) + 1)

    def made(self, frame, data):
        return replace(frame, data=data, lease=None, keepable=True)


class Total(Reduction):
    """Another good one."""

    name = "total"

    def resolve(self, spec):
        pass

    def process(self, frame):
        return int(frame.data.sum())


class Crop(Add):
    """A good one whose result is a view of what came in."""

    def resolve(self, spec):
        return spec.changed(shape=(1, 2, 6))

    def process(self, frame):
        return replace(frame, data=frame.data[:, :2])


class TestAdd(TaskSuite):
    @pytest.fixture
    def case(self):
        return TaskCase(Add, SPEC, refused=[OTHER])


class TestTotal(TaskSuite):
    @pytest.fixture
    def case(self):
        return TaskCase(Total, SPEC)


class TestCrop(TaskSuite):
    @pytest.fixture
    def case(self):
        return TaskCase(Crop, SPEC)


class Nameless(Add):
    name = "transform"


class Lies(Add):
    def resolve(self, spec):
        return spec


class Forgets(Add):
    def made(self, frame, data):
        return Frame(FrameIdx(0), data)


class ForgetsFields(Add):
    def made(self, frame, data):
        return Frame(frame.idx, data, timestamp_s=frame.timestamp_s, validity=frame.validity)


class Spoils(Add):
    def process(self, frame):
        frame.data[0, 0, 0] += 1
        return super().process(frame)


class Remembers(Add):
    def __init__(self):
        self.total = 0

    def process(self, frame):
        self.total += 1
        return self.made(frame, frame.data.astype(np.uint32) + self.total)


class Reuses(Add):
    def __init__(self):
        self.out = np.empty(SPEC.shape, np.uint32)

    def process(self, frame):
        self.out[...] = frame.data
        return self.made(frame, self.out)


class SharesScratch(Add):
    def __init__(self):
        self.scratch = np.empty(SPEC.shape, np.uint32)
        self.two = threading.Barrier(2)

    def process(self, frame):
        self.scratch[...] = frame.data
        if threading.current_thread() is not threading.main_thread():
            self.two.wait(1.0)
        return self.made(frame, self.scratch.copy())


clung_to = []


class Clings(Add):
    def process(self, frame):
        clung_to.append(frame)
        return super().process(frame)


class Dangles(Crop):
    def process(self, frame):
        return self.made(frame, frame.data[:, :2])


class TakesAnything(Add):
    def resolve(self, spec):
        return spec


@pytest.mark.parametrize(
    ("task", "test"),
    [
        (Nameless, "test_it_has_a_name_for_messages"),
        (Lies, "test_what_comes_out_was_announced"),
        (Forgets, "test_a_frame_stays_the_frame_it_is"),
        (ForgetsFields, "test_a_frame_stays_the_frame_it_is"),
        (Spoils, "test_what_comes_in_is_left_untouched"),
        (Remembers, "test_nothing_is_kept_from_one_frame_to_the_next"),
        (Reuses, "test_results_do_not_change_with_the_next_frame"),
        (SharesScratch, "test_threads_do_not_disturb_each_other"),
        (Clings, "test_memory_is_lent_as_long_as_the_result_needs_it"),
        (Dangles, "test_memory_is_lent_as_long_as_the_result_needs_it"),
        (TakesAnything, "test_frames_that_it_cannot_take_are_refused"),
    ],
)
def test_a_task_that_breaks_a_rule_fails_the_test_of_that_rule(task, test):
    case = TaskCase(task, SPEC, refused=[OTHER])

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(TaskSuite(), test)(case)

    clung_to.clear()


class Shelf(Sink):
    """A good sink: writes images into a dict, its medium."""

    name = "shelf"

    def __init__(self, medium):
        self.medium = medium
        self.buffer = {}

    def open(self):
        self.medium.clear()

    def write(self, rows):
        for row in rows:
            if "full" in self.medium:
                raise StorageError("the shelf is full")
            if isinstance(row.value, Frame):
                self.buffer[row.local] = row.value.data.copy()

    def idle(self):
        self.medium.update(self.buffer)

    def close(self):
        self.medium.update(self.buffer)

    def abort(self):
        self.medium.update(self.buffer)


def image(local):
    return np.full((1, 2, 3), local, np.uint16)


def shelf_case(sink=Shelf):
    medium = {}

    @contextmanager
    def broken():
        medium["full"] = True
        yield
        del medium["full"]

    return SinkCase(
        make=lambda: sink(medium),
        value=lambda local: Frame(FrameIdx(0), image(local)),
        read=lambda: dict(medium),
        broken=broken,
    )


class TestShelf(SinkSuite):
    @pytest.fixture
    def case(self):
        return shelf_case()


class TestTap(SinkSuite):
    @pytest.fixture
    def case(self):
        spec = FrameSpec((1, 2, 3), np.dtype(np.uint16))
        return SinkCase(
            lambda: Tap(spec, 4), lambda local: Frame(FrameIdx(0), image(local)), keeps=4
        )


class Shifts(Shelf):
    """Leaves no room for gaps."""

    def write(self, rows):
        for row in rows:
            if not isinstance(row.value, Gap):
                self.buffer[len(self.buffer)] = row.value.data.copy()


class LosesAll(Shelf):
    def abort(self):
        pass


class FailsEmpty(Shelf):
    def close(self):
        assert self.buffer
        super().close()


class ClosesWhenIdle(Shelf):
    def idle(self):
        self.buffer = None


class SpoilsFrames(Shelf):
    def write(self, rows):
        for row in rows:
            row.value.data[...] = 0


class Hoards(Shelf):
    def write(self, rows):
        self.rows = [*getattr(self, "rows", ()), *rows]
        super().write(rows)


class LeavesOld(Shelf):
    def open(self):
        pass


class TakesOnlyOnes(Shelf):
    def write(self, rows):
        super().write(rows[:1])


class NeverFull(Shelf):
    def write(self, rows):
        if "full" not in self.medium:
            super().write(rows)


@pytest.mark.parametrize(
    ("sink", "test", "arguments"),
    [
        (TakesOnlyOnes, "test_rows_are_there_however_they_come", [7]),
        (Shifts, "test_gaps_keep_their_rows", [{3}]),
        (FailsEmpty, "test_nothing_but_gaps_is_no_mistake", []),
        (FailsEmpty, "test_no_row_at_all_is_no_mistake", ["close"]),
        (LosesAll, "test_what_was_written_before_an_abort_is_there", []),
        (ClosesWhenIdle, "test_idling_changes_nothing", []),
        (SpoilsFrames, "test_what_comes_in_is_left_untouched", []),
        (Hoards, "test_frames_go_back_to_their_pool", []),
        (LeavesOld, "test_a_new_run_at_the_same_place_leaves_nothing_of_the_old_one", []),
        (NeverFull, "test_a_medium_that_fails_is_told_and_what_was_written_is_there", []),
    ],
)
def test_a_sink_that_breaks_a_rule_fails_the_test_of_that_rule(sink, test, arguments):
    with pytest.raises((AssertionError, TypeError, pytest.fail.Exception)):
        getattr(SinkSuite(), test)(shelf_case(sink), *arguments)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.arange(3), np.arange(3.0)),
        (np.arange(3), np.arange(4)),
        (np.arange(3), np.array([0, 1, 3])),
        ((1, 2), (1, 3)),
        ((1, 2), [1, 2]),
        ({"a": 1}, {"b": 1}),
        (Frame(FrameIdx(0), image(0)), Frame(FrameIdx(1), image(0))),
        (b"a", b"b"),
    ],
)
def test_results_that_differ_are_told_apart(one, other):
    assert alike(one, one)
    assert not alike(one, other)


def test_a_suite_without_a_case_says_what_is_missing(pytester):
    pytester.makeini("[pytest]")
    pytester.makepyfile(
        """
        from lima2_core.testing.sink_suite import SinkSuite
        from lima2_core.testing.task_suite import TaskSuite

        class TestTask(TaskSuite): ...
        class TestSink(SinkSuite): ...
        """
    )

    result = pytester.runpytest_inprocess("-pno:cacheprovider", "-q")

    assert result.parseoutcomes().keys() == {"errors"}
    result.stdout.fnmatch_lines(["*a subclass of TaskSuite gives the fixture 'case'"])
