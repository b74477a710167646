"""Errors reach clients with their text: two levels, the first one ours (contract 01, section 7)."""

import json
import threading
import time
import uuid

import pytest
import tango
from lima2.conductor.tango.utils import unpack_exception

from tests.tango.devices import FAULT, IDLE, changed, reason, wait_until


def refusal(call):
    """Levels and text of the error that ``call`` raises."""
    with pytest.raises(tango.DevFailed) as failed:
        call()
    return reason(failed.value)


def assert_readable(levels, text, second):
    """What the conductor needs to show the text."""
    assert levels == ["LIMA_Exception", second]
    assert set(text) == {"what", "errinfo"}
    assert isinstance(text["errinfo"], dict)
    assert unpack_exception(json.dumps(text))[0] == text["what"]


@pytest.mark.parametrize(
    ("attribute", "tree", "path"),
    [
        ("acq_params", {"acq": {"nb_frames": -1}}, "acq.nb_frames"),
        ("acq_params", {"acq": {"nb_frmes": 1}}, "acq.nb_frmes"),
        (
            "acq_params",
            {"det": {"generator": {"pixel_type": "gray64"}}},
            "det.generator.pixel_type",
        ),
        ("proc_params", {"class_name": "LimaProcessingMagic"}, "class_name"),
        ("proc_params", {"saving": {"compression": "rar"}}, "saving.compression"),
        ("proc_params", {"fifo": {"nb_fifo_frames": 0}}, "fifo.nb_fifo_frames"),
    ],
)
def test_a_refused_write_names_the_parameter(system, attribute, tree, path):
    receiver = system.receivers[0]
    before = receiver.read_attribute(attribute).value

    levels, text = refusal(lambda: receiver.write_attribute(attribute, json.dumps(tree)))

    assert_readable(levels, text, "API_AttributeFailed")
    assert text["what"].startswith(f"{path}: ")
    assert text["errinfo"]["path"] == path
    assert receiver.read_attribute(attribute).value == before


@pytest.mark.parametrize("text", ["", "[]", "no JSON at all", "{"])
def test_a_write_of_something_else_than_an_object_is_refused(system, text):
    for device in system.devices:
        levels, told = refusal(lambda device=device: device.write_attribute("acq_params", text))

        assert_readable(levels, told, "API_AttributeFailed")


def test_a_prepare_that_cannot_be_fulfilled_is_refused_with_its_reason(system):
    failing = system.processing("LimaProcessingFailing", {"failed_on_prepare": True})
    system.write(system.acquisition(), failing)

    levels, text = refusal(lambda: system.receivers[0].Prepare(str(uuid.uuid1())))

    assert_readable(levels, text, "API_CommandFailed")
    assert text["what"] == "failed_on_prepare: Prepare was to fail"
    assert system.receivers[0].acq_state == IDLE


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("acq.trigger_mode", "gate"),
        ("acq.expo_time", 20_000_000),
        ("accu.nb_frames", 2),
        ("xfer.slice.stride", 2),
        ("img.roi.topleft.x", 5000),
    ],
)
def test_what_the_detector_cannot_do_is_refused_by_the_control(system, path, value):
    system.control.acq_params = json.dumps(system.acquisition({path: value}))

    levels, text = refusal(lambda: system.control.Prepare(str(uuid.uuid1())))

    assert_readable(levels, text, "API_CommandFailed")
    assert path in text["what"] or path.rsplit(".", 2)[0] in text["what"]
    assert system.control.acq_state == IDLE


@pytest.mark.parametrize("command", ["Start", "Trigger"])
def test_a_command_in_the_wrong_state_says_which_state_it_needs(system, command):
    levels, text = refusal(lambda: system.control.command_inout(command))

    assert levels == ["LIMA_Exception", "API_CommandFailed"]
    assert "not possible in state IDLE" in text["what"]
    assert text["errinfo"]["state"] == "IDLE"


def test_a_uuid_that_is_none_is_refused(system):
    system.write(system.acquisition(), system.processing())
    for device in system.devices:
        with pytest.raises(tango.DevFailed, match="is no uuid"):
            device.Prepare("yesterday")
    assert system.states() == [IDLE, IDLE, IDLE]


def test_a_uuid_is_used_once(system):
    run = system.prepare()

    with pytest.raises(tango.DevFailed, match="was not used before"):
        system.receivers[0].Prepare(run.acq_id)


def test_an_unknown_run_cannot_be_erased(system):
    with pytest.raises(tango.DevFailed, match="there is no run"):
        system.receivers[0].erasePipeline(str(uuid.uuid1()))


@pytest.mark.parametrize("wanted", ["/tmp/größe µ", "/tmp/Ångström → 日本"])
def test_texts_may_hold_any_character(system, wanted):
    receiver = system.receivers[0]
    tree = changed(system.processing(), {"saving.enabled": True, "saving.base_path": wanted})

    # As the conductor writes: UTF-8 bytes, which Tango takes for Latin-1.
    receiver.write_attribute("proc_params", json.dumps(tree, ensure_ascii=False).encode())
    receiver.write_attribute("acq_params", json.dumps(system.acquisition()).encode())
    kept = json.loads(receiver.proc_params)
    _, text = refusal(lambda: receiver.Prepare(str(uuid.uuid1())))

    assert kept["saving"]["base_path"] == wanted
    assert wanted in text["what"]


def test_texts_of_a_failure_may_hold_any_character(system, tmp_path):
    folder = tmp_path / "→ 日本"
    folder.mkdir()
    processing = system.processing(
        changes={
            "saving.enabled": True,
            "saving.base_path": str(folder),
            "saving.compression": "none",
            "saving.nb_frames_per_file": 100_000,
        }
    )
    # It goes on until one of them fails, so that this one is not at rest before.
    run = system.prepare(system.acquisition({"acq.nb_frames": 0}), processing)
    (folder / "lima2_1_00000.h5").mkdir()  # now it cannot be made
    system.start()
    wait_until(lambda: system.receivers[1].acq_state == FAULT, "the fault")
    wait_until(lambda: system.xferred()[0] > 0, "a frame for the other file")
    system.stop()
    system.finish(run)
    error = json.loads(run.devices[1].last_error)

    assert str(folder) in error["what"]
    for device in (run.devices[1], system.receivers[1]):
        assert str(folder) in device.status().encode("latin-1").decode()
    files = [name.encode("latin-1").decode() for name in run.devices[0].files]
    assert files == [str(folder / "lima2_0_00000.h5")]


def test_whole_numbers_may_be_written_as_floats(system):
    tree = changed(system.acquisition({"acq.nb_frames": 4}), {"acq.nb_frames": 4.0})
    run = system.acquire(tree)

    assert [counters["nb_frames_source"] for counters in run.counters()] == [2, 2]


def test_the_detector_describes_itself_with_the_keys_of_the_contract(system):
    info = json.loads(system.control.det_info)
    status = json.loads(system.control.det_status)
    able = json.loads(system.control.det_capabilities)

    assert info["plugin"] == "Simulator"
    assert info["dimensions"] == {"x": 2048, "y": 2048}
    assert 0 < info["pixel_size"]["x"] < 0.01  # metres
    assert {"model", "sn"} <= set(info)
    assert "null" not in system.control.det_info
    assert status["state"] == "idle"
    assert 0 < status["temperature"] < 100
    assert 0 < status["humidity"] < 100
    assert {"internal", "software"} <= set(able["trigger_modes"])
    assert able["expo_time_range"] == [1_000, 10_000_000_000]
    assert able["latency_time_range"] == [0, 1_000_000_000]
    assert able["nb_frames_per_trigger_range"] == [1, 2**32 - 1]
    assert system.control.version == "core-1.2.0"


def test_no_command_makes_a_device_look_dead(system):
    """The conductor takes a device that does not answer for 3 s for lost."""
    big = {
        "img.roi": {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 0, "y": 0}},
        "det.generator.pixel_type": "gray32f",
        "det.nb_prefetch_frames": 32,
        "acq.nb_frames": 64,
    }
    slowest_s = {}
    ended = threading.Event()

    def watch(device):
        slowest_s[device] = 0.0
        with tango.EnsureOmniThread():
            while not ended.is_set():
                asked_s = time.monotonic()
                system.devices[device].read_attribute("acq_state")
                slowest_s[device] = max(slowest_s[device], time.monotonic() - asked_s)
                ended.wait(0.02)

    watchers = [threading.Thread(target=watch, args=(n,)) for n in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        run = system.prepare(system.acquisition(big))
        system.start()
        system.finish(run)
    finally:
        ended.set()
        for watcher in watchers:
            watcher.join()

    assert max(slowest_s.values()) < 3
