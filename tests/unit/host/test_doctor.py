"""The command, on the computer that runs the tests."""

import json

import pytest

from lima2_core import cli, registry
from lima2_core.host import Finding, Verdict
from lima2_core.host.command import main
from lima2_core.host.report import summary, table


def finding(verdict, found="", cost="", remedy=""):
    return Finding("check", "host", verdict, found, "more", cost, remedy)


def test_the_command_is_installed():
    assert registry.load(registry.COMMANDS, "doctor") is main


def test_this_computer_is_examined_and_told_as_a_table(tmp_path, capsys):
    code = main(["--address", "127.0.0.1", "--folder", str(tmp_path)])

    lines = capsys.readouterr().out.splitlines()
    rows = lines[lines.index(next(line for line in lines if line.startswith("verdict"))) :]
    column = rows[0].index("check")
    checks = [
        row[column:].split()[0] for row in rows[1:] if row.split(" ")[0] in Verdict.__members__
    ]
    assert {"receive-buffer", "mtu", "address", "free-space", "write-rate"} <= set(checks)
    assert rows[-1].startswith("FAULT:" if code else ("OK:", "WARNING:"))
    assert list(tmp_path.iterdir()) == []


def test_programs_get_the_same_as_json(tmp_path, capsys):
    code = main(["--address", "127.0.0.1", "--folder", str(tmp_path), "--json", "--quick"])

    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] in (("fault",) if code else ("ok", "warning"))
    assert set(report) == {"host", "user", "verdict", "summary", "findings"}
    found = {(f["check"], f["subject"]): f for f in report["findings"]}
    assert found["address", "127.0.0.1"]["verdict"] == "ok"
    assert found["link", "lo"]["verdict"] == "ok"
    assert ("write-rate", str(tmp_path)) not in found


def test_a_fault_is_an_exit_code(capsys):
    assert cli.main(["doctor", "--interface", "no-such-card"]) == 1

    assert "no such interface; there are" in capsys.readouterr().out


def test_without_an_interface_the_command_says_what_it_did_not_look_at(capsys):
    main(["--quick", "--realtime", "0"])

    assert "No interface was named" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--buffer", "much"], "'much' is no size; write it like 64MiB"),
        (["--realtime", "100"], "it goes from 1 to 99"),
        (["--cpus", "a"], "--cpus"),
        (["--nothing"], "unrecognized arguments"),
    ],
)
def test_a_wrong_word_is_told_with_exit_code_2(capsys, words, told):
    with pytest.raises(SystemExit) as refused:
        main(words)

    assert refused.value.code == 2
    assert told in capsys.readouterr().err


def test_what_is_wrong_is_followed_by_its_cost_and_its_remedy():
    text = table(
        [
            finding(Verdict.OK, "enough"),
            finding(Verdict.FAULT, "little", "Much.", "mend it\nfor good"),
            finding(Verdict.UNKNOWN, "no file"),
        ]
    )

    assert text.splitlines() == [
        "verdict  check  subject  found    wanted",
        "OK       check  host     enough   more",
        "FAULT    check  host     little   more",
        "         costs: Much.",
        "         mend:  mend it",
        "                for good",
        "UNKNOWN  check  host     no file  more",
    ]


@pytest.mark.parametrize(
    ("verdicts", "line"),
    [
        ([Verdict.OK], "OK: 1 check, nothing wrong"),
        (
            [Verdict.OK, Verdict.WARNING, Verdict.UNKNOWN],
            "WARNING: 1 warning; frames may be lost; 1 could not be found out",
        ),
        (
            [Verdict.FAULT, Verdict.WARNING, Verdict.FAULT],
            "FAULT: 2 faults and 1 warning; mend the faults first",
        ),
    ],
)
def test_the_last_line_is_the_verdict(verdicts, line):
    assert summary([finding(verdict) for verdict in verdicts]) == line
