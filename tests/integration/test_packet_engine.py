"""The packet engine as a whole: processes, slots, ports that are quiet, ends and new beginnings."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from camera_plugins.jungfrau.emulator import Emulator, EmulatorConfig, numbered_images
from camera_plugins.jungfrau.faults import FaultKind, FaultRule, Faults
from camera_plugins.jungfrau.wire import PortShape, header_of
from lima2_core.data.frame import Validity
from lima2_core.data.memory import BufferPool
from lima2_core.errors import CameraError, StateError
from lima2_core.net import FrameReceiver, Lost, Port, PortAddress, PortOptions, Received
from lima2_core.testing.doubles import eventually
from tests.integration.packets import HOST, LIMIT_S, PATIENT, counts_of


def is_gone(pid):
    """Whether there is no such process, or only its exit status."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("interfaces", [1, 2])
@pytest.mark.parametrize("rows", [512, 8])
def test_full_and_partial_readout_over_one_and_two_interfaces(make_link, interfaces, rows):
    link = make_link(interfaces=interfaces, rows=rows, slots=16, depth=12)

    frames, account = link.acquire(8)

    link.check(frames, account)
    link.check_counts(account)
    assert all(frame.complete for frame in frames)


def test_a_frame_knows_its_first_header_and_when_it_came(make_link):
    link = make_link(modules=2, interfaces=2)
    before_ns = time.time_ns()

    frames, _ = link.acquire(3, period_s=0.001, bunch_id=700, daq_info=0x300)

    headers = [header_of(raw) for raw in frames[2].ports["header"]]
    assert [int(header["row"]) for header in headers] == [0, 1, 2, 3]
    assert [int(header["module_id"]) for header in headers] == [1234, 1234, 1235, 1235]
    assert {int(header["bunch_id"]) for header in headers} == {702}
    assert {int(header["timestamp_100ns"]) for header in headers} == {20_000}
    assert {int(header["daq_info"]) for header in headers} == {0x300}
    assert before_ns <= frames[2].first_ns <= time.time_ns()


def test_acquisitions_follow_each_other_with_numbers_that_go_on(make_link):
    link = make_link()
    pids = [port.pid for port in link.receiver.ports]
    first = 1

    for count in (3, 40, 1):
        frames, account = link.acquire(count, first_frame=first)
        link.check(frames, account, first_frame=first)
        link.check_counts(account)
        first += count

    assert [port.pid for port in link.receiver.ports] == pids


def test_packets_between_acquisitions_are_thrown_away(make_link):
    link = make_link()
    link.acquire(2)
    link.send(5, first_frame=3)

    frames, account = link.acquire(4, first_frame=8)

    link.check(frames, account, first_frame=8)
    assert counts_of(link).stray == 0


def test_frames_of_another_acquisition_do_not_belong_to_this_one(make_link):
    link = make_link()
    link.receiver.start(11, count=4)

    link.send(3, first_frame=5)
    account = link.send(4, first_frame=11)
    link.send(2, first_frame=15)
    frames = link.take_all()

    assert [frame.number for frame in frames] == [11, 12, 13, 14]
    link.check(frames, account, first_frame=11)
    # What came behind the last frame may have been seen or not.
    assert counts_of(link).stray >= 3 * 4


def test_receivers_in_turns_see_every_other_frame(make_link):
    links = [make_link(), make_link()]
    for number, link in enumerate(links):
        link.receiver.start(5 + number, stride=2, count=10)
    config = EmulatorConfig(
        destinations=tuple(link.addresses for link in links), rows=16, frames=20, first_frame=5
    )

    account = Emulator(config, numbered_images).run()

    for entry, link in enumerate(links):
        frames = link.take_all()
        assert [frame.number for frame in frames] == list(range(5 + entry, 25, 2))
        link.check(frames, account, first_frame=5, entry=entry)
        assert counts_of(link).stray == 0


def test_the_last_frame_is_given_up_after_its_time_limit(make_link):
    link = make_link(options=PortOptions(frame_timeout_s=0.5))
    link.receiver.start(1, count=3)

    account = link.send(3, FaultRule(FaultKind.DROP, frame=2, packet=1))
    frames = []
    while not link.receiver.over:
        frames += link.receiver.next_frames(LIMIT_S)

    assert [frame.packets for frame in frames] == [4, 4, 3]
    link.check(frames, account)
    link.receiver.stop()


def test_a_pause_within_a_frame_that_exceeds_the_time_limit_makes_the_rest_late(make_link):
    link = make_link(options=PortOptions(frame_timeout_s=0.5))
    link.receiver.start(1, count=3)
    halves = [
        [FaultRule(FaultKind.DROP, frame=frame, packet=packet) for packet in packets]
        for frame, packets in ((1, (2, 3)), (0, (0, 1)))
    ]

    link.send(2, *halves[0])
    assert eventually(lambda: counts_of(link).frames_partial == 1)
    link.send(2, *halves[1], first_frame=2)
    frames = link.take_all()

    assert [frame.packets for frame in frames] == [4, 2, 4]
    assert counts_of(link).late == 2


def test_a_port_from_which_nothing_comes_does_not_hold_up_the_others(make_link, caplog):
    link = make_link(interfaces=2, slots=32, depth=6, options=PortOptions(frame_timeout_s=0.5))
    link.receiver.start(1, count=24)

    account = link.send(24, FaultRule(FaultKind.DROP, port=1))
    frames = link.take_all()

    link.check(frames, account)
    assert [frame.packets for frame in frames] == [2] * 24
    assert link.receiver.ports[1].name in caplog.text


def test_without_slots_packets_wait_in_the_socket(make_link):
    link = make_link(slots=4, depth=4)
    link.receiver.start(1, count=20)

    account = link.send(20)
    assert eventually(lambda: counts_of(link).stalls)
    frames = []
    while not link.receiver.over:
        for frame in link.receiver.next_frames(LIMIT_S):
            # Compared one by one: a list of them would be the end of the slots.
            assert np.array_equal(link.image(frame), link.sent_image(account, frame.number))
            frames.append(frame.number)
        del frame

    assert frames == list(range(1, 21))
    assert counts_of(link).stalled_ns > 0
    assert counts_of(link).overrun == counts_of(link).kernel_overrun == 0
    link.receiver.stop()


def test_what_the_socket_cannot_hold_is_lost_as_overrun_and_the_rest_goes_on(make_link):
    link = make_link(slots=4, depth=4, options=replace(PATIENT, buffer_bytes=64 * 1024))
    link.receiver.start(1)
    held = []
    for number in range(1, 5):
        link.send(1, first_frame=number)
        while len(held) < number:
            held += link.receiver.next_frames(LIMIT_S)
    assert link.receiver.next_frames(0.02) == []
    link.send(56, first_frame=5)
    assert eventually(lambda: counts_of(link).stalls)
    held.clear()

    frames = {}

    def note(received):
        for frame in received:
            if isinstance(frame, Received):
                image = numbered_images(frame.number - 5 if frame.number < 61 else 0, 0)
                image = link.shapes[0].part_of(image)[np.newaxis]
                there = frame.mask[0].repeat(4)
                assert np.array_equal(link.image(frame)[0][there], image[0][there])
                frames[frame.number] = frame.packets
            else:
                frames.update(dict.fromkeys(range(frame.number, frame.number + frame.count), 0))
                assert frame.cause is Validity.OVERRUN

    while received := link.receiver.next_frames(0.3):
        note(received)
    # What is missing behind the last one shows itself when others come.
    for number in range(61, 66):
        link.send(1, first_frame=number)
        while number not in frames:
            note(link.receiver.next_frames(LIMIT_S))
    link.receiver.stop()

    stats = link.receiver.stats()[0]
    assert list(frames) == list(range(5, 66))
    assert stats.kernel_drops > 0
    assert stats.counts.kernel_overrun == stats.kernel_drops
    assert sum(frames.values()) + 4 * 4 == stats.counts.accepted
    assert stats.counts.accepted + stats.kernel_drops == 65 * 4


def test_an_acquisition_ends_soon_after_stop_while_packets_still_come(make_link):
    link = make_link()
    link.receiver.start(1)
    stopped = threading.Event()
    config = link.config(100_000, period_s=0.001)
    sender = threading.Thread(
        target=lambda: Emulator(config, numbered_images).run(stopped.is_set), name="sender"
    )
    sender.start()
    frames = []
    while len(frames) < 20:
        frames += link.receiver.next_frames(LIMIT_S)

    before_s = time.monotonic()
    frames += link.receiver.stop()
    took_s = time.monotonic() - before_s
    stopped.set()
    sender.join()

    # The packets go on for a hundred seconds, and the listener ended of its own accord.
    assert took_s < 5.0
    assert link.receiver.stats()[0].hung == 0
    numbers = [frame.number for frame in frames]
    assert numbers == list(range(1, len(numbers) + 1))
    assert link.receiver.stop() == []
    pid = link.receiver.ports[0].pid
    link.close()
    assert is_gone(pid)


def test_a_listener_ends_with_the_process_that_started_it():
    code = """
import sys, time
from tests.integration.packets import Link
link = Link()
link.receiver.start(1)
print(link.receiver.ports[0].pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.kill()

    assert eventually(lambda: is_gone(pid))


def test_a_port_in_use_is_refused_and_named(make_link):
    link = make_link()
    layout = PortShape(rows=16).packet_layout()
    taken = link.receiver.ports[0].port

    with pytest.raises(CameraError, match=f"{HOST}:{taken}.*in use"):
        FrameReceiver([PortAddress(layout, HOST, taken)], link.pool)
    with pytest.raises(CameraError, match=r"192\.0\.2\.1"):
        FrameReceiver([PortAddress(layout, "192.0.2.1")], link.pool)


def test_what_a_listener_was_granted_is_reported(make_link):
    cpu = min(os.sched_getaffinity(0))
    link = make_link(options=PortOptions(buffer_bytes=2**20, priority=1, cpus=(cpu,)))

    stats = link.receiver.stats()[0]

    assert stats.buffer_asked_bytes == 2**20
    assert stats.buffer_granted_bytes >= 2**20
    assert stats.priority.startswith(("fifo 1", "normal (fifo 1 refused"))
    assert stats.cpus == str(cpu)
    assert stats.name == f"{HOST}:{link.receiver.ports[0].port}"


def test_a_port_alone_gives_one_completion_for_each_request_in_their_order():
    shape = PortShape(rows=8)
    pool = BufferPool(shape.packet_layout().frame_bytes)
    pool.grow(8)
    leases = [pool.lease() for _ in range(8)]
    port = Port(shape.packet_layout(), HOST, 0, pool, depth=6, options=PATIENT)
    try:
        port.give([(number, leases[number].slot) for number in range(1, 7)])
        with pytest.raises(StateError, match="6 requests"):
            port.give([(7, leases[7].slot)])
        port.start(1)
        config = EmulatorConfig(
            destinations=(((HOST, port.port),),),
            rows=8,
            frames=6,
            faults=Faults([FaultRule(FaultKind.DROP, frame=2)]),
        )
        Emulator(config, numbered_images).run()
        done = []
        while len(done) < 6:
            done += port.completions(LIMIT_S).tolist()
        port.ask_stop()
        port.wait_stopped()
    finally:
        port.close()

    assert [row[0] for row in done] == [1, 2, 3, 4, 5, 6]
    assert [row[2] for row in done] == [2, 2, 0, 2, 2, 2]
    image = shape.part_of(numbered_images(3, 0))
    assert np.array_equal(leases[4].array((8, 1024), np.uint16), image)


def test_the_command_sends_and_accounts(make_link):
    link = make_link()
    link.receiver.start(100, count=10)
    address = f"{HOST}:{link.receiver.ports[0].port}"
    command = [sys.executable, "-m", "camera_plugins.jungfrau.emulate", "jungfrau"]
    command += ["--dest", address, "--rows", "16", "--frames", "10", "--first-frame", "100"]
    command += ["--rate", "500", "--fault", "drop:frame=2,packet=1", "--mix", "double=0.2"]

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    frames = link.take_all()

    line = json.loads(done.stdout)["lines"][0]
    assert line["incomplete"] == {"102": "0d"}
    assert line["faults"]["drop"] == 1
    assert [frame.packets for frame in frames] == [4, 4, 3, 4, 4, 4, 4, 4, 4, 4]
    assert counts_of(link).doubled == line["faults"]["double"]


def test_a_jump_of_frame_numbers_costs_one_entry(make_link):
    link = make_link(slots=8, depth=8)
    link.receiver.start(1)
    link.send(3)
    link.send(3, first_frame=10_000_001)

    frames = []
    while not any(frame.number == 10_000_003 for frame in frames):
        frames += link.receiver.next_frames(LIMIT_S)
    link.receiver.stop()

    received = [frame.number for frame in frames if isinstance(frame, Received)]
    assert received == [1, 2, 3, 10_000_001, 10_000_002, 10_000_003]
    lost = [frame for frame in frames if isinstance(frame, Lost)]
    assert sum(frame.count for frame in lost) == 10_000_000 - 3
    assert len(lost) < 20
