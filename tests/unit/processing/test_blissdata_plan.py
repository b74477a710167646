"""What of a run is published, under which names, and what is said about it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lima2_core.data.frame import FrameSpec, Validity
from lima2_core.errors import ParamError
from processing.outputs.blissdata import make
from processing.outputs.blissdata_info import beginning, ending, json_safe, plan_of
from processing.outputs.blissdata_segments import SegmentWatch, segments_of
from tests.unit.processing.blissdata_parts import (
    Run,
    peak_counters,
    roi_profiles,
    roi_statistics,
    saved_files,
)

PROFILES = {
    "profiles": {
        "rois": [{"dimensions": {"x": 3, "y": 5}}, {"dimensions": {"x": 3, "y": 2}}],
        "directions": ["horizontal", "vertical"],
    }
}


def columns(plan):
    return {c.name: c for group in plan.groups for c in group.columns}


def test_every_result_has_a_stream_of_its_own():
    records = (roi_statistics(2), roi_profiles(5), peak_counters())
    run = Run(records=records, processing=PROFILES, device="a/run/1")

    plan = plan_of(run.view, {})

    found = {name: (str(c.dtype), c.shape) for name, c in columns(plan).items()}
    assert found == {
        "roi0_avg": ("float32", ()),
        "roi0_sum": ("float64", ()),
        "roi1_avg": ("float32", ()),
        "roi1_sum": ("float64", ()),
        "profile0_avg": ("float32", (3,)),
        "profile0_sum": ("float64", (3,)),
        "profile1_avg": ("float32", (2,)),
        "profile1_sum": ("float64", (2,)),
        "nb_peaks": ("float64", ()),
        "ledger_code": ("uint8", ()),
        "receiver": ("int16", ()),
        "timestamp": ("float64", ()),
        "elapsed_time": ("float64", ()),
        "frame_rate": ("float64", ()),
        "saving_rate": ("float64", ()),
    }
    channels = plan.info["channels"]
    assert [channels[name]["dim"] for name in ("frame", "profile0_avg", "roi0_avg")] == [2, 1, 0]
    assert channels["roi0_avg"]["points"] == 10


def test_saved_hits_are_no_stream_and_change_nothing_of_the_others():
    plain = Run(files=saved_files(), device="a/run/1")
    hits = replace(saved_files(prefix="hits"), hits=True)
    frame = plain.view.saved["frame"]
    saved = {"frame": frame, "sparse": replace(frame, name="sparse", files=(hits,))}
    more = Run(device="a/run/1", saved=saved)
    alone = Run(device="a/run/1", saved={"sparse": saved["sparse"]})

    plan = plan_of(more.view, {})

    assert plan.images == plan_of(plain.view, {}).images
    assert columns(plan).keys() == columns(plan_of(plain.view, {})).keys()
    (image,) = plan_of(alone.view, {}).images
    assert image.segments is None


def test_the_values_of_a_stream_are_those_of_its_rows():
    run = Run(records=(roi_profiles(5),), processing=PROFILES)
    records = np.zeros((2, 5), run.view.streams["roi_profiles"].spec.dtype)
    records["sum"] = np.arange(10).reshape(2, 5)

    values = columns(plan_of(run.view, {}))["profile1_sum"].values(records)

    np.testing.assert_array_equal(values, [[3, 4], [8, 9]])


def test_only_one_band_of_one_source_is_served_live_the_others_come_from_files():
    spec = FrameSpec((2, 4, 6), np.dtype("u2"))
    sources = {"input_frame": spec, "frame": spec}
    files = saved_files(bands_axis=True)

    live = plan_of(Run(shape=spec.shape, sources=sources, device="a/run/1").view, {})
    both = plan_of(Run(shape=spec.shape, sources=sources, device="a/run/1", files=files).view, {})
    none = plan_of(Run(shape=spec.shape, sources=sources).view, {})

    assert [(i.name, i.server) for i in live.images] == [("frame_band0", "a/run/1")]
    assert [(i.name, i.server, i.segments.dataset) for i in both.images] == [
        ("frame_band0", "a/run/1", "entry_0000/instrument/detector/data_band0"),
        ("frame_band1", "", "entry_0000/instrument/detector/data_band1"),
    ]
    assert none.images == ()


def test_where_frames_are_summed_up_images_and_results_are_as_many_as_the_sums():
    spec = FrameSpec((1, 4, 6), np.dtype("u4"))
    run = Run(
        expected=9,
        depth=2,
        records=(roi_statistics(),),
        sources={"input_frame": spec, "frame": spec},
        saved={"input_frame": Run(files=saved_files(prefix="raw")).view.saved["frame"]},
        device="a/run/1",
    )

    plan = plan_of(run.view, {})

    assert {image.name: image.nb_frames for image in plan.images} == {"input_frame": 9, "frame": 5}
    channels = plan.info["channels"]
    found = {name: (channels[name]["group"], channels[name].get("points")) for name in channels}
    assert {name: found[name] for name in ("input_frame", "frame", "roi0_sum")} == {
        "input_frame": ("frames", 9),
        "frame": ("sums", 5),
        "roi0_sum": ("sums", 5),
    }
    assert found["ledger_code"] == ("frames", 9)
    assert found["frame_rate"] == ("rates", None)
    assert "sum_code" not in found  # nobody keeps books on sums that are not saved


def test_what_became_of_sums_that_are_saved_is_a_stream_as_long_as_they_are():
    run = Run(expected=9, depth=2, files=saved_files(), device="a/run/1")

    channels = plan_of(run.view, {}).info["channels"]

    found = [channels[name] for name in ("sum_code", "sum_timestamp", "ledger_code")]
    assert [(one["group"], one["points"]) for one in found] == [
        ("sums", 5),
        ("sums", 5),
        ("frames", 9),
    ]
    assert channels["sum_timestamp"]["unit"] == "s"


def test_a_run_of_unknown_length_promises_no_number_of_images():
    (image,) = plan_of(Run(expected=None, depth=2, device="a/run/1").view, {}).images

    assert image.nb_frames == 0


def test_the_path_of_segments_has_one_conversion_whatever_is_in_the_folder():
    run = Run(files=saved_files("/data/50%", "a%d"))

    segments = segments_of(run.view, "frame", 0, {"master_segment_frames": "30"})

    assert segments.path(3) == "/data/50%/a%d_master_00003.h5"
    assert segments.frames == 30
    assert segments_of(run.view, "frame", 0, {"master": "off"}) is None


def test_segments_of_an_earlier_run_are_not_taken_for_new_ones(tmp_path):
    segments = segments_of(Run(files=saved_files(str(tmp_path))).view, "frame", 0, {})
    for number in (0, 1):
        (tmp_path / f"scan_master_{number:05d}.h5").touch()
    watch = SegmentWatch(segments)

    before = watch.look()
    for number in (0, 2):
        new = tmp_path / "new"
        new.touch()
        new.rename(tmp_path / f"scan_master_{number:05d}.h5")

    assert (before, watch.look()) == (0, 1)


def test_identity_and_tree_are_what_consumers_look_for():
    metadata = {"proposal": "ma1234", "sample": {"temperature": np.float64("nan")}}
    run = Run(files=saved_files(), metadata=metadata)
    plan = plan_of(run.view, {"scan_session": "id00", "scan_name": "burst"})

    tree = beginning(plan, 7, 1.7e9)

    assert plan.identity == {
        "name": "burst",
        "data_policy": "None",
        "session": "id00",
        "proposal": "ma1234",
        "collection": None,
        "dataset": None,
        "path": "/data/scan_master.h5",
    }
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    assert tree["scan_nb"] == 7
    assert tree["filename"] == "/data/scan_master.h5"
    assert tree["count_time"] == 0.001
    assert tree["lima2"]["metadata"] == {"proposal": "ma1234", "sample": {"temperature": None}}
    assert tree["devices"]["simulator"]["metadata"]["sn"] == "7"
    assert tree["start_time"].startswith("2023-11-")


def test_parameters_that_are_too_large_are_left_out_and_this_is_said():
    run = Run(metadata={"log": "x" * 2**20})

    tree = plan_of(run.view, {}).info["lima2"]

    assert "metadata" not in tree
    assert tree["too_large"].startswith("metadata")
    assert "applied" in tree


@pytest.mark.parametrize(
    ("code", "causes", "reason"),
    [
        (Validity.VALID, (), "SUCCESS"),
        (Validity.DROPPED, (), "SUCCESS"),
        (Validity.RECEIVER_LOST, ("r0 died",), "FAILURE"),
        (Validity.NEVER_SENT, (), "USER_ABORT"),
        (Validity.NEVER_SENT, ("the detector died",), "FAILURE"),
    ],
)
def test_the_reason_of_the_end_follows_from_the_ledger_and_what_went_wrong(code, causes, reason):
    run = Run(expected=2, causes=lambda: causes)
    run.take(0)
    run.take(1, code=code)

    tree = ending(run.view, {"ledger": [(1, 8)]})

    assert tree["end_reason"] == reason
    assert tree["ledger"]["corrected"] == [[1, 8]]
    assert "corrected_sums" not in tree["ledger"]


def test_what_json_does_not_know_becomes_text():
    assert json_safe({"a": np.arange(2), "b": np.int8(3), "c": complex(1, 2)}) == {
        "a": [0, 1],
        "b": 3,
        "c": "(1+2j)",
    }


def test_without_a_url_nothing_is_published():
    assert make({}) is None


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"redis_url": "localhost:6379"}, "redis_url"),
        ({"redis_url": "redis://localhost", "scan_expiry_s": "10"}, "scan_expiry_s"),
        ({"redis_url": "redis://localhost", "redis_buffer_mib": "much"}, "redis_buffer_mib"),
    ],
)
def test_a_wrong_setting_is_refused_and_named(settings, path):
    with pytest.raises(ParamError) as refusal:
        make(settings)

    assert refusal.value.path == path
