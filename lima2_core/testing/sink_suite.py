"""Conformance of a sink: what the executor relies on.

A test file of the plugin's author says which sink, what it takes, and how to read it back::

    from lima2_core.testing.sink_suite import SinkCase, SinkSuite


    class TestMySink(SinkSuite):
        @pytest.fixture
        def case(self, tmp_path):
            return SinkCase(
                make=lambda: MySink(tmp_path / "frames"),
                value=lambda row: Frame(FrameIdx(row), image(row)),
                read=lambda: read_all(tmp_path / "frames"),
                expected=image,
            )
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest

from lima2_core.data.frame import Frame, Gap, Validity
from lima2_core.data.memory import BufferPool
from lima2_core.errors import StorageError
from lima2_core.flow.sink import Row, Sink
from lima2_core.ids import FrameIdx, LocalIdx
from lima2_core.testing.task_suite import alike

End = Literal["close", "abort"]

_ROWS = 20


@dataclass(frozen=True, slots=True)
class SinkCase:
    """A sink, and what it is tested with; at least 20 rows must fit."""

    make: Callable[[], Sink]
    """A new sink each time, always for the same place."""
    value: Callable[[int], object]
    """What stands in a row: a frame, or the product that the sink takes."""
    read: Callable[[], Mapping[int, object]] | None = None
    """What is there now, by row, without gaps; None if it cannot be known from outside."""
    expected: Callable[[int], object] | None = None
    """What `read` gives for a row; None for the pixels of its frame."""
    broken: Callable[[], AbstractContextManager[object]] | None = None
    """Makes the medium fail, if the case can do so."""
    keeps: int = 0
    """Frames that the sink may hold to the end and longer."""


class SinkSuite:
    """The tests; a subclass gives the fixture ``case``."""

    @pytest.fixture
    def case(self) -> SinkCase:
        """Name the sink under test."""
        raise pytest.UsageError("a subclass of SinkSuite gives the fixture 'case'")

    @pytest.mark.parametrize("batch", [1, 7, _ROWS])
    def test_rows_are_there_however_they_come(self, case: SinkCase, batch: int) -> None:
        _write(case, range(_ROWS), batch=batch)

        _check(case, range(_ROWS))

    @pytest.mark.parametrize("gaps", [{0}, {5, 6, 13}, {_ROWS - 1}, {0, 1, _ROWS - 1}])
    def test_gaps_keep_their_rows(self, case: SinkCase, gaps: set[int]) -> None:
        _write(case, range(_ROWS), gaps=gaps)

        _check(case, [row for row in range(_ROWS) if row not in gaps])

    def test_nothing_but_gaps_is_no_mistake(self, case: SinkCase) -> None:
        _write(case, range(_ROWS), gaps=range(_ROWS))

        _check(case, [])

    @pytest.mark.parametrize("end", ["close", "abort"])
    def test_no_row_at_all_is_no_mistake(self, case: SinkCase, end: End) -> None:
        _write(case, [], end=end)

        _check(case, [])

    def test_what_was_written_before_an_abort_is_there(self, case: SinkCase) -> None:
        _write(case, range(_ROWS // 2), end="abort")

        _check(case, range(_ROWS // 2))

    def test_idling_changes_nothing(self, case: SinkCase) -> None:
        sink = case.make()
        sink.open()
        sink.idle()
        for first in range(0, _ROWS, 5):
            sink.write(_rows(case, range(first, first + 5)))
            sink.idle()
        sink.close()

        _check(case, range(_ROWS))

    def test_what_comes_in_is_left_untouched(self, case: SinkCase) -> None:
        rows = _rows(case, range(_ROWS))
        before = [_pixels(row.value).copy() for row in rows if isinstance(row.value, Frame)]
        sink = case.make()
        sink.open()
        sink.write(rows)
        sink.close()

        after = [_pixels(row.value) for row in rows if isinstance(row.value, Frame)]

        assert all(map(alike, before, after)), "others look at the frames as well"

    def test_frames_go_back_to_their_pool(self, case: SinkCase) -> None:
        if not isinstance(case.value(0), Frame):
            pytest.skip("it takes no frames")
        pool = BufferPool(_pixels(case.value(0)).nbytes, "sink_suite")
        pool.grow(_ROWS)
        sink = case.make()
        sink.open()
        for local in range(_ROWS):
            sink.write([_lent_row(case, local, pool)])
        sink.idle()

        assert pool.stats().in_use <= case.keeps, "it holds frames that the camera needs"
        sink.close()
        assert pool.stats().in_use <= case.keeps, "it holds frames although it has ended"

    def test_a_new_run_at_the_same_place_leaves_nothing_of_the_old_one(
        self, case: SinkCase
    ) -> None:
        _write(case, range(_ROWS))
        try:
            _write(case, range(3))
        except StorageError:
            _check(case, range(_ROWS))  # refused, as the parameters may ask; all is there
        else:
            _check(case, range(3))

    def test_a_medium_that_fails_is_told_and_what_was_written_is_there(
        self, case: SinkCase
    ) -> None:
        if case.broken is None:
            pytest.skip("the case cannot break its medium")
        sink = case.make()
        sink.open()
        sink.write(_rows(case, range(5)))

        def write_on() -> None:
            for local in range(5, _ROWS):  # it may take some rows until it shows
                sink.write(_rows(case, [local]))

        with case.broken(), pytest.raises(StorageError):
            write_on()
        sink.abort()

        if case.read is not None:
            found = case.read()
            for local in range(5):
                assert alike(found[local], _expected(case, local))


def _value(case: SinkCase, local: int, gaps: Collection[int] = ()) -> object:
    if local in gaps:
        return Gap(_idx(local), Validity.DROPPED, "lost")
    value = case.value(local)
    return replace(value, idx=_idx(local)) if isinstance(value, Frame) else value


def _idx(local: int) -> FrameIdx:
    """The index in the acquisition, on the second of two receivers."""
    return FrameIdx(2 * local + 1)


def _rows(case: SinkCase, locals_: Sequence[int], gaps: Collection[int] = ()) -> list[Row]:
    return [Row(LocalIdx(n), _idx(n), _value(case, n, gaps)) for n in locals_]


def _lent_row(case: SinkCase, local: int, pool: BufferPool) -> Row:
    """A row whose frame lies in the memory of ``pool``, and which nothing else refers to."""
    frame = case.value(local)
    lease = pool.lease()
    assert isinstance(frame, Frame)
    assert lease is not None
    data = lease.array(frame.data.shape, frame.data.dtype)
    data[...] = frame.data
    lent = replace(frame, idx=_idx(local), data=data, lease=lease)
    return Row(LocalIdx(local), _idx(local), lent)


def _write(
    case: SinkCase,
    locals_: Sequence[int],
    *,
    gaps: Collection[int] = (),
    batch: int = 6,
    end: End = "close",
) -> None:
    """A whole run."""
    sink = case.make()
    sink.open()
    for first in range(0, len(locals_), batch):
        sink.write(_rows(case, locals_[first : first + batch], gaps))
    if end == "close":
        sink.close()
    else:
        sink.abort()


def _check(case: SinkCase, locals_: Sequence[int]) -> None:
    """Compare what is there now."""
    if case.read is None:
        return
    found = case.read()
    assert sorted(found) == sorted(locals_), "rows that are there, and rows that should be"
    wrong = [n for n in locals_ if not alike(found[n], _expected(case, n))]
    assert wrong == [], "rows that hold something else than was written"


def _expected(case: SinkCase, local: int) -> object:
    return _pixels(case.value(local)) if case.expected is None else case.expected(local)


def _pixels(value: object) -> np.ndarray[Any, np.dtype[Any]]:
    assert isinstance(value, Frame), "give SinkCase.expected for a product"
    return value.data
