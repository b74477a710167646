"""What the emulator does to packets, and what the packet engine makes of it."""

import numpy as np
import pytest

from camera_plugins.jungfrau.emulator import numbered_images, stacked_images
from camera_plugins.jungfrau.faults import FaultKind, FaultMix, FaultRule
from camera_plugins.jungfrau.wire import FILL
from lima2_core.data.frame import Validity
from lima2_core.net import Lost, PortOptions
from tests.integration.packets import Link

EVERY_KIND = (
    FaultKind.DROP,
    FaultKind.DELAY,
    FaultKind.SWAP,
    FaultKind.DOUBLE,
    FaultKind.SHORT,
    FaultKind.FOREIGN,
    FaultKind.OUT_OF_RANGE,
)


@pytest.fixture(scope="module")
def link():
    made = Link(rows=32)
    yield made
    made.close()


@pytest.fixture(scope="module")
def wide_link():
    """Two modules with two interfaces each."""
    made = Link(modules=2, interfaces=2, rows=32)
    yield made
    made.close()


@pytest.fixture(scope="module")
def hasty_link():
    """Gives up a frame after a millisecond in which nothing comes."""
    made = Link(rows=32, options=PortOptions(frame_timeout_s=0.001, drain_s=0.05))
    yield made
    made.close()


def counts_of(link):
    return link.receiver.stats()[0].counts


def test_without_faults_every_frame_is_complete_and_no_packet_is_moved(link):
    frames, account = link.acquire(40)

    link.check(frames, account)
    link.check_counts(account)
    assert [frame.number for frame in frames] == list(range(1, 41))
    assert all(frame.complete for frame in frames)
    assert counts_of(link).displaced == 0


def test_a_lost_packet_is_marked_and_filled_with_what_cannot_be_data(link):
    frames, account = link.acquire(10, FaultRule(FaultKind.DROP, frame=3, packet=5))

    link.check(frames, account)
    link.check_counts(account)
    partial = frames[3]
    assert np.flatnonzero(~partial.mask[0]).tolist() == [5]
    assert (link.image(partial)[0, 20:24] == FILL).all()
    assert (counts_of(link).lost, counts_of(link).frames_partial) == (1, 1)


def test_a_frame_of_which_nothing_comes_is_missing(link):
    frames, account = link.acquire(10, FaultRule(FaultKind.DROP, frame=4))

    link.check(frames, account)
    link.check_counts(account)
    assert frames[4] == Lost(5, 1, Validity.PACKET_LOSS)
    assert counts_of(link).frames_missing == 1


def test_a_packet_that_comes_in_the_burst_of_the_next_frame_completes_its_own(link):
    frames, account = link.acquire(10, FaultRule(FaultKind.DELAY, frame=3, packet=2, amount=1))

    link.check(frames, account)
    link.check_counts(account)
    assert all(frame.complete for frame in frames)
    assert counts_of(link).late == 0
    assert counts_of(link).displaced > 0


def test_a_packet_that_comes_two_bursts_later_is_late(link):
    frames, account = link.acquire(10, FaultRule(FaultKind.DELAY, frame=3, packet=2, amount=2))

    link.check(frames, account)
    link.check_counts(account)
    assert [frame.number for frame in frames if not frame.complete] == [4]
    assert (counts_of(link).late, counts_of(link).lost) == (1, 1)


def test_swapped_packets_are_put_where_they_belong(link):
    frames, account = link.acquire(10, FaultRule(FaultKind.SWAP, packet=1))

    link.check(frames, account)
    link.check_counts(account)
    assert all(frame.complete for frame in frames)


def test_a_doubled_packet_counts_once(link):
    frames, account = link.acquire(
        10,
        FaultRule(FaultKind.DOUBLE, packet=1),
        FaultRule(FaultKind.DROP, frame=4, packet=7),
    )

    link.check(frames, account)
    link.check_counts(account)
    assert counts_of(link).doubled == 10
    assert not frames[4].complete


def test_a_short_packet_does_not_end_its_frame(link):
    frames, account = link.acquire(10, FaultRule(FaultKind.SHORT, frame=2, packet=3))

    link.check(frames, account)
    link.check_counts(account)
    assert frames[2].packets == 7
    assert counts_of(link).short == 1


def test_foreign_packets_of_any_size_leave_no_trace(link):
    frames, account = link.acquire(10, FaultRule(FaultKind.FOREIGN, packet=7))

    link.check(frames, account)
    link.check_counts(account)
    assert all(frame.complete for frame in frames)
    assert counts_of(link).foreign == 10


def test_packet_numbers_that_do_not_exist_cost_nothing_else(link):
    frames, account = link.acquire(10, FaultRule(FaultKind.OUT_OF_RANGE, packet=0))

    link.check(frames, account)
    link.check_counts(account)
    assert all(frame.complete for frame in frames)
    assert counts_of(link).out_of_range == 10


@pytest.mark.parametrize("tens", range(10))
def test_random_mixes_give_exactly_what_was_sent(link, tens):
    for seed in range(10 * tens, 10 * tens + 10):
        rate = (0.005, 0.03, 0.1)[seed % 3]
        rates = {**dict.fromkeys(EVERY_KIND, rate), FaultKind.PAUSE: 0.005}
        mix = FaultMix(rates, seed)
        first = 1 + seed * 2**40

        frames, account = link.acquire(24, mix=mix, first_frame=first)

        link.check(frames, account, first_frame=first)
        link.check_counts(account)


def test_random_mixes_with_pauses_beyond_the_time_limit_lose_nothing_but_what_was_late(hasty_link):
    late = 0
    for seed in range(10):
        rates = {**dict.fromkeys(EVERY_KIND, 0.02), FaultKind.PAUSE: 0.03}

        frames, account = hasty_link.acquire(24, mix=FaultMix(rates, seed, longest_delay=5))

        late += hasty_link.check_in_time(frames, account)
    assert late > 0


@pytest.mark.parametrize("seed", range(5))
def test_random_mixes_on_two_modules_with_two_interfaces(wide_link, seed):
    mix = FaultMix(dict.fromkeys(EVERY_KIND, 0.03), seed)

    frames, account = wide_link.acquire(24, mix=mix)

    wide_link.check(frames, account)
    wide_link.check_counts(account)


def test_real_frames_arrive_as_they_are(detector_frames, link):
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("hdf5plugin")
    with h5py.File(detector_frames) as file:
        images = stacked_images(file["raw"][:4])
    mix = FaultMix(dict.fromkeys(EVERY_KIND, 0.02), 7)

    frames, account = link.acquire(20, images=images, mix=mix)

    link.check(frames, account, images=images)
    link.check_counts(account)


def test_the_sent_images_tell_frames_and_modules_apart():
    assert not np.array_equal(numbered_images(1, 0), numbered_images(2, 0))
    assert not np.array_equal(numbered_images(1, 0), numbered_images(1, 1))
    assert not (numbered_images(1, 0) == FILL).any()
