"""Frames through the classic pipeline into files of sparse frames."""

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest

from lima2_core.camera.dispatch import Share
from lima2_core.data.frame import FrameSpec, Validity
from lima2_core.data.geometry import Placement
from lima2_core.errors import ParamError
from lima2_core.ids import ReceiverIdx
from tests.integration.bench import Bench, spec_of

DETECTOR = "entry_0000/instrument/detector"


def tree_of(folder, **others):
    saving = {"enabled": True, "base_path": str(folder), "nb_frames_per_file": 4}
    return {"saving_sparse": saving, **others}


def photons(count, shape=(1, 12, 15), rate=0.1):
    return np.random.default_rng(7).poisson(rate, (count, *shape)).astype("u2")


def frames_in(path):
    with h5py.File(path) as file:
        data = file[f"{DETECTOR}/data"]
        rows, cols = data.attrs["image_shape"]
        pointers = data["frame_ptr"][()]
        found = np.zeros((len(pointers) - 1, rows * cols), data["intensity"].dtype)
        for n, image in enumerate(found):
            hits = slice(pointers[n], pointers[n + 1])
            image[data["index"][hits]] = data["intensity"][hits]
        return found.reshape(-1, rows, cols)


def test_the_hits_of_every_frame_are_saved_and_told_of(tmp_path):
    raw = photons(10)
    sent = list(raw)
    sent[5] = Validity.OVERRUN
    share = Share(ReceiverIdx(1), 2)

    bench = Bench(tree_of(tmp_path), spec_of(raw), share=share, n_frames=10).run(sent)

    assert bench.failures == []
    paths = [tmp_path / f"lima2_sparse_1_{n:05d}.h5" for n in range(3)]
    assert sorted(tmp_path.iterdir()) == paths
    raw[5] = 0
    assert np.array_equal(np.concatenate([frames_in(path) for path in paths]), raw[:, 0])
    with h5py.File(paths[1]) as file:
        assert file[f"{DETECTOR}/validity"][()].tolist() == [0, Validity.OVERRUN, 0, 0]
    saved = bench.pipeline.saved["sparse"]
    assert saved.files.hits
    assert saved.files.block == "saving_sparse"
    assert saved.flushed() == 10
    assert bench.pipeline.progress()["nb_frames_sparse_saved"] == 9


def test_a_threshold_and_sums_are_those_of_the_processed_frames(tmp_path):
    raw = photons(8, rate=1.0)
    tree = tree_of(
        tmp_path,
        sparse={"threshold": 3},
        accumulation={"enabled": True, "nb_frames": 2},
        geometry={"flip": "up_down"},
    )

    Bench(tree, spec_of(raw), n_frames=8).run(list(raw))

    sums = (raw[0::2] + raw[1::2])[:, 0, ::-1].astype("u4")
    sums[sums < 3] = 0
    assert np.array_equal(frames_in(tmp_path / "lima2_sparse_0_00000.h5"), sums)


def test_hits_of_a_part_have_their_positions_in_whole_frames(tmp_path):
    raw = photons(3)
    place = Placement(12, 15, 24, 30)

    Bench(tree_of(tmp_path), spec_of(raw), parts=True, placement=place, n_frames=3).run(list(raw))

    whole = np.zeros((3, 24, 30), "u2")
    whole[:, 12:, 15:] = raw[:, 0]
    assert np.array_equal(frames_in(tmp_path / "lima2_sparse_0_00000.h5"), whole)


def test_frames_of_several_bands_are_refused(tmp_path):
    with pytest.raises(ParamError, match="2 bands") as refused:
        Bench(tree_of(tmp_path), FrameSpec((2, 12, 15), np.dtype("u2")))

    assert refused.value.path == "saving_sparse"


def test_a_run_without_frames_leaves_an_empty_file(tmp_path):
    raw = photons(1)

    Bench(tree_of(tmp_path), spec_of(raw)).run([])

    assert frames_in(tmp_path / "lima2_sparse_0_00000.h5").shape == (0, 12, 15)
