"""What the classic pipeline refuses, and what stays behind: nothing."""

import os
import re

import jsonschema_default
import jsonschema_rs
import numpy as np
import pytest

from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import AcquisitionParams
from lima2_core.data.frame import FrameSpec
from lima2_core.data.memory import PoolSet
from lima2_core.errors import ParamError
from lima2_core.flow.plugin import BuildContext
from lima2_core.ids import AcqId
from lima2_core.schema import schema_text
from processing.pipelines.failing import PLUGIN as FAILING
from processing.pipelines.legacy import PLUGIN, LegacyParams
from processing.sinks.hdf5_rows import Hdf5Stats

SPEC = FrameSpec((1, 12, 15), np.dtype(np.uint16))
OUR_OWN_GROUPS = {
    "photons",
    "pedestal",
    "geometry",
    "taps",
    "saving_input",
    "sparse",
    "saving_sparse",
}


def rect(x, y, width, height):
    return {"topleft": {"x": x, "y": y}, "dimensions": {"x": width, "y": height}}


@pytest.fixture
def pools():
    return PoolSet(2**28)


@pytest.fixture
def build(pools, tmp_path):
    """Builds the pipeline for a tree in which DIR stands for a folder."""

    def make(tree, plugin=PLUGIN, spec=SPEC, **changed):
        context = BuildContext(
            acq_id=AcqId("0b3e"),
            spec=spec,
            share=Share(),
            acquisition=AcquisitionParams(),
            pools=pools,
            workers=2,
            **changed,
        )
        return plugin.build(plugin.params.from_tree(_in_folder(tree, tmp_path)), context)

    return make


def _in_folder(tree, folder):
    if isinstance(tree, dict):
        return {key: _in_folder(value, folder) for key, value in tree.items()}
    return tree.replace("DIR", str(folder)) if isinstance(tree, str) else tree


def test_beside_the_groups_of_the_contract_there_are_only_ours_and_they_are_optional():
    tree = jsonschema_default.create_from(schema_text(LegacyParams))
    # Contract 02, section 9.
    contract = {
        "class_name",
        "fifo",
        "buffers",
        "frame_idx_enabled",
        "mask",
        "flatfield",
        "background",
        "max_countrate_protection",
        "accumulation",
        "statistics",
        "profiles",
        "saving",
    }

    assert set(tree) == contract | OUR_OWN_GROUPS
    known = {key: value for key, value in tree.items() if key in contract}
    jsonschema_rs.validator_for(schema_text(LegacyParams)).validate(known)
    assert LegacyParams.from_tree(known) == LegacyParams()


def test_the_tree_that_bliss_sends_is_built(build, tmp_path):
    tree = {
        "class_name": "LimaProcessingLegacy",
        "fifo": {"nb_fifo_frames": 100},
        "frame_idx_enabled": True,
        "max_countrate_protection": {
            "enabled": False,
            "command": "close_shutter",
            "args": ["a", "b"],
            "max_countrate": 100000,
            "pixel_capacity_override": [],
            "abort_on_protection": True,
            "ignore_max_value": False,
        },
        "accumulation": {"enabled": False, "nb_frames": 1},
        "statistics": {
            "enabled": True,
            "rect_rois": [rect(1, 2, 3, 4)],
            "arc_rois": [
                {"center": {"x": 5, "y": 6.5}, "r1": 1, "r2": 3.5, "a1": -280.5, "a2": -100.4}
            ],
        },
        "profiles": {"enabled": True, "rois": [], "directions": []},
        "saving": {
            "enabled": True,
            "base_path": "DIR",
            "filename_prefix": "scan0001_frame",
            "file_exists_policy": "abort",
            "nb_frames_per_file": 50,
            "nx_detector_name": "eiger",
            "nb_dimensions": "dim_3d_or_4d",
            "filename_rank": 1,
            "include_frame_idx": True,
        },
    }

    pipeline = build(tree)

    assert set(pipeline.streams) == {"frame_idx", "roi_statistics"}
    assert set(pipeline.taps) == {"frame", "input_frame"}
    assert pipeline.queue_frames == 100
    assert list(tmp_path.iterdir()) == []  # nothing before the run


MISSING_MASK = {"enabled": True, "path": "DIR/mask.npy"}
SAVING = {"enabled": True, "base_path": "DIR"}
REFUSED = [
    ({"mask": MISSING_MASK}, "mask.path", "there is no file .*mask.npy on this computer"),
    ({"background": {"enabled": True}}, "background.path", "no file is given; give file.h5::"),
    (
        {"flatfield": {"enabled": True, "path": "flat.h5"}},
        "flatfield.path",
        "must be an absolute path",
    ),
    (
        {"geometry": {"binning": {"x": 16, "y": 1}}},
        "geometry.binning",
        re.escape("blocks of 16 x 1 (x, y) do not fit into an image of 15 x 12"),
    ),
    (
        {"geometry": {"binning": {"x": 2, "y": 2}, "roi": rect(0, 0, 8, 1)}},
        "geometry.roi",
        re.escape("8 x 1 does not lie within the binned image of 7 x 6 (x, y)"),
    ),
    (
        {"geometry": {"roi": rect(3, 4, 0, 0)}},
        "geometry.roi.dimensions",
        "is empty; give it a width and a height",
    ),
    (
        {"statistics": {"enabled": True, "rect_rois": [rect(0, 0, 1, 1), rect(15, 0, 1, 1)]}},
        "statistics.rect_rois.1",
        re.escape("begins at x=15, y=0, outside the image of 15 x 12 (x, y)"),
    ),
    (
        {"statistics": {"enabled": True, "rect_rois": [rect(3, 3, 4, 0)]}},
        "statistics.rect_rois.0",
        "is empty; give it a width and a height",
    ),
    (
        # It lies within the camera frame, but not within the processed one.
        {
            "geometry": {"roi": rect(0, 0, 4, 4)},
            "statistics": {"enabled": True, "rect_rois": [rect(4, 0, 1, 1)]},
        },
        "statistics.rect_rois.0",
        re.escape("outside the image of 4 x 4"),
    ),
    (
        {"statistics": {"enabled": True, "arc_rois": [{"r1": 3, "r2": 2}]}},
        "statistics.arc_rois.0.r2",
        "the outer radius 2.0 is not above the inner one 3.0",
    ),
    (
        {"statistics": {"enabled": True, "arc_rois": [{"r2": 2, "a1": 10, "a2": -10}]}},
        "statistics.arc_rois.0.a2",
        "below the first one 10.0; add 360",
    ),
    (
        {"profiles": {"enabled": True, "rois": [rect(0, 0, 1, 1)], "directions": []}},
        "profiles.directions",
        "0 directions for 1 regions; give one for each",
    ),
    (
        {"profiles": {"enabled": True, "directions": ["vertical"]}},
        "profiles.directions",
        "1 directions for 0 regions",
    ),
    (
        {
            "profiles": {
                "enabled": True,
                "rois": [rect(0, 12, 1, 1)],
                "directions": ["vertical"],
            }
        },
        "profiles.rois.0",
        "outside the image",
    ),
    (
        {"max_countrate_protection": {"enabled": True, "command": "/bin/sh"}},
        "max_countrate_protection.command",
        "'/bin/sh' is not allowed here; the property allowed_commands .* names: none",
    ),
    (
        {"saving": {"enabled": True, "base_path": "DIR/nowhere"}},
        "saving.base_path",
        "does not exist on this computer; make it",
    ),
    (
        {"saving_input": {"enabled": True, "base_path": "DIR/nowhere"}},
        "saving_input.base_path",
        "does not exist on this computer",
    ),
    (
        {"saving": SAVING, "saving_input": SAVING | {"filename_prefix": "lima2"}},
        "saving.filename_prefix",
        "saving_input and saving cannot go to files of the same name; give one of them another",
    ),
    (
        {"saving": SAVING, "saving_sparse": SAVING | {"filename_prefix": "lima2"}},
        "saving_sparse.filename_prefix",
        "saving and saving_sparse cannot go to files of the same name",
    ),
    (
        {"sparse": {"threshold": 1e10}, "saving_sparse": SAVING},
        "sparse.threshold",
        "no pixel of type uint32 reaches .*; the largest is 4294967295; take a smaller threshold",
    ),
    (
        {
            "saving": SAVING,
            "saving_input": {
                "enabled": True,
                "base_path": "DIR/.",
                "filename_prefix": "lima2",
            },
        },
        "saving.filename_prefix",
        "files of the same name",
    ),
]


@pytest.mark.parametrize(("tree", "path", "sentence"), REFUSED)
def test_what_cannot_be_done_is_refused_by_its_path_and_leaves_nothing_behind(
    tree, path, sentence, build, pools, tmp_path
):
    # What would need memory if it were built.
    tree = {
        "accumulation": {"enabled": True, "nb_frames": 2},
        "geometry": {"flip": "up_down"},
    } | tree

    with pytest.raises(ParamError, match=sentence) as refusal:
        build(tree)

    assert refusal.value.path == path
    assert str(refusal.value).startswith(f"{path}: ")
    assert sum(stats.slots for stats in pools.stats().values()) == 0
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_earlier_run_are_not_overwritten_unless_that_is_asked_for(build, tmp_path):
    (tmp_path / "lima2_0_00000.h5").write_bytes(b"precious")

    with pytest.raises(ParamError, match="exists; choose another filename_prefix") as refusal:
        build({"saving": SAVING})
    assert refusal.value.path == "saving.file_exists_policy"
    build({"saving": SAVING | {"file_exists_policy": "overwrite"}})
    build({"saving": SAVING | {"filename_rank": 1}})
    assert (tmp_path / "lima2_0_00000.h5").read_bytes() == b"precious"  # until it is opened


def test_a_folder_that_may_not_be_written_to_is_refused(build, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)

    with pytest.raises(ParamError, match="may not write to the folder") as refusal:
        build({"saving": SAVING})
    assert refusal.value.path == "saving.base_path"


def test_a_map_of_another_size_or_type_is_refused(build, tmp_path):
    np.save(tmp_path / "mask.npy", np.zeros((15, 12)))
    with pytest.raises(
        ParamError, match=r"has the shape \(15, 12\), camera frames have \(12, 15\)"
    ):
        build({"mask": MISSING_MASK})

    np.save(tmp_path / "mask.npy", np.zeros((12, 15), complex))
    with pytest.raises(ParamError, match="is of type complex128"):
        build({"mask": MISSING_MASK})


@pytest.mark.parametrize("command", ["/no/such/program", "/tmp", "no_such_program_in_the_path"])
def test_an_allowed_command_that_is_no_program_is_refused(command, build):
    tree = {"max_countrate_protection": {"enabled": True, "command": command}}

    with pytest.raises(ParamError, match=f"'{command}' is no program on this computer"):
        build(tree, allowed_commands=(command,))


def test_accumulation_that_is_off_or_of_depth_1_sums_nothing(build):
    for group in ({"enabled": False, "nb_frames": 5}, {"enabled": True, "nb_frames": 1}):
        assert build({"accumulation": group}).joint is None


def test_saved_frames_are_not_counted_before_those_that_passed(build, monkeypatch):
    pipeline = build({"saving": SAVING})
    sink = next(lane.sink for lane in pipeline.lanes if lane.name == "saving")
    # The file may be faster than the thread that has handed the frames on and is about to count.
    monkeypatch.setattr(sink, "_stats", Hdf5Stats(frames_saved=3))

    assert pipeline.progress()["nb_frames_saved"] == 0
    for counter in pipeline.first.counters:
        counter.value = 5
    assert pipeline.progress()["nb_frames_saved"] == 3


def test_preparing_the_same_again_takes_no_more_memory(build, pools):
    tree = {
        "geometry": {"flip": "up_down", "rotation": "90"},
        "accumulation": {"enabled": True, "nb_frames": 2},
    }
    build(tree)
    before = pools.stats()

    build(tree)

    assert pools.stats() == before
    assert sum(stats.slots for stats in before.values()) > 100


def test_half_of_the_memory_is_left_to_the_camera(build, pools):
    build({"geometry": {"flip": "up_down"}, "buffers": {"nb_frames_buffer": 1_000_000}})

    taken = sum(stats.total_bytes for stats in pools.stats().values())
    assert 0.4 * pools.limit_bytes < taken <= 0.5 * pools.limit_bytes


def test_the_failing_pipeline_fails_when_it_is_told_to(build):
    with pytest.raises(ParamError, match="failed_on_prepare: Prepare was to fail"):
        build({"failed_on_prepare": True}, FAILING)

    pipeline = build({}, FAILING)
    pipeline.activate()
    assert pipeline.first.tasks == ()
    assert list(pipeline.counters) == ["nb_frames_source"]
