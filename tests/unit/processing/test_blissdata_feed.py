"""What is gathered of a run, kept while Redis is away, given up, and how frames count."""

import numpy as np
import pytest
from blissdata.lima.client import LimaClient

from lima2_core.data.frame import Validity
from processing.outputs.blissdata_feed import ImageProgress, RunFeed
from processing.outputs.blissdata_info import plan_of
from processing.outputs.blissdata_publisher import Publisher
from tests.unit.processing.blissdata_parts import Run, peak_counters, roi_statistics, saved_files

MUCH = 2**20


def feed_of(run, settings=None):
    return RunFeed(run.view, plan_of(run.view, settings or {}))


def values(feed, name, limit=MUCH):
    """What is to be sent next of one stream: index of the first entry, and the entries."""
    for piece in feed.batch(limit):
        for column in piece.group.columns:
            if column.name == name:
                if piece.records is None:
                    return piece.first, column.fills(piece.count).tolist()
                return piece.first, column.values(piece.records).tolist()
    return None


def test_results_come_in_frame_order_with_gaps_as_values():
    run = Run(expected=4, records=(roi_statistics(), peak_counters()))
    feed = feed_of(run)
    run.start()

    run.take(2, 0)
    run.take(1, code=Validity.DROPPED)
    feed.gather()

    assert values(feed, "roi0_sum") == (0, [0, pytest.approx(np.nan, nan_ok=True), 2])
    assert values(feed, "nb_peaks") == (0, [0, pytest.approx(np.nan, nan_ok=True), 2])
    assert values(feed, "ledger_code") == (0, [0, Validity.DROPPED, 0])
    assert values(feed, "receiver") == (0, [0, 0, 0])


def test_what_was_sent_is_forgotten_and_comes_no_second_time():
    run = Run(records=(roi_statistics(),))
    feed = feed_of(run)
    run.start()
    run.take(0, 1)
    feed.gather()

    feed.confirm(feed.batch(MUCH))
    empty = feed.nbytes, feed.batch(MUCH)
    run.take(2)
    feed.gather()

    assert empty == (0, [])
    assert values(feed, "roi0_sum") == (2, [2])


def test_frames_that_were_never_sent_are_not_published():
    run = Run(expected=5, records=(roi_statistics(),))
    feed = feed_of(run)
    run.start()

    run.take(0, 1)
    run.end()
    feed.gather()

    assert feed.finished
    assert values(feed, "roi0_sum") == (0, [0, 1])
    assert values(feed, "ledger_code") == (0, [0, 0])
    assert feed.images == ()
    assert feed.ending["end_reason"] == "USER_ABORT"


def test_results_that_were_given_up_are_not_a_number_and_counted():
    run = Run(expected=4, records=(roi_statistics(),))
    feed = feed_of(run)
    run.start()
    for idx in range(3):
        run.take(idx)
        feed.gather()

    while feed.drop_oldest():
        pass
    run.take(3)
    feed.gather()
    lost = values(feed, "roi0_sum"), values(feed, "ledger_code")
    feed.confirm(feed.batch(MUCH))

    assert lost == ((0, [pytest.approx(np.nan, nan_ok=True)] * 3), (0, [255] * 3))
    assert values(feed, "roi0_sum") == (3, [3])
    assert feed.given_up["roi_statistics"] == 3
    assert feed.given_up["ledger"] == 3


def test_a_redis_that_lost_results_gets_not_a_number_for_them():
    run = Run(expected=4, records=(roi_statistics(),))
    feed = feed_of(run)
    run.start()
    run.take(0, 1)
    feed.gather()
    feed.confirm(feed.batch(MUCH))

    feed.positions = dict.fromkeys(feed.positions, 1)
    run.take(2)
    feed.gather()

    assert values(feed, "roi0_sum") == (1, [pytest.approx(np.nan, nan_ok=True)])


def test_frames_found_lost_later_are_told_at_the_end():
    run = Run(expected=2, records=(roi_statistics(),))
    feed = feed_of(run)
    run.start()
    run.take(0, 1)
    feed.gather()

    run.ledger.revise(np.array([1]), Validity.VALID, Validity.CRASH)
    run.end()
    feed.gather()

    assert feed.ending["ledger"]["corrected"] == [[1, Validity.CRASH]]
    assert feed.ending["end_reason"] == "FAILURE"


def test_sums_that_are_saved_have_their_own_classes(tmp_path):
    run = Run(expected=8, depth=2, files=saved_files(str(tmp_path)))
    feed = feed_of(run)
    run.start()

    run.take(*range(8))
    run.take_sums(0, 2)
    run.take_sums(1, code=Validity.PARTIAL)
    feed.gather()
    live = values(feed, "sum_code"), values(feed, "sum_timestamp")
    run.sums.revise(np.array([2]), Validity.VALID, Validity.CRASH)
    run.end()
    feed.gather()

    assert live == ((0, [0, Validity.PARTIAL, 0]), (0, [1.7e9] * 3))
    assert values(feed, "sum_code") == (0, [0, Validity.PARTIAL, 0])
    assert feed.ending["ledger"]["corrected"] == []
    assert feed.ending["ledger"]["corrected_sums"] == [[2, Validity.CRASH]]


def test_large_results_are_sent_in_several_entries():
    run = Run(expected=None, records=(roi_statistics(100),))
    feed = feed_of(run)
    run.start()
    run.take(*range(2000))
    feed.gather()

    first, entries = values(feed, "roi0_sum")
    feed.confirm(feed.batch(MUCH))

    assert 0 < len(entries) < 2000
    assert values(feed, "roi0_sum")[0] == first + len(entries)


def test_a_run_that_was_not_started_is_discarded():
    run = Run()
    feed = feed_of(run)

    run.over = True
    feed.gather()

    assert feed.discarded
    assert not feed.finished


def test_a_run_cut_short_says_that_it_failed():
    run = Run(expected=4)
    feed = feed_of(run)
    run.start()
    run.take(0)

    feed.end()

    assert feed.finished
    assert feed.ending["end_reason"] == "FAILURE"


class Reading:
    """What blissdata's own client makes of what we publish."""

    def __init__(self, frames, per_file):
        self.client = LimaClient(
            None,
            lambda: None,
            protocol_version=1,
            server_url="a/run/1",
            buffer_max_number=2**31 - 1,
            frame_per_acquisition=frames,
            acquisition_offset=0,
            file_path="/data/%05d.h5",
            data_path="data",
            file_format="hdf5",
            file_offset=0,
            frame_per_file=per_file,
        )

    def update(self, status, *, sealed):
        self.client.update(**status.event(), sealed=sealed)
        return len(self.client), self.client._last_index_saved_and_closed + 1


@pytest.mark.parametrize("server", ["a/run/1", ""])
@pytest.mark.parametrize("frames", [7, 9])
def test_a_reader_takes_frames_from_files_as_soon_as_they_are_in_place(tmp_path, server, frames):
    run = Run(expected=frames, files=saved_files(str(tmp_path)), device=server)
    (images,) = plan_of(run.view, {"master_segment_frames": "3"}).images
    progress = ImageProgress(run.view, images)
    reading = Reading(frames, 3)
    seen = []

    for idx in range(frames):
        run.take(idx)
        if idx % 3 == 2:
            (tmp_path / f"scan_master_{idx // 3:05d}.h5").touch()
        progress.look()
        progress.look_at_files()
        seen.append(reading.update(progress.status(finished=False), sealed=False))
    if frames % 3:
        (tmp_path / f"scan_master_{frames // 3:05d}.h5").touch()
        progress.look_at_files()
    all_in_files = progress.all_in_files
    last = reading.update(progress.status(finished=True), sealed=True)

    from_files = [0, 0, 0, 3, 3, 3, 6, 6, 6][:frames]
    assert [ready for _, ready in seen] == from_files
    if server:
        assert [length for length, _ in seen] == list(range(1, frames + 1))
    else:  # nobody can be asked for others
        assert [length for length, _ in seen] == from_files
    assert all_in_files
    assert last == (frames, frames)


def test_sums_that_are_not_saved_are_as_many_as_can_be_fetched_with_their_results_in_order():
    run = Run(expected=9, depth=2, records=(roi_statistics(),), device="a/run/1")
    feed = feed_of(run)
    run.start()

    run.take(*range(9))
    run.take_sums(1, 0, 3)
    feed.gather()
    live = feed.statuses()["frame"].last_index, values(feed, "roi0_sum")
    run.take_sums(2, 4)
    run.end()
    feed.gather()

    assert live == (1, (0, [0, 1]))
    assert feed.statuses()["frame"].last_index == 4
    assert values(feed, "roi0_sum") == (0, [0, 1, 2, 3, 4])
    assert values(feed, "ledger_code") == (0, [0] * 9)


@pytest.mark.parametrize("server", ["a/run/1", ""])
def test_sums_that_are_saved_are_counted_by_their_own_books(tmp_path, server):
    records = (roi_statistics(), peak_counters())
    files = saved_files(str(tmp_path))
    run = Run(expected=18, depth=2, records=records, files=files, device=server)
    feed = feed_of(run, {"master_segment_frames": "3"})
    reading = Reading(9, 3)
    run.start()

    run.take(*range(18))
    run.take_sums(0, 1, 2, 3)
    run.take_sums(4, code=Validity.DROPPED)
    (tmp_path / "scan_master_00000.h5").touch()
    feed.gather()
    feed.look_at_files()
    live = reading.update(feed.statuses()["frame"], sealed=False)
    peaks = values(feed, "nb_peaks")
    run.take_sums(5, 6)
    run.end()
    for number in (1, 2):
        (tmp_path / f"scan_master_{number:05d}.h5").touch()
    feed.gather()
    feed.look_at_files()

    assert live == ((5, 3) if server else (3, 3))
    assert peaks == (0, [0, 1, 2, 3, pytest.approx(np.nan, nan_ok=True)])
    assert feed.due
    assert reading.update(feed.statuses()["frame"], sealed=True) == (7, 7)
    assert len(values(feed, "roi0_sum")[1]) == 7


def test_results_of_sums_that_were_not_read_in_time_are_counted():
    run = Run(expected=9, depth=2, records=(roi_statistics(),))
    run.mergers["roi_statistics"].stream._limit_rows = 2
    feed = feed_of(run)
    run.start()

    run.take(*range(9))
    run.take_sums(0)
    feed.gather()
    run.take_sums(1, 2)
    run.take_sums(3, 4)
    run.end()
    feed.gather()
    first = values(feed, "roi0_sum")
    feed.confirm(feed.batch(MUCH))

    assert first == (0, [0])
    assert values(feed, "roi0_sum") == (1, [pytest.approx(np.nan, nan_ok=True)] * 4)


def test_a_run_of_which_very_little_was_sent_is_counted_at_its_end():
    run = Run(expected=2**21, records=(roi_statistics(),))
    feed = feed_of(run)
    run.start()

    run.take(0, 1, 2)
    run.ledger.end(2**21)
    run.over = True
    feed.gather()

    assert values(feed, "roi0_sum") == (0, [0, 1, 2])
    assert values(feed, "ledger_code") == (0, [0] * 3)


def test_files_that_never_come_are_not_promised(tmp_path):
    run = Run(expected=7, files=saved_files(str(tmp_path)), device="a/run/1")
    (images,) = plan_of(run.view, {"master_segment_frames": "3"}).images
    progress = ImageProgress(run.view, images)
    run.take(*range(7))
    (tmp_path / "scan_master_00000.h5").touch()
    progress.look()
    progress.look_at_files()

    length, ready = Reading(7, 3).update(progress.status(finished=True), sealed=True)

    assert not progress.all_in_files
    assert (length, ready) == (7, 3)


def test_what_waits_for_redis_stays_within_the_limit():
    publisher = Publisher("redis://localhost:1", buffer_bytes=5000, expiry_s=60)
    runs = [Run(expected=None, records=(roi_statistics(10),)) for _ in range(3)]
    feeds = [feed_of(run) for run in runs]
    publisher._feeds = list(feeds)  # without its thread

    for idx in range(20):
        for run, feed in zip(runs, feeds, strict=True):
            run.start()
            run.take(idx)
            feed.gather()
            publisher.trim()

    assert sum(feed.nbytes for feed in feeds) <= 5000
    assert feeds[0].nbytes == 0  # the oldest run gives first
    assert values(feeds[2], "roi9_sum")[0] == 0
