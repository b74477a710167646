"""The collector against a packet by packet reading of its rules, without sockets."""

import ctypes
import os

import numpy as np
import pytest

from lima2_core.net.collector import Collector
from lima2_core.net.layout import Check, Field, PacketLayout
from lima2_core.net.sorting import Span
from lima2_core.net.table import HISTORY, RequestTable

MARK = 77
PIXELS = 8
FILL = 0x8000


def layout_of(packets=6, first_packet=3):
    return PacketLayout(
        header_bytes=20,
        payload_bytes=2 * PIXELS,
        frame=Field(0, "<u8"),
        packet=Field(8, "<u4"),
        packets=packets,
        first_packet=first_packet,
        checks=(Check(Field(16, "<u2"), MARK),),
        fill=FILL,
    )


class Packet:
    """A datagram: what is in it, and how long it claims to be."""

    def __init__(self, layout, frame, packet, mark=MARK, cut=0):
        self.frame, self.packet, self.mark = frame, packet, mark
        self.length = layout.packet_bytes - cut

    @property
    def payload(self):
        return np.full(PIXELS, (self.frame * 131 + self.packet) % 0x7FFF, "<u2")


class Desk:
    """A collector with slots, served by hand."""

    def __init__(self, layout, slots=8, first=1, last=2**62, stride=1, size=16):
        self.layout = layout
        self.rows = slots + 2 * HISTORY
        self.fd = RequestTable.make_memory(layout, self.rows)
        self.table = RequestTable(self.fd, layout, self.rows)
        self.memory = np.zeros((slots, layout.frame_bytes), np.uint8)
        self.span = Span(first, last, stride)
        self.size = size
        self.next, self.taken = first, 0
        self.free = list(range(slots))
        self.images = {}
        self.collector = self._make()

    def _make(self):
        collector = Collector(self.layout, self.table, self.size)
        addresses = [slot.ctypes.data for slot in self.memory]
        collector.use_slots(np.array(addresses, np.uint64))
        collector.arm(self.span, self.table.given)
        return collector

    def die_and_come_back(self):
        self.collector = self._make()

    def close(self):
        os.close(self.fd)

    def give(self, most=None):
        count = len(self.free) if most is None else most
        requests = []
        while len(requests) < count and self.next <= self.span.last:
            requests.append((self.next, self.free.pop(0)))
            self.next += self.span.stride
        self.table.give(requests)
        self.collector.absorb(len(requests))
        if self.collector.waiting:
            self.collector.retry(1)

    def skip_to(self, frame):
        self.next = frame

    def take_done(self):
        """Note what came of the frames, and have their slots again."""
        for row in self.table.completions(self.taken, self.table.done):
            slot = int(row["slot"])
            image = self.memory[slot].copy()
            self.layout.fill_missing(image, row["mask"])
            assert int(row["frame"]) not in self.images
            self.images[int(row["frame"])] = (row["mask"].copy(), image.view("<u2"))
            self.memory[slot] = 0xEE
            self.free.append(slot)
        self.taken = self.table.done

    def deliver(self, packets):
        """Hand over as many packets as the collector has places for; the number of them."""
        room = self.collector.expect(1)
        forecast = self.collector.forecast
        now = packets[:room]
        if not now or self.collector.waiting:
            return 0
        for number, packet in enumerate(now, forecast.at):
            forecast.headers[number] = 0
            forecast.headers["frame"][number] = packet.frame
            forecast.headers["packet"][number] = packet.packet
            forecast.headers["check0"][number] = packet.mark
            forecast.lengths[number] = packet.length
            bytes_of = packet.payload
            ctypes.memmove(int(forecast.address[number]), bytes_of.ctypes.data, bytes_of.nbytes)
        self.collector.take(len(now), 1)
        return len(now)

    def counts(self):
        return self.table.counts()


@pytest.fixture
def make_desk():
    desks = []

    def make(*arguments, **options):
        desk = Desk(*arguments, **options)
        desks.append(desk)
        return desk

    yield make
    for desk in desks:
        desk.close()


def expected_image(layout, frame, mask):
    image = np.full((layout.packets, PIXELS), FILL, "<u2")
    for place in np.flatnonzero(mask):
        image[place] = Packet(layout, frame, place + layout.first_packet).payload
    return image.reshape(-1)


class Rules:
    """What should come of packets, one at a time."""

    def __init__(self, layout, span):
        self.layout, self.span = layout, span
        self.newest = span.first - span.stride
        self.masks = {}
        self.counts = dict.fromkeys(
            ("accepted", "late", "doubled", "short", "foreign", "out_of_range", "stray"), 0
        )

    def see(self, packet):
        self.counts[self._class(packet)] += 1

    def _class(self, packet):
        layout, span = self.layout, self.span
        if packet.length >= layout.header_bytes and packet.mark != MARK:
            return "foreign"
        if packet.length < layout.packet_bytes:
            return "short"
        place = packet.packet - layout.first_packet
        if not 0 <= place < layout.packets:
            return "out_of_range"
        if not span.first <= packet.frame <= span.last or (packet.frame - span.first) % span.stride:
            return "stray"
        self.newest = max(self.newest, packet.frame)
        mask = self.masks.setdefault(packet.frame, np.zeros(layout.packets, bool))
        if mask[place]:
            return "doubled"
        if packet.frame + 2 * span.stride <= self.newest:
            return "late"
        mask[place] = True
        return "accepted"


def in_order(layout, frames, **options):
    return [
        Packet(layout, frame, layout.first_packet + place, **options)
        for frame in frames
        for place in range(layout.packets)
    ]


def disturb(layout, packets, rng, rate):
    """The same packets with everything that can happen to them."""
    result, held = [], []
    for number, packet in enumerate(packets):
        for due in [item for item in held if item[0] <= number]:
            held.remove(due)
            result.append(due[1])
        if rng.random() > rate:
            result.append(packet)
            continue
        match rng.integers(8):
            case 0:
                pass
            case 1:
                held.append((number + int(rng.integers(1, 4 * layout.packets)), packet))
            case 2:
                result += [packet, packet]
            case 3:
                result.append(Packet(layout, packet.frame, packet.packet, cut=3))
            case 4:
                result += [Packet(layout, packet.frame, packet.packet, mark=3), packet]
            case 5:
                result += [Packet(layout, packet.frame, layout.packets + 40), packet]
            case 6:
                result += [Packet(layout, packet.frame + 1, packet.packet), packet]
            case 7 if result:
                result.insert(-1, packet)
    return result + [packet for _, packet in held]


def run(desk, packets, rng, *, slots_at_a_time=None):
    """Deliver all packets in pieces; slots come back at once, or some at a time."""
    left = list(packets)
    desk.give(slots_at_a_time)
    while left or desk.collector.waiting:
        count = desk.deliver(left[: int(rng.integers(1, 3 * desk.layout.packets))])
        del left[:count]
        desk.take_done()
        if not count or slots_at_a_time is None:
            desk.give(min(len(desk.free), slots_at_a_time or len(desk.free)))
    desk.collector.close_open()
    desk.take_done()


def check(desk, rules):
    counts = desk.counts()
    assert {name: getattr(counts, name) for name in rules.counts} == rules.counts
    for frame, (mask, image) in desk.images.items():
        sent = rules.masks.get(frame, np.zeros(desk.layout.packets, bool))
        assert np.array_equal(mask, sent), frame
        assert np.array_equal(image, expected_image(desk.layout, frame, mask)), frame
    assert rules.masks.keys() <= desk.images.keys()


def test_packets_in_their_turn_land_in_their_places_and_nothing_is_moved(make_desk):
    layout = layout_of()
    desk, rng = make_desk(layout), np.random.default_rng(0)
    packets = in_order(layout, range(1, 30))
    rules = Rules(layout, desk.span)

    for packet in packets:
        rules.see(packet)
    run(desk, packets, rng)

    check(desk, rules)
    assert desk.counts().displaced == 0
    assert desk.counts().frames_complete == 29


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_each_frame_holds_exactly_what_came_in_time(make_desk, seed):
    rng = np.random.default_rng(seed)
    layout = layout_of(packets=int(rng.integers(1, 9)), first_packet=int(rng.integers(0, 5)))
    stride = int(rng.integers(1, 4))
    first = int(rng.integers(1, 2**48))
    frames = range(first, first + 25 * stride, stride)
    desk = make_desk(layout, first=first, last=frames[-1] + stride, stride=stride)
    rules = Rules(layout, desk.span)
    packets = disturb(layout, in_order(layout, frames), rng, float(rng.choice([0.03, 0.2, 0.7])))

    for packet in packets:
        rules.see(packet)
    run(desk, packets, rng)

    check(desk, rules)
    counts = desk.counts()
    done = counts.frames_complete + counts.frames_partial + counts.frames_missing
    assert done == len(desk.images)
    assert counts.accepted + counts.lost == done * layout.packets


@pytest.mark.parametrize("seed", range(40))
def test_packets_wait_for_slots_and_keep_their_order(make_desk, seed):
    rng = np.random.default_rng(seed)
    layout = layout_of(packets=int(rng.integers(1, 9)))
    desk = make_desk(layout, slots=6)
    rules = Rules(layout, desk.span)
    packets = disturb(layout, in_order(layout, range(1, 25)), rng, 0.15)

    for packet in packets:
        rules.see(packet)
    run(desk, packets, rng, slots_at_a_time=int(rng.integers(1, 4)))

    check(desk, rules)


@pytest.mark.parametrize("seed", range(10))
def test_another_collector_goes_on_with_the_open_frames(make_desk, seed):
    rng = np.random.default_rng(seed)
    layout = layout_of()
    desk = make_desk(layout)
    rules = Rules(layout, desk.span)
    packets = disturb(layout, in_order(layout, range(1, 25)), rng, 0.1)

    for packet in packets:
        rules.see(packet)
    left = list(packets)
    while left:
        desk.give()
        del left[: desk.deliver(left[: int(rng.integers(1, 12))])]
        desk.take_done()
        if not desk.collector.waiting:
            desk.die_and_come_back()
    desk.collector.close_open()
    desk.take_done()

    check(desk, rules)


def test_frames_that_got_no_slot_count_as_overrun_when_they_come_all_the_same(make_desk):
    layout = layout_of(packets=4)
    desk = make_desk(layout, slots=2)
    desk.give()
    assert desk.deliver(in_order(layout, [1, 2])) == 8
    desk.take_done()
    desk.skip_to(6)
    desk.give()

    desk.deliver(in_order(layout, [5]))
    desk.deliver(in_order(layout, [6, 4]))

    assert desk.counts().accepted == 8 + 4
    assert desk.counts().overrun == 8
    assert desk.counts().frames_complete == 3


def test_a_packet_ahead_of_the_slots_is_kept_and_named(make_desk):
    layout = layout_of(packets=4)
    desk = make_desk(layout, slots=4)
    desk.give(1)

    desk.deliver([*in_order(layout, [1])[:2], *in_order(layout, [2])[:2]])

    assert desk.collector.waiting
    assert desk.counts().wanted == 2
    desk.give(1)
    assert not desk.collector.waiting
    assert desk.counts().wanted == 0
    assert desk.counts().accepted == 4


def test_frames_are_open_until_the_one_after_the_next_and_no_longer(make_desk):
    layout = layout_of(packets=4)
    desk = make_desk(layout)
    desk.give()
    packets = in_order(layout, range(1, 5))
    first, rest = packets[0], packets[1:4]

    desk.deliver([*rest, packets[4]])
    assert desk.table.done == 0
    desk.deliver([packets[8]])
    desk.take_done()
    desk.deliver([first])

    assert list(desk.images) == [1]
    assert desk.counts().late == 1
    assert desk.counts().frames_partial == 1


def test_after_the_last_frame_what_comes_is_still_told_apart(make_desk):
    layout = layout_of(packets=4)
    desk = make_desk(layout, last=2)
    desk.give(2)
    packets = in_order(layout, [1, 2])
    desk.deliver(packets)
    assert desk.collector.over

    assert desk.deliver([packets[0], *in_order(layout, [3]), *packets[4:6]]) == 7

    assert desk.counts().doubled == 3
    assert desk.counts().stray == 4
