"""A camera and a pipeline made by the how-to pages are installed, tested and used: no server file
changes for them.

The blocks of the pages become packages outside the repository and of this virtual environment.
"""

import json
import os
import subprocess
import sys

import pytest
import tango

from lima2_core.testing.doubles import eventually
from tango_servers.local.database import EmbeddedDatabase
from tests.docs.blocks import Shell, blocks_of, fits, write_files

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
# What is needed is here already, and the network is not.
OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation")


class Plugin:
    """One package, written from a page and installed into a folder of its own."""

    def __init__(self, page, folder):
        self.blocks = blocks_of(page)
        self.source = folder / "source"
        self.installed = folder / "installed"
        write_files(self.blocks, self.source)
        self.environ = {"PYTHONPATH": str(self.installed)}
        self._run(*PIP, *OFFLINE, "--target", str(self.installed), str(self.source))

    def test(self):
        """Run its own tests; gives what pytest says."""
        options = ("-p", "lima2_core.testing.leaks", "-p", "no:cacheprovider", "-p", "no:asyncio")
        return self._run(sys.executable, "-m", "pytest", *options, "tests")

    def play(self, tango_host, devices):
        """Run the commands of the page; a command that starts servers is waited for."""
        output = ""
        shown = 0
        with Shell(self.source, TANGO_HOST=tango_host, **self.environ) as shell:
            for block in self.blocks:
                if block.language == "sh":
                    output = shell.run(block.text)
                    if "lima2_tango" in block.text:
                        assert eventually(lambda: answer(tango_host, devices), 40), shell.log
                elif block.language == "text" and output:
                    assert fits(block.text, output), f"shown:\n{block.text}\nfound:\n{output}"
                    shown += 1
        return shown

    def _run(self, *command):
        ended = subprocess.run(
            command,
            cwd=self.source,
            env={**os.environ, **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout


def answer(tango_host, devices):
    try:
        for device in devices:
            tango.DeviceProxy(f"tango://{tango_host}/{device}").ping()
    except tango.DevFailed:
        return False
    return True


def schema_in(database, class_name, attribute):
    read = tango.Database(*database.tango_host.split(":"))
    properties = read.get_class_attribute_property(class_name, attribute)
    return json.loads(properties[attribute]["schema"][0])


@pytest.fixture
def database(tmp_path):
    with EmbeddedDatabase(tmp_path) as running:
        yield running


def test_a_camera_by_the_how_to_passes_conformance_and_acquires_with_servers(tmp_path, database):
    camera = Plugin("how-to/write_a_camera.md", tmp_path / "camera")

    said = camera.test()
    shown = camera.play(database.tango_host, ["id00/limacontrol/ramp", "id00/limareceiver/ramp1"])

    assert " passed" in said
    assert shown == 2
    for name in ("LimaRampControl", "LimaRampReceiver"):
        det = schema_in(database, name, "acq_params")["properties"]["det"]["properties"]
        assert det["step"]["default"] == 1


def test_a_pipeline_by_the_how_to_serves_frames_and_records(tmp_path, database):
    pipeline = Plugin("how-to/write_a_pipeline.md", tmp_path / "pipeline")

    said = pipeline.test()
    shown = pipeline.play(
        database.tango_host, ["id00/limacontrol/simulator", "id00/limareceiver/simulator1"]
    )

    assert " passed" in said
    assert shown == 1
    schema = schema_in(database, "LimaProcessingBrightest", "proc_params")
    assert schema["properties"]["threshold"]["unit"] == "ADU"
    read = tango.Database(*database.tango_host.split(":"))
    version = read.get_class_property("LimaProcessingBrightest", "Version")
    assert list(version["Version"]) == ["core-1.2.0"]
