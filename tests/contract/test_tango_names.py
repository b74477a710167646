"""Names, numbers and labels on the wire are those that the known clients look for."""

import json
import re

import numpy as np
import pytest
from lima2.common import pipelines as known
from lima2.common import types as known_types
from lima2.common.devencoded import structured_array
from lima2.common.state import DeviceState
from lima2.conductor.detector import attributes as known_detector
from lima2.conductor.tango.utils import unpack_exception

from lima2_core import registry
from lima2_core.data.encoding import DATA_ARRAY, STRUCTURED_ARRAY, encode_records
from lima2_core.data.frame import PIXEL_TYPES
from lima2_core.data.record import FRAME_IDX_RECORD
from lima2_core.errors import CameraError, Lima2Error, ParamError
from processing.kernels.regions import ROI_RECORD
from tango_servers import errors, names

CAMERAS = {name: registry.load(registry.CAMERAS, name) for name in registry.names(registry.CAMERAS)}
PIPELINES = {
    name: registry.load(registry.PIPELINES, name) for name in registry.names(registry.PIPELINES)
}
UUID = "0f3a4b5c-1d2e-11f0-8b7a-0242ac120002"

# Contract 01, 5.2: getters with their sources, pops.
GETTERS = {
    "LimaProcessingLegacy": {"input_frame": "getInputFrame", "frame": "getFrame"},
    "LimaProcessingFailing": {},
}
POPS = {
    "LimaProcessingLegacy": {"popRoiStatistics", "popRoiProfiles", "popFrameIdx"},
    "LimaProcessingFailing": set(),
}


def test_the_names_of_the_wire_are_frozen():
    frozen = {name: value for name, value in vars(names).items() if isinstance(value, str)}

    assert {name: text for name, text in frozen.items() if name.isupper()} == {
        "SERVER": "lima2_tango",
        "CONTROL_SUFFIX": "Control",
        "RECEIVER_SUFFIX": "Receiver",
        "PROCESSING_FAMILY": "limaprocessing",
        "RUN_FAMILY": "limarun",
        "RUN_CLASS": "Lima2Run",
        "ACQ_PARAMS": "acq_params",
        "PROC_PARAMS": "proc_params",
        "FRONT_PARAMS": "front_params",
        "SCHEMA": "schema",
        "VERSION": "Version",
        "NO_ERROR": "No error",
        "ERROR_REASON": "LIMA_Exception",
        "CAMERA_MESSAGE": "cameraMessage",
    }


def test_states_have_the_labels_and_values_of_the_client():
    ours = {label.name.upper(): label.value for label in names.AcqStateLabel}
    theirs = {state.name: state.value for state in DeviceState if state.name != "OFFLINE"}

    assert ours == theirs
    assert [label.name for label in names.AcqStateLabel] == [
        "idle",
        "prepared",
        "running",
        "stopped",
        "fault",
        "terminate",
    ]


def test_log_levels_have_lower_case_labels_in_the_order_of_the_contract():
    assert [level.name for level in sorted(names.LogLevel)] == [
        "trace",
        "debug",
        "info",
        "warning",
        "error",
        "fatal",
    ]


@pytest.mark.parametrize("plugin", CAMERAS)
def test_device_classes_are_named_by_the_camera(plugin):
    assert names.control_class(plugin) == f"Lima{plugin}Control"
    assert names.receiver_class(plugin) == f"Lima{plugin}Receiver"
    assert names.plugin_of(f"Lima{plugin}Control") == (plugin, "Control")
    assert names.plugin_of(f"Lima{plugin}Receiver") == (plugin, "Receiver")


ANNOUNCED = {"Jungfrau": "Simulator"}
"""Cameras that the conductor does not know, and what they can be announced as."""


@pytest.mark.parametrize("plugin", CAMERAS)
def test_the_conductor_knows_every_camera_or_what_it_is_announced_as(plugin):
    assert CAMERAS[plugin].name == plugin
    assert not known_detector(ANNOUNCED.get(plugin, plugin)).plugin_saves_raws


def test_the_classes_of_pipelines_are_no_cameras():
    assert [names.plugin_of(name) for name in PIPELINES] == [None] * len(PIPELINES)


def test_processing_devices_lie_in_the_domain_of_their_receiver():
    made = names.processing_device("id00/limareceiver/simulator2", UUID, 11)

    assert made == f"id00/limaprocessing/{UUID}@11"
    assert (
        names.processing_device("tango://host:10000/id31/limareceiver/x", UUID, 0)
        == f"id31/limaprocessing/{UUID}@0"
    )


@pytest.mark.parametrize("name", GETTERS)
def test_a_pipeline_has_the_commands_of_the_contract(name):
    plugin = PIPELINES[name]

    assert plugin.class_name == name
    assert {source.name: source.getter for source in plugin.sources} == GETTERS[name]
    assert {stream.pop for stream in plugin.streams} == POPS[name]


@pytest.mark.parametrize("name", sorted(set(PIPELINES) & set(known.by_name)))
def test_sources_and_counters_are_those_of_the_client(name):
    theirs = known.by_name[name]

    ours = {source.name: (source.getter, source.label) for source in PIPELINES[name].sources}

    assert {
        source: (info.getter_name, info.label) for source, info in theirs.frame_sources.items()
    } == ours


@pytest.mark.parametrize("plugin", [*CAMERAS.values(), *PIPELINES.values()])
def test_versions_are_those_that_bliss_accepts(plugin):
    match = re.fullmatch(r"(.+)-(\d+)\.(\d+)\.\d+.*", plugin.version)

    assert match is not None
    assert match.groups() == ("core", "1", "2")


def test_format_tags_are_those_of_the_client():
    nothing = encode_records(np.empty(0, FRAME_IDX_RECORD))

    assert (DATA_ARRAY, STRUCTURED_ARRAY) == ("DATA_ARRAY", "STRUCTURED_ARRAY")
    assert structured_array.decode((STRUCTURED_ARRAY, nothing), FRAME_IDX_RECORD).size == 0


def test_pixel_types_are_those_of_the_client():
    theirs = {name: np.dtype(dtype) for name, dtype in known_types.pixel_type_to_np_dtype.items()}

    assert theirs == PIXEL_TYPES


def test_records_are_packed_as_the_client_reads_them():
    assert FRAME_IDX_RECORD.descr == [("recv_idx", "<i4"), ("frame_idx", "<i4")]
    assert ROI_RECORD.descr == [
        ("frame_idx", "<i4"),
        ("recv_idx", "<i4"),
        ("min", "<f4"),
        ("max", "<f4"),
        ("avg", "<f4"),
        ("std", "<f4"),
        ("sum", "<f8"),
    ]


@pytest.mark.parametrize(
    ("error", "what", "facts"),
    [
        (Lima2Error("no beam"), "no beam", "code: error"),
        (
            ParamError("must be positive", path="acq.nb_frames"),
            "acq.nb_frames: must be positive",
            "code: param, path: acq.nb_frames",
        ),
        (CameraError("μ is off", frame_idx=3), "μ is off", "code: camera, frame_idx: 3"),
        (ZeroDivisionError("1 / 0"), "ZeroDivisionError: 1 / 0", ""),
    ],
)
def test_the_client_reads_errors_as_they_were_meant(error, what, facts):
    text = errors.payload(error)

    assert text.isascii()
    assert set(json.loads(text)) == {"what", "errinfo"}
    assert unpack_exception(text) == (what, facts)


def test_no_error_is_told_by_the_literal_of_the_contract():
    assert errors.payload_or_none(None) == "No error"
