import subprocess
from dataclasses import replace

import h5py
import numpy as np
import pytest

from lima2_core.data.frame import Validity
from lima2_core.data.geometry import Placement
from lima2_core.errors import ParamError
from processing.outputs.master import MasterOutput
from processing.outputs.master_rows import readable_rows
from tests.unit.processing.hits_parts import DATA, DETECTOR, HitsParts, expected, images_in
from tests.unit.processing.master_parts import quadrants, read


def dealt(receivers, count, seed=1):
    """Frames by receiver: somehow shared, and somewhat out of order."""
    random = np.random.default_rng(seed)
    order = np.argsort(np.arange(count) + random.uniform(0, 6, count))
    owners = random.integers(0, receivers, count)
    return [[int(idx) for idx in order if owners[idx] == n] for n in range(receivers)]


@pytest.mark.parametrize("receivers", [1, 2, 3])
@pytest.mark.parametrize("rows_per_file", [1, 4, 100])
def test_loss_disorder_and_unequal_receivers_leave_every_hit_at_its_frame(
    tmp_path, receivers, rows_per_file
):
    parts = HitsParts(
        tmp_path,
        receivers,
        expected=40,
        shape=(1, 20, 30),
        nb_frames_per_file=rows_per_file,
        segment_frames=15,
    )
    parts.output.open(parts.run)
    gaps = {3: Validity.PACKET_LOSS, 20: Validity.OVERRUN, 39: Validity.DROPPED}

    for receiver, indices in enumerate(dealt(receivers, 40)):
        for idx in indices:
            if idx == 20:
                parts.tell(receiver, (20, -1, 0.0, gaps[20]))
            else:
                parts.deliver(receiver, idx, gap=gaps.get(idx))
    parts.finish()

    wanted = expected(parts, 40, gaps)
    assert np.array_equal(images_in(parts.index), wanted)
    for number in range(3):
        first = 15 * number
        assert np.array_equal(images_in(parts.segment(number)), wanted[first : first + 15])
    codes = [gaps.get(idx, Validity.VALID) for idx in range(40)]
    assert read(parts.index, f"{DETECTOR}/validity").tolist() == codes
    pointers = read(parts.index, f"{DATA}/frame_ptr")
    assert all(pointers[idx] == pointers[idx + 1] for idx in gaps)
    assert not parts.output.trouble


def test_parts_of_frames_make_whole_ones_and_missing_parts_have_no_hits(tmp_path):
    parts = HitsParts(tmp_path, 4, expected=3, shape=(1, 20, 30), placements=quadrants(20, 30))
    parts.output.open(parts.run)

    for receiver in (0, 1, 3):
        parts.deliver(receiver, 2, 0, 1)
    parts.deliver(2, 0, 1)
    parts.ledger.lose(np.array([2]), Validity.RECEIVER_LOST, 2)
    parts.finish()

    wanted = expected(parts, 3)
    wanted[2, 10:, :15] = 0
    assert np.array_equal(images_in(parts.index), wanted)
    codes = [Validity.VALID, Validity.VALID, Validity.PARTIAL]
    assert read(parts.index, f"{DETECTOR}/validity").tolist() == codes


def test_parts_may_lie_anywhere_in_whole_frames(tmp_path):
    corners = [Placement(0, 0, 20, 30), Placement(10, 15, 20, 30)]
    parts = HitsParts(tmp_path, 2, expected=4, shape=(1, 20, 30), placements=corners)
    parts.output.open(parts.run)

    for receiver in range(2):
        parts.deliver(receiver, *range(4))
    parts.finish()

    wanted = expected(parts, 4)
    wanted[:, :10, 15:] = wanted[:, 10:, :15] = 0
    assert np.array_equal(images_in(parts.index), wanted)


def test_frames_that_follow_each_other_in_a_file_are_one_mapping(tmp_path):
    parts = HitsParts(tmp_path, 1, expected=30, shape=(1, 20, 30), nb_frames_per_file=10)
    parts.output.open(parts.run)

    parts.deliver(0, *range(30))
    parts.finish()

    with h5py.File(parts.index) as file:
        assert len(file[f"{DATA}/index"].virtual_sources()) == 3
        assert file[f"{DATA}/index"].dtype == np.int32
        assert file[f"{DATA}/intensity"].dtype == parts.spec.dtype
        assert file[f"{DATA}/frame_ptr"].dtype == np.uint64
        assert file[DATA].attrs["NX_class"] == "NXdata"
        assert file[DATA].attrs["threshold"] == 1
        assert file["entry_0000/measurement/data"] == file[DATA]
        assert file[DETECTOR].attrs["default"] == "data"
        assert file[f"{DETECTOR}/segments/00000"]["frame_ptr"].shape == (31,)


def test_segments_appear_while_the_run_goes_on_once_their_files_are_complete(tmp_path):
    parts = HitsParts(tmp_path, expected=16, shape=(1, 20, 30), segment_frames=8)
    parts.output.open(parts.run)

    parts.deliver(0, 0, 2, 4, 6)
    parts.deliver(1, 1, 3, 5)
    parts.flush()
    parts.output.update()
    assert not parts.segment(0).exists()
    parts.deliver(1, 7)
    parts.deliver(0, 8)
    parts.output.update()

    assert np.array_equal(images_in(parts.segment(0)), expected(parts, 8))
    assert parts.hidden() == []
    parts.finish(9)
    assert np.array_equal(images_in(parts.index), expected(parts, 9))


def test_a_run_without_a_frame_and_one_without_a_hit_have_a_master(tmp_path):
    for name, indices in (("none", []), ("empty", [5, 11, 17])):
        folder = tmp_path / name
        folder.mkdir()
        parts = HitsParts(folder, 1, expected=18)
        parts.output.open(parts.run)

        parts.deliver(0, *indices)
        parts.finish(18)

        count = indices[-1] + 1 if indices else 0
        assert images_in(parts.index).shape == (count, 4, 6)
        assert not images_in(parts.index).any()


def test_many_frames_are_in_segments_alone(tmp_path):
    parts = HitsParts(tmp_path, 1, expected=10_001, nb_frames_per_file=4000)
    parts.output.open(parts.run)

    parts.deliver(0, *range(10_001))
    parts.finish()

    with h5py.File(parts.index) as file:
        assert "data" not in file[DETECTOR]
        assert len(file[f"{DETECTOR}/segments"]) == 11
        assert len(file[f"{DETECTOR}/segments/00010/frame_ptr"]) == 2
    assert np.array_equal(images_in(parts.segment(3))[7], parts.image(3007)[0])


def test_what_did_not_reach_the_disk_is_no_frame(tmp_path):
    parts = HitsParts(tmp_path, 2, expected=8, shape=(1, 20, 30))
    parts.output.open(parts.run)
    parts.deliver(0, 0, 2, 4, 6)
    parts.deliver(1, 1, 3, 5, 7)
    parts.flushed[1] = 2

    parts.finish()

    codes = read(parts.index, f"{DETECTOR}/validity").tolist()
    assert [idx for idx, code in enumerate(codes) if code == Validity.CRASH] == [5, 7]
    assert np.array_equal(images_in(parts.index), expected(parts, 8, [5, 7]))


def test_a_file_that_is_gone_costs_its_frames_only(tmp_path, caplog):
    parts = HitsParts(tmp_path, 2, expected=16, shape=(1, 20, 30))
    parts.output.open(parts.run)
    parts.deliver(0, *range(0, 16, 2))
    parts.deliver(1, *range(1, 16, 2))
    parts.close()
    parts.params[1].path(1).unlink()

    parts.finish()

    lost = [9, 11, 13, 15]
    codes = read(parts.index, f"{DETECTOR}/validity").tolist()
    assert [idx for idx, code in enumerate(codes) if code] == lost
    assert np.array_equal(images_in(parts.index), expected(parts, 16, lost))
    assert "The hits in" in caplog.text


def test_rows_that_survived_a_crash_are_those_whose_hits_were_flushed(tmp_path):
    parts = HitsParts(tmp_path, 1, expected=12, shape=(1, 20, 30), nb_frames_per_file=8)
    files = parts.run.saved["frame"].files[0]
    parts.deliver(0, *range(9))
    parts.flush()
    parts.deliver(0, 9, 10)
    # As a crash leaves them: what HDF5 holds back is lost.
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    subprocess.run(["cp", *(str(parts.params[0].path(n)) for n in (0, 1)), crashed], check=True)

    assert readable_rows(replace(files, folder=str(crashed)), 9) == 9
    parts.close()
    assert readable_rows(files, 9) == 11


def test_a_file_of_an_earlier_run_is_refused_by_the_path_of_its_own_group(tmp_path):
    parts = HitsParts(tmp_path, filename_prefix="hits")
    processing = {
        "saving": {"enabled": True, "file_exists_policy": "overwrite"},
        "saving_sparse": {"enabled": True},
    }
    parts.block = "saving_sparse"
    run = parts._view(processing, {}, [parts.spec] * 2)
    (tmp_path / "hits_master.h5").touch()

    with pytest.raises(ParamError) as refused:
        MasterOutput().check(run)

    assert refused.value.path == "processing.saving_sparse.file_exists_policy"
