"""``lima2 validate``: is a master file what it says."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from client.commands.common import command
from client.validate import validate


@command
def main(argv: Sequence[str]) -> int:
    """Check a master file against its ledger and its data; exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(
        prog="lima2 validate",
        description="Follow every frame of a master file to the file of its receiver, compare "
        "books and data, and tell what is not as it should be.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="index file, ..._master.h5")
    parser.add_argument(
        "--quick", action="store_true", help="look where frames are, but do not read them"
    )
    options = parser.parse_args(argv)
    report = validate(options.file, pixels=not options.quick)
    for anomaly in report.anomalies:
        print(anomaly)
    partial = report.frames - report.valid - report.gaps
    parts = f", {partial} partial" if partial else ""
    print(f"{report.frames} frames: {report.valid} valid{parts}, {report.gaps} missing")
    if report.verdict:
        print(f"verdict of the run: {report.verdict}")
    found = len(report.anomalies)
    print("the file is what it says" if not found else f"{found} anomalies")
    return 1 if found else 0
