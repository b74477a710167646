"""A master while its run goes on, and what becomes of it when something breaks."""

import errno
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from lima2_core.data.frame import Validity
from lima2_core.errors import ParamError, StorageError
from processing.outputs.master_reserve import Reserve
from processing.outputs.master_writer import MasterWriter
from tests.unit.processing.master_parts import DATA, DETECTOR, Parts, quadrants, read

READ = "import h5py, hdf5plugin, sys; print(h5py.File(sys.argv[1])[sys.argv[2]][:, 0, 0].tolist())"


def test_a_segment_appears_while_the_run_goes_on_and_anybody_can_read_it(tmp_path):
    parts = Parts(tmp_path, expected=100, segment_frames=8)
    parts.output.open(parts.run)

    parts.deliver(0, *range(0, 12, 2))
    parts.deliver(1, *range(1, 11, 2))
    parts.output.update()

    command = [sys.executable, "-c", READ, str(parts.segment(0)), DATA]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str([int(parts.image(idx)[0, 0, 0]) for idx in range(8)])
    assert not parts.segment(1).exists()
    assert np.array_equal(read(parts.index, f"{DETECTOR}/segments/00000")[7], parts.image(7)[0])
    assert parts.output.results() == [str(parts.index), str(parts.segment(0))]
    parts.close()


def test_a_segment_of_flushed_frames_waits_hidden_for_the_files_to_be_complete(tmp_path):
    parts = Parts(tmp_path, expected=100, segment_frames=2)
    parts.output.open(parts.run)

    parts.deliver(0, 0)
    parts.deliver(1, 1)
    parts.output.update()
    before = parts.hidden()
    parts.flush()
    parts.output.update()

    draft = ".lima2_master_00000.h5.new"
    assert draft not in before
    assert draft in parts.hidden()
    assert not parts.segment(0).exists()
    parts.deliver(0, 2, 4, 6)
    parts.output.update()
    assert not parts.segment(0).exists()
    parts.deliver(1, 3, 5, 7)
    parts.output.update()
    assert parts.segment(0).exists()
    assert parts.segment(3).exists()
    parts.close()


def test_nothing_hidden_is_left_at_the_end(tmp_path):
    parts = Parts(tmp_path, expected=6, segment_frames=2)
    parts.output.open(parts.run)
    parts.deliver(0, 0, 2)
    parts.deliver(1, 1, 3)
    parts.flush()
    parts.output.update()
    assert parts.hidden()

    parts.deliver(0, 4)
    parts.deliver(1, 5)
    parts.finish()

    assert parts.hidden() == []


def test_the_frames_of_a_receiver_that_does_not_flush_delay_no_others(tmp_path):
    parts = Parts(tmp_path, expected=100, segment_frames=4)
    parts.output.open(parts.run)

    parts.deliver(0, 1)
    parts.deliver(1, 0, 2, 3, 4, 5, 6, 7)
    parts.deliver(1, 8)
    parts.output.update()

    assert not parts.segment(0).exists()
    assert parts.segment(1).exists()
    parts.close()


def test_the_index_is_not_rewritten_for_every_segment(tmp_path):
    parts = Parts(tmp_path, 1, expected=100, segment_frames=4)
    parts.output.open(parts.run)
    parts.deliver(0, 0, 1, 2, 3)
    parts.output.update()

    parts.deliver(0, 4, 5, 6, 7)
    parts.output.update()
    at_once = len(read_names(parts.index))
    parts.clock.s += 10
    parts.output.update()

    assert at_once == 1
    assert len(read_names(parts.index)) == 2
    parts.close()


def read_names(path):
    with h5py.File(path) as file:
        return list(file[f"{DETECTOR}/segments"])


def test_rows_that_were_flushed_survive_a_crash(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for folder in (before, after):
        folder.mkdir()
    writing = Parts(before, 1, expected=100)
    dead = Parts(after, 1, expected=100)
    dead.output.open(dead.run)

    writing.deliver(0, 0, 1, 2, 3, 4)
    writing.deliver(0, 5, gap=Validity.DROPPED)
    writing.flush()
    writing.deliver(0, 6)
    shutil.copytree(before, after, dirs_exist_ok=True)  # as a crash would leave it
    writing.close()

    left = dead.output.survivors("frame", 0)
    dead.tell(0, (0, 0, 0.0, Validity.VALID), (1, 1, 0.0, Validity.VALID))
    untold = dead.output.survivors("frame", 0)

    assert left.rows == untold.rows == 6
    assert left.codes.tolist() == 5 * [Validity.VALID] + [Validity.DROPPED]
    assert untold.codes.tolist() == 3 * [Validity.VALID] + [Validity.DROPPED]


def test_files_of_the_dead_tell_which_frames_they_hold(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for folder in (before, after):
        folder.mkdir()
    writing = Parts(before, 1, expected=100, include_frame_idx=True)
    dead = Parts(after, 1, expected=100, include_frame_idx=True)
    dead.output.open(dead.run)
    writing.deliver(0, 4, 1, 9, 7, 2, 8)
    writing.flush()
    shutil.copytree(before, after, dirs_exist_ok=True)
    writing.close()

    left = dead.output.survivors("frame", 0)

    assert left.rows == 6
    assert left.untold.tolist() == [4, 1, 9, 7, 2, 8]
    assert left.untold.dtype == np.int64
    dead.tell(0, (4, 0, 0.0, Validity.VALID), (1, 1, 0.0, Validity.VALID))
    assert dead.output.survivors("frame", 0).untold.tolist() == [9, 7, 2, 8]


def test_a_receiver_that_died_before_its_first_flush_leaves_nothing(tmp_path):
    parts = Parts(tmp_path, 2, expected=100)
    parts.output.open(parts.run)

    assert parts.output.survivors("frame", 1).rows == 0
    assert parts.output.survivors("no such source", 1) is None


def test_a_file_that_cannot_be_read_any_more_has_no_survivors(tmp_path, caplog):
    parts = Parts(tmp_path, 1, expected=100)
    parts.output.open(parts.run)
    parts.deliver(0, 0, 1, 2, 3)
    (tmp_path / "lima2_0_00001.h5").write_bytes(b"x" * 5000)

    assert parts.output.survivors("frame", 0).rows == 4
    assert "lima2_0_00001.h5" in caplog.text


def test_frames_lost_with_a_crash_read_as_fill_value_though_they_were_told_of(tmp_path):
    parts = Parts(tmp_path, 2, expected=4, segment_frames=2)
    parts.output.open(parts.run)
    parts.deliver(0, 0, 2)
    parts.deliver(1, 1, 3)
    parts.flush()
    parts.output.update()

    parts.ledger.strike(1, 1, Validity.CRASH)
    parts.finish()

    codes = [Validity.VALID, Validity.VALID, Validity.VALID, Validity.CRASH]
    assert read(parts.index, f"{DETECTOR}/validity").tolist() == codes
    assert not read(parts.segment(1))[1].any()
    assert np.array_equal(read(parts.segment(1))[0], parts.image(2)[0])


def test_a_part_lost_with_a_crash_reads_as_fill_value(tmp_path):
    parts = Parts(tmp_path, 4, expected=2, placements=quadrants(4, 6))
    parts.output.open(parts.run)
    for receiver in range(4):
        parts.deliver(receiver, 0, 1)
    parts.flushed[3] = 1

    parts.ledger.strike(3, 1, Validity.CRASH)
    parts.finish()

    expected = parts.image(1)[0]
    expected[2:, 3:] = 0
    assert np.array_equal(read(parts.index)[1], expected)
    assert read(parts.index, f"{DETECTOR}/row")[1].tolist() == [1, 1, 1, -1]


def test_what_never_reached_the_disk_is_no_frame_even_if_the_ledger_takes_it_for_one(tmp_path):
    parts = Parts(tmp_path, 2, expected=4)
    parts.output.open(parts.run)
    parts.deliver(0, 0, 2)
    parts.deliver(1, 1)
    parts.tell(1, (3, 1, 0.0, Validity.VALID))

    parts.finish()

    assert read(parts.index, f"{DETECTOR}/validity")[3] == Validity.CRASH
    assert read(parts.index, f"{DETECTOR}/row").tolist() == [0, 0, 1, -1]


def test_files_of_an_earlier_run_are_not_overwritten_unasked(tmp_path):
    parts = Parts(tmp_path)
    parts.output.check(parts.run)
    parts.segment(7).touch()

    with pytest.raises(ParamError, match=r"lima2_master_00007\.h5 exists") as caught:
        parts.output.check(parts.run)
    with pytest.raises(StorageError, match=r"lima2_master_00007\.h5 exists"):
        parts.output.open(parts.run)

    assert caught.value.path == "processing.saving.file_exists_policy"


def test_files_of_an_earlier_run_are_removed_where_that_is_allowed(tmp_path):
    parts = Parts(tmp_path, file_exists_policy="overwrite")
    others = [tmp_path / "lima2_master_x.h5", tmp_path / "other_master_00000.h5"]
    for path in (parts.segment(7), parts.index, *others):
        path.touch()

    parts.output.check(parts.run)
    assert parts.segment(7).exists()
    parts.output.open(parts.run)

    assert not parts.segment(7).exists()
    assert not parts.index.exists()
    assert all(path.exists() for path in others)


def test_drafts_of_a_run_that_broke_off_are_removed(tmp_path):
    parts = Parts(tmp_path)
    (tmp_path / ".lima2_master_00007.h5.new").touch()

    parts.output.open(parts.run)

    assert parts.hidden() == []


def test_a_folder_that_is_not_to_be_seen_from_here_is_an_error(tmp_path):
    (tmp_path / "gone").mkdir()
    parts = Parts(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    with pytest.raises(StorageError, match="no master file can be made"):
        parts.output.open(parts.run)


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_for_a_while_delays_the_master_only(tmp_path, monkeypatch):
    parts = Parts(tmp_path, 1, expected=100, segment_frames=4)
    parts.output.open(parts.run)
    parts.deliver(0, 0, 1, 2, 3)

    with monkeypatch.context() as patch:
        patch.setattr(MasterWriter, "draft_segment", full_disk)
        parts.output.update()
    trouble = parts.output.trouble
    parts.clock.s += 10
    parts.output.update()

    assert "No space left" in trouble
    assert parts.output.trouble == ""
    assert parts.segment(0).exists()
    parts.close()


def test_a_master_that_cannot_be_completed_says_so(tmp_path, monkeypatch):
    parts = Parts(tmp_path, 1, expected=1)
    parts.output.open(parts.run)
    parts.deliver(0, 0)
    monkeypatch.setattr(MasterWriter, "draft_index", full_disk)

    with pytest.raises(StorageError, match=r"could not be completed: .* No space left"):
        parts.finish()


def test_the_index_shows_all_frames_even_if_there_is_no_space_for_segments(tmp_path, monkeypatch):
    parts = Parts(tmp_path, 1, expected=2)
    parts.output.open(parts.run)
    parts.deliver(0, 0, 1)
    monkeypatch.setattr(MasterWriter, "draft_segment", full_disk)

    with pytest.raises(StorageError):
        parts.finish()

    assert np.array_equal(read(parts.index)[1], parts.image(1)[0])
    assert parts.output.results() == [str(parts.index)]


def test_space_is_kept_on_the_disk_until_the_master_is_completed(tmp_path):
    before_bytes = used_bytes(tmp_path)
    reserve = Reserve(tmp_path, 2**23)
    while_kept_bytes = used_bytes(tmp_path)

    reserve.release()

    assert while_kept_bytes - before_bytes > 2**22
    assert used_bytes(tmp_path) - before_bytes < 2**22
    assert list(tmp_path.iterdir()) == []


def used_bytes(folder):
    return shutil.disk_usage(folder).used
