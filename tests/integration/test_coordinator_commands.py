"""Every command answers in time, and names who is to blame."""

import pytest

from lima2_core.errors import (
    CameraError,
    Lima2Error,
    ParamError,
    StateError,
)
from lima2_core.ids import AcqId
from lima2_core.state.system import Phase
from lima2_core.system import coordinator
from lima2_core.system.ports import UnreachableError
from lima2_core.testing.doubles import eventually
from lima2_core.testing.system_script import SUMS, describe, order
from tests.integration.coordinated import (
    ENDED,
    FAULT,
    IDLE,
    RUNNING,
    Scripted,
    Timer,
    comes_to,
    works,
)

SYSTEM = Scripted
ANSWER_S = 3.0
"""Every command has answered by then, whatever the parts do."""


# Prepare that fails


def test_a_refusal_names_receiver_and_parameter_and_the_others_are_given_back(system):
    willing, unwilling = system.receivers
    unwilling.manners.errors["prepare"] = ParamError(
        "the folder does not exist", path="saving.base_path"
    )

    with pytest.raises(ParamError, match=r"r1: saving\.base_path: the folder") as refused:
        system.prepare(order(4))

    assert refused.value.path == "saving.base_path"
    assert system.state is IDLE
    assert system.coordinator.last_error is refused.value
    assert eventually(lambda: willing.run.closed)
    assert eventually(lambda: willing.run.status.finished)
    assert eventually(lambda: system.control.state is IDLE)
    unwilling.manners.errors.clear()
    assert works(system)


def test_a_detector_that_refuses_is_named(system):
    system.control.manners.errors["prepare"] = CameraError("the high voltage is off")

    with pytest.raises(CameraError, match="control: the high voltage is off"):
        system.prepare(order(4))

    assert eventually(lambda: all(r.run.status.finished for r in system.receivers))
    system.control.manners.errors.clear()
    assert works(system)


def test_all_refusals_are_told(system):
    for number, receiver in enumerate(system.receivers):
        receiver.manners.errors["prepare"] = ParamError(f"no {number}", path="saving.base_path")

    with pytest.raises(ParamError, match=r"r0: saving\.base_path: no 0; r1: .*_path: no 1"):
        system.prepare(order(4))


@pytest.mark.parametrize(("part", "call"), [("r1", "prepare"), ("control", "status")])
def test_who_does_not_answer_a_prepare_is_named_in_time(system, part, call, monkeypatch):
    # Nearly as long as a command may take: a computer that stands still would make it longer.
    assert coordinator.PREPARE_S < coordinator.ANSWER_S < ANSWER_S
    monkeypatch.setattr(coordinator, "PREPARE_S", 1.0)
    guilty = system.control if part == "control" else system.receivers[1]
    guilty.manners.hangs_s[call] = 20.0

    with Timer() as timer, pytest.raises(UnreachableError, match=f"{part} did not answer"):
        system.prepare(order(4))

    assert timer.took_s < ANSWER_S
    assert system.state is IDLE
    guilty.manners.hangs_s.clear()
    guilty.manners.let_go()
    assert eventually(lambda: works(system))


def test_an_error_that_is_none_of_ours_is_told_as_one(system):
    system.receivers[0].manners.errors["prepare"] = KeyError("unexpected")

    with pytest.raises(Lima2Error, match="r0: 'unexpected'"):
        system.prepare(order(4))

    system.receivers[0].manners.errors.clear()
    assert works(system)


def test_receivers_that_do_not_fit_together_are_given_back(system):
    good = system.receivers[1].description
    system.receivers[1].description = describe(streams={SUMS: 1})

    with pytest.raises(ParamError, match="another pipeline"):
        system.prepare(order(4))

    assert system.state is IDLE
    assert eventually(lambda: all(r.run.status.finished and r.run.closed for r in system.receivers))
    system.receivers[1].description = good
    assert works(system)


def test_a_refused_prepare_leaves_nothing_prepared(system):
    first = system.prepare(order(4))
    system.receivers[1].manners.errors["prepare"] = ParamError("no", path="fifo")

    with pytest.raises(ParamError):
        system.prepare(order(4))

    assert (first.phase, system.state) == (Phase.DISCARDED, IDLE)
    with pytest.raises(StateError):
        system.coordinator.start()
    assert system.state is IDLE
    system.receivers[1].manners.errors.clear()
    assert works(system)


def test_the_last_prepare_counts(system):
    first = system.prepare(order(4))
    second = system.prepare(order(4))

    assert (first.phase, second.phase) == (Phase.DISCARDED, Phase.PREPARED)
    assert system.coordinator.current is second
    assert eventually(lambda: first.acq_id in system.receivers[0].erased)
    assert works(system)


def test_an_id_is_used_once(system):
    acq_id = AcqId("0b3e")
    run = system.coordinator.prepare(order(4), acq_id)

    with pytest.raises(ParamError, match="not used before") as refused:
        system.coordinator.prepare(order(4), acq_id)

    assert refused.value.path == "uuid"
    assert run.phase is Phase.PREPARED  # and it can be started


def test_a_run_that_another_client_replaced_cannot_be_started(system):
    run = system.prepare(order(4))
    system.receivers[1].run.change(state="discarded", finished=True)

    assert comes_to(run, Phase.DISCARDED)
    assert system.state is FAULT
    assert "another client" in str(system.coordinator.last_error)
    with pytest.raises(StateError):
        system.coordinator.start()
    assert works(system)


@pytest.mark.parametrize("part", ["r1", "control"])
def test_an_acquisition_of_another_client_is_not_disturbed(system, part):
    busy = system.control if part == "control" else system.receivers[1]
    busy.state = RUNNING

    with pytest.raises(StateError, match=f"{part} is busy with an acquisition of another"):
        system.prepare(order(4))

    assert "reset" not in busy.manners.calls
    busy.state = IDLE
    assert works(system)


# Start that fails


@pytest.mark.parametrize("part", ["r1", "control"])
@pytest.mark.parametrize("how", ["refuses", "hangs", "dead"])
def test_a_start_that_fails_leaves_a_fault_with_its_cause(system, part, how):
    guilty = system.control if part == "control" else system.receivers[1]
    run = system.prepare(order(4))
    if how == "refuses":
        guilty.manners.errors["start"] = CameraError("the shutter is stuck")
    elif how == "hangs":
        guilty.manners.hangs_s["start"] = 20.0
    else:
        # Not before: one that is only prepared is given up without a start.
        guilty.manners.dies_at = "start"

    with Timer() as timer, pytest.raises(Lima2Error, match=part):
        system.coordinator.start()

    assert timer.took_s < ANSWER_S
    assert system.state is FAULT
    assert part in str(system.coordinator.last_error)
    if how != "refuses":
        guilty.manners.let_go()
    assert comes_to(run, Phase.INCOMPLETE)
    assert run.ledger.summary().adds_up
    assert part in run.verdict()
    guilty.manners.hangs_s.clear()
    guilty.manners.errors.clear()
    guilty.manners.dies_at = ""
    guilty.manners.dead = False
    assert works(system)


def test_without_a_prepare_there_is_nothing_to_start(system):
    with pytest.raises(StateError, match="PREPARED"):
        system.coordinator.start()


# Stop and reset that hang


@pytest.mark.parametrize(
    ("parts", "command"),
    [(["r1"], "stop"), (["r0", "r1", "control"], "stop"), (["r0", "r1", "control"], "reset")],
)
def test_nobody_waits_for_those_who_do_not_stop(system, parts, command):
    guilty = [p for p in (system.control, *system.receivers) if p.name in parts]
    run = system.begin(order(4))
    for part in guilty:
        part.manners.hangs_s[command] = 20.0

    with Timer() as timer:
        getattr(system.coordinator, command)()

    assert timer.took_s < ANSWER_S
    for part in guilty:
        part.manners.hangs_s.clear()
        part.manners.dead = True  # as a process that was stopped, and is killed
        part.manners.let_go()
    assert comes_to(run, *ENDED)
    assert system.state in (IDLE, FAULT)
    for part in guilty:
        part.manners.dead = False
    assert works(system)


@pytest.mark.parametrize("state", ["idle", "prepared", "running", "fault"])
def test_a_reset_leads_to_rest_from_everywhere(system, state):
    run = None
    if state == "prepared":
        run = system.prepare(order(4))
    elif state != "idle":
        run = system.begin(order(4))
    if state == "fault":
        system.control.fail("too hot")
        assert eventually(lambda: system.state is FAULT)

    system.coordinator.reset()

    assert system.state is IDLE
    assert system.coordinator.last_error is None
    assert run is None or comes_to(run, *ENDED, Phase.DISCARDED)
    assert works(system)
