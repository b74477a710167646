"""Whether the process that published a scan is still there."""

import os
import subprocess
import sys

import pytest

from processing.outputs import blissdata_writer_id
from processing.outputs.blissdata_writer_id import is_gone, writer


def test_this_process_is_there():
    assert not is_gone(writer())


def test_one_that_has_ended_is_gone():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = blissdata_writer_id._began(process.pid)
        told = {**writer(), "pid": process.pid, "began": began}
        assert began
        assert not is_gone(told)
    assert is_gone(told)


def test_another_one_with_the_same_number_is_not_it():
    assert is_gone({**writer(), "began": "1"})


@pytest.mark.parametrize(
    "told", [{}, None, {"host": "elsewhere", "pid": 1, "began": "1"}, {**writer(), "pid": "x"}]
)
def test_of_others_nothing_is_known(told):
    assert not is_gone(told)


def test_it_is_plain():
    assert writer()["pid"] == os.getpid()
