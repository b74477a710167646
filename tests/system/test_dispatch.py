"""Which receiver gets which frame, in every topology of the conductor (contract 03, section 6)."""

import itertools

import h5py
import numpy as np
import pytest

from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tests.system.lab import LEGACY, Lab, expected, saved_frames

SEQUENCE = [0, 0, 0, 1, 1, 0, 1, 1]  # of predictive_random with two receivers


@pytest.fixture(scope="module")
def dynamic_lab(plain_lab, tmp_path_factory):
    """A second conductor for the same devices, in the dynamic topology."""
    folder = tmp_path_factory.mktemp("dynamic")
    with Lab(
        folder, plain_lab.tango_host, topology="dynamic", servers=plain_lab.servers
    ) as dynamic:
        yield dynamic


@pytest.fixture
def dynamic(dynamic_lab):
    """The system in the dynamic topology, at rest; brought to rest afterwards."""
    yield dynamic_lab
    dynamic_lab.recover()


@pytest.fixture(scope="module")
def single_lab(tmp_path_factory):
    """One receiver."""
    folder = tmp_path_factory.mktemp("single")
    with (
        EmbeddedDatabase(folder, load_deployment("single")) as database,
        Lab(folder, database.tango_host, "single") as lab,
    ):
        yield lab


def owners(lab, nb_frames):
    """The receiver of each frame, by the look-up of the conductor."""
    found = []
    for idx in range(nb_frames):
        answer = lab.client.session.get(f"/pipeline/current/lookup/frame/{idx}").json()
        assert answer["tango"]["idx"] == idx
        assert answer["hdf5"] is None
        found.append(int(answer["tango"]["url"].rsplit("@", 1)[1]))
    return found


def test_round_robin_deals_in_turn(lab):
    lab.acquire(lab.acquisition({"acq.nb_frames": 9}))

    assert owners(lab, 9) == [0, 1] * 4 + [0]
    assert [lab.frame(idx).max() for idx in range(9)] == [expected(idx) for idx in range(9)]


def test_predictive_random_follows_its_sequence(dynamic):
    tree = dynamic.acquisition({"acq.nb_frames": 42, "det.dispatch_mode": "predictive_random"})
    dynamic.acquire(tree)

    assert owners(dynamic, 42) == list(itertools.islice(itertools.cycle(SEQUENCE), 42))
    assert [dynamic.frame(idx).max() for idx in range(42)] == [expected(idx) for idx in range(42)]
    assert dynamic.client.acquisition.nb_frames_xferred() == 42


def test_full_random_gives_each_frame_to_exactly_one_receiver_each_time_another(dynamic):
    tree = dynamic.acquisition({"acq.nb_frames": 80, "det.dispatch_mode": "full_random"})
    orders = []
    for _ in range(2):
        dynamic.acquire(tree)
        orders.append(owners(dynamic, 80))
        assert dynamic.system.xferred() == [orders[-1].count(0), orders[-1].count(1)]

    assert all(10 < order.count(0) < 70 for order in orders)
    assert orders[0] != orders[1]
    assert dynamic.frame(79).max() == expected(79)


def test_dynamic_dispatch_saves_every_frame_with_its_index(dynamic, tmp_path):
    tree = dynamic.acquisition({"acq.nb_frames": 24, "det.dispatch_mode": "predictive_random"})
    dynamic.acquire(tree, dynamic.saving(tmp_path))

    dealt = list(itertools.islice(itertools.cycle(SEQUENCE), 24))
    for receiver in range(2):
        with h5py.File(tmp_path / f"lima2_{receiver}_00000.h5") as file:
            indices = file["entry_0000/instrument/detector/frame_idx"][()].tolist()
        assert indices == [idx for idx in range(24) if dealt[idx] == receiver]
        frames, _ = saved_frames(tmp_path, receiver)
        assert [frame.max() for frame in frames] == [expected(idx) for idx in indices]
    with h5py.File(tmp_path / "lima2_master.h5") as master:
        data = master["entry_0000/instrument/detector/data"]
        assert [image.max() for image in data] == [expected(idx) for idx in range(24)]


def test_reduced_data_of_dynamic_dispatch_come_in_the_order_of_the_frames(dynamic):
    roi = {"topleft": {"x": 4, "y": 4}, "dimensions": {"x": 30, "y": 20}}
    processing = dynamic.processing(
        LEGACY, {"statistics": {"enabled": True, "rect_rois": [roi], "arc_rois": []}}
    )
    dynamic.prepare(
        dynamic.acquisition({"acq.nb_frames": 42, "det.dispatch_mode": "predictive_random"}),
        processing,
    )
    dynamic.start()
    records = dynamic.reduced("roi_stats", 0)
    dynamic.wait_end()

    assert records["max"].tolist() == [expected(idx) for idx in range(42)]
    assert np.array_equal(records[:16], records[16:32])


def test_a_dropped_frame_leaves_a_hole_in_dynamic_dispatch_and_the_run_ends(dynamic):
    tree = dynamic.acquisition(
        {"acq.nb_frames": 24, "det.dispatch_mode": "predictive_random", "det.dropped_frame_idx": 12}
    )
    dynamic.prepare(tree)
    dynamic.start()
    dynamic.wait_end()

    # By the sequence, frame 12 would have been one of the 12 of receiver 1.
    assert dynamic.system.xferred() == [12, 11]
    assert [receiver.nb_frames_lost for receiver in dynamic.system.receivers] == [0, 1]
    assert dynamic.frame(13).max() == expected(13)


def test_a_single_receiver_gets_all_frames(single_lab, tmp_path):
    single_lab.acquire(single_lab.acquisition({"acq.nb_frames": 12}), single_lab.saving(tmp_path))

    frames, validity = saved_frames(tmp_path, 0)
    assert single_lab.system.xferred() == [12]
    assert validity == [0] * 12
    assert [frame.max() for frame in frames] == [expected(idx) for idx in range(12)]
    assert single_lab.frame(11).max() == expected(11)
    assert single_lab.frame(-1).max() == expected(11)
