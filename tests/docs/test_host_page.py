"""The page on the check of a host tells of all checks, and its example runs."""

import re
import subprocess
import sys

from lima2_core.host.examine import CHECKS
from tests.docs.blocks import DOCS, blocks_of

PAGE = "how-to/check-the-host.md"


def test_the_page_tells_of_every_check_in_the_order_of_the_report():
    rows = re.findall(r"^\| `([\w-]+)` \|", (DOCS / PAGE).read_text(), re.MULTILINE)

    assert tuple(rows) == CHECKS


def test_the_example_runs():
    (example,) = (block.text for block in blocks_of(PAGE) if block.language == "python")

    done = subprocess.run(
        (sys.executable, "-c", example), capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "lo"
