"""``lima2 demo``: what it promises, and that nothing of it stays."""

import contextlib
import io
import re
import signal
import subprocess
import sys
import threading

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import psutil
import pytest
from PIL import Image

from lima2_core import cli
from lima2_core.errors import NotAvailableError, ParamError
from tango_servers.local import demo, demo_plan, demo_report
from tango_servers.local.demo_check import Findings, coloured, frames_of, inspect
from tango_servers.local.demo_outcome import Live, Outcome
from tango_servers.local.demo_progress import Progress, ProgressView
from tango_servers.local.demo_scan import ScanFindings

pytestmark = [pytest.mark.system, pytest.mark.slow]

COMMAND = (sys.executable, "-c", "from lima2_core.cli import main; raise SystemExit(main())")
LIMIT_S = 50


def run_demo(folder, *options):
    return subprocess.run(
        (*COMMAND, "demo", "--folder", str(folder), *options),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def outcome_of(folder, **changes):
    values = {
        "progress": Progress(),
        "duration_s": 1.0,
        "rate_hz": 1.0,
        "warnings": (),
        "live": Live(read=1),
        "statistics": np.empty(0),
        "master_file": folder / "lima2_demo_master.h5",
        "dataset": "entry_0000/instrument/detector/data",
    }
    return Outcome(**{**values, **changes})


@pytest.fixture(scope="module")
def small_frames():
    """Shapes: (frames, bands, rows, cols)."""
    return np.random.default_rng(1).integers(-500, 500, (6, 2, 30, 41), np.int16)


@pytest.fixture(scope="module")
def played(tmp_path_factory, small_frames):
    """A recording that was played twice: its plan, the folder, and what the demo said."""
    folder = tmp_path_factory.mktemp("played")
    source = folder / "recording.h5"
    with h5py.File(source, "w") as file:
        file["frames"] = small_frames
    asked = f"{source}::/frames"
    done = run_demo(folder / "data", "--input", asked, "--frames", "12", "--expo-time", "0.05")
    return demo_plan.recorded(asked, 12, 0.05), folder / "data", done


def test_simulated_frames_are_acquired_saved_and_read_back(tmp_path):
    done = run_demo(tmp_path, "--frames", "60")

    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines[-1] == "60 of 60 frames saved, equal to the simulated images pixel by pixel"
    assert re.search(
        r"^ +\d+\.\d s: acquired 60, received 60, processed 60, saved 60 of 60$", done.stdout, re.M
    )
    assert re.search(r"^lost +nothing$", done.stdout, re.M)
    assert re.search(r"^ledger +all 60 frames are valid$", done.stdout, re.M)
    assert re.search(
        r"^blissdata +scan 'acquisition 1' with \d+ streams; 60 of 60 frames read back, all as",
        done.stdout,
        re.M,
    )
    assert re.search(r"^live +[1-9]\d* frames .* all as they should be$", done.stdout, re.M)
    assert re.search(r"^statistics +one region, for 60 frames", done.stdout, re.M)
    with Image.open(tmp_path / "frame_30.png") as picture:
        assert picture.size == (2048, 2048)
        assert len(picture.getcolors(2**24)) > 100
    with h5py.File(tmp_path / "lima2_demo_master.h5") as file:
        assert file["entry_0000/instrument/detector/data"].shape == (60, 2048, 2048)


def test_recorded_frames_may_be_repeated_and_have_several_bands(played):
    _, folder, done = played

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == (
        "12 of 12 frames saved, equal to the input pixel by pixel"
    )
    assert (folder / "frame_6.png").is_file()


def test_frames_of_a_real_detector_go_through_unchanged(tmp_path, detector_frames):
    done = run_demo(tmp_path, "--input", f"{detector_frames}::/raw", "--mpi")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == (
        "20 of 20 frames saved, equal to the input pixel by pixel"
    )


@pytest.mark.parametrize("real", [True, False])
def test_a_jungfrau_gives_the_photons_of_the_reference(tmp_path, monkeypatch, request, real):
    if real:
        monkeypatch.setenv(
            "LIMA2_TEST_DATA", str(request.getfixturevalue("detector_frames").parent)
        )
    else:
        monkeypatch.delenv("LIMA2_TEST_DATA", raising=False)

    done = run_demo(tmp_path, "--jungfrau", "--frames", "24")

    reference = "the photons of the reference" if real else "the photons that were drawn"
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == (
        f"24 of 24 frames saved, equal to {reference} pixel by pixel"
    )
    assert re.search(r"^ledger +all 24 frames are valid$", done.stdout, re.M)
    assert re.search(
        r"^blissdata .* 24 of 24 frames read back, all as they should", done.stdout, re.M
    )
    assert re.search(r"^mind .*photons are computed by ", done.stdout, re.M)


def test_a_lost_frame_is_named_and_leaves_an_exit_code(tmp_path):
    done = run_demo(tmp_path, "--frames", "12", "--drop", "7")

    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^lost +frame 7 \(dropped\)$", done.stdout, re.M)
    assert re.search(r"^ledger +11 of 12 frames are valid; 1 dropped$", done.stdout, re.M)
    assert re.search(r"^blissdata .*; 11 of 11 frames read back, all as", done.stdout, re.M)
    assert done.stdout.splitlines()[-1].startswith("1 LOST; 11 of 12 frames saved")


def test_the_conductor_may_drive_the_same_devices(tmp_path, small_frames):
    with h5py.File(tmp_path / "recording.h5", "w") as file:
        file["frames"] = small_frames
    asked = f"{tmp_path / 'recording.h5'}::/frames"

    done = run_demo(tmp_path / "data", "--conductor", "--input", asked)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "conductor at http" in done.stdout
    assert "blissdata" not in done.stdout
    assert done.stdout.splitlines()[-1] == "6 of 6 frames saved, equal to the input pixel by pixel"


def test_without_a_redis_it_says_so(monkeypatch):
    def nowhere():
        raise NotAvailableError("the wheels are not there")

    assert demo._why_unpublished() == ""
    monkeypatch.setattr(demo, "find_redis", nowhere)

    assert "the wheels are not there" in demo._why_unpublished()


def test_frames_of_a_master_in_segments_are_found_by_their_index(tmp_path):
    detector = "entry_0000/instrument/detector"
    frames = np.arange(5 * 6, dtype=np.int16).reshape(5, 2, 3)
    for number, part in enumerate((frames[:3], frames[3:])):
        with h5py.File(tmp_path / f"segment{number}.h5", "w") as file:
            file["data"] = part
    with h5py.File(tmp_path / "index.h5", "w") as file:
        group = file.create_group(f"{detector}/segments")
        for number in range(2):
            group[f"{number:05d}"] = h5py.ExternalLink(f"segment{number}.h5", "/data")
        group.attrs["first_frame"] = [0, 3]
        group.attrs["nb_frames"] = [3, 2]

    with h5py.File(tmp_path / "index.h5") as file:
        found = frames_of(file, f"{detector}/data")
        assert len(found) == 5
        assert all((found[idx] == frames[idx]).all() for idx in range(5))


def test_a_pixel_that_differs_is_found(played, tmp_path, small_frames):
    _, folder, _ = played
    changed = small_frames.copy()
    changed[3, 1, 29, 40] += 1
    with h5py.File(tmp_path / "changed.h5", "w") as file:
        file["frames"] = changed
    plan = demo_plan.recorded(f"{tmp_path / 'changed.h5'}::/frames", 12, None)
    outcome = outcome_of(folder)

    findings = inspect(plan, outcome, folder)

    assert findings.saved == 12
    assert findings.lost == {}
    assert findings.different == [3, 9]
    assert findings.wrong_statistics == list(range(12))  # there were none to compare
    assert not demo_report.all_is_well(plan, outcome, findings)
    assert demo_report.verdict(plan, findings) == (
        "12 of 12 frames saved, different from the input: frame 3, frame 9"
    )


@pytest.mark.parametrize(
    ("findings", "live"),
    [
        (Findings(saved=11), Live(read=1)),
        (Findings(saved=12, different=[1]), Live(read=1)),
        (Findings(saved=12, wrong_statistics=[1]), Live(read=1)),
        (Findings(saved=12), Live(read=1, different=[1])),
        (Findings(saved=12), Live()),
    ],
    ids=["lost", "different", "statistics", "live", "nothing live"],
)
def test_whatever_is_wrong_counts(played, findings, live):
    plan, folder, _ = played

    assert demo_report.all_is_well(plan, outcome_of(folder), Findings(saved=12))
    assert demo_report.all_is_well(plan, outcome_of(folder), Findings(saved=12), scan_of(12))
    assert not demo_report.all_is_well(plan, outcome_of(folder, live=live), findings)


def scan_of(read, **changes):
    return ScanFindings("scan 1", streams=3, valid=12, read=read, **changes)


@pytest.mark.parametrize(
    "scan",
    [scan_of(11), scan_of(12, different=[3]), scan_of(12, wrong_statistics=[3])],
    ids=["missing", "different", "statistics"],
)
def test_whatever_is_wrong_in_the_scan_counts(played, scan):
    plan, folder, _ = played

    assert not demo_report.all_is_well(plan, outcome_of(folder), Findings(saved=12), scan)


def has_ended(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_survives_the_end_of_the_demonstration(tmp_path, number):
    process = subprocess.Popen(
        (*COMMAND, "demo", "--folder", str(tmp_path), "--frames", "100000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    limit = threading.Timer(LIMIT_S, process.kill)
    limit.start()
    try:
        assert any(re.search(r"saved [1-9]", line) for line in process.stdout)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        said = process.stdout.read()
        code = process.wait(timeout=20)
        psutil.wait_procs(children, timeout=20)
    finally:
        limit.cancel()
        limit.join()
        process.kill()
        process.stdout.close()

    assert len(children) >= 5
    assert [child for child in children if not has_ended(child)] == []
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
    assert code == expected[number]
    assert number == signal.SIGKILL or f"logs of all programs, are in {tmp_path}" in said
    assert "Traceback" not in said


def test_without_its_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo, "_MODULES", ("a_module_that_is_nowhere",))

    with pytest.raises(NotAvailableError, match=r'pip install "lima2-suite\[demo\]"'):
        demo.main([])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--input", "{tmp}/nothing.h5::/raw"], "--input: .*nothing.h5 cannot be read as HDF5"),
        (["--input", "{tmp}/there.h5::/image"], "--input: .* has no frames in /image"),
        (["--input", "{tmp}/there.h5::/none"], "--input: .* is empty"),
        (["--input", "{tmp}/there.h5"], "has no frames in /entry_0000/measurement/data"),
        (["--frames", "10", "--drop", "10"], "--drop: a frame from 1 to 9 is wanted"),
        (["--input", "{tmp}/there.h5::/frames", "--folder", "{tmp}/used"], "--folder: .* earlier"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(tmp_path, options, reason):
    with h5py.File(tmp_path / "there.h5", "w") as file:
        file["image"] = np.zeros((4, 4))
        file["none"] = np.zeros((0, 4, 4))
        file["frames"] = np.zeros((1, 4, 4))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "lima2_demo_0_00000.h5").touch()
    before = psutil.Process().children()  # of fixtures that other tests share

    with pytest.raises(ParamError, match=reason):
        demo.main([option.format(tmp=tmp_path) for option in options])
    assert psutil.Process().children() == before


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_terminal_shows_bars_that_are_drawn_over(monkeypatch):
    monkeypatch.setenv("COLUMNS", "31")
    out = Terminal()
    view = ProgressView(out, total=10)

    view.show(Progress(10, 8, 5, 0), 0.1)
    view.finish(Progress(10, 10, 10, 10), 0.2)

    first, second = out.getvalue().split("\x1b[4A")
    assert first.replace("\x1b[2K", "").splitlines() == [
        "acquired  ███████████ 10 of 10",
        "received  ████████░░░  8 of 10",
        "processed █████░░░░░░  5 of 10",
        "saved     ░░░░░░░░░░░  0 of 10",
    ]
    assert second.count("███████████ 10 of 10") == 4


def test_elsewhere_a_line_is_written_now_and_then():
    out = io.StringIO()
    view = ProgressView(out, total=10)

    for tenth in range(12):
        view.show(Progress(acquired=tenth), tenth / 10)
    view.finish(Progress(acquired=11), 1.1)
    view.finish(Progress(10, 10, 10, 10), 1.2)

    assert [line.split(",")[0] for line in out.getvalue().splitlines()] == [
        "  0.0 s: acquired 0",
        "  1.0 s: acquired 10",
        "  1.1 s: acquired 11",
        "  1.2 s: acquired 10",
    ]


@pytest.mark.parametrize("value", [0, 7])
def test_a_flat_image_has_one_colour(value):
    assert len(np.unique(coloured(np.full((3, 4), value)).reshape(-1, 3), axis=0)) == 1


def test_a_weak_pixel_shows_beside_a_bright_one():
    image = np.zeros((100, 100), np.int16)
    image[0, 0], image[50, 50:62] = 20, 20_000

    colours = coloured(image).astype(int)

    assert colours.shape == (100, 100, 3)
    assert colours[0, 0].sum() > colours[1, 1].sum()
    assert colours[50, 50].sum() > colours[0, 0].sum() + 100


def test_the_list_of_commands_shows_a_line_about_it(capsys):
    cli.main(["--help"])

    assert f"  demo       {demo.main.__doc__}" in capsys.readouterr().out
