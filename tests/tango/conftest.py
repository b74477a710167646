"""One server process with all devices of a small system, for all tests of this folder."""

from pathlib import Path

import pytest

from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.servers import ServerGroup
from tests.tango.devices import PATIENCE_S, System
from tests.tango.front_rig import FrontRig

CONTROL = "id00/limacontrol/simulator"
RECEIVERS = ["id00/limareceiver/simulator1", "id00/limareceiver/simulator2"]
TEST_LIMIT_S = 30


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            # Without the start of the servers: it is waited for with a limit of its own.
            item.add_marker(pytest.mark.timeout(TEST_LIMIT_S, func_only=True))


@pytest.fixture(scope="session")
def tango_server(tmp_path_factory):
    """The Tango address of a control and two receivers in one process."""
    folder = tmp_path_factory.mktemp("tango")
    deployment = load_deployment("all_in_one")
    with (
        EmbeddedDatabase(folder, deployment) as database,
        ServerGroup(folder, database.tango_host, deployment, options=("--log-level", "debug")),
    ):
        yield database.tango_host


@pytest.fixture(scope="session")
def devices(tango_server, tmp_path_factory):
    """The devices as they are; use `system` instead where they change."""
    made = System(tango_server, CONTROL, RECEIVERS, PATIENCE_S)
    # The first acquisition loads what all need: on a busy computer longer than the front waits.
    saving = {"saving.enabled": True, "saving.base_path": str(tmp_path_factory.mktemp("first"))}
    made.acquire(processing=made.processing(changes=saving))
    made.clear()
    return made


@pytest.fixture
def system(devices):
    """The devices at rest, and brought to rest afterwards."""
    yield devices
    devices.clear()


@pytest.fixture
def front(system):
    """The front at rest, with default parameters."""
    rig = FrontRig(system.tango_host, CONTROL)
    rig.clear()
    rig.defaults()
    yield rig
    rig.clear()
    rig.defaults()
