"""Run benchmarks: ``python -m benchmarks [--list] [name ...]``.

Each benchmark has a process of its own, so that none is measured with the threads and the memory
of another, and one that breaks does not keep the others from running.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import Result, detector_frames

HERE = Path(__file__).resolve().parent


def benchmark_names() -> list[str]:
    """Names of all benchmarks: ``channel`` for ``bench_channel.py``."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def run_here(name: str) -> bool:
    """Run one benchmark in this process, print its results, say whether all limits hold."""
    module = importlib.import_module(f"benchmarks.bench_{name}")
    answer: Result | list[Result] = module.main()
    results = answer if isinstance(answer, list) else [answer]
    for one in results:
        print(json.dumps(one), flush=True)
    return all(one["ok"] for one in results)


def run_apart(name: str) -> bool:
    """Run one benchmark in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "--here", name]
    return subprocess.run(command, cwd=HERE.parent, check=False).returncode == 0


def main(arguments: list[str] | None = None) -> int:
    """Run the selected benchmarks.

    Returns:
        0 if all ran and all limits hold, 1 otherwise.
    """
    known = benchmark_names()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="which to run; all by default")
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    parser.add_argument("--here", action="store_true", help="run in this process, for profilers")
    options = parser.parse_args(arguments)

    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known) or 'none'}")
    if options.list:
        print("\n".join(known))
        return 0
    if detector_frames() is None and not options.here:
        print(
            "Real detector frames are absent: name their folder in LIMA2_TEST_DATA.",
            file=sys.stderr,
        )
    # Read when the libraries are loaded; the processes of the benchmarks inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run = run_here if options.here else run_apart
    failed = [name for name in options.names or known if not run(name)]
    if failed and not options.here:
        print(f"Failed or beyond a limit: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
