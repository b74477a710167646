"""Pages are up to date, lead somewhere, and name code that is there."""

import ast
import re
import subprocess
import sys

import pytest

from tests.docs.blocks import DOCS, blocks_of

ROOT = DOCS.parent
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))

LINK = re.compile(r"\]\(([^)#]+)(?:#[\w-]+)?\)")
CODE_FILE = re.compile(
    r"`((?:lima2_core|camera_plugins|processing|tango_servers|db_config|tests|docs)/[\w./-]+)`"
)
CONSTANT = re.compile(r"`([A-Z]+_S)`")


def test_the_tables_are_up_to_date():
    check = (sys.executable, str(DOCS / "generate.py"), "--check")

    done = subprocess.run(check, capture_output=True, text=True, check=False)

    assert done.returncode == 0, f"run python docs/generate.py\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_pages(page):
    path = DOCS / page
    links = [link for link in LINK.findall(path.read_text()) if "://" not in link]

    missing = [link for link in links if not (path.parent / link).exists()]

    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    named = CODE_FILE.findall((DOCS / page).read_text())

    missing = [name for name in named if not (ROOT / name).exists()]

    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_named_waiting_times_exist(page):
    code = "\n".join(path.read_text() for path in (ROOT / "lima2_core").rglob("*.py"))

    names = set(CONSTANT.findall((DOCS / page).read_text()))

    assert {name for name in names if not re.search(rf"^{name} = ", code, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_parse(page):
    for block in blocks_of(page):
        if block.language == "python":
            ast.parse(block.text)


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text()

    listed = set(LINK.findall(index))
    absent = [page for page in PAGES if page != "README.md" and "decisions/" not in page]

    assert [page for page in absent if page not in listed] == []
