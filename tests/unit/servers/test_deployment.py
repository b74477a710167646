import json

import pytest
import yaml

from lima2_core.errors import ParamError, StorageError
from tango_servers.deployment import (
    DeviceEntry,
    deployment_names,
    load_deployment,
)
from tango_servers.names import natural_key

CONTROL = """
server: lima2_tango
personal_name: sim_ctl
device:
  - tango_name: id01/limacontrol/sim
    class: LimaSimulatorControl
    properties:
      receiver_topology: round_robin
      receivers: [id01/limareceiver/sim1, id01/limareceiver/sim2]
"""
RECEIVER = """
server: lima2_tango
personal_name: sim_rcv{number}
device:
  - tango_name: id01/limareceiver/sim{number}
    class: LimaSimulatorReceiver
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a good deployment of one control and two receivers."""
    (tmp_path / "a.yaml").write_text(RECEIVER.format(number=2))
    (tmp_path / "b.yml").write_text(RECEIVER.format(number=1))
    (tmp_path / "c.yaml").write_text(CONTROL)
    (tmp_path / "notes.txt").write_text("not read")
    return tmp_path


@pytest.mark.parametrize("name", deployment_names())
def test_a_deployment_of_the_suite_names_its_receivers_in_order(name):
    deployment = load_deployment(name)

    control = deployment.control
    found = [device.name for device in deployment.devices if device.is_receiver]
    assert deployment.name == name
    assert list(control.properties["receivers"]) == sorted(found, key=natural_key)
    assert deployment.topology == ("single" if len(found) == 1 else "round_robin")
    assert deployment.servers[0].devices[0] == control
    for device in deployment.devices:
        plugin = control.class_name.removesuffix("Control")
        assert device.class_name in (f"{plugin}Control", f"{plugin}Receiver")


def test_the_suite_brings_the_deployment_of_the_contract():
    deployment = load_deployment("round_robin_2")

    assert {server.full_name: server.devices[0].name for server in deployment.servers} == {
        "lima2_tango/simulator_ctl": "id00/limacontrol/simulator",
        "lima2_tango/simulator_rcv1": "id00/limareceiver/simulator1",
        "lima2_tango/simulator_rcv2": "id00/limareceiver/simulator2",
    }


def test_a_folder_is_read_with_the_control_first_and_receivers_in_natural_order(folder):
    deployment = load_deployment(folder)

    assert [server.instance for server in deployment.servers] == ["sim_ctl", "sim_rcv1", "sim_rcv2"]
    assert deployment.servers[0].devices == (
        DeviceEntry(
            "id01/limacontrol/sim",
            "LimaSimulatorControl",
            {
                "receiver_topology": ("round_robin",),
                "receivers": ("id01/limareceiver/sim1", "id01/limareceiver/sim2"),
            },
        ),
    )


def test_natural_order_puts_2_before_10():
    assert sorted(["rcv10", "rcv2", "RCV1"], key=natural_key) == ["RCV1", "rcv2", "rcv10"]


def test_receivers_and_topology_follow_from_the_devices_where_the_control_is_silent(folder):
    text = CONTROL.replace("receiver_topology: round_robin", "location: hutch")
    (folder / "c.yaml").write_text(text[: text.index("      receivers")])

    deployment = load_deployment(folder)

    assert deployment.receivers == ("id01/limareceiver/sim1", "id01/limareceiver/sim2")
    assert deployment.topology == "round_robin"


def test_values_stay_the_texts_that_were_written(folder):
    (folder / "c.yaml").write_text(CONTROL + "      mask: [0x10, yes, 1e3, 010]\n")

    properties = load_deployment(folder).control.properties

    assert properties["mask"] == ("0x10", "yes", "1e3", "010")


def test_what_is_written_reads_back_as_it_was(folder, tmp_path_factory):
    deployment = load_deployment(folder)
    copy = tmp_path_factory.mktemp("copy") / folder.name

    deployment.write(copy)

    assert load_deployment(copy) == deployment
    # A reader that guesses types must find texts, too.
    content = yaml.safe_load((copy / "lima2_tango_sim_ctl.yaml").read_text())
    assert content == json.loads((copy / "lima2_tango_sim_ctl.yaml").read_text())


def test_another_domain_reaches_device_names_and_the_properties_that_hold_them(folder):
    moved = load_deployment(folder).in_domain("ID01", "id31")

    assert moved.control.name == "id31/limacontrol/sim"
    assert moved.receivers == ("id31/limareceiver/sim1", "id31/limareceiver/sim2")
    assert [device.name for device in moved.devices if device.is_receiver] == list(moved.receivers)
    assert moved == load_deployment(folder).in_domain(None, "id31")


@pytest.mark.parametrize(("old", "new"), [("id99", "id31"), ("id01", "id/31"), ("id01", "")])
def test_a_domain_that_does_not_fit_is_refused(folder, old, new):
    with pytest.raises(ParamError, match="domain"):
        load_deployment(folder).in_domain(old, new)


def test_the_old_domain_must_be_named_where_there_are_several(folder):
    (folder / "b.yml").write_text(RECEIVER.format(number=1).replace("id01", "id02"))

    with pytest.raises(ParamError, match="say which: the domains are id01, id02"):
        load_deployment(folder).in_domain(None, "id31")


def test_an_unknown_deployment_names_those_there_are():
    with pytest.raises(ParamError, match=r"'nothing' is neither a folder nor one of .*single"):
        load_deployment("nothing")


def test_a_folder_without_yaml_is_refused(tmp_path):
    with pytest.raises(ParamError, match=r"has no file \*\.yaml"):
        load_deployment(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ("    class: LimaSimulatorReceiver\n", "", "b.yml: device.0", "'class' is missing"),
        ("class: LimaSimulatorReceiver", "class: [A, B]", "b.yml: device.0.class", "no name"),
        ("id01/limareceiver/sim1", "id01/sim1", "b.yml: device.0.tango_name", "no device name"),
        ("id01/limareceiver/sim1", "id01//sim1", "b.yml: device.0.tango_name", "no device name"),
        ("sim1", "sim 1", "b.yml: device.0.tango_name", "no device name"),
        ("sim1", "sim2", "id01/limareceiver/sim2", "this device is declared twice"),
        ("sim1", "SIM2", "id01/limareceiver/SIM2", "this device is declared twice"),
        ("sim_rcv1", "SIM_RCV2", "lima2_tango/SIM_RCV2", "this server is declared twice"),
        ("personal_name: sim_rcv1", "", "b.yml", "'personal_name' is missing"),
        ("server: lima2_tango", "server: a/b", "b.yml: server", "is no name"),
        ("personal_name", "instance", "b.yml", "unknown key 'instance'"),
        ("    class:", "    clas: x\n    class:", "b.yml: device.0", "unknown key 'clas'"),
        ("device:", "device: none\nserver: x\nwhat:", "b.yml", "given twice"),
        ("  - tango_name:", "    tango_name:", "b.yml: device", "a list of devices"),
        ("Receiver\n", "Receiver\n    properties: [1]\n", "b.yml: device.0.properties", "names"),
        ("Receiver\n", "Receiver\n    properties: {a: }\n", "b.yml: device.0.properties.a", "text"),
        (
            "Receiver\n",
            "Receiver\n    properties: {a: []}\n",
            "b.yml: device.0.properties.a",
            "text",
        ),
        ("device:", "device: ]", "b.yml", "this is not YAML"),
        ("server: lima2_tango", "- just text", "b.yml", "this is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(folder, old, new, path, message):
    text = RECEIVER.format(number=1)
    assert old in text
    (folder / "b.yml").write_text(text.replace(old, new))

    with pytest.raises(ParamError, match=message) as refusal:
        load_deployment(folder)

    assert refusal.value.path == path


@pytest.mark.parametrize("text", ["", "42", "[]", "- 1"])
def test_a_file_with_something_else_in_it_is_refused(tmp_path, text):
    (tmp_path / "b.yaml").write_text(text)

    with pytest.raises(ParamError):
        load_deployment(tmp_path)


def test_text_that_is_not_utf8_is_refused(folder):
    (folder / "b.yml").write_bytes(b"server: \xff")

    with pytest.raises(ParamError, match="no UTF-8"):
        load_deployment(folder)


def test_a_deployment_that_cannot_be_written_names_the_file(folder):
    with pytest.raises(StorageError) as failure:
        load_deployment(folder).write(folder / "c.yaml")

    assert failure.value.details["file"] == str(folder / "c.yaml")


def test_a_deployment_with_two_controls_has_no_single_control(folder):
    (folder / "d.yaml").write_text(CONTROL.replace("sim_ctl", "x").replace("control/sim", "c/x"))

    with pytest.raises(ParamError, match="this deployment has 2"):
        _ = load_deployment(folder).control
