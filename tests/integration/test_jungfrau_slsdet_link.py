"""The process that runs slsdet: its answers, its time limits, its end."""

import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import closing

import pytest

from camera_plugins.jungfrau._sdk import MESSAGE_BYTES, SlsError, Step, serve
from camera_plugins.jungfrau.slsdet_link import DetectorLink
from lima2_core.errors import CameraError
from lima2_core.testing.doubles import LIMIT_S, eventually

ECHO = """
import json, os, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
asked = 0
while message := control.recv(131072):
    asked += 1
    results = []
    for step in json.loads(message):
        if step["verb"] == "get" and step["name"] == "end":
            sys.exit(3)
        if step["name"] == "slow":
            with open(step["value"], "rb", buffering=0) as gate:
                gate.read(1)
        told = {"pid": os.getpid(), "asked": asked}
        results.append(told.get(step["name"], step["value"]))
    bad = any(step["name"] == "bad" for step in json.loads(message))
    control.send(json.dumps({"error": "no"} if bad else {"results": results}).encode())
"""
BRIEF = {"limit_s": 0.02, "patience_s": 600}
"""For what does not answer so soon, and is not given up."""


class Gate:
    """What a slow step waits for, each time anew."""

    def __init__(self, path):
        self.path = str(path)
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR)

    def let_through(self, times=1):
        """Let so many steps go on, those to come among them."""
        os.write(self._fd, b"x" * times)

    def close(self):
        os.close(self._fd)


@pytest.fixture
def gate(tmp_path):
    with closing(Gate(tmp_path / "gate")) as gate:
        yield gate


@pytest.fixture
def link():
    link = DetectorLink([sys.executable, "-c", ECHO])
    yield link
    link.close()


def test_steps_are_carried_out_in_another_process(link):
    assert not link.alive

    assert link.run([Step("set", "a", 1), Step("set", "b", [2])], "is set", limit_s=LIMIT_S) == [
        1,
        [2],
    ]
    with pytest.raises(SlsError, match="no"):
        link.run([Step("set", "bad")], "is set", limit_s=LIMIT_S)

    assert link.alive


def test_what_never_answers_is_given_up_and_the_next_call_has_a_new_process(link, gate):
    link.run([Step("set", "a", 1)], "is set", limit_s=LIMIT_S)

    with pytest.raises(CameraError, match="does not answer: it is read"):
        link.run([Step("set", "slow", gate.path)], "is read", limit_s=0.05)

    assert not link.alive
    assert link.run([Step("set", "a", 1)], "is set", limit_s=LIMIT_S) == [1]


def test_what_takes_long_goes_on_and_is_waited_for_by_the_next_call(link, gate):
    link.run([Step("set", "a", 1)], "is set", limit_s=LIMIT_S)

    with pytest.raises(CameraError, match=r"sets its addresses, which can take .* try again"):
        link.run([Step("set", "slow", gate.path)], "sets its addresses", **BRIEF)
    with pytest.raises(CameraError, match="sets its addresses, which can take"):
        link.run([Step("set", "a", 1)], "is set", limit_s=0.05)

    gate.let_through()
    assert link.run([Step("set", "a", 1)], "is set", limit_s=LIMIT_S) == [1]


def test_who_asks_the_same_again_gets_the_answer_that_was_late(link, gate):
    link.run([Step("set", "a", 1)], "is set", limit_s=LIMIT_S)
    question = [Step("get", "slow", gate.path), Step("get", "asked")]

    def look():
        try:
            return link.run(question, "is read", **BRIEF)
        except CameraError:
            return None

    assert look() is None
    assert look() is None
    gate.let_through()
    assert eventually(lambda: (answer := look()) and answer[1] == 2)

    assert link.run([Step("get", "asked")], "is read", limit_s=LIMIT_S) == [3]


def test_what_changes_something_is_done_as_often_as_it_is_said(link, gate):
    link.run([Step("set", "a", 1)], "is set", limit_s=LIMIT_S)
    change = [Step("set", "slow", gate.path), Step("get", "asked")]

    with pytest.raises(CameraError):
        link.run(change, "is set", **BRIEF)

    gate.let_through(2)
    assert link.run(change, "is set", limit_s=LIMIT_S)[1] == 3


def test_an_answer_that_came_too_late_is_not_taken(link, gate, monkeypatch):
    link.run([Step("set", "a", 1)], "is set", limit_s=LIMIT_S)
    question = [Step("get", "slow", gate.path), Step("get", "asked")]
    with pytest.raises(CameraError):
        link.run(question, "is read", **BRIEF)
    gate.let_through()
    assert select.select([link._control], [], [], LIMIT_S)[0]

    now_s = link._now_s
    monkeypatch.setattr(link, "_now_s", lambda: now_s() + 1000)

    gate.let_through()
    assert link.run(question, "is read", limit_s=LIMIT_S)[1] == 3


def test_signals_to_the_group_of_a_server_do_not_reach_it(link):
    (pid,) = link.run([Step("set", "pid")], "is asked", limit_s=LIMIT_S)

    assert os.getpgid(pid) == pid != os.getpgid(0)


def test_a_process_that_died_between_calls_is_replaced(link):
    (pid,) = link.run([Step("set", "pid")], "is asked", limit_s=LIMIT_S)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not link.alive)

    (other,) = link.run([Step("set", "pid")], "is asked", limit_s=LIMIT_S)

    assert other != pid


def test_a_process_that_died_is_told_and_replaced(link):
    with pytest.raises(CameraError, match="has ended"):
        link.run([Step("get", "end")], "is read", limit_s=LIMIT_S)

    assert link.run([Step("set", "a", 1)], "is set", limit_s=LIMIT_S) == [1]


def test_the_far_side_answers_with_results_or_with_the_first_refusal():
    done = []

    class Library:
        def step(self, step):
            if step.name == "bad":
                raise RuntimeError("Detector returned: no\n")
            done.append(step.name)
            return step.value

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        serving = threading.Thread(target=serve, args=(far, Library))
        serving.start()
        answers = []
        for names in (["a", "b"], ["a", "bad", "c"]):
            steps = [{"verb": "set", "name": name, "value": 1} for name in names]
            near.send(json.dumps(steps).encode())
            answers.append(json.loads(near.recv(MESSAGE_BYTES)))
        near.shutdown(socket.SHUT_RDWR)
        serving.join(LIMIT_S)

    assert answers == [{"results": [1, 1]}, {"error": "Detector returned: no"}]
    assert done == ["a", "b", "a"]


def test_a_library_that_does_not_load_is_fatal():
    def broken():
        raise ImportError("no libzmq")

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        serve(far, broken)
        answer = json.loads(near.recv(MESSAGE_BYTES))

    assert "no libzmq" in answer["fatal"]
    assert "lima2-suite[jungfrau]" in answer["fatal"]
