"""One plain system for most tests of this folder, at rest at the beginning of each."""

import pytest

from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tests.system.lab import Lab


@pytest.fixture(scope="session")
def plain_lab(tmp_path_factory):
    """A control and two receivers as plain processes, and the conductor in round robin."""
    folder = tmp_path_factory.mktemp("plain")
    with (
        EmbeddedDatabase(folder, load_deployment("round_robin_2")) as database,
        Lab(folder, database.tango_host) as lab,
    ):
        yield lab


@pytest.fixture
def lab(plain_lab):
    """The plain system, at rest; brought to rest afterwards."""
    yield plain_lab
    plain_lab.recover()
