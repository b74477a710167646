"""What commands show."""

import pytest

from client import DeadlineError, Event, Lima2, Progress, Validity, wire
from client.commands import acquire, status
from client.commands.common import bar, line
from tests.unit.client.scripted import Scripted, ScriptedRun
from tests.unit.processing.master_parts import Parts


def test_progress_is_a_bar_where_the_end_is_known():
    progress = Progress(expected=10, received=5, percent=50.0, rate_hz=20.0, lost=1)

    assert bar(progress) == f"[{'#' * 15}{'-' * 15}]  50 % 5 of 10 frames, 20 frames/s, 1 lost"
    assert bar(Progress(received=5)) == "5 frames"


def test_an_event_is_a_line():
    assert line(Event(state="idle", status="At rest.")) == "idle: At rest."
    event = Event(state="idle", phase="draining", progress=Progress(received=3))
    assert line(event) == "idle, draining: 3 frames"
    assert line(Event(state="running", phase="running", status="x")) == "running: x"


def test_on_a_terminal_progress_stays_in_its_line(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    script = ScriptedRun((["running", "running", "done"], []))
    script.values[wire.STUCK] = ["", "waiting for frame 3"]

    acquire._follow(script.run, 5, quiet=False)

    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.split("\r\033[K")[1].endswith("4 of 10 frames")
    assert "; waiting for frame 3" in out


def test_the_status_is_of_one_time_even_if_the_run_ends_meanwhile(capsys, monkeypatch):
    run = ScriptedRun((["running", "done"], []))
    control = Scripted()
    control.peers[run.name] = run
    control.values |= {
        wire.FRONT_STATE: ["running", "running", "idle"],
        wire.FRONT_ERROR: wire.NO_ERROR,
        wire.CURRENT_RUN: run.run.uuid,
        wire.RECEIVER_STATES: ("r0: idle",),
        wire.PREFLIGHT: (),
    }
    run.values |= {wire.STUCK: "", wire.TROUBLES: ()}
    monkeypatch.setattr(status, "Lima2", lambda name: Lima2(name, device=control))

    assert status.main([control.name]) == 0

    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "idle: All is well."
    assert second == "run u-1: done, as it is"


def test_what_is_waited_for_too_long_is_refused(capsys):
    with pytest.raises(DeadlineError):
        acquire._follow(ScriptedRun(("running", [])).run, 0.05, quiet=True)

    assert capsys.readouterr().out == ""


def test_frames_that_memory_has_forgotten_are_read_from_the_master_file(tmp_path):
    parts = Parts(tmp_path, segment_frames=4)
    parts.output.open(parts.run)
    parts.deliver(0, 0, 2, 4, 6, 8)
    parts.deliver(1, 1, 3, 5, 7, 9)
    parts.finish()
    script = ScriptedRun(("done", [0] * 10))
    script.values[wire.FILES] = (str(parts.index),)
    script.forgotten = range(9)

    found = list(script.run.frames())

    assert [frame.data.flat[0] for frame in found] == [
        *(parts.image(idx).flat[0] for idx in range(9)),
        9,
    ]
    assert {frame.validity for frame in found} == {Validity.VALID}
