"""``lima2 demo``: a whole system on this computer, one acquisition, and a look at what it gave.

Database, Redis, control and two receivers are child processes, or the conductor in place of Redis;
nothing of it stays.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from lima2_core.errors import NotAvailableError, ParamError
from tango_servers.deployment import load_deployment
from tango_servers.local.conductor import Conductor
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.demo_check import inspect, write_picture
from tango_servers.local.demo_front import FrontAcquisition
from tango_servers.local.demo_jungfrau import find_sample, jungfrau
from tango_servers.local.demo_outcome import PREFIX, Driver, Outcome
from tango_servers.local.demo_plan import (
    DEFAULT_DATASET,
    RECORDED_EXPOSURE_S,
    SIMULATED_EXPOSURE_S,
    SIMULATED_FRAMES,
    Plan,
    recorded,
    simulated,
)
from tango_servers.local.demo_progress import ProgressView
from tango_servers.local.demo_report import all_is_well, table, verdict
from tango_servers.local.demo_run import Acquisition
from tango_servers.local.demo_scan import ScanFindings, read_scan
from tango_servers.local.processes import find_program, make_folder
from tango_servers.local.redis import EmbeddedRedis, find_redis
from tango_servers.local.servers import ServerGroup

_TEST_DATA = "LIMA2_TEST_DATA"
_MODULES = ("nosqltangodb",)
_CONDUCTOR_MODULES = ("lima2.client.services",)


def main(argv: Sequence[str]) -> int:
    """Run a whole system on this computer for one acquisition, and check all its frames."""
    options = _arguments(argv)
    _require_extra("demo", modules=_MODULES, programs=("NosqlTangoDB",))
    if options.conductor:
        _require_extra("demo", modules=_CONDUCTOR_MODULES, programs=("lima2-conductor",))
    if options.mpi:
        _require_extra("mpi", programs=("mpiexec",))
    if options.jungfrau:
        folder = _data_folder(options.folder)
        sample = find_sample(os.environ.get(_TEST_DATA))
        plan = jungfrau(folder, sample, options.frames, options.expo_time)
    else:
        plan = _plan(options)
        folder = _data_folder(options.folder)
    unpublished = "" if options.conductor else _why_unpublished()
    print(f"LImA2 demonstration: {plan.title}, {plan.dtype}, one every {plan.expo_time_s:g} s.")
    if unpublished:
        print(f"Nothing is published for blissdata: {unpublished}")
    scan: ScanFindings | None = None
    try:
        with _end_on_signals(), ExitStack() as stack:
            redis_url = ""
            if not options.conductor and not unpublished:
                redis_url = stack.enter_context(EmbeddedRedis(folder / "logs")).url
            outcome = _acquire(
                plan, folder, redis_url, conductor=options.conductor, mpi=options.mpi
            )
            print("All servers have ended. Reading every frame back from the master file.")
            findings = inspect(plan, outcome, folder)
            picture = folder / f"frame_{plan.nb_frames // 2}.png"
            write_picture(plan, outcome, plan.nb_frames // 2, picture)
            if redis_url:
                print("Reading every frame back through blissdata.")
                scan = read_scan(plan, outcome, redis_url)
    except BaseException:
        print(f"What was written so far, and the logs of all programs, are in {folder}")
        raise
    print()
    print(table(plan, outcome, findings, picture, scan))
    print(verdict(plan, findings))
    return 0 if all_is_well(plan, outcome, findings, scan) else 1


def _plan(options: argparse.Namespace) -> Plan:
    if options.input is not None:
        return recorded(options.input, options.frames, options.expo_time)
    return simulated(options.frames, options.expo_time, options.drop)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lima2 demo",
        description="Start a Tango database, a Redis, one control and two receivers, acquire "
        "frames through the control with saving and a region of interest, look at some while it "
        "runs, read all back from the files and through blissdata and compare every pixel. "
        "Everything is stopped at the end.",
        epilog="The exit code is 0 only if all frames were saved and none differs.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--frames",
        type=_positive(int),
        metavar="N",
        help=f"how many (default: {SIMULATED_FRAMES}, or all of the input)",
    )
    parser.add_argument(
        "--expo-time",
        type=_positive(float),
        metavar="SECONDS",
        help=f"of one frame (default: {SIMULATED_EXPOSURE_S:g}, or {RECORDED_EXPOSURE_S:g} with an "
        "input)",
    )
    parser.add_argument(
        "--input",
        metavar="FILE::DATASET",
        help="play recorded frames of an HDF5 file instead of simulated ones (default dataset: "
        f"{DEFAULT_DATASET})",
    )
    parser.add_argument(
        "--jungfrau",
        action="store_true",
        help="emulate a JUNGFRAU: raw words over UDP, converted to photons; real frames if "
        f"{_TEST_DATA} names the folder that has them, drawn ones otherwise",
    )
    parser.add_argument(
        "--folder", type=Path, help="where files go (default: a new one for temporary files)"
    )
    parser.add_argument(
        "--conductor",
        action="store_true",
        help="acquire through the conductor of lima2-client instead, without Redis",
    )
    parser.add_argument("--mpi", action="store_true", help="start the servers as one MPI job")
    parser.add_argument(
        "--drop",
        type=_positive(int),
        metavar="FRAME",
        help="let the simulated detector lose this frame, to see how a loss is told",
    )
    options = parser.parse_args(argv)
    if (options.input is not None or options.jungfrau) and options.drop is not None:
        parser.error("--drop is for simulated frames; leave out --input and --jungfrau")
    if options.jungfrau and (options.input is not None or options.conductor):
        parser.error(
            "--jungfrau has frames of its own and goes through the front; leave out "
            "--input and --conductor"
        )
    return options


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = kind(text)
        if not 0 < value < 1e9:
            raise ValueError
        return value

    convert.__name__ = "positive number"  # argparse tells it
    return convert


def _require_extra(
    extra: str, *, modules: Sequence[str] = (), programs: Sequence[str] = ()
) -> None:
    """Make sure that what an extra of the suite brings is installed."""
    try:
        for module in modules:
            importlib.import_module(module)
        for program in programs:
            find_program(program)
    except (ImportError, NotAvailableError) as error:
        raise NotAvailableError(
            f'The demonstration needs more packages: pip install "lima2-suite[{extra}]" ({error})'
        ) from error


def _data_folder(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="lima2-demo-"))
    folder = make_folder(wanted.resolve())  # servers have working directories of their own
    if any(folder.glob(f"{PREFIX}_*.h5")):
        raise ParamError(
            f"{folder} has files of an earlier demonstration; name another folder",
            path="--folder",
        )
    return folder


def _why_unpublished() -> str:
    """Why there can be no Redis; empty if all that it needs is installed."""
    try:
        _require_extra("demo", modules=("blissdata",))
        find_redis()
    except NotAvailableError as error:
        return str(error)
    return ""


def _acquire(plan: Plan, folder: Path, redis_url: str, *, conductor: bool, mpi: bool) -> Outcome:
    """Start everything else, run the acquisition, stop everything."""
    deployment = load_deployment(plan.deployment)
    control = deployment.control.name
    logs = folder / "logs"
    with ExitStack() as stack:
        begun_s = time.monotonic()
        database = stack.enter_context(EmbeddedDatabase(logs, deployment))
        for name, value in plan.properties.items():
            for device in (control, *deployment.receivers):
                database.put_property(device, name, value)
        if redis_url:
            database.put_property(control, "redis_url", redis_url)
        stack.enter_context(ServerGroup(logs, database.tango_host, deployment, mpi=mpi))
        started = [f"Tango database at {database.tango_host}", control, *deployment.receivers]
        driver: Driver
        if conductor:
            server = Conductor.of_deployment(logs, database.tango_host, deployment)
            stack.enter_context(server)
            started.append(f"conductor at {server.url}")
            driver = Acquisition(plan, server.port)
        else:
            driver = FrontAcquisition(plan, database.tango_host, control)
        if redis_url:
            started.append(f"Redis at {redis_url}")
        print(f"Started in {time.monotonic() - begun_s:.1f} s: {', '.join(started)}.\n")
        driver.prepare(folder)
        view = ProgressView(sys.stdout, plan.nb_frames)
        outcome = driver.run(view.show)
        view.finish(outcome.progress, outcome.duration_s)
    print()
    return outcome


@contextmanager
def _end_on_signals() -> Iterator[None]:
    """Let the signals that end this process run the clean-up first."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    kept = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
