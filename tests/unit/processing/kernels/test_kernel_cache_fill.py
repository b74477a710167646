"""The cache of compiled kernels is filled once, by a process of its own."""

import subprocess

import pytest

from processing.kernels import fill_cache


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The commands that were started; a stamp tells nothing of other tests."""
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    stamps = [tmp_path / "here.done", tmp_path / "there" / "user.done"]
    monkeypatch.setattr(fill_cache, "_stamps", lambda: stamps)
    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_a_cache_that_was_never_filled_is_filled_by_another_process(started):
    fill_cache.fill_apart()

    assert [command[1:3] for command in started] == [["-m", "processing.kernels.fill_cache"]]


def test_a_cache_that_was_filled_is_left_alone(started):
    fill_cache._leave_stamp()

    fill_cache.fill_apart()

    assert started == []


def test_where_the_package_cannot_be_written_the_stamp_goes_to_the_user(started, monkeypatch):
    here, user = fill_cache._stamps()
    here = here / "no" / "folder"
    here.parent.parent.write_text("a file is in the way")
    monkeypatch.setattr(fill_cache, "_stamps", lambda: [here, user])

    fill_cache._leave_stamp()

    assert user.exists()
