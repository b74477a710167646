"""Fixtures that fail a test which leaves something behind: a thread, frame memory, an ERROR record.

They act on every test once the top ``conftest.py`` says
``pytest_plugins = ["lima2_core.testing.leaks"]``. What a test means to cause it announces::

    def test_a_broken_camera_faults_the_receiver(make_receiver, expected_errors):
        expected_errors.allow("camera", logger="lima2_core.service")

Fixtures of a wider scope may keep threads and memory for as long as they live, if they are made
before the test that first uses them begins: name them as its arguments.
"""

from __future__ import annotations

import gc
import logging
import re
import threading
import time
import weakref
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass

import pytest

from lima2_core.data.memory import BufferPool

SUITE_LOGGERS = ("lima2_core", "camera_plugins", "processing", "tango_servers", "client")
"""Loggers whose ERROR records fail a test; each with all below it."""

GRACE_S = 10.0
"""How long a thread may take to end after its test; on a busy computer that may be seconds."""

_passed = pytest.StashKey[bool]()


@dataclass(frozen=True, slots=True)
class LoggedError:
    """One record of level ERROR or above."""

    logger: str
    level: str
    message: str

    def __str__(self) -> str:
        return f"{self.level} {self.logger}: {self.message}"


class ExpectedErrors(logging.Handler):
    """The ERROR records of one test, and which of them it means to cause.

    Threads: records come from any thread; the rest from the thread of the test.
    """

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self._seen: list[LoggedError] = []
        self._allowed: list[tuple[str, re.Pattern[str]]] = []

    @property
    def seen(self) -> tuple[LoggedError, ...]:
        """All records so far, allowed or not."""
        return tuple(self._seen)

    @property
    def unexpected(self) -> tuple[LoggedError, ...]:
        """The records that nothing allows."""
        return tuple(error for error in self._seen if not self._is_allowed(error))

    def allow(self, message: str = "", *, logger: str = "") -> None:
        """Accept the records, past and to come, that fit both.

        Args:
            message: regular expression found anywhere in the text; empty fits all.
            logger: name of a logger, which stands for those below it; empty fits all.
        """
        self._allowed.append((logger, re.compile(message)))

    def emit(self, record: logging.LogRecord) -> None:
        self._seen.append(LoggedError(record.name, record.levelname, record.getMessage()))

    def _is_allowed(self, error: LoggedError) -> bool:
        return any(
            (not logger or f"{error.logger}.".startswith(f"{logger}."))
            and pattern.search(error.message)
            for logger, pattern in self._allowed
        )


class ExpectedThreads:
    """The threads that one test may leave behind, such as those of a library."""

    def __init__(self) -> None:
        self._allowed: list[re.Pattern[str]] = []

    def allow(self, name: str) -> None:
        """Accept threads whose name begins with the regular expression ``name``."""
        self._allowed.append(re.compile(name))

    def fits(self, thread: threading.Thread) -> bool:
        """Whether ``thread`` may stay."""
        return any(pattern.match(thread.name) for pattern in self._allowed)


def threads_left(
    before: Collection[threading.Thread],
    expected: ExpectedThreads,
    grace_s: float = GRACE_S,
) -> list[threading.Thread]:
    """The threads that are not of ``before``, nor ``expected``, and do not end within ``grace_s``.

    Daemons count as well: they would disturb the next test just the same.
    """
    until_s = time.monotonic() + grace_s
    # "Dummy" stands for a thread of a C library that once called Python: nobody can join it.
    new = [
        thread
        for thread in threading.enumerate()
        if thread not in before and not thread.name.startswith("Dummy-")
    ]
    left = [thread for thread in new if not expected.fits(thread)]
    for thread in left:
        thread.join(max(0.0, until_s - time.monotonic()))
    return [thread for thread in left if thread.is_alive()]


def leases_left(pools: Iterable[BufferPool]) -> list[str]:
    """A sentence for each of ``pools`` that has lent slots which somebody still holds."""
    return [
        f"{stats.in_use} of {stats.slots} slots of the pool '{pool.name}' are still lent"
        for pool in pools
        if (stats := pool.stats()).in_use
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test itself passed."""
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return report


@pytest.fixture(autouse=True)
def expected_errors() -> Iterator[ExpectedErrors]:
    """Fail the test if a logger of the suite writes an ERROR that was not allowed here."""
    errors = ExpectedErrors()
    loggers = [logging.getLogger(name) for name in SUITE_LOGGERS]
    for logger in loggers:
        logger.addHandler(errors)
    yield errors
    for logger in loggers:
        logger.removeHandler(errors)
    if errors.unexpected:
        lines = "\n  ".join(map(str, errors.unexpected))
        pytest.fail(f"the test logged errors that it does not expect:\n  {lines}", pytrace=False)


@pytest.fixture(scope="session")
def living_pools() -> Iterator[weakref.WeakSet[BufferPool]]:
    """All buffer pools that were made since the first test and still exist."""
    pools: weakref.WeakSet[BufferPool] = weakref.WeakSet()
    make = BufferPool.__init__

    def make_and_note(pool: BufferPool, slot_bytes: int, name: str = "frames") -> None:
        make(pool, slot_bytes, name)
        pools.add(pool)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BufferPool, "__init__", make_and_note)
        yield pools


@pytest.fixture(autouse=True)
def no_lease_left(
    request: pytest.FixtureRequest,
    living_pools: weakref.WeakSet[BufferPool],
    expected_errors: ExpectedErrors,
) -> Iterator[None]:
    """Fail the test if it leaves frame memory lent that was free before."""
    lent_before = {id(pool) for pool in living_pools if pool.stats().in_use}
    yield
    # A failed test keeps its variables, for its traceback.
    if not request.node.stash.get(_passed, False):
        return
    request.node.funcargs.clear()  # the fixtures are gone, only their values would linger

    def left() -> list[str]:
        return leases_left(pool for pool in list(living_pools) if id(pool) not in lent_before)

    if left():
        gc.collect()
    if sentences := left():
        pytest.fail(f"the test left frame memory behind: {'; '.join(sentences)}", pytrace=False)


@pytest.fixture(autouse=True)
def expected_threads(no_lease_left: None) -> Iterator[ExpectedThreads]:
    """Fail the test if a thread that it started goes on after it."""
    expected = ExpectedThreads()
    before = threading.enumerate()
    yield expected
    if left := threads_left(before, expected):
        names = ", ".join(sorted(thread.name for thread in left))
        pytest.fail(f"the test left threads behind: {names}", pytrace=False)
