"""The thread that publishes: one for each Redis, for all runs; no run waits for it.

While Redis is away, what is to be published waits in memory, within a limit; beyond it the oldest
results are given up, which the scan says in the end. A publisher ends when it has nothing to do,
and begins again with the next run.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lima2_core.worker import Worker
from processing.outputs.blissdata_feed import RunFeed

if TYPE_CHECKING:
    from processing.outputs.blissdata_store import BlissScan, BlissStore

log = logging.getLogger(__name__)

POLL_S = 0.03
RETRY_S = 0.5
"""Time between two attempts to reach a Redis that is away."""
REFRESH_S = 60.0
"""Time between two renewals of the expiry of an open scan, at most."""

_BATCH_BYTES = 2**22
_MOST_FAILURES = 3
_MOST_RUNS = 1000


class Publisher:
    """Publishes runs in one Redis, oldest first.

    Args:
        buffer_bytes: memory for results that wait, of all runs together.

    Threads: everything from any thread.
    """

    def __init__(self, url: str, buffer_bytes: int, expiry_s: int) -> None:
        self.address = _address(url)
        self.trouble = ""
        """Why nothing can be published at present; empty if all is well."""
        self._url = url
        self._buffer_bytes = buffer_bytes
        self._expiry_s = expiry_s
        self._feeds: list[RunFeed] = []
        self._servers: list[str] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._warming = False
        self._stopping = False
        self._worker: Worker | None = None
        # Of the thread alone.
        self._store: BlissStore | None = None
        self._looked_back = False
        self._scans: dict[RunFeed, BlissScan] = {}
        self._refresh_at_s: dict[RunFeed, float] = {}

    def add(self, feed: RunFeed) -> None:
        """Publish a run from now on, until it is finished."""
        with self._lock:
            self._feeds.append(feed)
        self._begin()

    def warm_up(self) -> None:
        """Load blissdata and connect, so that the first run need not wait for it."""
        if self._store is None:
            self._warming = True
            self._begin()

    def discard(self, feed: RunFeed) -> None:
        """Publish no more of a run; it was published, or there is nothing of it."""
        feed.abandon()
        with self._lock:
            if feed in self._feeds:
                self._feeds.remove(feed)
        feed.told.set()
        feed.closed.set()

    def end_live_frames(self, server: str) -> None:
        """Let readers know that a device does not serve its frames any more."""
        with self._lock:
            self._servers.append(server)
        self._begin()

    def trim(self) -> None:
        """Give up the oldest results beyond the limit."""
        with self._lock:
            feeds = list(self._feeds)
        excess = sum(feed.nbytes for feed in feeds) - self._buffer_bytes
        for feed in feeds:
            while excess > 0 and (freed := feed.drop_oldest()):
                excess -= freed

    def hurry(self) -> None:
        """Look at once."""
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """End the thread for good, whatever is left to publish."""
        with self._lock:
            self._stopping = True
            worker = self._worker
        self.trouble = "the server ends"
        self._wake.set()
        if worker is not None:
            worker.join(timeout_s)

    def _begin(self) -> None:
        with self._lock:
            if self._worker is None and not self._stopping:
                self._worker = Worker("blissdata-publisher", self._work, self._escaped)
        self._wake.set()

    def _work(self) -> None:
        from processing.outputs.blissdata_store import CONNECTION_ERRORS, REFUSALS

        while True:
            with self._lock:
                if self._stopping or not (self._feeds or self._servers or self._warming):
                    self._worker = None
                    break
                feeds = list(self._feeds)
            self._wake.clear()
            self._gather(feeds)
            try:
                more = self._publish(feeds)
            except CONNECTION_ERRORS as error:
                self._lose(feeds, f"{self.address} does not answer ({error})")
                pause_s = RETRY_S
            except REFUSALS as error:
                self._lose(feeds, f"{self.address}: {error}")
                pause_s = RETRY_S
            else:
                pause_s = 0.0 if more else POLL_S
            self._warming = False
            if pause_s:
                self._wake.wait(pause_s)

    def _gather(self, feeds: list[RunFeed]) -> None:
        """Take what is new from the runs, also while Redis is away."""
        for feed in feeds[: max(0, len(feeds) - _MOST_RUNS)]:
            self._give_up(feed, f"{_MOST_RUNS} later runs wait to be published")
        for feed in feeds:
            if feed.discarded:
                self.discard(feed)
            else:
                feed.gather()
                if feed.finished:  # the thread of the output may have gone
                    feed.look_at_files()
        self.trim()

    def _publish(self, feeds: list[RunFeed]) -> bool:
        """Send what is new; whether there is more to send.

        Raises what is raised when Redis is away, or is none of blissdata's.
        """
        from processing.outputs.blissdata_store import BlissStore

        if self._store is None:
            self._store = BlissStore(self._url)
            if self.trouble:
                log.info("publishing to %s goes on", self.address)
            self.trouble = ""
            self._look_back(self._store)
        self._store.check()
        while self._servers:
            self._store.end_live_frames(self._servers[:1])
            del self._servers[0]
        more = False
        now_s = time.monotonic()
        for feed in feeds:
            if feed.started_wall_s and not feed.closed.is_set() and now_s >= feed.retry_at_s:
                more |= self._serve(self._store, feed)
        return more

    def _look_back(self, store: BlissStore) -> None:
        """Once, close what a process before this one left open."""
        if not self._looked_back:
            for key in store.close_abandoned():
                log.warning("the scan %s was left open by a server that has ended; closed", key)
            self._looked_back = True

    def _serve(self, store: BlissStore, feed: RunFeed) -> bool:
        """Publish what is new of one run; an answer that refuses it concerns this run only."""
        from processing.outputs.blissdata_store import CONNECTION_ERRORS, REFUSALS

        try:
            more = self._send(store, feed)
        except CONNECTION_ERRORS:
            raise
        except REFUSALS as error:
            feed.failures += 1
            feed.retry_at_s = time.monotonic() + RETRY_S
            self._scans.pop(feed, None)
            if feed.failures >= _MOST_FAILURES:
                log.warning("run %s is not published: %s", feed.plan.acq_id, error)
                self._give_up(feed, str(error))
                self._close_unfinished(store, feed)
            return False
        feed.failures = 0
        return more

    def _send(self, store: BlissStore, feed: RunFeed) -> bool:
        scan = self._scans.get(feed)
        if scan is None:
            scan = self._scans[feed] = self._open(store, feed)
        due, pieces = feed.due, feed.batch(_BATCH_BYTES)
        if pieces or not due:
            scan.append(pieces, feed.statuses())
            feed.confirm(pieces)
        if time.monotonic() > self._refresh_at_s.get(feed, 0.0):
            scan.refresh_expiry()
            self._refresh_at_s[feed] = time.monotonic() + min(REFRESH_S, self._expiry_s / 3)
        if pieces or not due:
            return bool(pieces) and feed.finished
        if not feed.told.is_set():
            scan.append((), feed.statuses())
            scan.end(_ending(feed))
            feed.told.set()
            return False  # readers get time to read this before they see the state change
        scan.close()
        self._drop(feed)
        return False

    def _close_unfinished(self, store: BlissStore, feed: RunFeed) -> None:
        """End the scan of a run that was given up, with the reason in it."""
        from processing.outputs.blissdata_store import CONNECTION_ERRORS, REFUSALS

        try:
            scan = store.resume(feed.plan, feed.key, self._expiry_s) if feed.key else None
            if scan is not None:
                scan.end({"end_reason": "FAILURE", "verdict": feed.failure})
                scan.close()
        except CONNECTION_ERRORS:
            raise
        except REFUSALS as error:
            log.warning("the scan of run %s stays open: %s", feed.plan.acq_id, error)

    def _open(self, store: BlissStore, feed: RunFeed) -> BlissScan:
        """The scan of a run: the one that was begun, or else a new one."""
        scan = None
        if feed.attempted and not feed.key:
            feed.key = store.find(feed.plan.acq_id)
        if feed.key:
            scan = store.resume(feed.plan, feed.key, self._expiry_s)
        if scan is None:
            feed.attempted = True
            scan = store.create(feed.plan, feed.started_wall_s, self._expiry_s)
        feed.key = scan.key
        feed.told.clear()
        for group in feed.plan.groups:
            feed.positions[group.name] = min(scan.lengths[c.name] for c in group.columns)
        return scan

    def _lose(self, feeds: list[RunFeed], trouble: str) -> None:
        """Throw the connection away."""
        if self._store is not None:
            self._store.disconnect()
            for feed in feeds:
                feed.interruptions += feed in self._scans
        self._store = None
        self._scans.clear()
        if not self.trouble:
            log.warning("%s; what is to be published waits", trouble)
        self.trouble = trouble

    def _give_up(self, feed: RunFeed, reason: str) -> None:
        feed.failure = reason
        self._drop(feed)

    def _drop(self, feed: RunFeed) -> None:
        self.discard(feed)
        self._scans.pop(feed, None)
        self._refresh_at_s.pop(feed, None)

    def _escaped(self, error: BaseException) -> None:
        """Nothing foresaw this error: give up what there is, so that the next run begins anew."""
        log.error("the publisher to %s ended", self.address, exc_info=error)
        with self._lock:
            feeds, self._worker = list(self._feeds), None
        for feed in feeds:
            self._give_up(feed, f"{type(error).__name__}: {error}")
        self._store = None


def _ending(feed: RunFeed) -> dict[str, object]:
    """What is added to the tree of a scan at its end."""
    return {
        **feed.ending,
        "publication": {"interruptions": feed.interruptions, "given_up": dict(feed.given_up)},
    }


def _address(url: str) -> str:
    """The address in a URL, without user and password."""
    parts = urlsplit(url)
    place = parts.hostname or ""
    return f"Redis at {place}:{parts.port}" if parts.port else f"Redis at {place}{parts.path}"


_publishers: dict[tuple[str, int, int], Publisher] = {}
_publishers_lock = threading.Lock()


def publisher_of(url: str, buffer_bytes: int, expiry_s: int) -> Publisher:
    """The publisher of this process to a Redis."""
    with _publishers_lock:
        key = (url, buffer_bytes, expiry_s)
        if key not in _publishers:
            _publishers[key] = Publisher(*key)
        return _publishers[key]


def stop_publishers(timeout_s: float = 5.0) -> None:
    """End all publishers of this process, whatever is left to publish."""
    with _publishers_lock:
        publishers = list(_publishers.values())
        _publishers.clear()
    for publisher in publishers:
        publisher.stop(timeout_s)
