"""The wheel: complete, and enough for a whole system from a place where nobody may write."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.servers import ServerGroup

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "lima2_core",
    "camera_plugins",
    "processing",
    "tango_servers",
    "client",
    "db_config",
)
BESIDE = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
LIMIT_S = 140

CLI = "from lima2_core.cli import main; raise SystemExit(main())"
SERVER = "from tango_servers.main import main; raise SystemExit(main())"
# Root may write anywhere, unless its capabilities are taken away.
AS_ANYBODY = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()


def run(command, **options):
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, check=False, **options
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel of the working tree, and what was said while it was built."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    # Must not get into the wheel.
    for name in ("tests", "benchmarks", "docs"):
        (source / name).mkdir()
        (source / name / "__init__.py").touch()
    for name in BESIDE:
        shutil.copy(ROOT / name, source)
    folder = source / "dist"
    # Without isolation, so that nothing is downloaded.
    options = ("-v", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    code, said = run(
        (sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(source))
    )
    assert code == 0, said
    (wheel,) = folder.glob("*.whl")
    return wheel, said


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A read-only folder with the wheel in it; its dependencies are those of the tests."""
    if AS_ANYBODY and shutil.which(AS_ANYBODY[0]) is None:
        pytest.skip("root cannot give up its rights here: there is no setpriv")
    base = tmp_path_factory.mktemp("installed")
    wheel, _ = built
    options = ("--no-deps", "--no-index", "--disable-pip-version-check", "--target")
    code, said = run(
        (sys.executable, "-m", "pip", "install", *options, str(base / "site"), str(wheel))
    )
    assert code == 0, said
    (base / "home").mkdir()
    places = [base, *base.rglob("*")]
    for place in places:
        place.chmod(place.stat().st_mode & ~0o222)
    yield base
    for place in places:
        place.chmod(place.stat().st_mode | 0o200)


@pytest.fixture
def environ(installed):
    """For a user who has no place of their own either; everything is imported from the wheel."""
    return {
        **{key: value for key, value in os.environ.items() if key != "PYTHONPYCACHEPREFIX"},
        "PYTHONPATH": str(installed / "site"),
        "HOME": str(installed / "home"),
        "XDG_CACHE_HOME": str(installed / "home"),
    }


@pytest.fixture
def run_installed(installed, environ):
    """Run a Python text with the wheel, in the read-only folder."""

    def run_text(text, *arguments):
        return run(
            (*AS_ANYBODY, sys.executable, "-c", text, *arguments), cwd=installed, env=environ
        )

    return run_text


def test_the_wheel_has_every_file_of_the_packages_and_no_other(built):
    wheel, _ = built
    wanted = {"db_config/README.md"}
    for package in PACKAGES:
        for pattern in ("*.py", "py.typed", "*.yaml", "*.cl"):
            found = (ROOT / package).rglob(pattern)
            wanted |= {path.relative_to(ROOT).as_posix() for path in found}

    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert packed == wanted


def test_nothing_is_complained_about_while_it_is_built(built):
    _, said = built
    # About Python files that are compiled when they are installed instead.
    usual = "byte-compiling is disabled"

    complaints = [
        line
        for line in said.splitlines()
        if re.search(r"warning|deprecat|\*{5}", line, re.I) and usual not in line
    ]

    assert complaints == []


def test_the_place_is_read_only_and_the_wheel_is_what_is_imported(run_installed, installed):
    code, said = run_installed(
        "import lima2_core, processing, sys; print(lima2_core.__file__, processing.__file__);"
        f"open({str(installed / 'site' / 'new')!r}, 'w')"
    )

    assert code == 1
    assert "PermissionError" in said
    assert said.startswith(f"{installed / 'site' / 'lima2_core' / '__init__.py'} {installed}")


def test_all_plugins_load_and_the_deployments_are_there(run_installed):
    code, said = run_installed(CLI, "plugins")
    _, usage = run_installed(CLI, "register", "--help")
    _, names = run_installed(
        "from tango_servers.deployment import deployment_names; print(*deployment_names())"
    )

    assert code == 0, said
    for name in ("Simulator", "Reader", "LimaProcessingLegacy", "LimaProcessingFailing"):
        assert re.search(rf"{name} +lima2-suite +ok$", said, re.M)
    assert "usage: lima2 register" in usage
    assert names.split() == ["all_in_one", "jungfrau_2", "reader_2", "round_robin_2", "single"]


def test_servers_from_a_read_only_place_answer(installed, environ, tmp_path):
    deployment = load_deployment("single")
    command = (*AS_ANYBODY, sys.executable, "-c", SERVER)
    with (
        EmbeddedDatabase(tmp_path, deployment) as database,
        ServerGroup(
            tmp_path,
            database.tango_host,
            deployment,
            program=lambda server: command,
            environ=environ,
        ) as servers,
    ):
        assert servers.running("simulator_rcv1")  # all its devices have answered a ping
        log = servers.log_file("simulator_rcv1").read_text()

    assert "serving lima2_tango/simulator_rcv1" in log
    assert not re.search(r"warning|error|Traceback", log, re.I), log


def test_a_whole_acquisition_runs_from_a_read_only_place(run_installed, tmp_path):
    code, said = run_installed(CLI, "demo", "--frames", "20", "--folder", str(tmp_path / "data"))

    logs = "".join(path.read_text() for path in (tmp_path / "data" / "logs").glob("*rcv*.log"))
    assert code == 0, said
    assert said.rstrip().endswith("equal to the simulated images pixel by pixel")
    assert not re.search(r"error|Traceback", logs, re.I), logs


# -- README --------------------------------------------------------------------------------------

README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_of_the_readme_run(script, tmp_path):
    code, said = run((sys.executable, "-W", "error", "-c", script), cwd=tmp_path)

    assert code == 0, said
    assert len(said.splitlines()) == 10


def test_the_readme_shows_the_two_commands_on_its_first_screen():
    first_screen = "\n".join(README.splitlines()[:25])

    assert SCRIPTS
    assert re.search(r"^make demo\b", first_screen, re.M)
    assert re.search(r"^make test\b", first_screen, re.M)


def test_the_readme_leads_to_files_that_are_there():
    links = re.findall(r"\]\(([^)]+)\)", README)

    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []
