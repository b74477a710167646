"""What masters show beside the frames: fields of the camera, marks, how frames were made."""

import h5py
import numpy as np
import pytest

from client.validate import validate
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import Validity
from processing.kernels.marks import Marks
from tests.unit.processing.master_parts import DATA, DETECTOR, Parts, quadrants, read

FIELDS = (
    FrameField("bunch_id", np.dtype("<u8"), unit="pulses", doc="as it came"),
    FrameField("packet_mask", np.dtype("u1"), (2, 3)),
)
NOTHING = 2**64 - 1
TOLD = f"{DETECTOR}/frame_metadata"


def told(parts, name="bunch_id"):
    """As the index tells it; the segments have to tell the same."""
    whole = read(parts.index, f"{TOLD}/{name}")
    pieces = [read(path, f"{TOLD}/{name}") for path in sorted(parts.folder.glob("*_master_*.h5"))]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert validate(parts.index).anomalies == []
    return whole


def in_turns(folder, **changed):
    """Two receivers in turns, frame 5 dropped; segments of four frames, files of four."""
    parts = Parts(folder, segment_frames=4, fields=(FIELDS, FIELDS), **changed)
    parts.run_in_turns()
    return parts


def test_fields_of_receivers_in_turns_are_in_the_order_of_frames(tmp_path):
    parts = in_turns(tmp_path)

    expected = [1000 * (1 + n % 2) + n for n in range(10)]
    expected[5] = NOTHING
    assert told(parts).tolist() == expected
    masks = told(parts, "packet_mask")
    assert masks.shape == (10, 2, 3)
    assert masks[5].tolist() == [[255] * 3] * 2
    with h5py.File(parts.index) as file:
        assert file[TOLD].attrs["NX_class"] == "NXcollection"
        assert file[f"{TOLD}/bunch_id"].attrs["units"] == "pulses"
        assert file[f"{TOLD}/bunch_id"].attrs["description"] == "as it came"
        assert file[f"{TOLD}/bunch_id"].is_virtual


def test_many_frames_need_few_mappings(tmp_path):
    parts = in_turns(tmp_path)

    with h5py.File(parts.index) as file:
        # Files of four rows; frame 5 is missing in the first one of receiver 1.
        assert len(file[f"{TOLD}/bunch_id"].virtual_sources()) == 2 + 3


def test_frames_in_any_order_on_any_receiver_find_their_fields(tmp_path):
    parts = Parts(tmp_path, fields=(FIELDS, FIELDS), expected=8)
    parts.output.open(parts.run)
    parts.deliver(0, 5, 0, 1, 7)
    parts.deliver(1, 6, 3, 4, 2)
    parts.finish()

    owner = np.array([0, 0, 1, 1, 1, 0, 1, 0])
    assert told(parts).tolist() == (1000 * (1 + owner) + np.arange(8)).tolist()


def test_parts_of_frames_have_an_axis_for_the_receiver(tmp_path):
    small = (FIELDS[0], FrameField("packet_mask", np.dtype("u1"), (1, 3)))
    parts = Parts(
        tmp_path,
        4,
        placements=quadrants(4, 6),
        expected=3,
        fields=(FIELDS, small, FIELDS, FIELDS),
    )
    parts.output.open(parts.run)
    for receiver in range(4):
        parts.deliver(receiver, 0)
        parts.deliver(receiver, 1, gap=Validity.PACKET_LOSS if receiver == 2 else None)
        parts.deliver(receiver, 2)
    parts.finish()

    bunches = told(parts)
    assert bunches[0].tolist() == [1000, 2000, 3000, 4000]
    assert bunches[1].tolist() == [1001, 2001, NOTHING, 4001]
    masks = told(parts, "packet_mask")
    assert masks.shape == (3, 4, 2, 3)
    assert masks[0, 1].tolist() == [[2000 % 256] * 3, [255] * 3]


def test_fields_that_not_all_receivers_have_are_not_shown(tmp_path):
    parts = Parts(tmp_path, fields=(FIELDS, FIELDS[:1]), expected=2)
    parts.output.open(parts.run)
    parts.deliver(0, 0)
    parts.deliver(1, 1)
    parts.finish()

    with h5py.File(parts.index) as file:
        assert list(file[TOLD]) == ["bunch_id"]


def test_a_master_without_fields_has_no_group_for_them(tmp_path):
    parts = Parts(tmp_path, expected=1)
    parts.output.open(parts.run)
    parts.deliver(0, 0)
    parts.finish()

    with h5py.File(parts.index) as file:
        assert "frame_metadata" not in file[DETECTOR]


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_files_say_what_marks_mean_and_how_photons_were_made(tmp_path, dtype):
    marks = Marks.of(dtype).told()
    made = {"photon_conversion": {"calibration_date": "2024-01-02", "energy_kev": 12.4}}
    parts = Parts(tmp_path, dtype=dtype, expected=1, details={"marks": marks, "collections": made})
    parts.output.open(parts.run)
    parts.deliver(0, 0)
    parts.finish()

    for path in (parts.index, parts.segment(0), tmp_path / "lima2_0_00000.h5"):
        with h5py.File(path) as file:
            data, detector = file[DATA], file[DETECTOR]
            for name in ("no_value", "saturated_value"):
                assert np.array_equal(data.attrs[name], marks[name], equal_nan=True)
                assert data.attrs[name].dtype == np.dtype(dtype)
            for name in ("saturation_value", "underload_value"):
                assert detector[name][()] == marks[name]
            conversion = detector["photon_conversion"]
            assert conversion.attrs["NX_class"] == "NXcollection"
            assert conversion["energy_kev"][()] == 12.4
            assert conversion["calibration_date"].asstr()[()] == "2024-01-02"


def test_gaps_of_floats_may_read_nan(tmp_path):
    fill = {"dtype": "f4", "placements": quadrants(4, 6), "fill": np.nan}
    parts = Parts(tmp_path, 4, expected=2, **fill)
    parts.output.open(parts.run)
    for receiver in range(4):
        parts.deliver(receiver, 0)
        parts.deliver(receiver, 1, gap=Validity.PACKET_LOSS)
    parts.finish()

    assert np.isnan(read(parts.index)[1]).all()
    assert validate(parts.index).anomalies == []


def test_a_gap_of_which_something_is_told_is_found(tmp_path):
    parts = in_turns(tmp_path)
    with h5py.File(parts.segment(1), "r+") as file:
        code = file[f"{DETECTOR}/validity"]
        code[2] = int(Validity.DROPPED)

    assert any("bunch_id is told of gaps 6" in str(one) for one in validate(parts.index).anomalies)
