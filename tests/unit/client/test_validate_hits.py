"""A master of hits is what it says, or `lima2 validate` tells what is wrong with it."""

import os

import h5py
import numpy as np
import pytest

from client import Gap, Hits, MasterFile, StorageError
from client.files import SavedFrames
from client.validate import validate
from lima2_core.data.frame import Validity
from tests.unit.processing.hits_parts import DATA, HitsParts
from tests.unit.processing.master_parts import Parts, quadrants

FIRST = "lima2_master_00000.h5"


def filled(folder, **changed):
    """Two receivers in turns, frame 5 dropped (of 10); segments of six frames."""
    options = {"shape": (1, 20, 30), "segment_frames": 6, **changed}
    parts = HitsParts(folder, **options)
    parts.run_in_turns()
    return parts


@pytest.fixture
def parts(tmp_path):
    return filled(tmp_path)


def told(path):
    return [str(anomaly) for anomaly in validate(path).anomalies]


def rewritten(path, name, values):
    """Change a file of a receiver, or of the master."""
    with h5py.File(path, "r+") as file:
        attrs = dict(file[name].attrs)
        del file[name]
        file[name] = values
        file[name].attrs.update(attrs)


def test_a_good_file_is_good_and_its_gap_is_counted(parts):
    report = validate(parts.index)

    assert report.anomalies == []
    assert (report.frames, report.valid, report.gaps) == (10, 9, 1)


def test_names_with_a_percent_sign_are_found(tmp_path):
    parts = filled(tmp_path, filename_prefix="at_50%_03d")
    assert told(parts.index) == []
    os.unlink(tmp_path / "at_50%_03d_0_00000.h5")

    told_of_it = "at_50%_03d_master_00000.h5: frames 0, 2, 4 need at_50%_03d_0_00000.h5"
    assert any(one.startswith(told_of_it) for one in told(parts.index))


def test_hits_in_parts_are_followed_part_by_part(tmp_path):
    parts = HitsParts(tmp_path, 4, shape=(1, 20, 30), placements=quadrants(20, 30), expected=4)
    parts.output.open(parts.run)
    for receiver in range(4):
        parts.deliver(receiver, 0, 1, 2, 3)
    parts.finish()

    assert told(parts.index) == []
    os.unlink(tmp_path / "lima2_2_00000.h5")
    assert told(parts.index)[0] == (f"{FIRST}: frames 0-3 need lima2_2_00000.h5: it does not exist")


def test_a_missing_file_of_a_receiver_is_named_with_its_frames(parts):
    os.unlink(parts.folder / "lima2_0_00000.h5")

    # Plain h5py reads zeros without a word.
    with h5py.File(parts.index) as file:
        assert not file[f"{DATA}/intensity"][:10].any()
    found = told(parts.index)
    assert f"{FIRST}: frames 0, 2, 4 need lima2_0_00000.h5: it does not exist" in found


def test_a_file_of_another_layout_is_told(parts):
    path = parts.params[0].path(0)
    with h5py.File(path) as file:
        pointers = file[f"{DATA}/frame_ptr"][()]
    pointers[1] += 1
    rewritten(path, f"{DATA}/frame_ptr", pointers)

    assert any("have a part of the hits of a row of" in one for one in told(parts.index))


def test_pointers_that_do_not_fit_are_told(parts):
    path = parts.segment(0)
    with h5py.File(path) as file:
        pointers = file[f"{DATA}/frame_ptr"][()]
    rewritten(path, f"{DATA}/frame_ptr", pointers + np.uint64(1))

    assert f"{FIRST}: frame_ptr does not divide its hits" in told(parts.index)


def test_hits_that_can_be_none_are_told(parts):
    path = parts.params[1].path(0)
    with h5py.File(path) as file:
        index, intensity = (file[f"{DATA}/{name}"][()] for name in ("index", "intensity"))
    index[0], intensity[1] = 600, 0
    rewritten(path, f"{DATA}/index", index)
    rewritten(path, f"{DATA}/intensity", intensity)

    found = told(parts.index)

    assert f"{FIRST}: frames 1 have hits outside the image" in found
    assert f"{FIRST}: frames 1 have hits below the threshold 1" in found


def test_hits_are_arrays_and_frames_images(parts):
    with MasterFile(parts.index) as master:
        hits, frame = master.hits(3), master.frame(3)
        gaps = master.hits(5), master.frame(5)

    assert isinstance(hits, Hits)
    assert hits.shape == (20, 30)
    assert hits.timestamp_s == frame.timestamp_s == 103.0
    assert np.array_equal(frame.data, parts.image(3))
    assert np.array_equal(hits.image(), parts.image(3))
    assert all(isinstance(gap, Gap) and gap.cause == Validity.DROPPED for gap in gaps)


def test_frames_without_a_hit_can_be_read_among_very_many(tmp_path):
    parts = HitsParts(tmp_path, 2, shape=(1, 20, 30), expected=300, nb_frames_per_file=200)
    parts.output.open(parts.run)
    for receiver in range(2):
        parts.deliver(receiver, *range(receiver, 300, 2))
    parts.finish()

    assert told(parts.index) == []
    with MasterFile(parts.index) as master:
        for idx in (5, 6, 299):
            assert np.array_equal(master.frame(idx).data, parts.image(idx))


def test_files_of_a_crash_are_good_up_to_the_last_flush(tmp_path):
    parts = HitsParts(tmp_path, 1, shape=(1, 20, 30), expected=6, nb_frames_per_file=50)
    parts.output.open(parts.run)
    parts.deliver(0, *range(6))
    parts.flush()
    crashed = parts.params[0].path(0).read_bytes()
    parts.finish()
    parts.params[0].path(0).write_bytes(crashed)

    assert told(parts.index) == []


def test_a_master_of_images_has_no_hits(tmp_path):
    parts = Parts(tmp_path, 1, expected=1)
    parts.output.open(parts.run)
    parts.deliver(0, 0)
    parts.finish()

    with MasterFile(parts.index) as master, pytest.raises(StorageError, match="images, not hits"):
        master.hits(0)


def test_hits_do_not_stand_for_the_frames_of_a_run(parts):
    saved = SavedFrames(lambda: parts.index)

    assert saved.get(0) is None
    saved.close()
