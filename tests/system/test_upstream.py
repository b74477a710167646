"""The integration tests of lima2-client itself, unmodified, against our ``lima2_tango``."""

import contextlib
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from tango_servers.local.servers import MPI_ENVIRON

SUMMARY = "10 passed"


@pytest.fixture
def upstream(tmp_path):
    """The source of the installed lima2-client, from where packages come from."""
    wanted = f"lima2-client=={version('lima2-client')}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    try:
        done = subprocess.run(
            [*pip, "--no-binary", "lima2-client", wanted],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=45,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"the source of {wanted} cannot be downloaded: no answer within 45 s")
    found = list(tmp_path.glob("lima2_client-*.tar.gz"))
    if not found:
        pytest.skip(f"the source of {wanted} cannot be downloaded: {done.stderr.strip()[-300:]}")
    with tarfile.open(found[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    return next(path for path in tmp_path.glob("lima2_client-*") if path.is_dir())


@pytest.fixture
def no_process_left(upstream):
    """End what runs in the folder of the tests: where their set-up fails, they leave it behind."""
    yield
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(upstream):
                process.kill()


def is_busy():
    """Whether others use this computer: the time limits in the tests are those of an idle one."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


@pytest.mark.timeout(240)
def test_the_integration_tests_of_the_client_pass(upstream, no_process_left):
    environ = {name: value for name, value in os.environ.items() if name != "TANGO_HOST"}
    environ |= MPI_ENVIRON
    environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), environ["PATH"]))

    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/integration", "-p", "no:cacheprovider"],
            cwd=upstream,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode == 0 or not is_busy():
            break

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert SUMMARY in done.stdout
