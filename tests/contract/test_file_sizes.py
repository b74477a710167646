"""Files stay short enough to be read at one go, or say why they do not."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "lima2_core",
    "camera_plugins",
    "processing",
    "tango_servers",
    "client",
    "db_config",
    "benchmarks",
)
MAX_LINES = 400


def too_long(text: str) -> bool:
    """Whether ``text`` has too many lines and its docstring no line "Length: (the reason)"."""
    if len(text.splitlines()) <= MAX_LINES:
        return False
    lines = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    return not any(line.startswith("Length: ") and line != "Length: " for line in lines)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_longer_than_400_lines_without_a_reason(package):
    files = sorted((ROOT / package).rglob("*.py"))

    refused = [str(path.relative_to(ROOT)) for path in files if too_long(path.read_text())]

    assert refused == []


def test_a_long_file_needs_a_reason_in_its_docstring():
    body = "x = 1\n" * MAX_LINES

    assert not too_long(body)
    assert too_long(f'"""A table."""\n{body}')
    assert not too_long(f'"""A table.\n\nLength: one row for each state.\n"""\n{body}')
