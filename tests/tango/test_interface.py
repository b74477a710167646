"""Names, types, access, labels and units of all devices (contract 01, sections 3 to 5)."""

import pytest
import tango
from tango import AttrDataFormat, AttrWriteType, CmdArgType

from lima2_core import registry
from tango_servers.main import _device_class
from tango_servers.processing_device import processing_class
from tango_servers.run_device import Lima2Run

READ, WRITE = AttrWriteType.READ, AttrWriteType.READ_WRITE
STRING, LONG64, ENUM = CmdArgType.DevString, CmdArgType.DevLong64, CmdArgType.DevEnum
BOOLEAN, VOID, ENCODED = CmdArgType.DevBoolean, CmdArgType.DevVoid, CmdArgType.DevEncoded

STATES = ["idle", "prepared", "running", "stopped", "fault", "terminate"]
LEVELS = ["trace", "debug", "info", "warning", "error", "fatal"]
NUMBERS = {
    CmdArgType.DevShort,
    CmdArgType.DevLong,
    LONG64,
    CmdArgType.DevFloat,
    CmdArgType.DevDouble,
    CmdArgType.DevUShort,
    CmdArgType.DevULong,
    CmdArgType.DevULong64,
    CmdArgType.DevUChar,
}

FLOATS = {CmdArgType.DevFloat, CmdArgType.DevDouble}

CONTROL_ATTRIBUTES = {
    "acq_state": (ENUM, READ),
    "acq_params": (STRING, WRITE),
    "det_info": (STRING, READ),
    "det_status": (STRING, READ),
    "det_capabilities": (STRING, READ),
    "nb_frames_acquired": (LONG64, READ),
    "version": (STRING, READ),
    "log_level": (ENUM, WRITE),
}
RECEIVER_ATTRIBUTES = {
    "acq_state": (ENUM, READ),
    "acq_params": (STRING, WRITE),
    "proc_params": (STRING, WRITE),
    "nb_frames_xferred": (LONG64, READ),
    "pipelines": (STRING, READ),
    "last_error": (STRING, READ),
    "log_level": (ENUM, WRITE),
    "current_pipeline": (STRING, READ),
    "recv_rank": (LONG64, READ),
}
PROCESSING_ATTRIBUTES = {
    "is_finished": (BOOLEAN, READ),
    "last_error": (STRING, READ),
    "progress_counters": (STRING, READ),
    "last_frames": (STRING, READ),
    "input_frame_info": (STRING, READ),
    "processed_frame_info": (STRING, READ),
}
LEGACY_ATTRIBUTES = PROCESSING_ATTRIBUTES | {
    "nb_roi_statistics": (LONG64, READ),
    "nb_roi_profiles": (LONG64, READ),
}
CONTROL_COMMANDS = {
    "Prepare": (STRING, VOID),
    **dict.fromkeys(("Start", "Trigger", "Stop", "Close", "Reset"), (VOID, VOID)),
}
RECEIVER_COMMANDS = {
    "Prepare": (STRING, VOID),
    "erasePipeline": (STRING, VOID),
    **dict.fromkeys(("Start", "Stop", "Reset"), (VOID, VOID)),
}
LEGACY_COMMANDS = {
    **dict.fromkeys(("getInputFrame", "getFrame"), (LONG64, ENCODED)),
    **dict.fromkeys(("popRoiStatistics", "popRoiProfiles", "popFrameIdx"), (VOID, ENCODED)),
}
OF_TANGO = {"Init", "State", "Status"}
OF_FRONT = {"openNews", "readNews", "closeNews", "getSourceFrame"}
"""By which the front of the system follows the runs of its receivers."""


@pytest.fixture(scope="module")
def one_of_each(devices):
    """A device of every class."""
    legacy = devices.prepare()
    devices.start()
    devices.finish(legacy)
    failing = devices.prepare(processing=devices.processing("LimaProcessingFailing"))
    yield {
        "LimaSimulatorControl": devices.control,
        "LimaSimulatorReceiver": devices.receivers[0],
        "LimaProcessingLegacy": legacy.devices[0],
        "LimaProcessingFailing": failing.devices[1],
    }
    devices.clear()


def attributes(device):
    return {item.name: item for item in device.attribute_list_query_ex()}


def commands(device):
    return {item.cmd_name: (item.in_type, item.out_type) for item in device.command_list_query()}


@pytest.mark.parametrize(
    ("class_name", "wanted"),
    [
        ("LimaSimulatorControl", CONTROL_ATTRIBUTES),
        ("LimaSimulatorReceiver", RECEIVER_ATTRIBUTES),
        ("LimaProcessingLegacy", LEGACY_ATTRIBUTES),
        ("LimaProcessingFailing", PROCESSING_ATTRIBUTES),
    ],
)
def test_attributes_have_the_names_types_and_access_of_the_contract(
    one_of_each, class_name, wanted
):
    device = one_of_each[class_name]
    found = attributes(device)

    assert device.info().dev_class == class_name
    assert set(wanted) <= set(found)
    assert {name: (found[name].data_type, found[name].writable) for name in wanted} == wanted
    spectra = {name for name in wanted if found[name].data_format == AttrDataFormat.SPECTRUM}
    assert spectra == ({"pipelines"} if class_name == "LimaSimulatorReceiver" else set())


@pytest.mark.parametrize(
    ("class_name", "wanted"),
    [
        ("LimaSimulatorControl", CONTROL_COMMANDS),
        ("LimaSimulatorReceiver", RECEIVER_COMMANDS),
        ("LimaProcessingLegacy", LEGACY_COMMANDS),
        ("LimaProcessingFailing", {}),
    ],
)
def test_commands_have_the_names_and_types_of_the_contract(one_of_each, class_name, wanted):
    found = commands(one_of_each[class_name])

    # Names on the wire ignore case, the listing of commands does not.
    assert {name: types for name, types in found.items() if name in wanted} == wanted
    if class_name.startswith("LimaProcessing"):
        assert set(found) - OF_TANGO == set(wanted) | OF_FRONT


@pytest.mark.parametrize(
    "class_name",
    [
        "LimaSimulatorControl",
        "LimaSimulatorReceiver",
        "LimaProcessingLegacy",
        "LimaProcessingFailing",
    ],
)
def test_every_attribute_says_what_it_is_and_every_number_has_a_unit(one_of_each, class_name):
    own = {
        name: item
        for name, item in attributes(one_of_each[class_name]).items()
        if name not in OF_TANGO
    }

    assert [name for name, item in own.items() if item.label in ("", name)] == []
    assert [name for name, item in own.items() if item.description in ("", "No description")] == []
    numbers = [item for item in own.values() if item.data_type in NUMBERS]
    assert [item.name for item in numbers if item.unit == ""] == []


DEVICE_CLASSES = [
    *(
        _device_class(f"Lima{camera}{part}")
        for camera in registry.names(registry.CAMERAS)
        for part in ("Control", "Receiver")
    ),
    *(
        processing_class(registry.load(registry.PIPELINES, name))
        for name in registry.names(registry.PIPELINES)
    ),
    Lima2Run,
]


@pytest.mark.parametrize("device_class", DEVICE_CLASSES, ids=lambda made: made.__name__)
def test_attributes_of_every_class_have_label_doc_unit_and_a_format_that_shows_small_numbers(
    device_class,
):
    told = {name: item._kwargs for name, item in device_class.TangoClassClass.attr_list.items()}
    kinds = {name: item.attr_type for name, item in device_class.TangoClassClass.attr_list.items()}

    assert [name for name, about in told.items() if not about.get("label")] == []
    assert [name for name, about in told.items() if not about.get("doc")] == []
    numbers = {name: told[name] for name, kind in kinds.items() if kind in NUMBERS}
    assert [name for name, about in numbers.items() if not about.get("unit")] == []
    for name in (name for name, kind in kinds.items() if kind in FLOATS):
        # That of Tango is %6.2f, by which 100 us are 0.00 s.
        assert float(told[name].get("format", "%6.2f") % 1.25e-4) == 1.25e-4, name


def test_small_times_are_shown_on_every_device(one_of_each):
    for device in one_of_each.values():
        floats = [item for item in attributes(device).values() if item.data_type in FLOATS]
        assert [item.name for item in floats if item.format == "%6.2f"] == []
    assert attributes(one_of_each["LimaSimulatorControl"])["acq_expo_time"].format == "%.9g"


def test_states_and_log_levels_are_enumerations_in_the_order_of_the_contract(one_of_each):
    for class_name in ("LimaSimulatorControl", "LimaSimulatorReceiver"):
        found = attributes(one_of_each[class_name])

        assert list(found["acq_state"].enum_labels) == STATES
        assert list(found["log_level"].enum_labels) == LEVELS


def test_every_command_with_an_argument_explains_it(one_of_each):
    for device in one_of_each.values():
        for item in device.command_list_query():
            if item.cmd_name not in OF_TANGO and item.in_type != VOID:
                assert item.in_type_desc not in ("", "Uninitialised"), item.cmd_name


def test_the_log_level_is_read_by_name_and_written_by_label(system):
    for device in (system.control, system.receivers[0]):
        before = device.log_level.name

        device.log_level = "warning"
        after = device.log_level.name
        device.log_level = before

        assert after == "warning"
        with pytest.raises((tango.DevFailed, ValueError, KeyError, AttributeError)):
            device.log_level = "loud"


@pytest.mark.parametrize("name", ["acq_state", "State", "Status"])
def test_control_and_receivers_push_changes_of_their_state(devices, name):
    for device in devices.devices:
        assert device.is_attribute_polled(name) is False
        identity = device.subscribe_event(name, tango.EventType.CHANGE_EVENT, lambda event: None)
        device.unsubscribe_event(identity)


def test_the_tango_state_follows_the_acquisition_state(system):
    def tango_states():
        return {device.state() for device in system.devices}

    system.reset()
    at_rest = tango_states()
    system.prepare(system.acquisition({"acq.nb_frames": 0}))
    prepared = tango_states()
    system.start()
    running = tango_states()

    assert at_rest == {tango.DevState.ON}
    assert prepared == {tango.DevState.STANDBY}
    assert running == {tango.DevState.RUNNING}
    assert "at rest" not in system.control.status()
    assert "Taking frames" in system.receivers[0].status()
