"""Hits of frames through the front: two receivers, a frame that is dropped, one master."""

import json

import h5py
import numpy as np
import pytest

from client import Gap, MasterFile, Validity, validate
from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tests.system.lab import Lab, expected
from tests.tango.devices import wait_until
from tests.tango.front_rig import FrontRig

DETECTOR = "entry_0000/instrument/detector"
THRESHOLD = 120


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sparse")
    with (
        EmbeddedDatabase(folder, load_deployment("round_robin_2")) as database,
        Lab(folder, database.tango_host) as lab,
    ):
        yield lab


@pytest.fixture
def front(lab):
    rig = FrontRig(lab.tango_host, lab.deployment.control.name)
    rig.clear()
    rig.defaults()
    return rig


def sparse(front, folder, **changes):
    group = "processing.saving_sparse."
    front.change(
        {
            "processing.sparse.threshold": THRESHOLD,
            group + "enabled": True,
            group + "base_path": str(folder),
            group + "nb_frames_per_file": 8,
            **changes,
        }
    )


def test_hits_of_two_receivers_are_in_one_master_in_frame_order(front, tmp_path):
    front.set(acq_nb_frames=40, saving_enabled=True, saving_directory=str(tmp_path))
    sparse(front, tmp_path, **{"acquisition.det.dropped_frame_idx": 3})

    run = front.acquire()

    assert run.phase == "incomplete"
    masters = [str(tmp_path / f"{name}_master.h5") for name in ("lima2", "lima2_sparse")]
    assert [path for path in run.device.files if path.endswith("_master.h5")] == masters
    with h5py.File(masters[0]) as file:
        frames = file[f"{DETECTOR}/data"][()]
    wanted = np.where(frames >= THRESHOLD, frames, 0)
    assert 0 < np.count_nonzero(wanted) < np.count_nonzero(frames)
    with MasterFile(tmp_path / "lima2_sparse_master.h5") as master:
        assert [idx for idx, frame in enumerate(master) if isinstance(frame, Gap)] == [3]
        for idx, frame in enumerate(master):
            assert idx == 3 or np.array_equal(frame.data[0], wanted[idx])
    with h5py.File(masters[1]) as file:
        names = {source.file_name for source in file[f"{DETECTOR}/data/index"].virtual_sources()}
    assert len(names) == 6  # 19 or 20 rows of two receivers, 8 in a file
    assert {name.split("_")[2] for name in names} == {"0", "1"}
    report = validate.validate(tmp_path / "lima2_sparse_master.h5")
    assert report.anomalies == []
    assert (report.frames, report.valid, report.gaps) == (40, 39, 1)


def test_what_cannot_be_a_hit_is_refused_by_its_path_before_anything_is_changed(front, tmp_path):
    sparse(front, tmp_path, **{"processing.sparse.threshold": 1e9})

    with pytest.raises(Exception, match=r"processing\.sparse\.threshold"):
        front.control.prepareAcq()

    assert list(tmp_path.iterdir()) == []


def test_of_a_receiver_that_is_killed_the_hits_that_were_flushed_are_there(front, lab, tmp_path):
    front.set(acq_trigger_mode="software", nb_frames_per_trigger=400)
    front.set(acq_nb_frames=800, acq_expo_time=0.002)
    sparse(front, tmp_path, **{"processing.saving_sparse.nb_frames_per_file": 1000})
    acq_id = front.control.acquire()
    run = front.run(acq_id)
    front.control.triggerAcq()
    second = front.proxy(lab.system.processing_name(acq_id, 1))
    wait_until(
        lambda: json.loads(second.progress_counters)["nb_frames_sparse_saved"] > 0, "a flush", 20
    )

    lab.servers.kill("simulator_rcv2")
    front.control.triggerAcq()
    run.wait_ended(0.8 + 5)

    path = tmp_path / "lima2_sparse_master.h5"
    assert run.phase == "incomplete"
    assert validate.validate(path).anomalies == []
    with MasterFile(path) as master:
        codes = master.codes
        assert (codes[::2] == Validity.VALID).all()
        there = np.flatnonzero(codes[1::2] == Validity.VALID)
        assert 0 < len(there) <= 200
        assert there.tolist() == list(range(len(there)))
        assert run.counts()["valid"] == 400 + len(there)
        peaks = [master.frame(2 * row + 1).data.max() for row in there]
    assert peaks == [peak if peak >= THRESHOLD else 0 for peak in map(expected, 2 * there + 1)]
    lab.servers.restart("simulator_rcv2")
