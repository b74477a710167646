import h5py
import numpy as np
import pytest

from lima2_core.data.frame import Validity
from lima2_core.data.geometry import Placement
from tests.unit.processing.master_parts import DATA, DETECTOR, Parts, quadrants, read


def test_a_lost_frame_and_disorder_leave_every_other_frame_at_its_own_index(tmp_path):
    parts = Parts(tmp_path, expected=10)
    parts.output.open(parts.run)

    parts.deliver(0, 0, 4, 2, 8, 6)
    parts.deliver(1, 1)
    parts.deliver(1, 3, gap=Validity.PACKET_LOSS)
    parts.deliver(1, 5, 7, 9)
    parts.finish()

    data = read(parts.index)
    for idx in range(10):
        assert np.array_equal(data[idx], 0 * data[idx] if idx == 3 else parts.image(idx)[0])
    codes = [Validity.VALID] * 10
    codes[3] = Validity.PACKET_LOSS
    assert read(parts.index, f"{DETECTOR}/validity").tolist() == codes
    assert read(parts.index, f"{DETECTOR}/row").tolist() == [0, 0, 2, -1, 1, 2, 4, 3, 3, 4]
    assert read(parts.index, f"{DETECTOR}/frame_idx").tolist() == list(range(10))
    assert np.array_equal(data, read(parts.segment(0)))


def test_a_frame_without_a_row_is_a_gap_and_shifts_nothing(tmp_path):
    parts = Parts(tmp_path, expected=4)
    parts.output.open(parts.run)

    parts.deliver(1, 3, 0)
    parts.deliver(0, 2)
    parts.tell(0, (1, -1, 0.0, Validity.OVERRUN))
    parts.finish()

    data = read(parts.index)
    assert [int(image.any()) for image in data] == [1, 0, 1, 1]
    assert np.array_equal(data[3], parts.image(3)[0])
    assert read(parts.index, f"{DETECTOR}/receiver").tolist()[2:] == [0, 1]


def test_parts_are_put_in_their_places_and_missing_ones_read_as_fill_value(tmp_path):
    parts = Parts(tmp_path, 4, expected=3, shape=(1, 4, 6), placements=quadrants(4, 6))
    parts.output.open(parts.run)

    for receiver in (0, 1, 3):
        parts.deliver(receiver, 2, 0, 1)
    parts.deliver(2, 0, 1)
    parts.ledger.lose(np.array([2]), Validity.RECEIVER_LOST, 2)
    parts.finish()

    data = read(parts.index)
    assert np.array_equal(data[:2], [parts.image(0)[0], parts.image(1)[0]])
    partial = parts.image(2)[0]
    partial[2:, :3] = 0
    assert np.array_equal(data[2], partial)
    codes = [Validity.VALID, Validity.VALID, Validity.PARTIAL]
    assert read(parts.index, f"{DETECTOR}/validity").tolist() == codes
    assert read(parts.index, f"{DETECTOR}/row").tolist() == [
        [1, 1, 0, 1],
        [2, 2, 1, 2],
        [0, 0, -1, 0],
    ]


def test_what_lies_between_the_parts_reads_as_the_pipeline_says(tmp_path):
    corners = [Placement(0, 0, 4, 6), Placement(2, 3, 4, 6)]
    parts = Parts(tmp_path, 2, expected=2, shape=(1, 4, 6), placements=corners, fill=7)
    parts.output.open(parts.run)

    for receiver in (0, 1):
        parts.deliver(receiver, 0)
        parts.deliver(receiver, 1, gap=Validity.DROPPED)
    parts.finish()

    first, lost = read(parts.index)
    expected = parts.image(0)[0]
    expected[:2, 3:] = expected[2:, :3] = 7
    assert np.array_equal(first, expected)
    assert (lost == 7).all()


def test_several_bands_have_one_dataset_each_besides_the_one_of_all(tmp_path):
    parts = Parts(tmp_path, expected=6, shape=(3, 4, 6))
    parts.output.open(parts.run)

    parts.deliver(0, 0, 2, 4)
    parts.deliver(1, 1, 5)
    parts.tell(1, (3, -1, 0.0, Validity.DROPPED))
    parts.finish()

    expected = np.stack([parts.image(idx) for idx in range(6)])
    expected[3] = 0
    for path in (parts.index, parts.segment(0)):
        assert np.array_equal(read(path), expected)
        for band in range(3):
            assert np.array_equal(read(path, f"{DATA}_band{band}"), expected[:, band])


def test_bands_of_parts_are_put_in_their_places(tmp_path):
    parts = Parts(tmp_path, 4, expected=2, shape=(2, 4, 6), placements=quadrants(4, 6))
    parts.output.open(parts.run)

    for receiver in range(4):
        parts.deliver(receiver, 1, 0)
    parts.finish()

    expected = np.stack([parts.image(0), parts.image(1)])
    assert np.array_equal(read(parts.index), expected)
    assert np.array_equal(read(parts.index, f"{DATA}_band1"), expected[:, 1])


def test_frames_saved_with_an_axis_for_one_band_keep_it(tmp_path):
    parts = Parts(tmp_path, 1, expected=2, nb_dimensions="dim_4d")
    parts.output.open(parts.run)

    parts.deliver(0, 0, 1)
    parts.finish()

    assert np.array_equal(read(parts.index), [parts.image(0), parts.image(1)])
    assert read(parts.index, f"{DATA}_band0").shape == (2, 4, 6)


@pytest.mark.parametrize("prefix", ["50%", "%b", "a b"])
def test_names_may_hold_what_means_something_to_hdf5(tmp_path, prefix):
    parts = Parts(tmp_path, expected=2, filename_prefix=prefix)
    parts.output.open(parts.run)

    parts.deliver(0, 0)
    parts.deliver(1, 1)
    parts.finish()

    assert np.array_equal(read(parts.index), [parts.image(0)[0], parts.image(1)[0]])


def test_the_folder_can_be_moved(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    parts = Parts(before, expected=2, segment_frames=1)
    parts.output.open(parts.run)
    parts.deliver(0, 0)
    parts.deliver(1, 1)
    parts.finish()

    before.rename(after)

    assert np.array_equal(read(after / "lima2_master.h5")[1], parts.image(1)[0])
    linked = f"{DETECTOR}/segments/00001"
    assert np.array_equal(read(after / "lima2_master.h5", linked)[0], parts.image(1)[0])


def test_a_run_that_was_stopped_ends_with_the_last_frame_that_was_sent(tmp_path):
    parts = Parts(tmp_path, expected=100, segment_frames=4)
    parts.output.open(parts.run)

    parts.deliver(0, 0, 2, 4)
    parts.deliver(1, 1, 3, 5)
    parts.finish(100)

    assert read(parts.index).shape == (6, 4, 6)
    assert read(parts.segment(1)).shape == (2, 4, 6)
    assert not parts.segment(2).exists()
    with h5py.File(parts.index) as file:
        told = dict(file["entry_0000/ledger"].attrs)
    assert told["nb_frames_expected"] == 100
    assert told["VALID"] == 6
    assert told["NEVER_SENT"] == 94
    assert told["adds_up"]


def test_a_run_without_an_end_of_its_own_has_the_frames_that_came(tmp_path):
    parts = Parts(tmp_path, expected=None, segment_frames=4)
    parts.output.open(parts.run)

    parts.deliver(0, 0, 2, 4)
    parts.deliver(1, 1, 3)
    parts.finish(5)

    assert read(parts.index).shape == (5, 4, 6)
    assert np.array_equal(read(parts.segment(1))[0], parts.image(4)[0])


def test_a_run_without_a_frame_has_a_master_without_one(tmp_path):
    parts = Parts(tmp_path, expected=5)
    parts.output.open(parts.run)

    parts.finish(5)

    assert read(parts.index).shape == (0, 4, 6)
    assert parts.output.results() == [str(parts.index)]


def test_many_frames_are_in_segments_alone(tmp_path):
    parts = Parts(tmp_path, 1, expected=12_001, shape=(1, 1, 2), nb_frames_per_file=6000)
    parts.output.open(parts.run)

    parts.deliver(0, *range(12_001))
    parts.finish()

    with h5py.File(parts.index) as file:
        assert "data" not in file[DETECTOR]
        segments = file[f"{DETECTOR}/segments"]
        assert len(segments) == 13
        assert segments.attrs["first_frame"].tolist() == list(range(0, 12_001, 1000))
        assert segments.attrs["nb_frames"][-1] == 1
        assert np.array_equal(segments["00012"][0], parts.image(12_000)[0])
        assert np.array_equal(segments["00006"][123], parts.image(6123)[0])
        assert np.array_equal(file[f"{DETECTOR}/plot/data"][5], parts.image(5)[0])
        assert len(file[f"{DETECTOR}/validity"]) == 12_001


def test_no_dataset_leads_to_more_files_than_a_process_may_open(tmp_path):
    parts = Parts(tmp_path, 1, expected=500, shape=(1, 1, 2), nb_frames_per_file=1)
    parts.output.open(parts.run)

    parts.deliver(0, *range(500))
    parts.finish()

    with h5py.File(parts.index) as file:
        assert "data" not in file[DETECTOR]
        sizes = file[f"{DETECTOR}/segments"].attrs["nb_frames"].tolist()
        assert sizes == [399, 101]
        assert np.array_equal(file[f"{DETECTOR}/segments/00001"][100], parts.image(499)[0])
