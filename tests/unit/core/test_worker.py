import threading

import pytest

from lima2_core.data.memory import BufferPool
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.worker import Worker, let_go


def test_a_worker_does_its_work_on_a_thread_of_its_name():
    names = []

    worker = Worker("lane-save", lambda: names.append(threading.current_thread().name))

    assert worker.join(LIMIT_S)
    assert names == ["lane-save"]
    assert not worker.alive


def test_joining_waits_no_longer_than_asked_and_may_be_repeated():
    end = threading.Event()
    worker = Worker("waiter", lambda: end.wait(LIMIT_S))

    assert not worker.join(0.01)
    assert worker.alive
    end.set()

    assert worker.join(LIMIT_S)
    assert worker.join()


def test_a_worker_that_joins_itself_does_not_wait():
    joined = []
    ready = threading.Event()

    def work():
        ready.wait(LIMIT_S)
        joined.append(worker.join())

    worker = Worker("self", work)
    ready.set()

    assert worker.join(LIMIT_S)
    assert joined == [False]


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(1)])
def test_what_escapes_is_handed_over_on_the_same_thread(error):
    seen = []

    def fail():
        raise error

    worker = Worker(
        "failing", fail, lambda escaped: seen.append((escaped, threading.current_thread().name))
    )

    assert worker.join(LIMIT_S)
    assert seen == [(error, "failing")]


def test_what_nobody_takes_is_logged(expected_errors):
    expected_errors.allow("thread failing ended", logger="lima2_core.worker")

    worker = Worker("failing", lambda: 1 // 0)

    assert worker.join(LIMIT_S)
    assert len(expected_errors.seen) == 1


def test_an_error_that_is_kept_does_not_keep_frame_memory():
    pool = BufferPool(10)
    pool.grow(1)
    errors = []

    def hold_and_fail():
        held = pool.lease()
        try:
            raise KeyError(held.slot)
        except KeyError as error:
            raise ValueError("broken") from error

    worker = Worker("failing", hold_and_fail, errors.append)
    assert worker.join(LIMIT_S)

    assert eventually(lambda: pool.stats().in_use == 0)
    assert str(errors[0]) == "broken"
    assert "in hold_and_fail" in errors[0].__notes__[0]
    assert "KeyError: 0" in errors[0].__notes__[0]


def test_letting_go_comes_to_an_end_where_causes_form_a_ring():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one

    let_go(one)

    assert len(one.__notes__) == 1
