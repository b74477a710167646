"""Listeners that die or hang: nothing waits for them, and what can be had of their frames comes."""

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from camera_plugins.jungfrau.faults import FaultKind, FaultRule
from lima2_core.data.frame import Validity
from lima2_core.errors import CameraError
from lima2_core.net import ListenerStock, Lost, Port, PortOptions, Received
from lima2_core.net import process as process_module
from lima2_core.net.pulse import LOOK_S, Pulse, process_state
from lima2_core.net.receiver import MAX_REPLACED
from lima2_core.system.books import left_open
from lima2_core.system.ports import RunStatus
from lima2_core.testing.doubles import eventually
from tests.integration.packets import LIMIT_S, PATIENT, counts_of


def open_descriptors():
    """Numbers, and what they lead to."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the list itself is gone
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


def send_half_of_the_last(link):
    """Send eight frames and see them received: the last one is open when its listener fails."""
    sent = link.send(8, FaultRule(FaultKind.DROP, frame=7, packet=2))
    assert eventually(lambda: counts_of(link).accepted == 8 * 4 - 1)
    return sent


def stop_process(pid):
    """Let it stand still, as one that hangs."""
    os.kill(pid, signal.SIGSTOP)
    assert eventually(lambda: process_state(pid) == "T")


def test_a_listener_that_dies_is_named_and_replaced_and_its_frames_go_on(make_link, caplog):
    link = make_link(options=PortOptions(frame_timeout_s=LIMIT_S))
    link.receiver.start(1, count=20)
    first = send_half_of_the_last(link)
    victim = link.receiver.ports[0].pid

    os.kill(victim, signal.SIGKILL)
    second = link.send(12, first_frame=9)
    frames = link.take_all()

    assert link.receiver.stats()[0].replaced == 1
    assert f"{link.addresses[0][1]} died (killed by signal 9)" in caplog.text
    assert [frame.number for frame in frames] == list(range(1, 21))
    link.check(frames[:8], first)
    link.check(frames[8:], second, first_frame=9)
    assert counts_of(link).accepted == 20 * 4 - 1


def test_a_listener_that_dies_again_and_again_fails_the_acquisition(make_link):
    link = make_link()
    link.receiver.start(1)

    def kill_until_it_fails():
        while True:
            os.kill(link.receiver.ports[0].pid, signal.SIGKILL)
            link.receiver.next_frames(0.0)
            os.waitid(os.P_PID, link.receiver.ports[0].pid, os.WNOWAIT | os.WEXITED | os.WNOHANG)

    with pytest.raises(CameraError, match="died"):
        kill_until_it_fails()
    link.receiver.stop()


class Spoilt(ListenerStock):
    """Gives processes that never say anything, as long as it is told to."""

    silent = False

    def take(self):
        if not self.silent:
            return super().take()
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.setblocking(False)
        with far:
            waits_for_ever = (sys.executable, "-c", "import signal; signal.pause()")
            process = subprocess.Popen(
                waits_for_ever, pass_fds=(far.fileno(),), stderr=subprocess.PIPE
            )
        return process, near


@pytest.fixture
def spoilt():
    stock = Spoilt()
    yield stock
    stock.close()


def kill_listener(link):
    pid = link.receiver.ports[0].pid
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: process_state(pid) == "Z")


def test_a_stop_does_not_wait_for_the_listener_that_follows_a_dead_one(make_link, spoilt):
    link = make_link(stock=spoilt)
    link.receiver.start(1, count=100)
    first = link.send(8)
    assert eventually(lambda: counts_of(link).accepted == 8 * 4)
    spoilt.silent = True
    kill_listener(link)
    began_s = time.monotonic()

    frames = link.receiver.next_frames(LIMIT_S)
    link.receiver.wake()
    woken = link.receiver.next_frames(LIMIT_S)
    limited = link.receiver.next_frames(0.05)
    spoilt.silent = False
    frames += link.receiver.stop()

    assert time.monotonic() - began_s < LIMIT_S / 2
    assert (woken, limited) == ([], [])
    link.check(frames, first)
    frames, account = link.acquire(6, first_frame=200)
    link.check(frames, account, first_frame=200)


def test_listeners_that_never_get_ready_fail_the_acquisition_as_a_camera_does(
    make_link, spoilt, monkeypatch
):
    link = make_link(stock=spoilt)
    link.receiver.start(1, count=100)
    spoilt.silent = True
    kill_listener(link)
    monkeypatch.setattr(process_module, "ANSWER_S", 0.1)

    with pytest.raises(CameraError, match=r"not take over within 0.1 s\), after 3 others") as info:
        link.receiver.next_frames(LIMIT_S)

    status = RunStatus("FAULT", True, 0, 0, {}, {}, error="no", error_code=info.value.code)
    assert left_open(status) is Validity.DROPPED
    assert link.receiver.stats()[0].hung == 2
    monkeypatch.undo()
    spoilt.silent = False
    link.receiver.stop()
    frames, account = link.acquire(6, first_frame=200)
    link.check(frames, account, first_frame=200)


def test_a_start_waits_for_one_listener_that_is_not_ready_and_the_next_gets_another(
    make_link, spoilt, monkeypatch
):
    link = make_link(modules=2, stock=spoilt)
    spoilt.silent = True
    link.receiver.ports[1].renew()
    spoilt.silent = False
    monkeypatch.setattr(process_module, "ANSWER_S", 0.1)

    with pytest.raises(CameraError, match=r"did not begin within 0.1 s"):
        link.receiver.start(1, count=100)

    monkeypatch.undo()
    frames, account = link.acquire(6, first_frame=200)
    link.check(frames, account, first_frame=200)
    link.check_counts(account)


@pytest.mark.parametrize("what", ["listener", "eventfd"])
def test_a_port_that_cannot_be_made_leaves_no_descriptors(make_link, monkeypatch, what):
    link = make_link()

    def refuse(*_):
        raise CameraError("no")

    def make():
        Port(link.receiver.ports[0].layout, "127.0.0.1", 0, link.pool, stock=stock)

    stock = ListenerStock()
    monkeypatch.setattr(*{"listener": (stock, "take"), "eventfd": (os, "eventfd")}[what], refuse)
    gc.collect()  # the memory of a table goes with its port
    before = open_descriptors()

    with pytest.raises(CameraError, match="no"):
        make()

    gc.collect()
    # Of what tests before left to be closed, some may be gone.
    assert open_descriptors() <= before


def test_a_listener_that_hangs_is_named_and_replaced_and_its_frames_go_on(make_link, caplog):
    link = make_link(options=PortOptions(frame_timeout_s=LIMIT_S))
    link.receiver.start(1, count=20)
    first = send_half_of_the_last(link)

    stop_process(link.receiver.ports[0].pid)
    second = link.send(12, first_frame=9)
    frames = link.take_all()

    stats = link.receiver.stats()[0]
    assert (stats.replaced, stats.hung) == (1, 1)
    assert f"{stats.name} hangs (no sign of life for 1." in caplog.text
    assert [frame.number for frame in frames] == list(range(1, 21))
    link.check(frames[:8], first)
    link.check(frames[8:], second, first_frame=9)


def test_what_the_kernel_could_give_to_nobody_is_lost_as_packets(make_link):
    link = make_link(options=replace(PATIENT, buffer_bytes=64 * 1024))
    link.receiver.start(1, count=60)
    for number in range(1, 5):
        link.send(1, first_frame=number)
        assert eventually(lambda: counts_of(link).accepted == number * 4)  # noqa: B023
    stop_process(link.receiver.ports[0].pid)
    link.send(52, first_frame=5)
    frames = link.receiver.next_frames(LIMIT_S)
    while not link.receiver.stats()[0].hung or link.receiver.ports[0].resuming:
        frames += link.receiver.next_frames(LIMIT_S)
    link.send(4, first_frame=57)

    while not link.receiver.over:
        frames += link.receiver.next_frames(LIMIT_S)
    link.receiver.stop()

    stats = link.receiver.stats()[0]
    lost = [frame for frame in frames if isinstance(frame, Lost)]
    received = [frame for frame in frames if isinstance(frame, Received)]
    assert {frame.cause for frame in lost} == {Validity.PACKET_LOSS}
    assert not any(frame.overrun for frame in received)
    assert len(received) + sum(frame.count for frame in lost) == 60
    counts = stats.counts
    asked_for = counts.frames_complete + counts.frames_partial + counts.frames_missing
    # Frames that were passed over are in no count of a port that was never asked for them.
    passed_over = 60 - asked_for
    assert stats.kernel_drops == counts.lost + 4 * passed_over == 60 * 4 - counts.accepted > 0
    assert stats.counts.kernel_overrun == 0


def test_one_of_several_listeners_that_hangs_does_not_hold_up_the_others(make_link, caplog):
    link = make_link(modules=2, slots=80, depth=12)
    link.receiver.start(1, count=60)
    stop_process(link.receiver.ports[1].pid)

    account = link.send(60)
    frames = link.take_all()

    assert [frame.number for frame in frames] == list(range(1, 61))
    link.check(frames, account)
    assert [port.hung for port in link.receiver.stats()] == [0, 1]


def test_a_listener_that_hangs_between_acquisitions_is_replaced_at_once(make_link):
    link = make_link(modules=2)
    link.acquire(3)
    for port in link.receiver.ports:
        stop_process(port.pid)

    link.receiver.start(4, count=5)

    account = link.send(5, first_frame=4)
    link.check(link.take_all(), account, first_frame=4)
    stats = link.receiver.stats()
    assert ["hangs (stopped)" in port.failed_before for port in stats] == [True, True]
    assert [(port.replaced, port.hung) for port in stats] == [(0, 0), (0, 0)]
    link.check_counts(account)
    link.acquire(3, first_frame=20)
    assert [port.failed_before for port in link.receiver.stats()] == ["", ""]


def test_one_that_died_at_rest_is_none_of_those_an_acquisition_may_lose(make_link):
    link = make_link()
    link.acquire(3)
    kill_listener(link)

    link.receiver.start(4, count=8)
    for number in range(MAX_REPLACED):
        kill_listener(link)
        assert link.receiver.next_frames(0.0) == [], number
    account = link.send(8, first_frame=4)

    link.check(link.take_all(), account, first_frame=4)
    stats = link.receiver.stats()[0]
    assert stats.replaced == MAX_REPLACED
    assert stats.failed_before.endswith("died (killed by signal 9)")


def test_no_listener_is_there_while_the_table_is_cleared(make_link, monkeypatch):
    link = make_link()
    link.acquire(3)
    (port,) = link.receiver.ports
    victim = port.pid
    stop_process(victim)
    states = []
    monkeypatch.setattr(port._table, "clear", lambda: states.append(process_state(victim)))

    port.clear()

    assert states == [""]


def test_a_stop_does_not_wait_for_a_listener_that_hangs(make_link, caplog):
    link = make_link(options=PortOptions(frame_timeout_s=LIMIT_S))
    link.receiver.start(1, count=100)
    first = send_half_of_the_last(link)
    stop_process(link.receiver.ports[0].pid)
    link.send(4, first_frame=9)
    before_s = time.monotonic()

    frames = link.receiver.stop()

    assert time.monotonic() - before_s < LIMIT_S / 2
    # The last one had begun, and is given as far as it came.
    link.check(frames, first)
    assert [frame.packets for frame in frames] == [4] * 7 + [3]
    assert "hangs (it did not stop); it is replaced" in caplog.text
    assert link.receiver.stats()[0].hung == 1
    frames, account = link.acquire(6, first_frame=200)
    link.check(frames, account, first_frame=200)
    assert link.receiver.stats()[0].hung == 0


def test_a_listener_that_takes_no_commands_blocks_nobody(make_link):
    link = make_link()
    port = link.receiver.ports[0]
    link.receiver.start(1)
    stop_process(port.pid)
    before_s = time.monotonic()
    for frame in range(1, 3000):
        port.close_before(frame)

    assert time.monotonic() - before_s < LIMIT_S
    link.receiver.stop()
    frames, account = link.acquire(4, first_frame=10)

    link.check(frames, account, first_frame=10)


def test_a_listener_that_hangs_goes_to_no_other_port(make_link):
    stock = ListenerStock(2)
    stop_process(stock._idle[0][0].pid)

    process, control = stock.take()

    assert process_state(process.pid) != "T"
    stock.give_back((process, control))
    stock.close()


class Signs:
    """A table of which only the signs of life are asked for."""

    beat = 0


@pytest.fixture
def pulse(monkeypatch):
    """Signs of life of a process in a state of one's choice, and a look some time later."""
    seen = {"now_s": 100.0, "state": "S"}
    monkeypatch.setattr("lima2_core.net.pulse.time.monotonic", lambda: seen["now_s"])
    monkeypatch.setattr("lima2_core.net.pulse.process_state", lambda pid: seen["state"])
    signs = Signs()
    made = Pulse(signs, 1)

    def look(duration_s, state="S", step_s=LOOK_S):
        seen["state"] = state
        for _ in range(round(duration_s / step_s)):
            seen["now_s"] += step_s
            if (reason := made.failure()) is not None:
                return reason
        return None

    return signs, look


@pytest.mark.parametrize(("state", "named"), [("S", "asleep"), ("T", "stopped")])
def test_a_second_without_a_sign_of_life_is_enough(pulse, state, named):
    _, look = pulse

    assert look(0.9, state) is None
    assert look(0.2, state).endswith(f" s, {named}")


@pytest.mark.parametrize("state", ["R", "D"])
def test_a_listener_that_its_computer_keeps_waiting_has_five_seconds(pulse, state):
    _, look = pulse

    assert look(4.8, state) is None
    assert look(0.3, state).startswith("no sign of life for 5")


def test_a_sign_of_life_counts_whatever_came_before(pulse):
    signs, look = pulse
    assert look(0.9) is None
    signs.beat += 1

    assert look(0.9) is None


def test_time_in_which_nobody_looks_does_not_count(pulse):
    _, look = pulse

    assert look(270, step_s=30) is None
    assert look(60, step_s=30) is not None
