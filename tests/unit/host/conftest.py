"""The made-up computer."""

import pytest

from tests.unit.host.tuned import Computer


@pytest.fixture
def computer(tmp_path):
    return Computer(tmp_path / "computer")
