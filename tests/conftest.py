"""For every test: what must not be left behind, how long it may take, where the data are.

Nothing here knows a detector or Tango; tests/tango and tests/system have a conftest of their own.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_TESTS = ROOT / "tests" / "system"
SYSTEM_TEST_LIMIT_S = 60

# Read once, when the libraries are loaded: one test must not occupy all cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
DATA = Path(os.environ.setdefault("LIMA2_TEST_DATA", str(ROOT.parent / "shared" / "data")))
DETECTOR_FRAMES = DATA / "jungfrau_module.h5"

pytest_plugins = ["lima2_core.testing.leaks", "pytester"]


def _about_data() -> str:
    if DETECTOR_FRAMES.exists():
        return f"test data: {DATA}"
    return (
        f"test data: ABSENT, there is no {DETECTOR_FRAMES}. Tests with real detector frames are "
        "skipped; name the folder in LIMA2_TEST_DATA."
    )


def pytest_report_header() -> str:
    return _about_data()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not DETECTOR_FRAMES.exists():
        terminalreporter.section("test data", yellow=True)
        terminalreporter.line(_about_data(), yellow=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SYSTEM_TESTS in item.path.parents:
            item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SYSTEM_TEST_LIMIT_S))


@pytest.fixture(scope="session")
def detector_frames() -> Path:
    """The file of real detector frames; the test is skipped where it is absent."""
    if not DETECTOR_FRAMES.exists():
        pytest.skip(_about_data())
    return DETECTOR_FRAMES
