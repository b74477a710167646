import threading
import time

import pytest

from lima2_core.ids import AcqId
from lima2_core.system import output_thread
from lima2_core.system.output_thread import Outputs, OutputThread
from lima2_core.system.outputs import OutputPlugin, RunOutput, Survivors
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.testing.system_doubles import ScriptedOutput


class View:
    """As much of a run as an output thread looks at."""

    acq_id = AcqId("a")


@pytest.fixture
def start(monkeypatch):
    """Starts the outputs of a run; they are ended after the test."""
    monkeypatch.setattr(output_thread, "SURVIVORS_S", LIMIT_S)
    started = []

    def make(*outputs, on_done=lambda: None):
        group = Outputs(outputs, View(), on_done)
        started.append((group, outputs))
        return group

    yield make
    for group, outputs in started:
        for output in outputs:
            output.let_go()
        group.abandon()
        group.join(time.monotonic() + LIMIT_S)


def test_an_output_is_opened_updated_and_finished_on_one_thread(start):
    output, done = ScriptedOutput(), threading.Event()
    group = start(output, on_done=done.set)
    assert eventually(lambda: "update" in output.calls)

    group.finish()

    assert done.wait(LIMIT_S)
    assert output.calls == ["open", "update", "finish"]
    assert output.run is not None
    assert len(output.threads) == 1
    assert threading.get_ident() not in output.threads
    (thread,) = group.threads
    assert (thread.name, thread.trouble, thread.results()) == ("scripted", "", ("/data/scripted",))


def test_a_run_that_is_over_at_once_is_written_all_the_same(start):
    output = ScriptedOutput(wait_in="open")
    group = start(output)

    group.finish()
    output.let_go()

    assert eventually(lambda: group.done)
    assert output.calls == ["open", "finish"]


def test_of_a_run_that_never_was_nothing_is_written(start):
    output = ScriptedOutput()
    group = start(output)

    group.abandon()
    group.finish()

    assert eventually(lambda: group.done)
    assert "finish" not in output.calls


@pytest.mark.parametrize("where", ["open", "update", "finish"])
def test_an_output_that_fails_ends_and_says_why(start, where):
    output, told = ScriptedOutput(fail_in=where), []
    group = start(output, on_done=lambda: told.append(where))
    if where == "finish":
        group.finish()

    assert eventually(lambda: group.done)

    (thread,) = group.threads
    assert thread.trouble == "scripted: OSError: the disk is gone"
    assert output.calls[-1] == where
    assert eventually(lambda: told == [where])


def test_an_output_that_fails_does_not_disturb_the_others(start):
    failing, working = ScriptedOutput(fail_in="open"), ScriptedOutput()
    group = start(failing, working)
    assert eventually(lambda: group.threads[0].done.is_set())
    assert not group.done

    group.finish()

    assert eventually(lambda: group.done)
    assert working.calls[-1] == "finish"
    assert group.threads[1].trouble == ""


def test_trouble_that_passes_is_told_while_it_lasts(start):
    class Troubled(ScriptedOutput):
        trouble = "Redis does not answer"

    group = start(Troubled())

    assert group.threads[0].trouble == "scripted: Redis does not answer"


def test_an_output_looks_into_the_files_of_the_dead_on_its_own_thread(start):
    asked = []

    def rows_left(source, receiver):
        asked.append(threading.get_ident())
        return {("frame", 1): Survivors(12)}.get((source, receiver))

    output = ScriptedOutput(rows_left=rows_left)
    group = start(ScriptedOutput(), output)

    assert group.survivors("frame", 1).rows == 12
    assert group.survivors("frame", 0) is None
    assert set(asked) == output.threads


def test_an_output_that_cannot_tell_is_not_waited_for_without_end(start):
    output = ScriptedOutput(wait_in="update")
    (thread,) = start(output).threads
    assert eventually(lambda: "update" in output.calls)
    began_s = time.monotonic()

    assert thread.survivors("frame", 1, 0.1) is None

    assert time.monotonic() - began_s < LIMIT_S / 2  # it waits until it is let go


def test_an_output_that_fails_when_asked_has_no_answer(start):
    group = start(ScriptedOutput(fail_in="survivors"))

    assert group.survivors("frame", 1) is None

    assert group.done
    assert "disk is gone" in group.threads[0].trouble
    assert group.survivors("frame", 1) is None


def test_a_run_without_outputs_is_written_at_once(start):
    group = start()

    assert group.done
    assert group.survivors("frame", 0) is None
    assert isinstance(group.threads, tuple)


def test_an_output_says_little_unless_it_wants_to():
    class Plain(RunOutput):
        def open(self, run):
            self.run = run

        def update(self):
            pass

        def finish(self):
            pass

    plain = OutputPlugin("plain", lambda settings: Plain()).make({})

    assert (plain.survivors("frame", 0), plain.results(), plain.trouble) == (None, (), "")


def test_an_output_thread_can_be_waited_for(start):
    output = ScriptedOutput(wait_in="finish")
    group = start(output)
    (thread,) = group.threads
    assert isinstance(thread, OutputThread)
    group.finish()
    assert not thread.join(0.05)

    output.let_go()

    assert thread.join(LIMIT_S)
