"""Frames that a master shows from other rows than its tables say are told."""

import os
from dataclasses import replace

import h5py
import numpy as np
import pytest

from client.validate import validate
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import Validity
from processing.codecs import CODECS
from tests.unit.client.remap import copied, remap, swapped
from tests.unit.processing.hits_parts import HitsParts
from tests.unit.processing.master_parts import DATA, DETECTOR, Parts, quadrants

FIRST = "lima2_master_00000.h5"
FIELDS = (FrameField("bunch_id", np.dtype("<u8")), FrameField("mask", np.dtype("u1"), (2,)))


def filled(folder, kind=Parts, **changed):
    """Two receivers in turns, frame 5 dropped; segments of six frames, files of four rows."""
    parts = kind(folder, **{"segment_frames": 6, **changed})
    parts.run_in_turns()
    return parts


def in_parts(folder, kind=Parts, **changed):
    """Four receivers with a quarter of each frame; receiver 2 lost that of frame 1."""
    options = {"shape": (1, 4, 6), "expected": 4, **changed}
    parts = kind(folder, 4, placements=quadrants(*options["shape"][1:]), **options)
    parts.output.open(parts.run)
    for receiver in range(4):
        parts.deliver(receiver, 0)
        parts.deliver(receiver, 1, gap=Validity.PACKET_LOSS if receiver == 2 else None)
        parts.deliver(receiver, 2, 3)
    parts.finish()
    return parts


def told(path, *, pixels=True):
    return [str(anomaly) for anomaly in validate(path, pixels=pixels).anomalies]


@pytest.fixture
def parts(tmp_path):
    return filled(tmp_path)


def test_frames_in_each_others_places_are_told(parts):
    for path in (parts.index, parts.segment(0)):
        remap(path, swapped(2, 4))

    assert told(parts.index) == [
        f"{FIRST}: frames 2, 4 lead to other rows than they have "
        "(frame 2: row 2 of lima2_0_00000.h5, not row 1 of receiver 0)",
        f"lima2_master.h5, {DATA}: frames 2, 4 lead to other rows than they have "
        "(frame 2: row 2 of lima2_0_00000.h5, not row 1 of receiver 0)",
    ]


def test_a_frame_of_another_receiver_is_told_though_nothing_is_read(parts):
    remap(parts.segment(0), copied(2, 3))

    (anomaly,) = told(parts.index, pixels=False)
    assert "frames 2 lead to other rows than they have (frame 2: row 1 of lima2_1_" in anomaly


def test_a_row_of_another_file_of_the_same_receiver_is_told(parts):
    def change(mappings):
        return [
            replace(one, file="lima2_0_00001.h5") if one.frame == 0 else one for one in mappings
        ]

    remap(parts.index, change)

    (anomaly,) = told(parts.index, pixels=False)
    assert "frames 0 lead to other rows than they have (frame 0: row 0 of lima2_0_00001" in anomaly


def test_frames_without_a_mapping_or_with_one_too_many_are_told(parts):
    remap(parts.segment(0), lambda mappings: mappings[1:])
    remap(parts.segment(1), lambda mappings: [*mappings, mappings[0]])

    first, second = told(parts.index, pixels=False)
    assert first == f"{FIRST}: frames 0 lead to other rows than they have"
    assert second == "lima2_master_00001.h5: frames 6 lead to other rows than they have"


def test_frames_of_another_source_of_the_same_run_are_told(tmp_path):
    filled(tmp_path, filename_prefix="raw")
    parts = filled(tmp_path)
    remap(parts.segment(0), lambda found: [replace(found[0], file="raw_0_00000.h5"), *found[1:]])

    (anomaly,) = told(parts.index, pixels=False)
    assert "frames 0 lead to other rows than they have (frame 0: row 0 of raw_0_" in anomaly


def test_another_dataset_of_the_right_row_is_told(parts):
    other = f"{DETECTOR}/validity"
    remap(parts.index, lambda found: [replace(found[0], dataset=other), *found[1:]])

    assert told(parts.index, pixels=False) == [
        f"lima2_master.h5, {DATA}: frames 0 do not lead to {DATA}"
    ]


def test_indices_in_the_files_of_receivers_are_compared(tmp_path):
    parts = filled(tmp_path, include_frame_idx=True)
    assert told(parts.index) == []
    with h5py.File(tmp_path / "lima2_0_00001.h5", "r+") as file:
        file[f"{DETECTOR}/frame_idx"][0] = 10

    assert told(parts.index, pixels=False) == [
        "lima2_master_00001.h5: the rows of frames 8 are of others in lima2_0_00001.h5"
    ]


def test_parts_of_other_frames_and_in_other_places_are_told(tmp_path):
    parts = in_parts(tmp_path)
    assert told(parts.index) == []
    remap(parts.segment(0), swapped(0, 4))  # both of receiver 0

    (anomaly,) = told(parts.index, pixels=False)
    assert "frames 0-1 lead to other rows than they have (frame 0: row 1 of lima2_0_" in anomaly
    remap(parts.segment(0), swapped(0, 4))

    def change(found):
        return [replace(found[0], target=found[1].target), *found[1:]]

    remap(parts.segment(0), change)
    assert told(parts.index, pixels=False) == [f"{FIRST}: frames 0 are not in their place"]


@pytest.mark.parametrize("fill", [filled, in_parts])
def test_bands_are_followed_each_for_itself(tmp_path, fill):
    parts = fill(tmp_path, shape=(2, 4, 6))
    assert told(parts.index) == []
    for path in (parts.segment(0), parts.index):
        remap(path, swapped(0, 4), f"{DATA}_band1")

    first, second = told(parts.index)
    assert first.startswith(f"{FIRST}, data_band1: frames 0")
    assert second.startswith("lima2_master.h5, data_band1: frames 0")


def test_a_band_that_shows_another_one_is_told(tmp_path):
    parts = filled(tmp_path, shape=(2, 4, 6))
    with h5py.File(parts.segment(0), "r+") as file:
        file.move(f"{DATA}_band0", f"{DATA}_band2")
        file.move(f"{DATA}_band1", f"{DATA}_band0")
        file.move(f"{DATA}_band2", f"{DATA}_band1")

    assert told(parts.index, pixels=False) == [
        f"{FIRST}, data_band{band}: frames 0-4 are not in their place" for band in (0, 1)
    ]


def test_what_the_camera_told_is_followed_too(tmp_path):
    parts = filled(tmp_path, fields=(FIELDS, FIELDS))
    assert told(parts.index) == []
    name = "frame_metadata/bunch_id"
    remap(parts.segment(1), swapped(0, -1), f"{DETECTOR}/{name}")

    anomalies = told(parts.index, pixels=False)
    assert anomalies[0].startswith(f"lima2_master_00001.h5, {name}: frames ")


def test_what_the_camera_told_of_parts_is_in_the_place_of_its_receiver(tmp_path):
    parts = in_parts(tmp_path, fields=(FIELDS,) * 4)
    assert told(parts.index) == []
    name = "frame_metadata/mask"
    remap(parts.index, swapped(0, 1), f"{DETECTOR}/{name}")

    anomalies = told(parts.index, pixels=False)
    assert len(anomalies) == 1
    assert anomalies[0] == f"lima2_master.h5, {name}: frames 0-3 are not in their place"


@pytest.mark.parametrize("count", [0, 1])
def test_runs_of_no_frame_or_one_are_good(tmp_path, count):
    parts = Parts(tmp_path, 1, expected=2, shape=(2, 4, 6), fields=(FIELDS,))
    parts.output.open(parts.run)
    parts.deliver(0, *range(count))
    parts.deliver(0, *range(count, 2), gap=Validity.DROPPED)
    parts.finish()

    assert told(parts.index) == []


def test_names_with_a_percent_sign_are_found(tmp_path):
    parts = filled(tmp_path, filename_prefix="at_50%_03d")

    assert told(parts.index) == []


def test_files_of_few_rows_are_told_apart_though_the_first_one_is_missing(tmp_path):
    parts = filled(tmp_path, nb_frames_per_file=1, fields=(FIELDS, FIELDS))
    assert told(parts.index) == []
    os.unlink(tmp_path / "lima2_0_00000.h5")

    assert told(parts.index, pixels=False) == [
        f"{FIRST}: frames 0 need lima2_0_00000.h5: it does not exist"
    ]


@pytest.mark.parametrize("compression", sorted(CODECS))
def test_packed_files_are_followed_as_others(tmp_path, compression):
    assert told(filled(tmp_path, compression=compression).index) == []


# Hits


def shifted(path, a, b, name):
    """Hits of mapping ``a`` and ``b`` read from where the other one did; of the same number."""
    for column in ("index", "intensity"):
        remap(path, swapped(a, b), f"{name}/{column}")


class EqualHits(HitsParts):
    """All frames have as many hits, but every fourth has none."""

    def image(self, idx):
        image = np.zeros(self.spec.shape, self.spec.dtype)
        image[:, 1::2, 1::2] = 0 if idx % 4 == 3 else idx + 1
        return image


def test_hits_of_frames_in_each_others_places_are_told(tmp_path):
    parts = filled(tmp_path, EqualHits)
    assert told(parts.index) == []
    for path in (parts.index, parts.segment(0)):
        shifted(path, 0, 1, DATA)

    text = "frames 0-1 have hits of other rows than they have"
    assert told(parts.index) == [
        f"{FIRST}: {text}",
        f"lima2_master.h5, {DATA}: {text}",
    ]


def test_hits_of_parts_of_other_frames_are_told(tmp_path):
    parts = in_parts(tmp_path, EqualHits, shape=(1, 4, 8))
    assert told(parts.index) == []
    shifted(parts.segment(0), 0, 4, DATA)

    (anomaly,) = told(parts.index, pixels=False)
    assert anomaly == f"{FIRST}: frames 0-1 have hits of other rows than they have"


def test_a_frame_shown_without_its_hits_is_told(tmp_path):
    parts = filled(tmp_path, EqualHits)
    with h5py.File(parts.segment(0), "r+") as file:
        file[f"{DETECTOR}/row"][3] = 0  # of frame 1
    with h5py.File(parts.index, "r+") as file:
        file[f"{DETECTOR}/row"][3] = 0

    anomalies = told(parts.index, pixels=False)
    assert f"{FIRST}: frames 3 have hits of other rows than they have" in anomalies


def test_indices_of_rows_of_hits_are_compared(tmp_path):
    parts = filled(tmp_path, EqualHits, include_frame_idx=True)
    with h5py.File(tmp_path / "lima2_1_00000.h5", "r+") as file:
        file[f"{DETECTOR}/frame_idx"][1] = 1

    anomalies = told(parts.index, pixels=False)
    assert anomalies == [f"{FIRST}: the rows of frames 3 are of others in lima2_1_00000.h5"]
