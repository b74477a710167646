"""Files of receivers and the master file, pixel by pixel (contract 03, sections 7 and 8)."""

import h5py
import numpy as np
import pytest
from lima2.common.exceptions import Lima2BackendError
from silx.io import nxdata

from lima2_core.data.frame import Validity
from tests.system.lab import expected, saved_frames
from tests.tango.devices import changed, wait_until

DATA = "entry_0000/instrument/detector/data"


def in_memory(lab, nb_frames, source="frame"):
    """All frames as the servers have them in memory, by their own getters."""
    acq_id = lab.client.pipeline.current_pipeline()
    run = lab.system.run(str(acq_id))
    getter = {"frame": "getFrame", "input_frame": "getInputFrame"}[source]
    images = [run.image(idx % 2, idx, getter) for idx in range(nb_frames)]
    lab.system.clear_listeners()
    return np.stack(images)


@pytest.mark.parametrize(
    ("nb_channels", "nb_dimensions", "compression", "shape"),
    [
        (1, "dim_3d_or_4d", "bshuf_lz4", (25, 32, 48)),
        (1, "dim_4d", "none", (25, 1, 32, 48)),
        (3, "dim_3d_or_4d", "zip", (25, 3, 32, 48)),
        (1, "dim_3d_or_4d", "bshuf_zstd", (25, 32, 48)),
    ],
)
@pytest.mark.parametrize("pixel_type", ["gray8", "gray32f"])
def test_the_master_file_shows_every_pixel_of_every_frame(
    lab, tmp_path, nb_channels, nb_dimensions, compression, shape, pixel_type
):
    tree = lab.acquisition(
        {
            "acq.nb_frames": 25,
            "det.generator.nb_channels": nb_channels,
            "det.generator.pixel_type": pixel_type,
        }
    )
    saving = {
        "saving.nb_dimensions": nb_dimensions,
        "saving.compression": compression,
        "saving.nb_frames_per_file": 5,
    }
    lab.acquire(tree, lab.saving(tmp_path, saving))

    frames = in_memory(lab, 25)
    (path, dataset) = lab.client.pipeline.master_files()["frame"]
    with h5py.File(path) as master:
        data = master[dataset]
        assert path == str(tmp_path / "lima2_master.h5")
        assert data.shape == shape
        assert data.dtype == frames.dtype
        assert np.array_equal(data[()].reshape(frames.shape), frames)


def test_a_full_frame_comes_back_from_the_master_file(lab, tmp_path):
    whole = {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 0, "y": 0}}
    tree = lab.acquisition({"acq.nb_frames": 6, "img.roi": whole, "det.nb_prefetch_frames": 3})
    lab.acquire(tree, lab.saving(tmp_path))

    frames = in_memory(lab, 6)
    with h5py.File(tmp_path / "lima2_master.h5") as master:
        assert master[DATA].shape == (6, 2048, 2048)
        assert np.array_equal(master[DATA][()][:, None], frames)
    assert [frame.max() for frame in frames] == [expected(idx, 3) for idx in range(6)]


def test_files_are_named_and_filled_as_clients_look_for_them(lab, tmp_path):
    saving = {
        "saving.nb_frames_per_file": 4,
        "saving.filename_format": "lima2_{filename_rank}_{file_number:05d}.h5",
    }
    lab.acquire(lab.acquisition({"acq.nb_frames": 21}), lab.saving(tmp_path, saving))

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"lima2_{receiver}_{number:05d}.h5" for receiver in range(2) for number in range(3)),
        "lima2_master.h5",
    ]
    lengths = {}
    for path in tmp_path.glob("lima2_[01]_*.h5"):
        with h5py.File(path) as file:
            lengths[path.name[6:13]] = len(file[DATA])
    assert lengths == {
        "0_00000": 4, "0_00001": 4, "0_00002": 3, "1_00000": 4, "1_00001": 4, "1_00002": 2
    }  # fmt: skip
    for receiver in range(2):
        frames, validity = saved_frames(tmp_path, receiver)
        indices = range(receiver, 21, 2)
        assert [frame.max() for frame in frames] == [expected(idx) for idx in indices]
        assert validity == [Validity.VALID] * len(indices)


def test_a_file_opens_on_its_image_and_tells_how_it_was_made(lab, tmp_path):
    tree = lab.acquisition({"acq.nb_frames": 4})
    acq_id = lab.acquire(tree, lab.saving(tmp_path, {"saving.nx_detector_name": "eiger"}))

    with h5py.File(tmp_path / "lima2_0_00000.h5") as file:
        image = nxdata.get_default(file)
        detector = file["entry_0000/instrument/eiger"]
        assert image.is_valid
        assert image.signal.shape == (2, 32, 48)
        assert file["entry_0000/measurement/data"] == detector["data"]
        assert detector["data"].chunks == (1, 32, 48)
        assert str(acq_id) in file["entry_0000/entry_identifier_uuid"][()].decode()
        assert detector["params/acquisition/acq/nb_frames"][()] == 4
        kept = detector["params/processing/saving/base_path"][()].decode()
        assert kept == str(tmp_path)


def test_frames_are_fetched_from_files_once_memory_has_forgotten_them(lab, tmp_path):
    few = {"buffers.nb_frames_buffer": 2, "saving.nb_frames_per_file": 7}
    lab.acquire(lab.acquisition({"acq.nb_frames": 40}), lab.saving(tmp_path, few))

    answer = lab.client.session.get("/pipeline/current/lookup/frame/17").json()
    assert answer["hdf5"]["url"].endswith("lima2_1_00001.h5:entry_0000/instrument/detector/")
    assert answer["hdf5"]["idx"] == 1
    assert [lab.frame(idx).max() for idx in (0, 17, 39)] == [expected(idx) for idx in (0, 17, 39)]


def test_a_file_that_is_being_written_is_locked_and_the_frame_comes_from_memory(lab, tmp_path):
    acq_id = lab.prepare(
        lab.acquisition({"acq.nb_frames": 4, "acq.trigger_mode": "software"}), lab.saving(tmp_path)
    )
    lab.start()
    for _ in range(2):
        lab.client.acquisition.trigger()
    lab.wait_known(1)
    path = tmp_path / "lima2_0_00000.h5"
    wait_until(path.exists, "the first row")

    with pytest.raises(OSError, match="lock"):
        h5py.File(path)
    wait_until(lambda: lab.counters(acq_id)[0]["nb_frames_processed"], "a processed frame")
    live = lab.frame(0).max()
    for _ in range(2):
        lab.client.acquisition.trigger()
    lab.wait_end()

    assert live == expected(0)
    with h5py.File(path) as file:
        assert len(file[DATA]) == 2


def test_input_frames_are_saved_besides_processed_ones(lab, tmp_path):
    both = {
        "saving_input.enabled": True,
        "saving_input.base_path": str(tmp_path),
        "saving_input.filename_prefix": "raw",
        "geometry.binning.x": 2,
        "geometry.flip": "up_down",
    }
    lab.acquire(lab.acquisition({"acq.nb_frames": 6}), lab.saving(tmp_path, both))

    for receiver in range(2):
        raw, _ = saved_frames(tmp_path, receiver, "raw")
        processed, _ = saved_frames(tmp_path, receiver)
        binned = np.stack(raw).astype(int).reshape(3, 32, 24, 2).sum(-1)[:, ::-1]
        assert np.array_equal(np.stack(processed), binned)


def test_hits_are_saved_besides_frames_and_the_conductor_does_not_mind(lab, tmp_path):
    hits = {
        "sparse.threshold": 120,
        "saving_sparse.enabled": True,
        "saving_sparse.base_path": str(tmp_path),
    }
    lab.acquire(lab.acquisition({"acq.nb_frames": 12}), lab.saving(tmp_path, hits))

    assert set(lab.client.pipeline.master_files()) == {"frame"}
    with h5py.File(tmp_path / "lima2_master.h5") as master:
        frames = master[DATA][()]
    assert len(frames) == 12
    for receiver in range(2):
        with h5py.File(tmp_path / f"lima2_sparse_{receiver}_00000.h5") as file:
            own = file["entry_0000/instrument/detector"]
            for row, image in enumerate(frames[receiver::2]):
                wanted = np.flatnonzero(image >= 120)
                assert np.array_equal(own["index"][row], wanted)
                assert np.array_equal(own["intensity"][row], image.reshape(-1)[wanted])


def test_sums_are_saved_in_the_order_of_the_conductor(lab, tmp_path):
    summing = {"accumulation": {"enabled": True, "nb_frames": 3}}
    lab.acquire(lab.acquisition({"acq.nb_frames": 24}), lab.saving(tmp_path, summing))

    inputs = in_memory(lab, 24, "input_frame").astype(int)
    with h5py.File(tmp_path / "lima2_master.h5") as master:
        sums = master[DATA][()]
    for idx in range(8):
        group, receiver = divmod(idx, 2)
        parts = [receiver + 2 * (3 * group + n) for n in range(3)]
        assert np.array_equal(sums[idx], inputs[parts].sum((0, 1)))


@pytest.mark.parametrize("dropped", [12, 23])
def test_a_dropped_frame_keeps_its_row_in_round_robin(lab, tmp_path, dropped):
    roi = {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 48, "y": 32}}
    processing = changed(
        lab.saving(tmp_path, {"saving.nb_frames_per_file": 5}),
        {"statistics": {"enabled": True, "rect_rois": [roi], "arc_rois": []}},
    )
    lab.prepare(
        lab.acquisition({"acq.nb_frames": 24, "det.dropped_frame_idx": dropped}), processing
    )
    lab.start()
    records = lab.reduced("roi_stats", 0)
    lab.wait_end()  # by itself

    receiver, row = dropped % 2, dropped // 2
    peaks = [expected(idx) for idx in range(24)]
    peaks[dropped] = 0
    with h5py.File(tmp_path / "lima2_master.h5") as master:
        assert [image.max() for image in master[DATA]] == peaks
    _, validity = saved_frames(tmp_path, receiver)
    assert validity == [Validity.DROPPED if n == row else Validity.VALID for n in range(12)]
    assert sum(lab.system.xferred()) == 23
    assert lab.system.receivers[receiver].nb_frames_lost == 1
    assert np.flatnonzero(np.isnan(records["max"])).tolist() == [dropped]
    assert lab.frame((dropped + 1) % 24).max() == expected((dropped + 1) % 24)


# -- files of earlier runs -----------------------------------------------------------------------


def test_existing_files_are_kept_or_removed_as_asked(lab, tmp_path):
    tree = lab.acquisition({"acq.nb_frames": 40})
    many = {"saving.nb_frames_per_file": 4}
    lab.acquire(tree, lab.saving(tmp_path, many))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    with pytest.raises(Lima2BackendError, match=r"saving\.file_exists_policy: .* exists"):
        lab.prepare(tree, lab.saving(tmp_path, many))
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    fewer = lab.acquisition({"acq.nb_frames": 12})
    lab.acquire(fewer, lab.saving(tmp_path, {**many, "saving.file_exists_policy": "overwrite"}))

    assert kept == before
    assert len(list(tmp_path.glob("lima2_[01]_*.h5"))) == 4
    frames, _ = saved_frames(tmp_path, 1)
    assert [frame.max() for frame in frames] == [expected(idx) for idx in range(1, 12, 2)]


def test_a_run_with_saving_but_without_frames_leaves_no_file(lab, tmp_path):
    lab.prepare(
        lab.acquisition({"acq.nb_frames": 4, "acq.trigger_mode": "software"}), lab.saving(tmp_path)
    )
    lab.start()
    lab.client.acquisition.stop()
    lab.wait_end(5)

    assert list(tmp_path.glob("lima2_[01]_*.h5")) == []
