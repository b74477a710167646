"""Errors of servers come back as classes with a remedy."""

import json

import pytest
import tango

from client import errors
from client.link import TangoDevice, error_of
from client.wire import ERROR_REASON, run_device


def failed(reason, desc):
    try:
        tango.Except.throw_exception(reason, desc, "somewhere")
    except tango.DevFailed as error:
        return error


def told(what, **info):
    return failed(ERROR_REASON, json.dumps({"what": what, "errinfo": info}))


def test_the_class_follows_from_the_code_and_the_text_has_the_remedy():
    error = error_of(told("the disk is full.", code="storage", file="/a", stacktrace="x"), "dev")

    assert type(error) is errors.StorageError
    assert error.message == "the disk is full."
    assert str(error) == f"the disk is full. {errors.StorageError.remedy}"
    assert error.details == {"device": "dev", "file": "/a"}


def test_a_refused_parameter_has_its_path_once():
    error = error_of(told("acq.nb: no", code="param", path="acq.nb"), "dev")

    assert type(error) is errors.ParamError
    assert isinstance(error, ValueError)
    assert error.path == "acq.nb"
    assert str(error).startswith("acq.nb: no. ")


@pytest.mark.parametrize(
    ("reason", "kind", "builtin"),
    [
        ("API_DeviceTimedOut", errors.UnreachableError, ConnectionError),
        ("API_CantConnectToDevice", errors.UnreachableError, ConnectionError),
        ("DB_DeviceNotDefined", errors.NoDeviceError, LookupError),
        ("API_AttrNotFound", errors.ClientError, Exception),
        ("Something", errors.ClientError, Exception),
    ],
)
def test_errors_of_tango_have_a_class_too(reason, kind, builtin):
    error = error_of(failed(reason, "x"), "id00/limacontrol/x")

    assert type(error) is kind
    assert isinstance(error, builtin)
    assert "id00/limacontrol/x" in str(error)


@pytest.mark.parametrize("text", ["plain", "[1]", '{"what": 1}'])
def test_a_payload_that_is_none_is_told_as_it_is(text):
    error = error_of(failed(ERROR_REASON, text), "dev")

    assert type(error) is errors.ClientError
    assert str(error) == text


def test_codes_of_later_servers_are_plain_errors():
    assert type(error_of(told("new", code="quantum"), "dev")) is errors.ClientError


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("id00/limacontrol/x", "id00/limarun/u"),
        ("tango://h:1/id00/limacontrol/x", "tango://h:1/id00/limarun/u"),
        ("tango://h:1/id00/limacontrol/x#dbase=no", "tango://h:1/id00/limarun/u#dbase=no"),
    ],
)
def test_the_device_of_a_run_is_beside_that_of_its_control(name, peer):
    assert TangoDevice(name).peer(run_device(name, "u")).name == peer


def test_who_cannot_be_reached_is_told_within_seconds():
    device = TangoDevice("tango://127.0.0.1:1/id00/limacontrol/x#dbase=no")

    with pytest.raises(errors.UnreachableError, match="limacontrol"):
        device.read("state")
