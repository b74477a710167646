"""Hits of the frames of two receivers, and the masters of their runs."""

from contextlib import closing

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest

from client import Gap, MasterFile
from client.validate import validate
from lima2_core.data.frame import Validity
from lima2_core.system.preflight import demand_of
from lima2_core.system.run import SystemOrder
from lima2_core.testing.doubles import eventually
from tests.integration.test_master_file import (
    DETECTOR,
    GENERATOR,
    IMAGES,
    System,
    has_ended,
    images,
)

pytestmark = pytest.mark.usefixtures("patient_commands")

__all__ = ["images"]
THRESHOLD = 200


@pytest.fixture
def system():
    with closing(System(segment_frames=25)) as system:
        yield system


def run(system, folder, nb_frames, *, det=None, **groups):
    saving = {"enabled": True, "base_path": str(folder), "nb_frames_per_file": 10}
    run = system.coordinator.prepare(
        SystemOrder(
            {
                "acq": {"nb_frames": nb_frames, "expo_time": 100, "latency_time": 0},
                "det": {"generator": GENERATOR, **(det or {})},
            },
            {
                "class_name": "LimaProcessingLegacy",
                "sparse": {"threshold": THRESHOLD},
                "saving_sparse": saving,
                **groups,
            },
        )
    )
    assert len(demand_of(run).saved) == len(run.view.saved) - 1
    system.coordinator.start()
    assert eventually(lambda: has_ended(run))
    return run


def check(path, images, nb_frames, lost=()):
    """Every hit of every frame, in the index and in the segments."""
    wanted = images[np.arange(nb_frames) % IMAGES].copy()
    wanted[wanted < THRESHOLD] = 0
    with MasterFile(path) as master:
        assert master.has_hits
        assert len(master) == nb_frames
        for idx, (frame, image) in enumerate(zip(master, wanted, strict=True)):
            if idx in lost:
                assert isinstance(frame, Gap)
                continue
            assert np.array_equal(frame.data, image[None])
            hits = master.hits(idx)
            assert np.array_equal(image.reshape(-1)[hits.index], hits.intensity)
            assert len(hits.index) == np.count_nonzero(image)
    report = validate(path)
    assert report.anomalies == []
    assert report.gaps == len(lost)
    with h5py.File(path) as file:
        codes = file[f"{DETECTOR}/validity"][:]
        pointers = file[f"{DETECTOR}/data/frame_ptr"][:]
    assert np.flatnonzero(codes != Validity.VALID).tolist() == list(lost)
    assert len(pointers) == nb_frames + 1


@pytest.mark.parametrize("mode", ["round_robin", "predictive_random", "full_random"])
def test_every_hit_is_at_its_frame_and_a_lost_frame_has_none(system, images, tmp_path, mode):
    found = run(system, tmp_path, 120, det={"dispatch_mode": mode, "dropped_frame_idx": 17})

    check(tmp_path / "lima2_sparse_master.h5", images, 120, lost=[17])
    (output,) = system.coordinator.outputs(found.acq_id)
    assert len(output.results()) == 6
    assert not output.trouble


def test_receivers_with_parts_of_frames_make_hits_of_whole_ones(system, images, tmp_path):
    run(system, tmp_path, 60, det={"dispatch_mode": "partial_frame"})

    check(tmp_path / "lima2_sparse_master.h5", images, 60)


def test_frames_and_their_hits_have_a_master_each_and_frames_come_first(system, images, tmp_path):
    dense = {"enabled": True, "base_path": str(tmp_path)}
    raw = {**dense, "filename_prefix": "raw"}
    found = run(system, tmp_path, 30, saving=dense, saving_input=raw)

    check(tmp_path / "lima2_sparse_master.h5", images, 30)
    with h5py.File(tmp_path / "lima2_master.h5") as file:
        assert np.array_equal(file["entry_0000/measurement/data"], images[np.arange(30) % IMAGES])
    (output,) = system.coordinator.outputs(found.acq_id)
    assert output.results()[0] == str(tmp_path / "lima2_master.h5")
