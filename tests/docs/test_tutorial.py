"""The tutorial is true: all its blocks run as they stand, and show what it says they show."""

import socket

import pytest
import tango

from lima2_core.testing.doubles import eventually
from tango_servers.local.database import database_answers
from tango_servers.local.processes import free_port
from tests.docs.blocks import Shell, blocks_of, fits, write_files

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

DEVICES = (
    "id00/limacontrol/simulator",
    "id00/limareceiver/simulator1",
    "id00/limareceiver/simulator2",
)


def device_answers(tango_host, device):
    try:
        tango.DeviceProxy(f"tango://{tango_host}/{device}").ping()
    except tango.DevFailed:
        return False
    return True


def somebody_listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def follow(page, tmp_path):
    """Do what a page says; gives how often what it shows was compared."""
    folder = tmp_path / "tutorial"
    folder.mkdir()
    database, conductor = free_port(), free_port()
    # Nothing is changed but the two ports, which somebody else may use on this machine.
    ports = {"127.0.0.1:10000": f"127.0.0.1:{database}", "58712": str(conductor)}
    # A reader waits until a server is up before typing on; so does the test.
    readiness = {
        "NosqlTangoDB": lambda: database_answers(database),
        "lima2_tango simulator_rcv2": lambda: all(
            device_answers(f"127.0.0.1:{database}", name) for name in DEVICES
        ),
        "lima2-conductor": lambda: somebody_listens(conductor),
    }

    def with_ports(text):
        for written, ours in ports.items():
            text = text.replace(written, ours)
        return text

    blocks = blocks_of(page)
    for path in write_files(blocks, folder):
        path.write_text(with_ports(path.read_text()))
    output = ""
    shown = 0
    with Shell(folder) as shell:
        for block in blocks:
            if block.language == "sh":
                output = shell.run(with_ports(block.text))
                for command, is_ready in readiness.items():
                    if block.text.startswith(command) or f"\n{command}" in block.text:
                        assert eventually(is_ready, 45), f"{command} did not come up"
            elif block.language == "text":
                assert fits(block.text, output), f"shown:\n{block.text}\nfound:\n{output}"
                shown += 1

    assert not database_answers(database)
    return shown


def test_the_first_acquisition(tmp_path):
    assert follow("tutorials/first_acquisition.md", tmp_path) == 6


def test_one_front(tmp_path):
    assert follow("tutorials/one_front.md", tmp_path) == 6
