"""The parameters of the whole system: one model, checked whichever door is used."""

import json

import pytest

from camera_plugins.simulator.params import SimulatorParams
from lima2_core import registry
from lima2_core.errors import ParamError
from tango_servers.front_params import front_params, front_schema

MODEL = front_params(SimulatorParams)


@pytest.fixture
def params():
    return MODEL.from_tree({})


def test_everything_has_a_default(params):
    assert params.at("acquisition.acq.nb_frames") == 1
    assert params.at("acquisition.det.nb_prefetch_frames") == 16
    assert params.at("processing.class_name") == "LimaProcessingLegacy"
    assert params.at("processing.saving.enabled") is False
    assert params.at("policy.frame_lost") == "mark"
    assert MODEL.from_json(params.to_json()) == params


def test_a_leaf_is_changed_and_the_rest_stays(params):
    new = params.changed({"acquisition.acq.nb_frames": 7, "processing.saving.base_path": "/data"})

    assert (new.at("acquisition.acq.nb_frames"), params.at("acquisition.acq.nb_frames")) == (7, 1)
    assert new.at("processing.saving.base_path") == "/data"
    assert (
        new.changed({"acquisition.acq.nb_frames": 1}).at("processing.saving.base_path") == "/data"
    )


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"acquisition.acq.nb_frames": -1}, "acquisition.acq.nb_frames"),
        ({"processing.saving.nb_frames_per_file": 0}, "processing.saving.nb_frames_per_file"),
        ({"processing.class_name": "Nothing"}, "processing.class_name"),
        ({"policy.frame_lost": "cry"}, "policy.frame_lost"),
        ({"acquisition.acq.colour": 1}, "acquisition.acq.colour"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(params, changes, path):
    with pytest.raises(ParamError) as refused:
        params.changed(changes)

    assert refused.value.path == path
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize("tree", [{"processing": 3}, {"other": 1}, {"acquisition": {"a": 1}}])
def test_other_trees_are_refused(tree):
    with pytest.raises(ParamError):
        MODEL.from_tree(tree)


def test_another_pipeline_has_its_defaults_and_the_saving_of_before(params):
    params = params.changed({"processing.saving.filename_prefix": "mine"})

    failing = params.with_pipeline("LimaProcessingFailing")
    back = failing.with_pipeline("LimaProcessingLegacy")

    assert failing.at("processing.class_name") == "LimaProcessingFailing"
    assert params.with_pipeline("LimaProcessingLegacy") is params
    with pytest.raises(ParamError, match="no files"):
        _ = failing.saving_path
    assert back.at(f"{back.saving_path}.filename_prefix") == "lima2"


def test_regions_are_short_lists(params):
    rois = [[1, 2, 30, 40], [5.5, 6, 10, 20, 0, 90]]

    new = params.with_statistics_rois(rois)

    assert new.statistics_rois == [[1, 2, 30, 40], [5.5, 6, 10, 20, 0, 90]]
    assert new.at("processing.statistics.enabled") is True
    assert new.at("processing.statistics.rect_rois")[0]["dimensions"] == {"x": 30, "y": 40}
    assert new.with_statistics_rois([]).statistics_rois == []
    assert params.statistics_rois == []


@pytest.mark.parametrize("rois", [3, [1, 2, 3, 4], [[1, 2, 3]], [["a", 2, 3, 4]]])
def test_other_regions_are_refused(params, rois):
    with pytest.raises(ParamError):
        params.with_statistics_rois(rois)
    with pytest.raises(ParamError, match="no statistics"):
        params.with_pipeline("LimaProcessingFailing").with_statistics_rois([])


def test_an_order_has_everything(params):
    order = params.changed({"deferred": True, "metadata": {"sample": "A"}}).order()

    assert order.acquisition["acq"]["nb_frames"] == 1
    assert order.processing["class_name"] == "LimaProcessingLegacy"
    assert (order.deferred, order.metadata) == (True, {"sample": "A"})


def test_the_schema_has_a_choice_for_each_pipeline():
    pipelines = [
        registry.load(registry.PIPELINES, name) for name in registry.names(registry.PIPELINES)
    ]

    text = front_schema(MODEL, pipelines)

    assert text.isascii()
    properties = json.loads(text)["properties"]
    assert set(properties) == {"acquisition", "processing", "policy", "deferred", "metadata"}
    choices = [
        choice["properties"]["class_name"]["default"]
        for choice in properties["processing"]["anyOf"]
    ]
    assert sorted(choices) == sorted(plugin.class_name for plugin in pipelines)
    assert choices[0] == MODEL.from_tree({}).processing["class_name"]
    assert properties["acquisition"]["properties"]["acq"]["properties"]["nb_frames"]["default"] == 1
