"""Parameters as objects: everything is checked where it is assigned."""

import json
from pathlib import Path

import numpy as np
import pytest

from client import DecodeError, ParamError, Params, UnknownParamError
from client.everyday import Everyday
from tests.unit.client.scripted import SCHEMA

ACQ = "acquisition.acq"


@pytest.fixture
def params():
    return Params.of_schema(json.dumps(SCHEMA))


def test_a_parameter_is_an_attribute_and_an_item_and_both_are_the_same(params):
    params.acquisition.acq.nb_frames = 7
    params[f"{ACQ}.mode"] = "b"

    assert params[f"{ACQ}.nb_frames"] == 7
    assert params.acquisition.acq.mode == "b"
    assert params.to_dict()["acquisition"]["acq"]["nb_frames"] == 7
    assert f"{ACQ}.mode" in params
    assert "acquisition.det" not in params
    assert list(params) == ["acquisition", "processing", "metadata"]
    assert "nb_frames" in dir(params.acquisition.acq)


def test_unit_range_and_meaning_are_in_the_help_and_in_what_is_shown(params):
    group = type(params.acquisition.acq)

    assert group.__name__ == "Acq"
    assert "How many, how long." in group.__doc__
    told = "Frames of the whole system. (integer in frames, >= 0, default 1)"
    assert group.nb_frames.__doc__ == told
    assert f"{ACQ}.expo_time = 100000 us  # [> 0]" in repr(params).splitlines()
    assert f"{ACQ}.nb_frames = 1 frames  # Frames of the whole system. [>= 0]" in repr(params)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("nb_frames", -1, "must be >= 0 frames, not -1"),
        ("nb_frames", 1.5, "whole number"),
        ("nb_frames", True, "whole number"),
        ("nb_frames", "3", "whole number"),
        ("expo_time", 0, "must be > 0 us"),
        ("latency_time", float("nan"), "finite"),
        ("latency_time", "1", "a number"),
        ("mode", "c", "must be one of a, b"),
        ("mode", 1, "a text"),
        ("limit", -2, ">= 0"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_path_and_nothing_changes(
    params, name, value, reason
):
    before = params.to_dict()

    with pytest.raises(ParamError) as refused:
        setattr(params.acquisition.acq, name, value)

    assert refused.value.path == f"{ACQ}.{name}"
    assert str(refused.value).startswith(f"{ACQ}.{name}: ")
    assert reason in str(refused.value)
    assert "lima2 params" in str(refused.value)
    assert params == before


def test_an_unknown_name_is_refused_and_the_nearest_is_told(params):
    with pytest.raises(UnknownParamError, match="did you mean nb_frames"):
        params.acquisition.acq.nb_frame = 3
    with pytest.raises(AttributeError, match=r"acquisition\.acq\.colour"):
        _ = params.acquisition.acq.colour
    with pytest.raises(UnknownParamError):
        params["acquisition.acq.nb_frames.more"] = 1

    assert not hasattr(params, "acq")


def test_numbers_of_numpy_and_paths_are_taken(params):
    params.acquisition.acq.nb_frames = np.int64(3)
    params.acquisition.acq.latency_time = np.float32(0.25)
    params.acquisition.acq.limit = np.uint8(4)
    params.processing.saving.enabled = np.True_
    params.processing.saving.base_path = Path("/data")

    tree = json.loads(params.to_json())
    assert tree["acquisition"]["acq"]["latency_time"] == 0.25
    assert tree["processing"]["saving"] == {
        "enabled": True,
        "base_path": "/data",
        "filename_prefix": "lima2",
    }
    params.acquisition.acq.limit = None
    assert params.acquisition.acq.limit is None


def test_a_list_is_assigned_as_a_whole_and_cannot_be_changed_without_effect(params):
    params.processing.rois = [{"x": 1}, {"x": 2}]

    assert params.processing.rois[1]["x"] == 2
    with pytest.raises(AttributeError):
        params.processing.rois.append({"x": 3})
    with pytest.raises(TypeError):
        params.processing.rois[0]["x"] = 3
    params.processing.rois = (*params.processing.rois, {"x": 3})
    assert params.plain("processing.rois") == [{"x": 1}, {"x": 2}, {"x": 3}]
    with pytest.raises(ParamError) as refused:
        params.processing.rois = [{"x": 1}, {"x": -1}]
    assert refused.value.path == "processing.rois.1.x"


def test_free_groups_take_what_json_can_hold(params):
    params.metadata = {"sample": "A", "list": [1, {"b": 2}]}

    assert params.metadata["list"][1]["b"] == 2
    with pytest.raises(ParamError, match="metadata"):
        params.metadata = {"when": object()}
    with pytest.raises(ParamError, match="metadata"):
        params.metadata = 3


def test_many_are_changed_at_once_or_none(params):
    group = params.acquisition.acq

    params.update({"acquisition": {"acq": {"nb_frames": 2}}, f"{ACQ}.mode": "b"})

    assert (group.nb_frames, group.mode) == (2, "b")
    with pytest.raises(ParamError):
        params.update({f"{ACQ}.nb_frames": 5, f"{ACQ}.mode": "c"})
    assert group.nb_frames == 2


def test_a_group_that_is_assigned_has_defaults_where_nothing_is_given(params):
    group = params.acquisition.acq
    group.nb_frames = 9

    params.acquisition.acq = {"mode": "b"}

    assert (group.nb_frames, group.mode) == (1, "b")


def test_json_goes_out_and_comes_back(params):
    params.acquisition.acq.nb_frames = 4
    other = Params.of_schema(json.dumps(SCHEMA), params.to_json())
    third = params.copy()
    third.acquisition.acq.nb_frames = 5

    assert other == params
    assert third != params
    params.load('{"acquisition": {"acq": {"nb_frames": 6}}}')
    assert params.acquisition.acq.nb_frames == 6
    for text in ("[]", "{", '{"a": 1}'):
        with pytest.raises(ParamError):
            params.load(text)


def test_another_pipeline_has_its_defaults_and_files_stay_where_they_were(params):
    old = params.processing
    params.processing.saving.base_path = "/data"

    params.processing.class_name = "Files"

    assert list(params.processing) == ["class_name", "files"]
    assert params.processing.files.base_path == "/data"
    assert params.processing.files.filename_prefix == "lima2"
    with pytest.raises(UnknownParamError, match="another group"):
        _ = old.saving
    with pytest.raises(ParamError, match="there are: Saving, Files, Blind") as refused:
        params.processing.class_name = "None"
    assert refused.value.path == "processing.class_name"
    params.processing.class_name = "Blind"
    assert params.processing.to_dict() == {"class_name": "Blind"}


def test_the_pipeline_may_come_with_its_parameters_in_any_order(params):
    params.update({"processing.files.base_path": "/x", "processing.class_name": "Files"})

    assert params.processing.files.base_path == "/x"
    for changes in (
        {"processing": {"files": {"base_path": "/y"}, "class_name": "Files"}},
        {"processing": {"class_name": "Files", "files.base_path": "/y"}},
        {"processing.files.base_path": "/y", "processing": {"class_name": "Files"}},
        {"processing.class_name": "Files", "processing": {"files": {"base_path": "/y"}}},
    ):
        params.processing.class_name = "Blind"

        params.update(changes)

        assert params.processing.files.base_path == "/y"
    params.processing.update({"saving": {"enabled": True}, "class_name": "Saving"})
    assert params.processing.saving.enabled is True
    with pytest.raises(UnknownParamError, match=r"processing\.saving"):
        params.update({"processing": {"class_name": "Files", "saving": {"enabled": True}}})
    assert params.processing.class_name == "Saving"


def test_all_values_of_another_pipeline_come_back_by_a_text(params):
    other = params.copy()
    other.processing.class_name = "Files"
    other.processing.files.base_path = "/data"

    params.load(other.to_json())

    assert params == other


def test_what_is_not_the_default_is_known_and_another_pipeline_is_one_of_them(params):
    assert params.changed() == ()

    params.acquisition.acq.mode = "b"
    params.processing.rois = [{"x": 1}]

    assert params.changed() == (f"{ACQ}.mode", "processing.rois")
    assert params.processing.changed() == ("processing.rois",)
    params.processing.class_name = "Blind"
    assert params.changed() == (f"{ACQ}.mode", "processing.class_name")


def test_the_name_of_a_pipeline_is_a_text(params):
    with pytest.raises(ParamError, match="there is no"):
        params.processing = {"class_name": ["Files"]}


def test_reset_gives_the_defaults_of_the_same_pipeline(params):
    group = params.acquisition.acq
    group.nb_frames = 4
    params.processing.class_name = "Files"
    params.processing.files.base_path = "/data"

    params.reset()

    assert group.nb_frames == 1
    assert params.processing.to_dict() == {
        "class_name": "Files",
        "files": {"base_path": "/", "filename_prefix": "x"},
    }


def test_a_parameter_named_like_a_method_is_reached_by_its_path(params):
    params["acquisition.acq.update"] = True

    assert params.acquisition.acq["update"] is True
    assert callable(params.acquisition.acq.update)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        (f"{ACQ}.nb_frames", "12", 12),
        (f"{ACQ}.mode", "b", "b"),
        (f"{ACQ}.limit", "null", None),
        ("processing.saving.enabled", "true", True),
        ("processing.saving.base_path", "12", "12"),
        ("processing.rois", '[{"x": 1}]', ({"x": 1},)),
    ],
)
def test_texts_of_a_command_line_are_read_by_type(params, path, text, value):
    params.parse(path, text)

    assert params[path] == value


@pytest.mark.parametrize(("path", "text"), [(f"{ACQ}.nb_frames", "x"), ("acquisition.acq", "x")])
def test_other_texts_are_refused(params, path, text):
    with pytest.raises(ParamError) as refused:
        params.parse(path, text)

    assert refused.value.path == path


def test_everyday_words_are_in_seconds_and_find_where_files_go(params):
    asked = Everyday(nb_frames=3, exposure_s=0.01, latency_s=0.002, save_to=Path("/d"), prefix="p")

    params.update(asked.values(params))

    group = params.acquisition.acq
    assert (group.nb_frames, group.expo_time, group.latency_time) == (3, 10_000, 2.0)
    assert params.processing.saving.to_dict() == {
        "enabled": True,
        "base_path": "/d",
        "filename_prefix": "p",
    }
    assert Everyday().values(params) == {}
    params.processing.class_name = "Blind"
    with pytest.raises(ParamError, match="writes no files"):
        Everyday(save_to="/d").values(params)
    with pytest.raises(ParamError, match="seconds"):
        Everyday(exposure_s="long").values(params)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"type": "integer"}', '{"properties": 3}'])
def test_what_is_no_schema_is_refused(text):
    with pytest.raises(DecodeError):
        Params.of_schema(text)
