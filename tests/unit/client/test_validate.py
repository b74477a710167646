"""A master file is what it says, or `lima2 validate` tells what is wrong with it."""

import fcntl
import os

import h5py
import numpy as np
import pytest

from client import Frame, MasterFile, NotAvailableError, StorageError
from client.commands.validate import main
from client.validate import ranges, validate
from lima2_core.data.frame import Validity
from tests.unit.processing.master_parts import DATA, DETECTOR, Parts, quadrants


def filled(folder, **changed):
    """Two receivers in turns, frame 5 dropped; segments of four frames."""
    parts = Parts(folder, **{"segment_frames": 4, **changed})
    parts.run_in_turns()
    return parts


@pytest.fixture
def parts(tmp_path):
    return filled(tmp_path)


def told(path):
    return [str(anomaly) for anomaly in validate(path).anomalies]


def test_a_good_file_is_good_and_its_gap_is_counted(parts, capsys):
    report = validate(parts.index)

    assert report.anomalies == []
    assert (report.frames, report.valid, report.gaps) == (10, 9, 1)
    assert "1 dropped" in report.verdict
    assert main([str(parts.index)]) == 0
    assert "the file is what it says" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed",
    [{"compression": "bshuf_lz4"}, {"shape": (2, 4, 6)}, {"segment_frames": 3}, {"expected": 14}],
)
def test_other_good_files_are_good_too(tmp_path, changed):
    assert told(filled(tmp_path, **changed).index) == []


def test_frames_of_which_only_a_part_came_are_counted_apart(tmp_path, capsys):
    parts = Parts(tmp_path, 4, placements=quadrants(4, 6), expected=2)
    parts.output.open(parts.run)
    for receiver in range(4):
        parts.deliver(receiver, 0)
    for receiver in range(3):
        parts.deliver(receiver, 1)
    parts.deliver(3, 1, gap=Validity.PACKET_LOSS)
    parts.finish()

    assert main([str(parts.index)]) == 0
    assert "2 frames: 1 valid, 1 partial, 0 missing" in capsys.readouterr().out


def test_frames_in_parts_are_followed_part_by_part(tmp_path):
    parts = Parts(tmp_path, 4, placements=quadrants(4, 6), expected=4)
    parts.output.open(parts.run)
    for receiver in range(4):
        parts.deliver(receiver, 0, 1, 2, 3)
    parts.finish()

    assert told(parts.index) == []
    os.unlink(tmp_path / "lima2_2_00000.h5")
    assert len(told(parts.index)) == 1


def test_a_missing_file_of_a_receiver_is_named_with_its_frames(parts, capsys):
    os.unlink(parts.folder / "lima2_0_00000.h5")

    # Plain h5py reads zeros without a word.
    with h5py.File(parts.index) as file:
        assert not file[DATA][0].any()
    assert told(parts.index) == [
        "lima2_master_00000.h5: frames 0, 2 need lima2_0_00000.h5: it does not exist",
        "lima2_master_00001.h5: frames 4, 6 need lima2_0_00000.h5: it does not exist",
    ]
    assert main([str(parts.index), "--quick"]) == 1
    assert "2 anomalies" in capsys.readouterr().out


def test_a_missing_segment_is_named(parts):
    os.unlink(parts.segment(1))

    (anomaly,) = told(parts.index)
    assert anomaly.startswith("lima2_master_00001.h5: it cannot be read")


def test_a_locked_file_is_told(parts):
    with (parts.folder / "lima2_1_00000.h5").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        anomalies = told(parts.index)

    assert any("need lima2_1_00000.h5: it cannot be read" in one for one in anomalies)


def test_rows_that_were_never_written_are_told(parts):
    with h5py.File(parts.folder / "lima2_1_00000.h5", "a") as file:
        image = file[DATA]
        shape, dtype, chunks = image.shape, image.dtype, image.chunks
        del file[DATA]
        file.create_dataset(DATA, shape, dtype, chunks=chunks)

    assert "lima2_master_00000.h5: frames 1, 3 were never written to lima2_1_00000.h5" in (
        told(parts.index)
    )


def test_a_row_that_its_receiver_calls_lost_is_told(parts):
    with h5py.File(parts.folder / "lima2_1_00000.h5", "a") as file:
        file[f"{DETECTOR}/validity"][1] = Validity.CRASH

    assert told(parts.index) == [
        "lima2_master_00000.h5: frames 3 are not valid in lima2_1_00000.h5"
    ]


def test_files_of_another_run_are_told(parts):
    with h5py.File(parts.folder / "lima2_1_00000.h5", "a") as file:
        del file["entry_0000/entry_identifier_uuid"]
        file["entry_0000/entry_identifier_uuid"] = "another"

    assert "belongs to another run (another)" in told(parts.index)[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda g: g.attrs.modify("VALID", 8), "the ledger counts 8 frames valid, the index lists"),
        (lambda g: g.attrs.modify("NEVER_SENT", 3), "add up to 13 of 10"),
        (lambda g: g.attrs.modify("nb_frames_lost", 3), "3 frames are lost by the ledger, not 1"),
        (lambda g: g.attrs.__delitem__("verdict"), "has no verdict"),
    ],
)
def test_books_that_do_not_add_up_are_told(parts, change, sentence):
    with h5py.File(parts.index, "a") as file:
        change(file["entry_0000/ledger"])

    assert any(sentence in anomaly for anomaly in told(parts.index))


def test_tables_of_index_and_segments_have_to_agree(parts):
    with h5py.File(parts.index, "a") as file:
        file[f"{DETECTOR}/row"][2] = 3
        file[f"{DETECTOR}/frame_idx"][9] = 5

    assert told(parts.index) == [
        "lima2_master.h5: frame_idx is wrong for frames 9",
        "lima2_master_00000.h5: row of frames 2 is not that of the index",
        f"lima2_master.h5, {DATA}: frames 2 lead to other rows than they have "
        "(frame 2: row 1 of lima2_0_00000.h5, not row 3 of receiver 0)",
    ]


def test_a_gap_that_shows_something_is_told(parts):
    with h5py.File(parts.segment(1), "a") as file:
        file[f"{DETECTOR}/validity"][2] = Validity.OVERRUN
    with h5py.File(parts.index, "a") as file:
        file[f"{DETECTOR}/validity"][6] = Validity.OVERRUN

    anomalies = told(parts.index)
    assert any("gaps 6 have pixels that are set" in one for one in anomalies)
    assert any("frames 6 have a row and are gaps" in one for one in anomalies)


def test_the_dataset_over_all_frames_has_to_show_the_same(parts):
    with h5py.File(parts.index, "a") as file:
        del file[DATA]
        file[DATA] = np.zeros((10, 4, 6), np.uint16)

    (anomaly,) = told(parts.index)
    assert "frames 0-4, 6-9 differ from those in the segments" in anomaly


def test_an_index_of_a_run_that_goes_on_is_not_final(tmp_path):
    parts = Parts(tmp_path, 1, segment_frames=4)
    parts.output.open(parts.run)
    parts.deliver(0, *range(8))
    parts.flush()
    parts.output.update()

    assert (
        told(parts.index)
        == [
            "lima2_master.h5: it is not final: the run goes on, or nobody wrote its end",
            "lima2_master.h5: the ledger has no verdict",
        ][:1]
    )
    parts.finish()


@pytest.mark.parametrize("content", [b"", b"nothing"])
def test_what_is_no_master_is_refused(tmp_path, content, capsys):
    path = tmp_path / "x_master.h5"
    path.write_bytes(content)

    with pytest.raises(StorageError):
        validate(path)
    assert main([str(path)]) == 1
    assert "lima2 validate:" in capsys.readouterr().err
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
    with pytest.raises(StorageError, match="no master file"):
        validate(path)


def test_a_file_of_one_receiver_is_called_so_and_the_index_named(parts, capsys):
    path = parts.folder / "lima2_1_00000.h5"

    assert main([str(path)]) == 1
    told = capsys.readouterr().err
    assert "is the file of one receiver, not a master file; the index is " in told
    assert str(parts.index) in told
    assert "rights" not in told
    os.unlink(parts.index)
    with pytest.raises(StorageError, match="there is no index beside it"):
        validate(path)


def test_a_segment_is_called_so_and_the_index_named(parts):
    with pytest.raises(StorageError, match=r"one segment of a .* the index is .*lima2_master\.h5"):
        validate(parts.segment(1))


def test_a_detector_without_anything_is_no_master(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["default"] = "entry"
        file.create_group("entry").attrs["NX_class"] = "NXdetector"

    with pytest.raises(StorageError, match=r"x\.h5 is no master file\. The frames of a run"):
        validate(tmp_path / "x.h5")


def test_frames_are_read_from_the_segments_of_a_master(parts):
    with MasterFile(parts.index) as master:
        frames = list(master)
        with pytest.raises(NotAvailableError):
            master.frame(10)

    assert [isinstance(one, Frame) for one in frames] == [True] * 5 + [False] + [True] * 4
    assert np.array_equal(frames[7].data, parts.image(7))
    assert frames[7].timestamp_s == 107.0
    assert frames[5].cause == Validity.DROPPED


def test_indices_are_told_in_short():
    assert ranges([3, 7, 8, 9, 12]) == "3, 7-9, 12"
    assert ranges(range(0, 20, 2)).endswith("and others, 10 in all")
