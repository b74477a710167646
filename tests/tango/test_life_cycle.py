"""States and what leads from one to the other (contract 01, section 6)."""

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import tango

from tests.tango.devices import (
    FAULT,
    IDLE,
    NO_ERROR,
    PREPARED,
    RUNNING,
    STOPPED,
    Events,
    wait_until,
)

ENDLESS = {"acq.nb_frames": 0, "acq.expo_time": 10_000}
DWELL_S = 0.15
FAILING = "LimaProcessingFailing"


@pytest.fixture
def failing(system):
    """Processing parameters that fail as told."""
    return lambda **changes: system.processing(FAILING, changes)


def test_an_acquisition_goes_from_idle_over_prepared_and_running_to_idle(system):
    system.reset()
    states = [system.states()]
    run = system.prepare(system.acquisition(ENDLESS))
    states.append(system.states())
    system.start()
    states.append(system.states())
    system.stop()
    system.wait_receivers(IDLE)
    states.append(system.states())
    run.wait_finished()
    system.control.Close()
    states.append(system.states())

    assert states == [
        [IDLE, IDLE, IDLE],
        [PREPARED, PREPARED, PREPARED],
        [RUNNING, RUNNING, RUNNING],
        [STOPPED, IDLE, IDLE],
        [IDLE, IDLE, IDLE],
    ]


def test_control_stays_running_until_it_is_closed_and_receivers_end_by_themselves(system):
    run = system.prepare(system.acquisition({"acq.nb_frames": 6}))
    system.start()
    run.wait_finished()
    system.wait_receivers(IDLE)

    before = system.states()
    system.control.Close()

    assert before == [RUNNING, IDLE, IDLE]
    assert system.states() == [IDLE, IDLE, IDLE]
    assert system.xferred() == [3, 3]
    assert system.control.nb_frames_acquired == 6


def test_what_prepare_promises_is_true_when_it_returns(system):
    system.acquire(system.acquisition({"acq.nb_frames": 4}))

    run = system.prepare(system.acquisition({"acq.nb_frames": 5}))

    assert system.states() == [PREPARED, PREPARED, PREPARED]
    assert system.control.nb_frames_acquired == 0
    assert system.xferred() == [0, 0]
    for index, receiver in enumerate(system.receivers):
        assert receiver.last_error == NO_ERROR
        assert receiver.pipelines[-1] == run.acq_id
        assert receiver.current_pipeline == run.acq_id
        assert receiver.recv_rank == index
    for device in run.devices:
        device.ping()
        assert device.is_finished is False
        assert device.last_error == NO_ERROR
        assert set(json.loads(device.progress_counters).values()) == {0}
        newest = json.loads(device.last_frames)
        assert newest == {"source_idx": -1, "input_idx": -1, "processed_idx": -1}
        assert json.loads(device.processed_frame_info) == {
            "nb_channels": 1,
            "dimensions": {"x": 48, "y": 32},
            "pixel_type": "gray8",
        }
    assert [records.size for records in run.pop_all("popRoiStatistics")] == [0, 0]


def test_counters_of_the_last_run_stay_until_the_next_prepare(system):
    system.acquire(system.acquisition({"acq.nb_frames": 7}))
    system.stop()

    assert system.xferred() == [4, 3]
    assert system.control.nb_frames_acquired == 7


def test_all_devices_may_be_prepared_and_started_at_the_same_time(system):
    system.write(system.acquisition({"acq.nb_frames": 30}), system.processing())
    acq_id = str(uuid.uuid1())

    def prepare(device, acq_id):
        device.Prepare(acq_id)

    with ThreadPoolExecutor(3) as pool:
        for _ in range(2):  # the second command waits until the first has answered everywhere
            list(pool.map(prepare, system.devices, [acq_id] * 3))
            run = system.run(acq_id)
            list(pool.map(lambda device: device.Start(), system.devices))
            system.finish(run)
            acq_id = str(uuid.uuid1())

            assert system.xferred() == [15, 15]


@pytest.mark.parametrize("first", ["control", "receivers"])
def test_a_device_that_is_started_late_loses_no_frame(system, first):
    run = system.prepare(system.acquisition({"acq.nb_frames": 40}))
    late = [system.control] if first == "receivers" else system.receivers
    for device in [device for device in system.devices if device not in late]:
        device.Start()
    if first == "control":
        wait_until(lambda: system.control.nb_frames_acquired == 40, "all frames exposed")

    for device in late:
        device.Start()
    system.finish(run)

    assert system.xferred() == [20, 20]
    assert [run.image(0, 0).max(), run.image(1, 1).max()] == [100, 110]


def times_of_a_short_one(system, acquisition):
    """When each receiver was asked to prepare, had answered, and was seen at rest again."""
    system.write(acquisition, system.processing())
    acq_id = str(uuid.uuid1())
    system.control.Prepare(acq_id)
    asked_s, prepared_s, idle_s = [], [], [0.0, 0.0]
    for receiver in system.receivers:
        asked_s.append(time.monotonic())
        receiver.Prepare(acq_id)
        prepared_s.append(time.monotonic())
    run = system.run(acq_id)
    system.start()

    def at_rest():
        for number, receiver in enumerate(system.receivers):
            if not idle_s[number] and receiver.acq_state == IDLE:
                idle_s[number] = time.monotonic()
        return all(idle_s)

    wait_until(at_rest, "both at rest")
    run.wait_finished()
    system.control.Close()
    return asked_s, prepared_s, idle_s


@pytest.mark.parametrize("nb_frames", [1, 2])
def test_a_short_acquisition_stays_visible_for_150_ms_and_not_much_longer(system, nb_frames):
    acquisition = system.acquisition({"acq.nb_frames": nb_frames})
    for _ in range(20):
        asked_s, prepared_s, idle_s = times_of_a_short_one(system, acquisition)
        for seen_s, earliest_s in zip(idle_s, asked_s, strict=True):
            assert seen_s - earliest_s > DWELL_S
        took_s = max(after - before for before, after in zip(asked_s, prepared_s, strict=True))
        visible_s = [seen - began for seen, began in zip(idle_s, prepared_s, strict=True)]
        if took_s < DWELL_S / 2 and max(visible_s) < 0.4:
            assert min(visible_s) > DWELL_S / 2
            return
    raise AssertionError("visible for too long each time, or never measured well")


def test_each_receiver_becomes_idle_exactly_once_in_each_acquisition(system):
    system.reset()
    changes = [Events(rcv, "acq_state", tango.EventType.CHANGE_EVENT) for rcv in system.receivers]
    for events in changes:
        events.wait(1)  # the state when the subscription was made

    for nb_frames in (1, 2, 9):
        system.acquire(system.acquisition({"acq.nb_frames": nb_frames}))
    for events in changes:
        events.wait_last(IDLE, *[PREPARED, RUNNING, IDLE] * 3)
        events.close()


def test_preparing_again_does_not_pass_through_idle(system):
    system.reset()
    changes = [Events(dev, "acq_state", tango.EventType.CHANGE_EVENT) for dev in system.devices]
    system.prepare()
    for events in changes:
        events.wait_last(IDLE, PREPARED)
    run = system.prepare()
    system.start()
    system.finish(run)
    for events in changes:
        events.wait_last(IDLE, PREPARED, RUNNING, IDLE)
        events.close()


# -- refusals ------------------------------------------------------------------------------------


def test_a_failed_prepare_changes_no_state_and_leaves_receivers_preparable(system, failing):
    system.reset()
    control, receivers = system.control, system.receivers
    system.write(system.acquisition({"acq.nb_frames": 4}), failing(failed_on_prepare=True))

    control.Prepare(str(uuid.uuid1()))
    for receiver in receivers:
        with pytest.raises(tango.DevFailed):
            receiver.Prepare(str(uuid.uuid1()))
    after = system.states()
    pipelines = [list(receiver.pipelines or ()) for receiver in receivers]
    run = system.acquire(system.acquisition({"acq.nb_frames": 4}), failing())

    assert after == [PREPARED, IDLE, IDLE]
    assert pipelines == [[], []]
    assert [counters["nb_frames_source"] for counters in run.counters()] == [2, 2]


def test_a_failed_second_prepare_leaves_the_first_one_as_it_was(system, failing):
    run = system.prepare(system.acquisition({"acq.nb_frames": 4}))
    for receiver in system.receivers:
        receiver.proc_params = json.dumps(failing(failed_on_prepare=True))
        with pytest.raises(tango.DevFailed):
            receiver.Prepare(str(uuid.uuid1()))

    states = system.states()
    system.start()
    system.finish(run)

    assert states == [PREPARED, PREPARED, PREPARED]
    assert system.xferred() == [2, 2]


@pytest.mark.parametrize("command", ["Prepare", "Start"])
def test_what_does_not_fit_a_running_acquisition_is_refused(system, command):
    system.prepare(system.acquisition(ENDLESS))
    system.start()

    for device in system.devices:
        with pytest.raises(tango.DevFailed, match="RUNNING"):
            device.command_inout(command, *([str(uuid.uuid1())] if command == "Prepare" else []))

    assert system.states() == [RUNNING, RUNNING, RUNNING]


@pytest.mark.parametrize("command", ["Start", "Trigger"])
def test_start_and_trigger_are_refused_at_rest(system, command):
    system.reset()
    devices = system.devices if command == "Start" else [system.control]

    for device in devices:
        with pytest.raises(tango.DevFailed, match="IDLE"):
            device.command_inout(command)

    assert system.states() == [IDLE, IDLE, IDLE]


def test_a_fault_needs_a_reset_before_the_next_prepare(system, failing):
    system.prepare(system.acquisition({"acq.nb_frames": 2}), failing(failed_on_activate=True))
    system.start()
    with pytest.raises(tango.DevFailed, match="FAULT"):
        system.receivers[0].Prepare(str(uuid.uuid1()))

    system.stop()
    before = system.states()
    system.reset()
    after = system.states()
    system.acquire(system.acquisition({"acq.nb_frames": 2}))

    assert before == [STOPPED, FAULT, FAULT]
    assert after == [IDLE, IDLE, IDLE]
    assert system.xferred() == [1, 1]


# -- stop, close, reset --------------------------------------------------------------------------


def test_stop_and_close_are_harmless_at_any_time(system):
    system.reset()
    system.stop()
    at_rest = system.states()
    system.control.Close()
    system.prepare(system.acquisition(ENDLESS))
    system.stop()
    prepared = system.states()
    system.start()
    system.stop()
    system.stop()
    system.wait_receivers(IDLE)
    stopped = system.states()
    system.control.Close()
    system.control.Close()

    assert at_rest == [IDLE, IDLE, IDLE]
    assert prepared == [PREPARED, PREPARED, PREPARED]
    assert stopped == [STOPPED, IDLE, IDLE]
    assert system.states() == [IDLE, IDLE, IDLE]


def test_control_can_be_prepared_after_a_stop_without_close(system):
    system.prepare(system.acquisition(ENDLESS))
    system.start()
    system.stop()
    system.wait_receivers(IDLE)

    system.acquire(system.acquisition({"acq.nb_frames": 2}))

    assert system.xferred() == [1, 1]


@pytest.mark.parametrize("state", ["idle", "prepared", "running", "stopped"])
def test_reset_leads_to_idle_from_everywhere(system, state):
    if state != "idle":
        system.prepare(system.acquisition(ENDLESS))
    if state in ("running", "stopped"):
        system.start()
    if state == "stopped":
        system.stop()

    system.reset()

    assert system.states() == [IDLE, IDLE, IDLE]
    assert [receiver.last_error for receiver in system.receivers] == [NO_ERROR, NO_ERROR]
    system.acquire(system.acquisition({"acq.nb_frames": 2}))
    assert system.xferred() == [1, 1]


def test_a_stop_ends_an_endless_acquisition_with_counts_that_differ_by_one_at_most(system):
    run = system.prepare(system.acquisition({"acq.nb_frames": 0, "acq.expo_time": 700}))
    system.start()
    wait_until(lambda: sum(system.xferred()) > 50, "some frames")

    asked_s = time.monotonic()
    system.stop()
    took_s = time.monotonic() - asked_s
    system.finish(run)
    first, second = system.xferred()

    assert took_s < 3  # clients take who does not answer for 3 s for dead
    assert first - second in (0, 1)
    assert system.control.nb_frames_acquired == first + second
    for counters, received in zip(run.counters(), (first, second), strict=True):
        assert counters["nb_frames_processed"] == received


def test_a_stop_before_the_first_frame_ends_with_none(system):
    run = system.prepare(system.acquisition({"acq.trigger_mode": "software", "acq.nb_frames": 9}))
    system.start()
    system.stop()
    system.finish(run)

    assert system.states() == [IDLE, IDLE, IDLE]
    assert system.xferred() == [0, 0]
    assert [events.seen for events in run.finished] == [[None], [None]]


# -- triggers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("nb_frames", [10, 27])
def test_as_many_triggers_back_to_back_give_as_many_frames(system, nb_frames):
    changes = {"acq.trigger_mode": "software", "acq.nb_frames": nb_frames, "acq.expo_time": 5000}
    run = system.prepare(system.acquisition(changes))
    system.start()
    for _ in range(nb_frames):
        system.control.Trigger()
    system.finish(run)

    assert system.xferred() == [(nb_frames + 1) // 2, nb_frames // 2]


def test_a_trigger_gives_as_many_frames_as_asked(system):
    changes = {
        "acq.trigger_mode": "software",
        "acq.nb_frames": 12,
        "acq.nb_frames_per_trigger": 4,
    }
    run = system.prepare(system.acquisition(changes))
    system.start()
    counts = []
    for number in range(1, 4):
        system.control.Trigger()
        wait_until(lambda n=4 * number: sum(system.xferred()) == n, f"{4 * number} frames")
        counts.append(system.control.nb_frames_acquired)
    system.finish(run)

    assert counts == [4, 8, 12]


def test_a_frame_counts_as_acquired_when_its_exposure_has_ended(system):
    changes = {"acq.trigger_mode": "software", "acq.nb_frames": 20, "acq.expo_time": 300_000}
    run = system.prepare(system.acquisition(changes))
    system.start()
    for number in range(1, 21):
        triggered_s = time.monotonic()
        system.control.Trigger()
        wait_until(lambda n=number: system.control.nb_frames_acquired == n, "its end")
        took_s = time.monotonic() - triggered_s
        assert took_s >= 0.3
        wait_until(lambda n=number: sum(system.xferred()) == n, "the frame")
        if took_s < 0.6:
            break
    system.stop()
    system.finish(run)

    assert took_s < 0.6, "it counts too late each time"


def test_a_software_trigger_returns_at_once_and_waits_for_its_turn(system):
    changes = {"acq.trigger_mode": "software", "acq.nb_frames": 3, "acq.expo_time": 100_000}
    for _ in range(20):
        run = system.prepare(system.acquisition(changes))
        system.start()
        began_s = time.monotonic()
        for _ in range(3):
            system.control.Trigger()
        triggered_s = time.monotonic() - began_s
        system.finish(run)
        ended_s = run.finished[0].wait() - began_s
        assert ended_s > 0.3
        assert system.xferred() == [2, 1]
        if triggered_s < 0.1:
            break

    assert triggered_s < 0.1, "no trigger returned at once"


def test_triggers_beyond_the_last_frame_are_ignored(system):
    changes = {"acq.trigger_mode": "software", "acq.nb_frames": 2}
    run = system.prepare(system.acquisition(changes))
    system.start()
    for _ in range(5):
        system.control.Trigger()
    system.finish(run)

    assert system.xferred() == [1, 1]


def test_a_software_trigger_is_refused_in_another_mode(system):
    system.prepare(system.acquisition(ENDLESS))
    system.start()

    with pytest.raises(tango.DevFailed, match=r"trigger_mode software; it is internal"):
        system.control.Trigger()


# -- failures ------------------------------------------------------------------------------------


def test_a_pipeline_that_is_not_activated_faults_receivers_while_start_succeeds(system, failing):
    run = system.prepare(system.acquisition(ENDLESS), failing(failed_on_activate=True))
    system.start()
    system.wait_receivers(FAULT)
    system.stop()
    states = system.states()
    errors = [json.loads(receiver.last_error) for receiver in system.receivers]
    system.reset()

    assert states == [STOPPED, FAULT, FAULT]
    assert [error["what"] for error in errors] == ["activation was to fail"] * 2
    assert [events.seen for events in run.finished] == [[], []]


def test_a_failing_frame_faults_its_receiver_and_the_others_just_stop(system, failing):
    run = system.prepare(system.acquisition(ENDLESS), failing(failed_frame_idx=10))
    system.start()
    run.failed[0].wait(1)
    error = json.loads(run.devices[0].last_error)
    wait_until(lambda: system.receivers[0].acq_state == FAULT, "the receiver in fault")
    system.stop()
    run.wait_finished()
    wait_until(lambda: system.receivers[1].acq_state == IDLE, "the other receiver idle")
    states = system.states()
    on_receiver = json.loads(system.receivers[0].last_error)
    system.reset()

    assert "frame 10" in error["what"]
    assert "frame 10" in on_receiver["what"]
    assert states == [STOPPED, FAULT, IDLE]
    assert [events.seen for events in run.finished] == [[None], [None]]
    assert [len(events.seen) for events in run.failed] == [1, 0]
    assert [receiver.last_error for receiver in system.receivers] == [NO_ERROR, NO_ERROR]


def test_last_error_is_there_before_the_state_is_fault(system, failing):
    receiver = system.receivers[1]
    found = []

    def note(event):
        if not event.err and event.attr_value.value == FAULT:
            found.append(receiver.last_error)

    identity = receiver.subscribe_event("acq_state", tango.EventType.CHANGE_EVENT, note)
    system.prepare(system.acquisition(ENDLESS), failing(failed_on_activate=True))
    system.start()
    # That of an earlier test may be told as late as now.
    wait_until(lambda: [text for text in found if "activation was to fail" in text], "the fault")
    receiver.unsubscribe_event(identity)


def test_a_failing_detector_faults_the_receiver_of_that_frame(system):
    run = system.prepare(system.acquisition({"acq.nb_frames": 20, "det.failed_frame_idx": 7}))
    system.start()
    wait_until(lambda: system.receivers[1].acq_state == FAULT, "the receiver of frame 7 in fault")
    run.finished[1].wait()
    error = json.loads(system.receivers[1].last_error)
    system.stop()
    run.wait_finished()
    wait_until(lambda: system.receivers[0].acq_state == IDLE, "the other receiver idle")
    states = system.states()
    received = system.xferred()
    system.reset()
    system.acquire(system.acquisition({"acq.nb_frames": 4}))

    assert "frame 7" in error["what"]
    assert states[1:] == [IDLE, FAULT]
    assert received[1] == 3
    assert system.xferred() == [2, 2]


@pytest.mark.parametrize(
    ("which", "name", "value"),
    [("control", "receiver_topology", "ring"), ("receiver", "runs_kept", "-1")],
)
def test_init_with_a_wrong_property_is_a_fault_that_says_what_to_mend(system, which, name, value):
    device = system.control if which == "control" else system.receivers[1]
    before = system.database.get_device_property(device.dev_name(), name)[name]

    system.database.put_device_property(device.dev_name(), {name: value})
    try:
        device.Init()
        device.Init()
        states = device.state(), device.acq_state
        status, error = device.status(), json.loads(device.last_error)
    finally:
        if list(before):
            system.database.put_device_property(device.dev_name(), {name: list(before)})
        else:
            system.database.delete_device_property(device.dev_name(), name)
    device.Init()

    assert states == (tango.DevState.FAULT, FAULT)
    assert f"properties.{name}: " in status
    assert value in status
    assert error["errinfo"]["path"] == f"properties.{name}"
    assert system.states() == [IDLE, IDLE, IDLE]
    system.acquire(system.acquisition({"acq.nb_frames": 6}))
    assert system.xferred() == [3, 3]


@pytest.mark.parametrize("which", ["control", "receiver"])
def test_init_gives_a_fresh_device_that_works_with_the_others(system, which):
    old = system.acquire(system.acquisition({"acq.nb_frames": 4}))
    device = system.control if which == "control" else system.receivers[1]

    device.Init()
    states = system.states()
    pipelines = [list(receiver.pipelines or ()) for receiver in system.receivers]
    system.acquire(system.acquisition({"acq.nb_frames": 6}))

    assert states == [IDLE, IDLE, IDLE]
    assert pipelines == ([[old.acq_id]] * 2 if which == "control" else [[old.acq_id], []])
    assert system.xferred() == [3, 3]
