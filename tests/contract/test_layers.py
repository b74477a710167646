"""Who may import whom (docs: design, layers), and that what is imported is ours."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lima2_core", "camera_plugins", "processing", "tango_servers", "client", "db_config")

# All that a package may import besides the standard library and itself.
ALLOWED = {
    "lima2_core": {"numpy", "pydantic", "pydantic_core"},
    "camera_plugins": {"lima2_core", "numpy", "pydantic"},
    # Deployments are YAML files, as the embedded database reads them.
    "tango_servers": {"lima2_core", "numpy", "pydantic", "tango", "yaml"},
    # The client's other imports are optional: see `required_imports`.
    "client": {"numpy", "tango"},
    "processing": {
        "lima2_core",
        "numpy",
        "pydantic",
        "h5py",
        "hdf5plugin",
        "bitshuffle",
        "fabio",
        "numba",
        "pyopencl",
        "pyFAI",
        "blissdata",
        "redis",
        "mpi4py",
    },
}

# The demonstration does what a user does: it drives the front or the conductor, and reads files and
# scans. A server never imports it, and it imports these within functions only.
DEMO_LATE = {"blissdata", "h5py", "hdf5plugin", "lima2", "PIL", "requests"}


def is_demo(path: Path) -> bool:
    """Whether ``path`` is a file of the demonstration."""
    return path.parts[:2] == ("tango_servers", "local") and path.name.startswith("demo")


def allowed_in(path: Path) -> set[str]:
    """What the file ``path``, relative to the root, may import from others."""
    package = path.parts[0]
    extra = set()
    if path.parts[:2] == ("lima2_core", "testing"):
        extra = {"pytest"}
    if is_demo(path):
        extra = DEMO_LATE
    return ALLOWED[package] | extra | {package}


def all_imports(tree: ast.AST) -> Iterator[str]:
    """Top names of all modules that are imported anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def required_imports(tree: ast.Module) -> Iterator[str]:
    """Top names of the modules without which the file cannot be imported."""
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield from all_imports(statement)


def foreign(path: Path) -> list[str]:
    """The imports of ``path`` that its package may not have."""
    tree = ast.parse((ROOT / path).read_text())
    names = required_imports(tree) if path.parts[0] == "client" else all_imports(tree)
    return sorted(set(names) - set(sys.stdlib_module_names) - allowed_in(path))


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_imports_only_what_its_layer_may(package):
    files = [path.relative_to(ROOT) for path in sorted((ROOT / package).rglob("*.py"))]
    # The library of a vendor or of a file format is the business of one file of a camera.
    files = [path for path in files if path.name != "_sdk.py"]

    refused = {str(path): names for path in files if (names := foreign(path))}

    assert refused == {}


def test_the_demonstration_imports_late_what_only_it_may():
    files = [path.relative_to(ROOT) for path in (ROOT / "tango_servers").rglob("*.py")]
    demo = [path for path in files if is_demo(path)]

    early = {
        name for path in demo for name in required_imports(ast.parse((ROOT / path).read_text()))
    }

    assert demo
    assert not early & DEMO_LATE


def test_the_import_contracts_hold():
    # In a process of its own: it changes the logging of the one it runs in.
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_comes_from_this_distribution(package):
    # `client` and `processing` are general words: another distribution may bring them too.
    spec = importlib.util.find_spec(package)

    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / package / "__init__.py"
    assert set(metadata.packages_distributions()[package]) == {"lima2-suite"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_that_it_is_typed(package):
    assert (ROOT / package / "py.typed").exists()
