"""Published schemas: defaults, ranges and form as the known clients need them (contract 02)."""

import json

import jsonschema_default
import jsonschema_rs
import pytest

from lima2_core import registry
from lima2_core.data.frame import PIXEL_TYPES
from lima2_core.errors import ParamError
from lima2_core.schema import schema_text

CAMERAS = {name: registry.load(registry.CAMERAS, name) for name in registry.names(registry.CAMERAS)}
PIPELINES = {
    name: registry.load(registry.PIPELINES, name) for name in registry.names(registry.PIPELINES)
}
MODELS = {name: plugin.params for name, plugin in (CAMERAS | PIPELINES).items()}

# The reference trees of contract 02, section 9.
COMMON = {
    "acq": {
        "nb_frames": 1,
        "expo_time": 100000,
        "latency_time": 10,
        "trigger_mode": "internal",
        "nb_frames_per_trigger": 1,
        "acq_mode": "normal",
    },
    "img": {
        "binning": {"x": 1, "y": 1},
        "roi": {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 0, "y": 0}},
        "flip": "none",
    },
    "shut": {"mode": "manual"},
    "accu": {"nb_frames": 1, "expo_time": 1000, "saturated_threshold": 0},
    "vid": {"auto_exposure_mode": "off"},
    "xfer": {
        "alignment": {"col_alignment": 1, "row_alignment": 8, "header": 0, "footer": 0},
        "slice": {"start": 0, "stride": 1},
    },
}
SIMULATOR = {
    "generator": {
        "type": "gauss",
        "gauss": {
            "peaks": [{"x0": 1024.0, "y0": 1024.0, "fwhm": 128.0, "max": 100.0}],
            "grow_factor": 0.0,
        },
        "diffraction": {
            "x0": 1024.0,
            "y0": 1024.0,
            "source_pos_x": 5.0,
            "source_pos_y": 5.0,
            "source_speed_x": 0.0,
            "source_speed_y": 0.0,
        },
        "pixel_type": "gray8",
        "nb_channels": 1,
    },
    "nb_prefetch_frames": 16,
    "dropped_frame_idx": 0,
    "failed_frame_idx": 0,
    "dispatch_mode": "round_robin",
}
READER = {
    "base_path": "/tmp",
    "dataset_path": "/entry_0000/measurement/data",
    "file_type": "nexus",
    "filename_format": "{filename_prefix}_{filename_rank}_{file_number:05d}{filename_suffix}",
    "filename_prefix": "lima2",
    "filename_rank": 0,
    "filename_suffix": ".h5",
    "frame_slice": {"count": 0, "start": 0, "stride": 1},
    "nb_frames_per_file": 50,
    "start_number": 0,
    "nb_prefetch_frames": 16,
}
SAVING = {
    "enabled": False,
    "base_path": "/tmp",
    "filename_format": "{filename_prefix}_{filename_rank}_{file_number:05d}{filename_suffix}",
    "filename_prefix": "lima2",
    "filename_rank": 0,
    "filename_suffix": ".h5",
    "start_number": 0,
    "file_exists_policy": "abort",
    "nb_frames_per_file": 50,
    "compression": "bshuf_lz4",
    "nx_entry_name": "entry_0000",
    "nx_instrument_name": "instrument",
    "nx_detector_name": "detector",
    "nb_dimensions": "dim_3d_or_4d",
    "include_frame_idx": False,
}
FILE = {"enabled": False, "path": ""}
LEGACY = {
    "class_name": "LimaProcessingLegacy",
    "fifo": {"nb_fifo_frames": 100},
    "buffers": {
        "nb_frames_buffer": 100,
        "nb_input_frames_buffer": 100,
        "nb_roi_statistics_buffer": 100,
        "nb_roi_profiles_buffer": 100,
        "nb_frame_idx_buffer": 100,
    },
    "frame_idx_enabled": False,
    "mask": FILE,
    "flatfield": FILE,
    "background": FILE,
    "max_countrate_protection": {
        "enabled": False,
        "command": "",
        "args": [],
        "max_countrate": 100000,
        "pixel_capacity_override": [],
        "abort_on_protection": True,
        "ignore_max_value": False,
    },
    "accumulation": {"enabled": False, "nb_frames": 1},
    "statistics": {"enabled": False, "rect_rois": [], "arc_rois": []},
    "profiles": {"enabled": False, "rois": [], "directions": []},
    "saving": SAVING,
}
FAILING = {
    "class_name": "LimaProcessingFailing",
    "failed_on_prepare": False,
    "failed_on_activate": False,
    "failed_frame_idx": 0,
}
REFERENCE = {
    "Simulator": COMMON | {"det": SIMULATOR},
    "Reader": COMMON | {"det": READER},
    "LimaProcessingLegacy": LEGACY,
    "LimaProcessingFailing": FAILING,
}

# What BLISS writes over the defaults (contract 02, marks B), and what upstream's tests write.
RECT = {"topleft": {"x": 900, "y": 900}, "dimensions": {"x": 256, "y": 128}}
ARC = {"center": {"x": 1036.0, "y": 1029.5}, "r1": 53.9, "r2": 153.4, "a1": -280.5, "a2": -100.4}
ACCEPTED = [
    ("Simulator", "acq.nb_frames", 0),
    ("Simulator", "acq.nb_frames", 1000),
    ("Simulator", "acq.expo_time", 125),
    ("Simulator", "acq.latency_time", 0),
    *(("Simulator", "acq.trigger_mode", mode) for mode in ("internal", "software", "external")),
    ("Simulator", "acq.trigger_mode", "gate"),
    ("Simulator", "acq.nb_frames_per_trigger", 7),
    *(("Simulator", "det.generator.type", kind) for kind in ("gauss", "diffraction", "spiral")),
    *(("Simulator", "det.generator.pixel_type", kind) for kind in PIXEL_TYPES),
    ("Simulator", "det.generator.gauss.grow_factor", 0.1),
    ("Simulator", "det.generator.gauss.peaks", []),
    ("Simulator", "det.generator.nb_channels", 4),
    ("Simulator", "det.nb_prefetch_frames", 2),
    ("Simulator", "det.dispatch_mode", "predictive_random"),
    ("Simulator", "det.dispatch_mode", "full_random"),
    ("Simulator", "det.dispatch_mode", "partial_frame"),
    ("Simulator", "det.failed_frame_idx", 12),
    ("Simulator", "det.dropped_frame_idx", 12),
    ("Reader", "det.frame_slice", {"start": 1, "count": 5, "stride": 2}),
    ("Reader", "det.start_number", 3),
    ("LimaProcessingLegacy", "fifo.nb_fifo_frames", 1000),
    ("LimaProcessingLegacy", "frame_idx_enabled", True),
    ("LimaProcessingLegacy", "statistics", {"enabled": True, "rect_rois": [], "arc_rois": []}),
    ("LimaProcessingLegacy", "statistics.rect_rois", [RECT, RECT]),
    ("LimaProcessingLegacy", "statistics.arc_rois", [ARC]),
    ("LimaProcessingLegacy", "profiles.rois", [RECT]),
    ("LimaProcessingLegacy", "profiles.directions", ["horizontal", "vertical"]),
    ("LimaProcessingLegacy", "max_countrate_protection.command", "/bin/true"),
    ("LimaProcessingLegacy", "max_countrate_protection.args", ["a", "b"]),
    ("LimaProcessingLegacy", "max_countrate_protection.pixel_capacity_override", [{"x": 1}]),
    ("LimaProcessingLegacy", "mask", {"enabled": True, "path": "/opt/mask.h5"}),
    ("LimaProcessingLegacy", "accumulation", {"enabled": True, "nb_frames": 10}),
    ("LimaProcessingLegacy", "saving.enabled", True),
    ("LimaProcessingLegacy", "saving.filename_rank", 1),
    ("LimaProcessingLegacy", "saving.include_frame_idx", True),
    (
        "LimaProcessingLegacy",
        "saving.filename_format",
        "lima2_{filename_rank}_{file_number:05d}.h5",
    ),
    *(("LimaProcessingLegacy", "saving.file_exists_policy", p) for p in ("abort", "overwrite")),
    *(("LimaProcessingLegacy", "saving.compression", c) for c in ("none", "zip", "bshuf_lz4")),
    *(("LimaProcessingLegacy", "saving.nb_dimensions", d) for d in ("dim_4d", "dim_3d_or_4d")),
    ("LimaProcessingFailing", "failed_on_prepare", True),
    ("LimaProcessingFailing", "failed_on_activate", True),
    ("LimaProcessingFailing", "failed_frame_idx", 10),
]
REFUSED = [
    ("Simulator", "acq.nb_frames", -1),
    ("Simulator", "acq.nb_frames", "many"),
    ("Simulator", "acq.nb_frames", 2.5),
    ("Simulator", "acq.expo_time", 0),
    ("Simulator", "acq.latency_time", -1),
    ("Simulator", "acq.trigger_mode", "sometimes"),
    ("Simulator", "acq.nb_frames_per_trigger", 0),
    ("Simulator", "acq.acq_mode", "strange"),
    ("Simulator", "img.binning.x", 0),
    ("Simulator", "img.roi.topleft.x", -1),
    ("Simulator", "img.roi.dimensions.y", -1),
    ("Simulator", "img.flip", "diagonal"),
    ("Simulator", "shut.mode", "auto"),
    ("Simulator", "vid.auto_exposure_mode", "on"),
    ("Simulator", "det.generator.type", "noise"),
    ("Simulator", "det.generator.pixel_type", "gray64"),
    ("Simulator", "det.generator.nb_channels", 0),
    ("Simulator", "det.nb_prefetch_frames", 0),
    ("Simulator", "det.dispatch_mode", "random"),
    ("Simulator", "det.dropped_frame_idx", -1),
    ("Simulator", "det.failed_frame_idx", -1),
    ("Reader", "det.frame_slice.stride", 0),
    ("Reader", "det.nb_frames_per_file", 0),
    ("Reader", "det.file_type", "jpeg"),
    ("Reader", "det.nb_prefetch_frames", 0),
    ("LimaProcessingLegacy", "fifo.nb_fifo_frames", 0),
    ("LimaProcessingLegacy", "buffers.nb_frames_buffer", 0),
    ("LimaProcessingLegacy", "accumulation.nb_frames", 0),
    ("LimaProcessingLegacy", "saving.compression", "rar"),
    ("LimaProcessingLegacy", "saving.nb_dimensions", "dim_2d"),
    ("LimaProcessingLegacy", "saving.file_exists_policy", "rename"),
    ("LimaProcessingLegacy", "saving.nb_frames_per_file", 0),
    ("LimaProcessingLegacy", "saving.filename_rank", -1),
    ("LimaProcessingLegacy", "max_countrate_protection.max_countrate", 0),
    ("LimaProcessingLegacy", "profiles.directions", ["diagonal"]),
    ("LimaProcessingFailing", "failed_frame_idx", -1),
]


def default_tree(name):
    return jsonschema_default.create_from(schema_text(MODELS[name]))


def changed(tree, path, value):
    """``tree`` with another value at ``path``."""
    head, _, rest = path.partition(".")
    return tree | {head: changed(tree[head], rest, value) if rest else value}


def without_extras(tree, reference):
    """The part of ``tree`` that ``reference`` speaks about."""
    if not isinstance(reference, dict):
        return tree
    return {key: without_extras(tree[key], value) for key, value in reference.items()}


def nodes(schema, path=()):
    """All schemas of parameters, with their paths; items of lists are not parameters."""
    yield path, schema
    for key, child in schema.get("properties", {}).items():
        yield from nodes(child, (*path, key))


def leaves(schema):
    return {
        ".".join(path): node for path, node in nodes(schema) if path and "properties" not in node
    }


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def schema(name):
    return json.loads(schema_text(MODELS[name]))


@pytest.mark.parametrize("name", REFERENCE)
def test_default_trees_are_those_of_the_contract(name):
    tree = default_tree(name)

    assert without_extras(tree, REFERENCE[name]) == REFERENCE[name]


def test_the_generated_default_tree_is_that_of_the_model_and_fulfils_its_schema(name):
    tree = default_tree(name)

    assert tree == MODELS[name]().to_tree()
    jsonschema_rs.validator_for(schema_text(MODELS[name])).validate(tree)
    assert MODELS[name].from_tree(tree) == MODELS[name]()


def test_generated_trees_are_always_the_same(name):
    # What a schema leaves open is drawn at random.
    assert len({json.dumps(default_tree(name)) for _ in range(5)}) == 1


def test_a_schema_is_one_short_line_of_ascii(name):
    text = schema_text(MODELS[name])

    assert text.isascii()
    assert "\n" not in text
    assert len(text) < 32_768  # a Tango database on MariaDB stores at most 65535


def test_every_leaf_has_a_default_and_no_object_has_one(schema):
    for path, node in nodes(schema):
        assert ("default" in node) == ("properties" not in node and path != ()), path


def test_no_default_is_null(schema):
    assert "null" not in json.dumps([node["default"] for node in leaves(schema).values()])


def test_nothing_is_used_that_the_generator_or_the_error_report_stumbles_over(schema):
    text = json.dumps(schema)

    for word in ('"$ref"', '"$defs"', '"definitions"', '"allOf"', '"prefixItems"', '"required"'):
        assert word not in text
    assert all(not isinstance(node.get("items"), list) for _, node in nodes(schema))
    assert all(not isinstance(node.get("type"), list) for _, node in nodes(schema))


def test_every_parameter_has_a_type(schema):
    for path, node in nodes(schema):
        assert "type" in node or "enum" in node, path


def test_unknown_keys_are_refused_everywhere(schema):
    for path, node in nodes(schema):
        if "properties" in node:
            assert node["additionalProperties"] is False, path


def test_times_name_their_unit(schema):
    timed = {path: node for path, node in leaves(schema).items() if path.endswith("_time")}

    assert {path: node["unit"] for path, node in timed.items()} == dict.fromkeys(timed, "us")


@pytest.mark.parametrize("name", PIPELINES)
def test_class_name_is_a_parameter_with_a_default(name):
    assert default_tree(name)["class_name"] == name


def test_every_enabled_saving_block_has_the_keys_that_the_conductor_reads():
    wanted = {
        "enabled",
        "base_path",
        "filename_prefix",
        "file_exists_policy",
        "nb_frames_per_file",
        "nx_entry_name",
        "nx_instrument_name",
        "nx_detector_name",
        "nb_dimensions",
    }
    for pipeline in PIPELINES:
        tree = default_tree(pipeline)
        for block in (key for key in tree if key.startswith("saving")):
            assert wanted <= set(tree[block])


@pytest.mark.parametrize(("name", "path", "value"), ACCEPTED)
def test_what_clients_send_is_accepted_by_schema_and_server(name, path, value):
    tree = changed(default_tree(name), path, value)

    jsonschema_rs.validator_for(schema_text(MODELS[name])).validate(tree)
    MODELS[name].from_json(json.dumps(tree))


@pytest.mark.parametrize(("name", "path", "value"), REFUSED)
def test_what_is_out_of_range_is_refused_by_schema_and_server(name, path, value):
    tree = changed(default_tree(name), path, value)

    with pytest.raises(jsonschema_rs.ValidationError) as by_schema:
        jsonschema_rs.validator_for(schema_text(MODELS[name])).validate(tree)
    with pytest.raises(ParamError) as by_server:
        MODELS[name].from_json(json.dumps(tree))

    assert ".".join(map(str, by_schema.value.instance_path)).startswith(path)
    assert by_server.value.path.startswith(path)
    assert path in str(by_server.value)


def test_an_unknown_parameter_is_named_with_those_that_there_are(name):
    tree = default_tree(name) | {"nb_frmaes": 3}

    with pytest.raises(jsonschema_rs.ValidationError, match="nb_frmaes"):
        jsonschema_rs.validator_for(schema_text(MODELS[name])).validate(tree)
    with pytest.raises(ParamError, match=r"nb_frmaes: unknown parameter; known here: ") as refusal:
        MODELS[name].from_json(json.dumps(tree))
    assert refusal.value.path == "nb_frmaes"


def test_whole_numbers_may_come_as_floats_and_become_integers(name):
    whole = {
        path: node["default"]
        for path, node in leaves(json.loads(schema_text(MODELS[name]))).items()
        if node.get("type") == "integer"
    }
    tree = default_tree(name)
    for path, value in whole.items():
        tree = changed(tree, path, float(value))

    jsonschema_rs.validator_for(schema_text(MODELS[name])).validate(tree)
    taken = MODELS[name].from_json(json.dumps(tree))

    assert json.dumps(taken.to_tree()) == json.dumps(MODELS[name]().to_tree())


def test_a_client_may_send_a_part_of_the_tree(name):
    assert MODELS[name].from_json("{}") == MODELS[name]()
    jsonschema_rs.validator_for(schema_text(MODELS[name])).validate({})


@pytest.mark.parametrize("text", ["", "null", "[1]", "3", "{", '{"acq": '])
def test_what_is_no_tree_is_refused(name, text):
    with pytest.raises(ParamError):
        MODELS[name].from_json(text)
