"""Runs that begin while earlier ones are still being saved, through the front of real servers."""

import h5py
import hdf5plugin  # noqa: F401  the filters of the frames
import numpy as np
import pytest

from tests.system.fault_lab import (
    DATA,
    GUARD_S,
    SystemLab,
    assert_books,
    assert_master,
    id_of,
    peak,
)
from tests.tango.devices import wait_until

# blissdata asks a Redis before version 8 in the way that this one knows.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated config_set")

NB_FRAMES, HELD_FROM = 24, 20
SHAPE = (512, 512)
FACTORS = (1, 2, 3, 4, 5)
"""How bright the images of each run are, so that none can pass for one of another run."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with SystemLab(tmp_path_factory.mktemp("overlap")) as lab:
        yield lab


@pytest.fixture
def lab(shared):
    shared.clear()
    yield shared
    shared.clear()


def begin(lab, folder, factor, *, deferred=False, held_from=None):
    """Start a run of large frames, and wait until all are taken."""
    peaks = "acquisition.det.generator.gauss.peaks"
    prefix = lab.order(
        folder,
        NB_FRAMES,
        expo_s=0.001,
        large=True,
        held_from=held_from,
        **{peaks: [{"max": 100.0 * factor}], "deferred": deferred},
    )
    run = lab.begin()
    lab.front.wait_state("idle", timeout_s=GUARD_S)
    return prefix, run


def peaks_of(frames):
    return [round(float(frame.max())) for frame in frames]


def assert_right(lab, folder, prefix, run, factor):
    """All frames of a run, and none of another: in the master, and in its scan."""
    expected = [round(factor * peak(idx)) for idx in range(NB_FRAMES)]
    assert_books(run, NB_FRAMES)
    assert len(assert_master(folder, prefix, run, factor=factor)) == NB_FRAMES
    with h5py.File(folder / f"{prefix}_master.h5") as file:
        saved = file[DATA][:]
    assert saved.shape == (NB_FRAMES, *SHAPE)
    assert peaks_of(saved) == expected
    scan = lab.scan(id_of(run))
    assert scan.info["end_reason"] == "SUCCESS"
    stream = scan.streams["frame"]
    assert len(stream) == NB_FRAMES
    assert np.array_equal(np.asarray(stream[:]), saved)
    assert scan.streams["ledger_code"][:].tolist() == [0] * NB_FRAMES


def test_five_runs_each_begun_while_earlier_ones_are_saved_are_all_right(lab, tmp_path):
    begun, overlaps = [], []
    for factor in FACTORS:
        begun.append(begin(lab, tmp_path, factor, held_from=HELD_FROM))
        overlaps.append([run.phase for _, run in begun[-2:]])
        lab.wait_draining(begun[-1][1])
        for prefix, _ in begun[:-1]:
            lab.open_gate(prefix)
    lab.open_gate(begun[-1][0])

    assert [run.wait_ended(30) for _, run in begun] == ["done"] * len(FACTORS)
    # When the next one was begun, the one before was being saved.
    assert overlaps == [["draining"], *[["draining"] * 2] * (len(FACTORS) - 1)]
    for (prefix, run), factor in zip(begun, FACTORS, strict=True):
        assert_right(lab, tmp_path, prefix, run, factor)


def test_a_deferred_batch_of_three_is_right_once_it_is_processed(lab, tmp_path):
    begun = [begin(lab, tmp_path, factor, deferred=True) for factor in FACTORS[:3]]
    waiting = [run.phase for _, run in begun]
    for _, run in begun:
        wait_until(
            lambda run=run: "processAcq begins to process them" in run.device.stuck,
            "what it waits for",
            GUARD_S,
        )

    for _, run in reversed(begun):
        lab.control.processAcq(id_of(run))

    assert [run.wait_ended(30) for _, run in begun] == ["done"] * 3
    assert waiting == ["draining"] * 3
    for (prefix, run), factor in zip(begun, FACTORS, strict=False):
        assert_right(lab, tmp_path, prefix, run, factor)
