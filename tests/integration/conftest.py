"""Random frames and maps in files, systems, packets."""

import numpy as np
import pytest

from lima2_core.service import control, receiver
from lima2_core.system import coordinator, team
from lima2_core.testing.doubles import LIMIT_S
from tests.integration.packets import Link


@pytest.fixture
def patient_commands(monkeypatch):
    """Commands that may take as long as a busy computer makes them.

    Clients wait three seconds; who tests what becomes of frames does not test that.
    """
    limits = {
        control: ["COMMAND_S"],
        receiver: ["COMMAND_S"],
        coordinator: ["ANSWER_S", "PREPARE_S", "STOP_S"],
        team: ["SETTLE_S", "START_S", "STOP_S"],
    }
    for module, names in limits.items():
        for name in names:
            monkeypatch.setattr(module, name, LIMIT_S)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def images(rng):
    """Makes random images."""

    def draw(n, shape=(1, 12, 15), dtype=np.uint16):
        return rng.integers(0, 1000, (n, *shape)).astype(dtype)

    return draw


@pytest.fixture
def save_map(tmp_path):
    """Writes a map to a file, and gives its parameters."""

    def save(name, values):
        np.save(tmp_path / f"{name}.npy", values)
        return {"enabled": True, "path": str(tmp_path / f"{name}.npy")}

    return save


@pytest.fixture
def make_system(request):
    """Makes systems of the kind that a module names in ``SYSTEM``, and closes them."""
    systems = []

    def make(*args, **kwargs):
        systems.append(request.module.SYSTEM(*args, **kwargs))
        return systems[-1]

    yield make
    for system in systems:
        system.close()


@pytest.fixture
def system(make_system):
    return make_system()


@pytest.fixture
def make_link():
    """Makes senders of packets with their receivers, and closes them."""
    links = []

    def make(**options):
        link = Link(**options)
        links.append(link)
        return link

    yield make
    for link in links:
        link.close()
