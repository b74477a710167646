"""A test that leaves something behind fails, and says what."""

import logging
import threading

import pytest

from lima2_core.data.memory import BufferPool
from lima2_core.testing.leaks import ExpectedThreads, leases_left, threads_left


@pytest.fixture
def running_thread():
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="reader-3", daemon=True)
    yield thread
    end.set()
    thread.join()


def test_a_thread_that_goes_on_is_left_behind(running_thread):
    before = threading.enumerate()
    running_thread.start()

    left = threads_left(before, ExpectedThreads(), grace_s=0.0)

    assert left == [running_thread]


def test_a_thread_may_stay_if_it_was_there_before_or_is_expected(running_thread):
    before = threading.enumerate()
    running_thread.start()
    expected = ExpectedThreads()
    expected.allow(r"reader-\d")

    assert threads_left(before, expected, grace_s=0.0) == []
    assert threads_left(threading.enumerate(), ExpectedThreads(), grace_s=0.0) == []


def test_an_error_is_unexpected_until_message_and_logger_fit(expected_errors):
    logging.getLogger("processing.sinks").error("disk %s is full", "a")

    expected_errors.allow("disk", logger="processing.sink")
    assert [str(error) for error in expected_errors.unexpected] == [
        "ERROR processing.sinks: disk a is full"
    ]
    expected_errors.allow("memory", logger="processing")
    assert len(expected_errors.unexpected) == 1
    expected_errors.allow("is full$", logger="processing")
    assert expected_errors.unexpected == ()
    assert len(expected_errors.seen) == 1


def test_a_warning_and_the_error_of_a_stranger_do_not_count(expected_errors):
    logging.getLogger("lima2_core").warning("slow")
    logging.getLogger("stranger").error("lost")

    assert expected_errors.seen == ()


def test_a_pool_with_a_lent_slot_is_named(living_pools):
    pool = BufferPool(4096, name="images")
    pool.grow(2)
    lease = pool.lease()

    assert pool in living_pools
    assert leases_left([pool]) == ["1 of 2 slots of the pool 'images' are still lent"]
    del lease
    assert leases_left([pool]) == []


def test_each_kind_of_leak_fails_the_test_that_causes_it(pytester, expected_errors):
    expected_errors.allow("beam is gone", logger="lima2_core")
    pytester.makeini("[pytest]")
    pytester.makepyfile(
        """
        import logging
        from lima2_core.data.memory import BufferPool

        kept = []

        def test_error():
            logging.getLogger("lima2_core.camera").error("beam is gone")

        def test_lease():
            pool = BufferPool(4096)
            pool.grow(1)
            kept.append((pool, pool.lease()))

        def test_clean(expected_errors):
            expected_errors.allow()
            logging.getLogger("lima2_core.camera").error("beam is gone")
            kept.clear()
        """
    )

    result = pytester.runpytest_inprocess("-plima2_core.testing.leaks", "-pno:cacheprovider")

    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*ERROR lima2_core.camera: beam is gone",
            "*left frame memory behind: 1 of 1 slots of the pool 'frames' are still lent",
        ]
    )
