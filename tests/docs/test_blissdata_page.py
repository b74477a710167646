"""What the page on blissdata shows works as it stands, with a front that publishes."""

import subprocess
import sys

import pytest
import tango

from lima2_core.testing.doubles import eventually
from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.redis import EmbeddedRedis
from tango_servers.local.servers import ServerGroup
from tests.docs.blocks import blocks_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

FRAMES = 20


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """A front that publishes; the address of its Redis."""
    folder = tmp_path_factory.mktemp("published")
    deployment = load_deployment("round_robin_2")
    with (
        EmbeddedRedis(folder) as redis,
        EmbeddedDatabase(folder, deployment) as database,
    ):
        name = deployment.control.name
        database.put_property(name, "redis_url", redis.url)
        with ServerGroup(folder, database.tango_host, deployment):
            control = tango.DeviceProxy(f"tango://{database.tango_host}/{name}")
            control.saving_enabled = False
            control.acq_nb_frames = FRAMES
            # Slow, so that the reader has time before three newer runs push its run out.
            control.acq_expo_time = 0.1
            control.image_roi = [1000, 1010, 48, 32]
            control.statistics_rois = "[[0, 0, 48, 32]]"
            yield control, redis.url


def acquire(control):
    control.acquire()
    device = tango.DeviceProxy(
        f"tango://{control.get_db_host()}:{control.get_db_port()}/{control.current_run_device}"
    )
    assert eventually(lambda: device.phase.name == "done", 60), control.status()


def run_script(text):
    return subprocess.Popen(
        (sys.executable, "-c", text),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def python_blocks(url):
    found = [b.text for b in blocks_of("how-to/read_with_blissdata.md") if b.language == "python"]
    return [text.replace("redis://redis-host:6379", url) for text in found]


def test_the_reader_follows_a_run_and_reads_it_later(front):
    control, url = front
    follow, later = python_blocks(url)
    acquire(control)  # the first one initialises an empty Redis
    reader = run_script(follow)
    # Nobody tells when it has begun to wait for the next scan: so there are some.
    while reader.poll() is None:
        acquire(control)
    output, errors = reader.communicate()

    assert reader.returncode == 0, errors
    lines = [line.split() for line in output.splitlines()]
    assert [int(number) for number, _ in lines] == list(range(FRAMES))
    assert all(int(brightest) > 0 for _, brightest in lines)

    opening = follow.partition("_, key")[0]
    reader = run_script(opening + later)
    output, errors = reader.communicate()
    assert reader.returncode == 0, errors
    assert output.split()[-2:] == ["SUCCESS", "0"]
