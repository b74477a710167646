"""What commands show."""

import json

import pytest

from client import DeadlineError, Event, Lima2, Params, Progress, Validity, wire
from client.commands import acquire, status
from client.commands.common import bar, line, results
from tests.unit.client.scripted import SCHEMA, Scripted, ScriptedRun
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

    acquire._follow(script.run, 20, quiet=False)

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


def told_of(run, control=None):
    """A control device whose current run this is."""
    control = Scripted() if control is None else control
    control.peers[run.name] = run
    control.values |= {
        wire.FRONT_PARAMS: Params.of_schema(json.dumps(SCHEMA)).to_json(),
        wire.FRONT_STATE: "idle",
        wire.FRONT_ERROR: wire.NO_ERROR,
        wire.CURRENT_RUN: run.run.uuid,
        wire.RECEIVER_STATES: (),
        wire.PREFLIGHT: (),
    }
    control.commands[wire.PREPARE_WITH] = lambda text: run.run.uuid
    run.values |= {wire.STUCK: "", wire.TROUBLES: ()}
    return control


@pytest.fixture
def call(monkeypatch):
    """Call a command with a control device in place of that of Tango."""

    def call(command, control, *words):
        monkeypatch.setattr(command, "Lima2", lambda name: Lima2(name, device=control))
        return command.main([control.name, *words])

    return call


def test_the_status_names_the_master_files_and_then_the_scan(call, capsys):
    run = ScriptedRun(("done", []))
    control = told_of(run)
    run.values[wire.FILES] = ("esrf:scan:1", "/d/a_master.h5", "/d/b_master.h5", "/d/a_0_00000.h5")

    call(status, control)

    shown = capsys.readouterr().out.splitlines()
    assert shown[-3:] == ["  /d/a_master.h5", "  /d/b_master.h5", "  esrf:scan:1"]
    assert results(["/d/some.bin", "/d/other.bin"]) == ["/d/some.bin"]


def test_the_status_tells_a_refusal_once(call, capsys):
    control = told_of(ScriptedRun(("done", [])))
    control.values |= {
        wire.STATUS: "Ready; the last prepareAcq was refused: the disk is full.",
        wire.FRONT_ERROR: "the disk is full",
    }

    call(status, control)

    assert capsys.readouterr().out.count("the disk is full") == 1
    control.values[wire.STATUS] = "At rest."
    call(status, control)
    assert "error: the disk is full" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("phase", "counts", "code", "heading"),
    [
        ("done", {"valid": 10}, 0, "complete: as it is"),
        ("done", {"valid": 4, "never_sent": 6}, 1, "stopped: as it is"),
        ("done", {"never_sent": 10}, 1, "stopped: as it is"),
        ("done", {"valid": 9, "partial": 1}, 1, "incomplete: as it is"),
        ("incomplete", {"valid": 9, "partial": 1}, 1, "incomplete: as it is"),
        ("done", {"valid": 9, "dropped": 1}, 1, "incomplete: as it is"),
        ("incomplete", {"valid": 10}, 1, "incomplete: as it is"),
        ("incomplete", {"valid": 8, "dropped": 1, "never_sent": 1}, 1, "incomplete: as it is"),
        ("discarded", {}, 1, "discarded: as it is"),
        ("done", {}, 0, "complete: as it is"),
    ],
)
def test_acquire_is_well_only_if_every_frame_is_there_and_valid(
    call, capsys, phase, counts, code, heading
):
    run = ScriptedRun((phase, []))
    control = told_of(run)
    run.values[wire.LEDGER_COUNTS] = json.dumps({"expected": 10, "open": 0, **counts})

    found = call(acquire, control, "--quiet")

    shown = capsys.readouterr().out.splitlines()
    assert found == code
    assert shown[1] == heading
    assert ("1 partial: kept, but incomplete" in shown) == ("partial" in counts)
    assert shown[-1] == "/nowhere/p_master.h5"


@pytest.mark.parametrize(
    ("phase", "counts", "code", "stops"),
    [
        ("running", {"valid": 4, "never_sent": 6}, 130, 1),
        ("running", {"valid": 4}, 0, 1),
        ("running", {"valid": 3, "dropped": 1, "never_sent": 6}, 1, 1),
        ("draining", {"valid": 10}, 0, 0),
    ],
)
def test_acquire_that_is_ended_from_the_keyboard(
    call, capsys, monkeypatch, phase, counts, code, stops
):
    run = ScriptedRun(([phase, "done"], []))
    control = told_of(run)
    run.values[wire.LEDGER_COUNTS] = json.dumps(counts)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(acquire, "_follow", interrupted)

    assert call(acquire, control) == code

    assert [name for name, _ in control.calls].count(wire.STOP) == stops
    assert "stopping" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("phase", "ends"), [(["running", "done"], wire.STOP), (["prepared", "discarded"], wire.RESET)]
)
def test_acquire_that_is_ended_from_the_keyboard_while_it_starts_leaves_nothing_behind(
    call, monkeypatch, phase, ends
):
    run = ScriptedRun((phase, []))
    control = told_of(run)
    run.values[wire.LEDGER_COUNTS] = json.dumps({"never_sent": 10})

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(acquire.Lima2, "start", interrupted)

    assert call(acquire, control) != 0
    assert [name for name, _ in control.calls].count(ends) == 1


def test_a_terminal_is_told_what_others_have_set(call, capsys, monkeypatch, tmp_path):
    control = told_of(ScriptedRun(("done", [])))
    params = Params.of_schema(json.dumps(SCHEMA))
    params.update({"acquisition.acq": {"nb_frames": 2, "mode": "b"}, "metadata": {"a": 1}})
    params.update({"processing.saving": {"enabled": True, "filename_prefix": "x"}})
    params["acquisition.acq.expo_time"] = 5
    params["acquisition.acq.limit"] = 3
    control.values[wire.FRONT_PARAMS] = params.to_json()
    file = tmp_path / "p.json"
    file.write_text('{"processing": {"saving": {"filename_prefix": "y"}}, "metadata": {"b": 1}}')
    words = ("--params", str(file), "--set", "acquisition.acq.mode=b", "--exposure", "1")

    def lines(*words):
        call(acquire, control, *words)
        return [one for one in capsys.readouterr().out.splitlines() if "used last" in one]

    assert lines() == []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    paths = ("acquisition.acq.nb_frames", "acquisition.acq.limit", "processing.saving.enabled")
    assert lines(*words) == [f"as used last, not the defaults: {', '.join(paths)}"]
    (line,) = lines()
    assert line.endswith(f" and 2 more; see lima2 params {control.name}")
    assert line.count("acquisition.") == 4
    assert lines("--defaults") == lines("--quiet") == []
    (line,) = lines("--set", "processing.class_name=Blind", *words[2:])
    assert line == "as used last, not the defaults: " + ", ".join((*paths[:2], "metadata"))


def test_the_pipeline_may_come_behind_its_parameters_on_a_command_line(call):
    control = told_of(ScriptedRun(("done", [])))
    sent = []
    control.commands[wire.PREPARE_WITH] = lambda text: sent.append(json.loads(text)) or "u-1"
    words = ("processing.files.base_path=/x", "processing.class_name=Files")

    assert call(acquire, control, *(word for pair in words for word in ("--set", pair))) == 0

    assert sent[0]["processing"]["files"]["base_path"] == "/x"


def test_a_limit_of_time_that_is_none_is_refused_before_anything_begins(call, capsys):
    control = told_of(ScriptedRun(("done", [])))

    assert call(acquire, control, "--timeout", "-1") == 1

    assert control.calls == []
    assert "timeout_s: must be a time" in capsys.readouterr().err


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
