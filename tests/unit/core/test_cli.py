"""The command ``lima2`` around its sub-commands: where nobody reads on, and where a pipe breaks."""

import os
import subprocess
import sys

import pytest

from lima2_core import cli, registry

LIMA2 = (sys.executable, "-c", "import sys; from lima2_core.cli import main; sys.exit(main())")
UNREAD = 141
"""What a shell shows of a program that SIGPIPE ends."""


@pytest.fixture
def unread():
    """The writing end of a pipe that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", ["doctor", "nonsense"])
def test_a_command_whose_output_nobody_reads_ends_without_a_word(unread, command, unbuffered):
    options = ("--quick", "--realtime", "0") if command == "doctor" else ()
    done = subprocess.run(
        [*LIMA2, command, *options],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=unread if command == "doctor" else subprocess.PIPE,
        stderr=subprocess.PIPE if command == "doctor" else unread,  # there it complains
        check=False,
    )

    assert done.returncode == UNREAD
    assert not done.stdout
    assert not done.stderr


@pytest.mark.parametrize("command", ["doctor", "status", "emulate"])
def test_neither_does_its_help(unread, command):
    done = subprocess.run(
        [*LIMA2, command, "--help"],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        stdout=unread,
        stderr=subprocess.PIPE,
        check=False,
    )

    assert (done.returncode, done.stderr) == (UNREAD, b"")


def test_another_pipe_that_breaks_is_a_failure(monkeypatch):
    def command(words):
        raise BrokenPipeError(*words)

    monkeypatch.setattr(registry, "load", lambda group, name: command)

    with pytest.raises(BrokenPipeError, match="of a child"):
        cli.main(["doctor", "of a child"])
