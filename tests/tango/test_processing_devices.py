"""Devices of runs: made by Prepare, deleted on demand, and what they give (contract 01 and 03)."""

import json
import uuid

import numpy as np
import pytest
import tango
from lima2.common.devencoded import data_array, structured_array

from lima2_core.data.frame import PIXEL_TYPES
from tango_servers.errors import ERROR_REASON
from tests.tango.devices import (
    FAULT,
    IDLE,
    arc_statistics,
    record_values,
    rect_statistics,
    wait_until,
)

RECT = {"topleft": {"x": 3, "y": 2}, "dimensions": {"x": 20, "y": 9}}
OTHER = {"topleft": {"x": 10, "y": 8}, "dimensions": {"x": 7, "y": 22}}
ARC = {"center": {"x": 24.0, "y": 14.5}, "r1": 3.2, "r2": 11.8, "a1": -280.5, "a2": -100.4}


def declared(system):
    """Processing devices that the database lists for the server."""
    listed = list(system.database.get_device_class_list("lima2_tango/lima2"))
    return {
        name: class_name
        for name, class_name in zip(listed[::2], listed[1::2], strict=True)
        if "/limaprocessing/" in name.lower()
    }


def is_there(device):
    try:
        device.ping()
    except tango.DevFailed:
        return False
    return True


# -- life of the devices -------------------------------------------------------------------------


def test_prepare_makes_a_device_of_the_class_that_was_asked_for_on_each_receiver(system):
    legacy = system.prepare()
    failing = system.prepare(processing=system.processing("LimaProcessingFailing"))

    assert {name.lower(): kind for name, kind in declared(system).items()} == {
        f"id00/limaprocessing/{legacy.acq_id}@0": "LimaProcessingLegacy",
        f"id00/limaprocessing/{legacy.acq_id}@1": "LimaProcessingLegacy",
        f"id00/limaprocessing/{failing.acq_id}@0": "LimaProcessingFailing",
        f"id00/limaprocessing/{failing.acq_id}@1": "LimaProcessingFailing",
    }


def test_the_conductor_finds_the_devices_of_a_run_in_the_database(system):
    run = system.prepare()

    found = list(system.database.get_device_exported(f"*/limaprocessing/{run.acq_id}*"))

    assert sorted(found) == [f"id00/limaprocessing/{run.acq_id}@{n}" for n in range(2)]
    classes = {system.database.get_device_info(name).class_name for name in found}
    assert classes == {"LimaProcessingLegacy"}


def test_an_erased_run_is_gone_everywhere_and_the_others_stay(system):
    old = system.acquire(system.acquisition({"acq.nb_frames": 4}))
    new = system.acquire(system.acquisition({"acq.nb_frames": 4}))

    for receiver in system.receivers:
        receiver.erasePipeline(old.acq_id)

    assert [list(receiver.pipelines) for receiver in system.receivers] == [[new.acq_id]] * 2
    assert not any(old.acq_id in name for name in declared(system))
    assert not any(map(is_there, old.devices))
    assert all(map(is_there, new.devices))
    assert new.image(0, 0).shape == (1, 32, 48)


def test_pipelines_are_listed_in_the_order_of_their_creation(system):
    made = [system.prepare().acq_id for _ in range(3)]

    assert list(system.receivers[0].pipelines) == made


def test_the_last_run_stays_readable_until_it_is_erased(system):
    old = system.acquire(system.acquisition({"acq.nb_frames": 8}))

    system.prepare()

    assert old.image(1, 3).max() == 130
    assert old.counters()[0]["nb_frames_processed"] == 4


def test_a_run_that_was_never_started_can_be_erased(system):
    run = system.prepare()

    for receiver in system.receivers:
        receiver.erasePipeline(run.acq_id)

    assert system.states()[1:] == [IDLE, IDLE]
    assert system.receivers[0].pipelines in (None, ())
    system.acquire(system.acquisition({"acq.nb_frames": 4}))


def test_a_run_that_is_taking_frames_cannot_be_erased(system):
    run = system.prepare(system.acquisition({"acq.nb_frames": 0}))
    system.start()

    with pytest.raises(tango.DevFailed, match="is taking frames"):
        system.receivers[0].erasePipeline(run.acq_id)

    assert is_there(run.devices[0])


def test_finished_runs_that_nobody_erases_are_given_up_one_by_one(system):
    runs = [system.acquire(system.acquisition({"acq.nb_frames": 2})) for _ in range(5)]

    kept = list(system.receivers[0].pipelines)

    assert kept == [run.acq_id for run in runs[-len(kept) :]]
    assert 2 <= len(kept) <= 3
    assert {name.lower() for name in declared(system)} == {
        f"id00/limaprocessing/{acq_id}@{n}" for acq_id in kept for n in range(2)
    }


def test_a_failed_prepare_leaves_no_device_behind(system):
    before = declared(system)
    system.write(
        system.acquisition(),
        system.processing("LimaProcessingFailing", {"failed_on_prepare": True}),
    )

    with pytest.raises(tango.DevFailed):
        system.receivers[0].Prepare(str(uuid.uuid1()))

    assert declared(system) == before


# -- frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel_type", PIXEL_TYPES)
def test_frames_of_every_pixel_type_arrive_as_they_are_announced(system, pixel_type):
    changes = {
        "acq.nb_frames": 4,
        "det.generator.pixel_type": pixel_type,
        "det.generator.nb_channels": 2,
    }
    run = system.acquire(system.acquisition(changes))

    info = json.loads(run.devices[0].processed_frame_info)
    image = run.image(0, 2)
    assert info == {
        "nb_channels": 2,
        "dimensions": {"x": 48, "y": 32},
        "pixel_type": pixel_type,
    }
    assert json.loads(run.devices[0].input_frame_info) == info
    assert image.dtype == PIXEL_TYPES[pixel_type]
    assert image.shape == (2, 32, 48)
    assert np.array_equal(image, run.image(0, 2, "getInputFrame"))


def test_the_content_of_a_frame_depends_on_its_index_alone(system):
    run = system.acquire(system.acquisition({"acq.nb_frames": 16}))
    repeated = system.acquire(system.acquisition({"acq.nb_frames": 16}))

    images = [run.image(idx % 2, idx) for idx in range(16)]

    assert [image.max() for image in images] == [100, 110, 120, 130] * 4
    assert all(np.array_equal(images[idx], images[idx % 4]) for idx in range(16))
    assert np.array_equal(repeated.image(1, 5), images[5])


def test_the_index_of_the_header_is_the_one_of_the_acquisition(system):
    run = system.acquire(system.acquisition({"acq.nb_frames": 10}))

    for receiver, newest in ((0, 8), (1, 9)):
        assert data_array.decode(run.devices[receiver].getFrame(-1)).idx == newest
        assert json.loads(run.devices[receiver].last_frames) == {
            "source_idx": newest,
            "input_idx": newest,
            "processed_idx": newest,
        }


@pytest.mark.parametrize("getter", ["getFrame", "getInputFrame"])
@pytest.mark.parametrize("idx", [0, 1, 40, 10**6, -2])
def test_a_frame_that_is_not_there_is_refused_and_no_other_one_given(system, getter, idx):
    # 0 has left the ring, 1 is on the other receiver, 40 was never asked for.
    ring = {"buffers.nb_frames_buffer": 5, "buffers.nb_input_frames_buffer": 5}
    run = system.acquire(system.acquisition({"acq.nb_frames": 40}), system.processing(changes=ring))
    assert run.image(0, 38, getter).max() == 120

    with pytest.raises(tango.DevFailed) as failed:
        getattr(run.devices[0], getter)(idx)

    assert failed.value.args[0].reason == ERROR_REASON
    assert json.loads(failed.value.args[0].desc)["errinfo"]["code"] == "not_available"


def test_there_is_no_frame_before_the_first_one(system):
    run = system.prepare()

    for idx in (-1, 0):
        with pytest.raises(tango.DevFailed, match="not_available"):
            run.devices[0].getFrame(idx)


@pytest.mark.parametrize("getter", ["getFrame", "getInputFrame"])
def test_what_is_counted_can_be_fetched(system, getter):
    counter = {"getFrame": "nb_frames_processed", "getInputFrame": "nb_frames_input"}[getter]
    # So many that none leaves between two calls.
    rings = {"buffers.nb_frames_buffer": 10_000, "buffers.nb_input_frames_buffer": 10_000}
    acquisition = system.acquisition({"acq.nb_frames": 0, "acq.expo_time": 2000})
    run = system.prepare(acquisition, system.processing(changes=rings))
    system.start()
    for _ in range(60):
        counters = json.loads(run.devices[0].progress_counters)
        assert counters["nb_frames_source"] >= counters[counter]
        if counters[counter]:
            newest = 2 * (counters[counter] - 1)
            assert run.image(0, newest, getter).shape == (1, 32, 48)
    system.stop()
    system.finish(run)


def test_counters_never_fall_and_all_receivers_have_the_same(system):
    run = system.prepare(system.acquisition({"acq.nb_frames": 60}))
    system.start()
    seen = []
    while not seen or seen[-1]["nb_frames_processed"] < 30:
        seen.append(run.counters()[1])
    system.finish(run)

    for name in seen[0]:
        values = [counters[name] for counters in seen]
        assert values == sorted(values)
    keys = [set(counters) for counters in run.counters()]
    assert keys[0] == keys[1]
    assert {"nb_frames_source", "nb_frames_input", "nb_frames_processed"} <= keys[0]


# -- records -------------------------------------------------------------------------------------


@pytest.fixture
def reducing(system):
    """Processing parameters with regions and profiles."""
    return system.processing(
        changes={
            "statistics": {"enabled": True, "rect_rois": [RECT, OTHER], "arc_rois": [ARC]},
            "profiles": {
                "enabled": True,
                "rois": [RECT, OTHER],
                "directions": ["horizontal", "vertical"],
            },
            "frame_idx_enabled": True,
        }
    )


@pytest.mark.parametrize("pop", ["popRoiStatistics", "popRoiProfiles", "popFrameIdx"])
def test_a_pop_of_nothing_is_empty_and_no_error(system, pop):
    run = system.prepare(system.acquisition({"acq.nb_frames": 4}))
    before = run.pop_all(pop)
    system.start()
    system.finish(run)

    assert [records.size for records in (*before, *run.pop_all(pop))] == [0, 0, 0, 0]


def test_statistics_come_frame_by_frame_rectangles_first_then_arcs(system, reducing):
    run = system.acquire(system.acquisition({"acq.nb_frames": 9}), reducing)

    for receiver, indices in enumerate(([0, 2, 4, 6, 8], [1, 3, 5, 7])):
        records = run.pop(receiver, "popRoiStatistics")
        assert records["frame_idx"].tolist() == np.repeat(indices, 3).tolist()
        assert set(records["recv_idx"]) == {receiver}
        wanted = []
        for idx in indices:
            image = run.image(receiver, idx)
            wanted += [rect_statistics(image, RECT), rect_statistics(image, OTHER)]
            wanted.append(arc_statistics(image, ARC))
        assert np.allclose(record_values(records), wanted, rtol=1e-6)


def test_profiles_come_frame_by_frame_one_after_the_other(system, reducing):
    run = system.acquire(system.acquisition({"acq.nb_frames": 4}), reducing)

    records = run.pop(1, "popRoiProfiles").reshape(2, 20 + 22)
    for row, idx in enumerate((1, 3)):
        image = run.image(1, idx).astype(float)
        columns = image[:, 2:11, 3:23].reshape(-1, 20)
        rows = image[0, 8:30, 10:17]
        for name in ("min", "max", "std", "sum"):
            wanted = [*getattr(columns, name)(0), *getattr(rows, name)(1)]
            assert np.allclose(records[row][name], wanted, rtol=1e-6)
        assert np.allclose(records[row]["avg"], [*columns.mean(0), *rows.mean(1)], rtol=1e-6)
        assert set(records[row]["frame_idx"]) == {idx}


def test_records_wait_for_the_pop_in_local_order_and_in_whole_frames(system, reducing):
    small = {"acq.nb_frames": 600, "acq.expo_time": 200}
    run = system.prepare(system.acquisition(small), reducing)
    system.start()
    wait_until(lambda: run.devices[0].nb_roi_profiles > 0, "records")
    chunks = [run.pop(0, "popRoiProfiles") for _ in range(5)]
    system.finish(run)
    chunks.append(run.pop(0, "popRoiProfiles"))

    assert all(chunk.size % 42 == 0 for chunk in chunks)
    together = np.concatenate(chunks)["frame_idx"].reshape(-1, 42)
    # More than the first size of the buffer, of which nothing may be lost.
    assert together[:, 0].tolist() == list(range(0, 600, 2))
    assert (together == together[:, :1]).all()
    assert run.devices[0].nb_roi_profiles == 0
    assert run.devices[1].nb_roi_statistics == 900


def test_popped_records_are_gone(system, reducing):
    run = system.acquire(system.acquisition({"acq.nb_frames": 4}), reducing)

    assert run.devices[0].nb_roi_statistics == 6
    assert [run.pop(0, "popRoiStatistics").size for _ in range(2)] == [6, 0]
    assert run.pop(0, "popRoiProfiles").size == 84


def test_pops_are_one_packed_block_behind_a_header_of_64_bytes(system, reducing):
    run = system.acquire(system.acquisition({"acq.nb_frames": 4}), reducing)

    form, raw = run.devices[0].popRoiStatistics()

    assert form == "STRUCTURED_ARRAY"
    assert len(raw) == 64 + 6 * 32
    assert structured_array.decode((form, raw), np.dtype("V32")).size == 6


def test_sums_are_numbered_as_the_conductor_expects(system, reducing):
    summing = json.loads(json.dumps(reducing))
    summing["accumulation"] = {"enabled": True, "nb_frames": 3}
    run = system.acquire(system.acquisition({"acq.nb_frames": 12}), summing)

    for receiver in range(2):
        counters = run.counters()[receiver]
        assert (counters["nb_frames_source"], counters["nb_frames_processed"]) == (6, 2)
        records = run.pop(receiver, "popRoiStatistics")
        assert records["frame_idx"].tolist() == np.repeat([receiver, 2 + receiver], 3).tolist()
        for group in range(2):
            parts = [receiver + 2 * (3 * group + n) for n in range(3)]
            summed = sum(run.image(receiver, idx, "getInputFrame").astype(int) for idx in parts)
            assert np.array_equal(run.image(receiver, 2 * group + receiver), summed)
    info = json.loads(run.devices[0].processed_frame_info)
    assert PIXEL_TYPES[info["pixel_type"]] == run.image(0, 0).dtype


def test_a_failed_run_keeps_what_it_had(system, reducing):
    run = system.prepare(system.acquisition({"acq.nb_frames": 40, "det.failed_frame_idx": 20}))
    system.start()
    wait_until(lambda: system.receivers[0].acq_state == FAULT, "the fault")
    system.stop()
    run.wait_finished()

    assert run.counters()[0]["nb_frames_processed"] == 10
    assert run.image(0, 18).max() == 120
