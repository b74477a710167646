"""Conformance of a task: what the executor relies on.

A test file of the plugin's author says which task, and for which frames::

    from lima2_core.testing.task_suite import TaskCase, TaskSuite


    class TestMyTask(TaskSuite):
        @pytest.fixture
        def case(self):
            return TaskCase(MyTask, FrameSpec((1, 16, 16), np.dtype(np.uint16)))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec, Validity
from lima2_core.data.memory import BufferPool
from lima2_core.errors import ParamError
from lima2_core.flow.task import Task, Transform
from lima2_core.ids import FrameIdx
from lima2_core.worker import Worker

LIMIT_S = 20.0
_FRAMES = 6
_THREADS = 4


def noise(idx: int, spec: FrameSpec) -> NDArray[Any]:
    """The image of a frame, another one for each index: few counts, and none negative."""
    return np.random.default_rng(idx).poisson(20, spec.shape).astype(spec.dtype)


@dataclass(frozen=True, slots=True)
class TaskCase:
    """A task, and what it is tested with."""

    make: Callable[[], Task]
    """A new task each time, not yet resolved."""
    spec: FrameSpec
    """Frames that it takes."""
    refused: Sequence[FrameSpec] = ()
    """Frames that it must refuse."""
    draw: Callable[[int, FrameSpec], NDArray[Any]] = noise
    """The pixels of a frame."""


def alike(one: object, other: object) -> bool:
    """Whether two results are the same, as far down as one can look."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        same_kind = one.dtype == other.dtype and one.shape == other.shape
        return same_kind and one.tobytes() == other.tobytes()
    if isinstance(one, Frame) and isinstance(other, Frame):
        return alike(one.data, other.data) and _known(one) == _known(other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if dataclasses.is_dataclass(one):
        # What keeps the memory is another one each time.
        names = [field.name for field in dataclasses.fields(one) if field.name != "lease"]
        return all(alike(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other)


def _known(frame: Frame) -> tuple[object, ...]:
    return frame.idx, frame.timestamp_s, frame.validity


class TaskSuite:
    """The tests; a subclass gives the fixture ``case``."""

    @pytest.fixture
    def case(self) -> TaskCase:
        """Name the task under test."""
        raise pytest.UsageError("a subclass of TaskSuite gives the fixture 'case'")

    def test_it_has_a_name_for_messages(self, case: TaskCase) -> None:
        assert case.make().name not in ("", "transform", "reduction"), "errors could not name it"

    def test_what_comes_out_was_announced(self, case: TaskCase) -> None:
        task = case.make()
        announced = task.resolve(case.spec)

        result = task.process(_frame(case, 0))

        if isinstance(task, Transform):
            assert isinstance(announced, FrameSpec), "resolve of a transform gives a spec"
            assert isinstance(result, Frame), "process of a transform gives a frame"
            assert result.data.shape == announced.shape
            assert result.data.dtype == announced.dtype
        else:
            assert announced is None, "resolve of a reduction gives nothing"

    def test_a_frame_stays_the_frame_it_is(self, case: TaskCase) -> None:
        task = _resolved(case)
        if not isinstance(task, Transform):
            pytest.skip("a reduction makes no frame")
        told = np.zeros(1, [("packets", "u4")])[0]
        frame = dataclasses.replace(
            _frame(case, 3), timestamp_s=1.7e9, validity=Validity.PARTIAL, fields=told
        )

        result = task.process(frame)

        assert result.idx == 3, "the index must stay"
        assert result.timestamp_s == 1.7e9, "the time must stay"
        assert result.validity is Validity.PARTIAL, "a partial frame must stay marked"
        assert result.fields is told, "what the camera tells must stay"

    def test_what_comes_in_is_left_untouched(self, case: TaskCase) -> None:
        task = _resolved(case)
        frame = _frame(case, 0)
        before = frame.data.copy()

        task.process(frame)

        assert frame.data.tobytes() == before.tobytes(), "others look at the input as well"

    def test_nothing_is_kept_from_one_frame_to_the_next(self, case: TaskCase) -> None:
        used, fresh = _resolved(case), _resolved(case)
        for idx in range(_FRAMES):
            used.process(_frame(case, idx))

        assert alike(used.process(_frame(case, 0)), fresh.process(_frame(case, 0)))

    def test_results_do_not_change_with_the_next_frame(self, case: TaskCase) -> None:
        task = _resolved(case)
        first = task.process(_frame(case, 0))
        expected = _resolved(case).process(_frame(case, 0))

        task.process(_frame(case, 1))

        assert alike(first, expected), "a result was made in memory that is used again"

    def test_threads_do_not_disturb_each_other(self, case: TaskCase) -> None:
        task, alone = _resolved(case), _resolved(case)
        expected = [alone.process(_frame(case, idx)) for idx in range(_FRAMES)]
        errors: list[BaseException] = []
        wrong: list[int] = []

        def work(first: int) -> None:
            for n in range(_FRAMES * 2):
                idx = (first + n) % _FRAMES
                if not alike(task.process(_frame(case, idx)), expected[idx]):
                    wrong.append(idx)

        workers = [
            Worker(f"task-{n}", lambda n=n: work(n), errors.append)  # type: ignore[misc]
            for n in range(_THREADS)
        ]

        assert all(worker.join(LIMIT_S) for worker in workers), "it takes too long"
        assert errors == []
        assert wrong == [], "frames that came out otherwise than alone"

    def test_memory_is_lent_as_long_as_the_result_needs_it(self, case: TaskCase) -> None:
        task = _resolved(case)
        pool = BufferPool(case.spec.nbytes, "task_suite")
        pool.grow(1)
        frame: Frame | None = _lent(case, pool)
        assert frame is not None
        memory = frame.data
        result: object = task.process(frame)

        frame = None

        if isinstance(result, Frame) and np.shares_memory(result.data, memory):
            assert pool.stats().in_use == 1, "the result is a view, so it must keep the lease"
        del memory
        result = None
        assert pool.stats().in_use == 0, "something keeps the frame after all are done with it"

    def test_frames_that_it_cannot_take_are_refused(self, case: TaskCase) -> None:
        if not case.refused:
            pytest.skip("the case names none")
        for spec in case.refused:
            with pytest.raises(ParamError):
                case.make().resolve(spec)


def _resolved(case: TaskCase) -> Task:
    task = case.make()
    task.resolve(case.spec)
    return task


def _frame(case: TaskCase, idx: int) -> Frame:
    return Frame(FrameIdx(idx), case.draw(idx, case.spec))


def _lent(case: TaskCase, pool: BufferPool) -> Frame:
    """A frame in the memory of ``pool``, which nothing else refers to."""
    lease = pool.lease()
    assert lease is not None
    data = lease.array(case.spec.shape, case.spec.dtype)
    data[...] = case.draw(0, case.spec)
    return Frame(FrameIdx(0), data, lease)
