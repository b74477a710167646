"""A device that Init left without a service, as a property was wrong: everything says which."""

import json

import pytest
import tango

from tests.tango.devices import FAULT, IDLE, Events, reason, wait_until

WRONG = {"control": ("receiver_topology", "ring"), "receiver": ("runs_kept", "-1")}
ON, DEV_FAULT = tango.DevState.ON, tango.DevState.FAULT
ALWAYS = {"Init", "State", "Status"}
ARGUMENTS = {
    tango.CmdArgType.DevVoid: None,
    tango.CmdArgType.DevString: "{}",
    tango.CmdArgType.DevLong: 0,
}
IN_USE = {
    "acq_params": "{}",
    "proc_params": "{}",
    "front_params": "{}",
    "acq_nb_frames": 3,
    "image_max_size": 64,
}
"""Attributes that are written, and what."""
WITHOUT_SERVICE = {"State", "Status", "acq_state", "last_error", "log_level", "version"}
OF_FRONT = {"front_state", "acq_status", "ready_for_next_acq", "front_error"}


def of_kind(system, which):
    return system.control if which == "control" else system.receivers[1]


@pytest.fixture
def unset(system):
    """Gives one device a wrong property and Init; mended afterwards."""
    mends = []

    def make(which):
        device, (name, value) = of_kind(system, which), WRONG[which]
        before = list(system.database.get_device_property(device.dev_name(), name)[name])

        def mend():
            if before:
                system.database.put_device_property(device.dev_name(), {name: before})
            else:
                system.database.delete_device_property(device.dev_name(), name)
            device.Init()

        mends.append(mend)
        system.database.put_device_property(device.dev_name(), {name: value})
        device.Init()
        return mend

    yield make
    for mend in mends:
        mend()


def refusal(call, *args):
    """What a call is refused with, as clients decode it from the first level of the error."""
    with pytest.raises(tango.DevFailed) as refused:
        call(*args)
    return reason(refused.value)


def is_ours(levels, told, which):
    """Whether an error says which property is wrong, for people and for programs."""
    name, value = WRONG[which]
    assert levels[0] == "LIMA_Exception", (levels, told)
    assert isinstance(told, dict), told
    assert told["what"].startswith(f"Not set up: properties.{name}: "), told["what"]
    assert value in told["what"]
    assert told["what"].endswith("Mend that, then call Init.")
    assert told["errinfo"]["path"] == f"properties.{name}"
    assert told["errinfo"]["code"] == "state"
    return True


@pytest.mark.parametrize("which", WRONG)
def test_every_command_but_init_is_refused_with_the_property_to_mend(system, unset, which):
    unset(which)
    device = of_kind(system, which)
    commands = {one.cmd_name: one.in_type for one in device.command_list_query()}

    refused = {
        name: refusal(device.command_inout, name, ARGUMENTS[kind])
        for name, kind in commands.items()
        if name not in ALWAYS
    }

    assert len(refused) > 5
    for name, (levels, told) in refused.items():
        assert is_ours(levels, told, which), name
        # A third level, which comes from the body of a command, hides the text from clients.
        assert len(levels) == 2, (name, levels)


@pytest.mark.parametrize("which", WRONG)
def test_what_needs_the_service_is_refused_with_the_property_to_mend(system, unset, which):
    unset(which)
    device = of_kind(system, which)
    quiet = WITHOUT_SERVICE | OF_FRONT | {"recv_rank"}
    infos = device.attribute_list_query_ex()
    names = [info.name for info in infos if info.name not in quiet]

    read = {name: refusal(device.read_attribute, name) for name in names}
    written = {
        name: refusal(device.write_attribute, name, value)
        for name, value in IN_USE.items()
        if name in names
    }

    assert len(names) > 5
    assert len(written) > 1
    for levels, told in (*read.values(), *written.values()):
        assert is_ours(levels, told, which)


def test_the_front_of_a_control_that_is_not_set_up_is_in_fault(system, unset):
    unset("control")
    control = system.control

    assert control.front_state.name == "fault"
    assert control.acq_status == "Fault"
    assert not control.ready_for_next_acq
    assert control.front_error == control.status()
    assert "properties.receiver_topology" in control.front_error
    assert control.acq_state == FAULT


def test_the_front_says_why_a_receiver_takes_no_order(system, unset):
    unset("receiver")

    _, told = refusal(system.control.prepareAcq)
    line = wait_until(
        lambda: next((text for text in system.control.receiver_states if "runs_kept" in text), ""),
        "the state of the receiver",
    )

    assert "properties.runs_kept" in json.dumps(told)
    assert "fault (Not set up: properties.runs_kept: " in line


@pytest.mark.parametrize("which", WRONG)
def test_who_listens_is_told_that_it_is_not_set_up_and_that_it_is_mended(system, unset, which):
    device = of_kind(system, which)
    shown = ("State", "Status", "acq_state")
    names = (*shown, *OF_FRONT) if which == "control" else shown
    heard = {name: Events(device, name, tango.EventType.CHANGE_EVENT) for name in names}

    def wait_told():
        for name, events in heard.items():
            now = device.read_attribute(name).value
            wait_until(lambda e=events, now=now: e.seen[-1] == now, f"{name} as it is read")
        return device.read_attribute("State").value

    try:
        at_rest = wait_told()
        mend = unset(which)
        failed = wait_told()
        mend()
        mended = wait_told()
    finally:
        for events in heard.values():
            events.close()

    assert (at_rest, failed, mended) == (ON, DEV_FAULT, ON)


@pytest.mark.parametrize("which", WRONG)
def test_a_mended_device_takes_orders_again(system, unset, which):
    mend = unset(which)

    mend()

    assert system.states() == [IDLE, IDLE, IDLE]
    system.acquire(system.acquisition({"acq.nb_frames": 6}))
    assert system.xferred() == [3, 3]
