"""Write the tables of the documentation from the code.

In a page a table stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; all else is
written by hand. ``python docs/generate.py`` renews the tables; with ``--check`` it only says which
pages are not up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

from tables import files, interface, parameters, states

from lima2_core.camera.params import AcquisitionParams
from lima2_core.state import control, receiver, run, system
from processing.saving import SavingParams

DOCS = Path(__file__).resolve().parent

PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "reference/tango_interface.md": {
        "control": interface.control_tables,
        "receiver": interface.receiver_tables,
        "system run": interface.system_run_tables,
        "processing": interface.processing_tables,
        "settings": interface.settings_table,
        "records": interface.records_list,
        "errors": interface.errors_table,
    },
    "reference/parameters.md": {
        "acquisition": lambda: parameters.parameters_table(AcquisitionParams),
        "cameras": parameters.cameras_tables,
        "pipelines": parameters.pipelines_tables,
        "saving": lambda: parameters.parameters_table(SavingParams),
    },
    "reference/files.md": {
        "layout": files.layout_table,
        "validity": files.validity_table,
        "pixel types": files.pixel_types_table,
    },
    "explanations/states.md": {
        "control": lambda: states.states_table(control),
        "receiver": lambda: states.states_table(receiver),
        "run": lambda: states.states_table(run),
    },
    "explanations/system.md": {
        "system": lambda: states.states_table(system),
        "phases": lambda: states.states_table(
            SimpleNamespace(TABLE=system.PHASES, Event=system.PhaseEvent)
        ),
    },
}


def renewed(page: str, old: str) -> str:
    """The text of a page with its tables as they should be.

    Raises:
        ValueError: the page has no place for one of them.
    """
    for name, make in PAGES[page].items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
        before, found, rest = old.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{page} has no place for {name}: {begin}...{end}")
        old = f"{before}{begin}{make()}{end}{after}"
    return old


def stale() -> dict[Path, str]:
    """Pages that are not up to date, and what they should be."""
    texts = {DOCS / page: renewed(page, (DOCS / page).read_text()) for page in PAGES}
    return {path: text for path, text in texts.items() if text != path.read_text()}


def main(argv: Sequence[str] | None = None) -> int:
    """Renew the tables, or say where they should be renewed."""
    parser = argparse.ArgumentParser(description="Write the tables of the documentation.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is old")
    check = parser.parse_args(argv).check
    pages = stale()
    for path, text in pages.items():
        print(f"{path.relative_to(DOCS)}: {'not up to date' if check else 'written'}")
        if not check:
            path.write_text(text)
    return 1 if check and pages else 0


if __name__ == "__main__":
    sys.exit(main())
