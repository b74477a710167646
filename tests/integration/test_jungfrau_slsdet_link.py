"""The process that runs slsdet: its answers, its time limits, its end."""

import json
import os
import select
import signal
import socket
import sys
import threading

import pytest

from camera_plugins.jungfrau._sdk import MESSAGE_BYTES, SlsError, Step, serve
from camera_plugins.jungfrau.slsdet_link import DetectorLink
from lima2_core.errors import CameraError
from lima2_core.testing.doubles import eventually

ECHO = """
import json, os, socket, sys, time
control = socket.socket(fileno=int(sys.argv[1]))
asked = 0
while message := control.recv(131072):
    asked += 1
    results = []
    for step in json.loads(message):
        if step["verb"] == "get" and step["name"] == "end":
            sys.exit(3)
        if step["name"] == "slow":
            time.sleep(step["value"])
        told = {"pid": os.getpid(), "asked": asked}
        results.append(told.get(step["name"], step["value"]))
    bad = any(step["name"] == "bad" for step in json.loads(message))
    control.send(json.dumps({"error": "no"} if bad else {"results": results}).encode())
"""


@pytest.fixture
def link():
    link = DetectorLink([sys.executable, "-c", ECHO])
    yield link
    link.close()


def test_steps_are_carried_out_in_another_process(link):
    assert not link.alive

    assert link.run([Step("set", "a", 1), Step("set", "b", [2])], "is set", limit_s=5) == [1, [2]]
    with pytest.raises(SlsError, match="no"):
        link.run([Step("set", "bad")], "is set", limit_s=5)

    assert link.alive


def test_what_never_answers_is_given_up_and_the_next_call_has_a_new_process(link):
    link.run([Step("set", "a", 1)], "is set", limit_s=5)

    with pytest.raises(CameraError, match="does not answer: it is read"):
        link.run([Step("set", "slow", 30)], "is read", limit_s=0.05)

    assert not link.alive
    assert link.run([Step("set", "a", 1)], "is set", limit_s=5) == [1]


def test_what_takes_long_goes_on_and_is_waited_for_by_the_next_call(link):
    link.run([Step("set", "a", 1)], "is set", limit_s=5)

    with pytest.raises(CameraError, match=r"sets its addresses, which can take .* try again"):
        link.run([Step("set", "slow", 0.3)], "sets its addresses", limit_s=0.05, patience_s=20)
    with pytest.raises(CameraError, match="sets its addresses, which can take"):
        link.run([Step("set", "a", 1)], "is set", limit_s=0.05)

    assert link.run([Step("set", "a", 1)], "is set", limit_s=5) == [1]


def test_who_asks_the_same_again_gets_the_answer_that_was_late(link):
    link.run([Step("set", "a", 1)], "is set", limit_s=5)
    question = [Step("get", "slow", 0.3), Step("get", "asked")]

    def look():
        try:
            return link.run(question, "is read", limit_s=0.02, patience_s=20)
        except CameraError:
            return None

    assert look() is None
    assert eventually(lambda: (answer := look()) and answer[1] == 2)

    assert link.run([Step("get", "asked")], "is read", limit_s=5) == [3]


def test_what_changes_something_is_done_as_often_as_it_is_said(link):
    link.run([Step("set", "a", 1)], "is set", limit_s=5)
    change = [Step("set", "slow", 0.1), Step("get", "asked")]

    with pytest.raises(CameraError):
        link.run(change, "is set", limit_s=0.02, patience_s=20)

    assert link.run(change, "is set", limit_s=5)[1] == 3


def test_an_answer_that_came_too_late_is_not_taken(link, monkeypatch):
    link.run([Step("set", "a", 1)], "is set", limit_s=5)
    question = [Step("get", "slow", 0.05), Step("get", "asked")]
    with pytest.raises(CameraError):
        link.run(question, "is read", limit_s=0.01, patience_s=20)
    assert select.select([link._control], [], [], 5)[0]

    now_s = link._now_s
    monkeypatch.setattr(link, "_now_s", lambda: now_s() + 30)

    assert link.run(question, "is read", limit_s=5)[1] == 3


def test_signals_to_the_group_of_a_server_do_not_reach_it(link):
    (pid,) = link.run([Step("set", "pid")], "is asked", limit_s=5)

    assert os.getpgid(pid) == pid != os.getpgid(0)


def test_a_process_that_died_between_calls_is_replaced(link):
    (pid,) = link.run([Step("set", "pid")], "is asked", limit_s=5)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not link.alive)

    (other,) = link.run([Step("set", "pid")], "is asked", limit_s=5)

    assert other != pid


def test_a_process_that_died_is_told_and_replaced(link):
    with pytest.raises(CameraError, match="has ended"):
        link.run([Step("get", "end")], "is read", limit_s=5)

    assert link.run([Step("set", "a", 1)], "is set", limit_s=5) == [1]


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
        serving.join(5)

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
