"""Every (state, event) pair of every life cycle, compared with contract 01, section 6.3.

The expectations are written out here, one line for each state, so that a change of a table has to
be made twice. `no` stands for a refused event.
"""

import itertools

import pytest

from lima2_core.errors import StateError
from lima2_core.state import control, receiver, run
from lima2_core.state.device import AcqState
from lima2_core.state.machine import Machine, Step

IDLE, PREPARED, RUNNING, STOPPED, FAULT, TERMINATE = AcqState
no = None


def row(state, cells):
    """One line of a table as ((state, event name), expectation)."""
    return {(state, name): cell for name, cell in cells.items()}


def to(state, *effects):
    return state, list(effects)


C = control.Effect
CONTROL = {
    **row(
        IDLE,
        {
            "PREPARED": to(PREPARED),
            "START": no,
            "TRIGGER": no,
            "STOP": to(IDLE),
            "CLOSE": to(IDLE, C.CLOSE),
            "RESET": to(IDLE, C.CLOSE),
            "FAILED": no,
            "TERMINATE": to(TERMINATE, C.STOP, C.CLOSE),
        },
    ),
    **row(
        PREPARED,
        {
            "PREPARED": to(PREPARED),
            "START": to(RUNNING, C.START),
            "TRIGGER": no,
            "STOP": to(PREPARED),
            "CLOSE": to(IDLE, C.CLOSE),
            "RESET": to(IDLE, C.CLOSE),
            "FAILED": no,
            "TERMINATE": to(TERMINATE, C.STOP, C.CLOSE),
        },
    ),
    **row(
        RUNNING,
        {
            "PREPARED": no,
            "START": no,
            "TRIGGER": to(RUNNING, C.TRIGGER),
            "STOP": to(STOPPED, C.STOP),
            "CLOSE": to(IDLE, C.STOP, C.CLOSE),
            "RESET": to(IDLE, C.STOP, C.CLOSE),
            "FAILED": to(FAULT, C.STOP),
            "TERMINATE": to(TERMINATE, C.STOP, C.CLOSE),
        },
    ),
    **row(
        STOPPED,
        {
            "PREPARED": to(PREPARED),
            "START": no,
            "TRIGGER": no,
            "STOP": to(STOPPED),
            "CLOSE": to(IDLE, C.CLOSE),
            "RESET": to(IDLE, C.CLOSE),
            "FAILED": to(FAULT),
            "TERMINATE": to(TERMINATE, C.STOP, C.CLOSE),
        },
    ),
    **row(
        FAULT,
        {
            "PREPARED": no,
            "START": no,
            "TRIGGER": no,
            "STOP": to(FAULT, C.STOP),
            "CLOSE": to(FAULT, C.CLOSE),
            "RESET": to(IDLE, C.CLOSE),
            "FAILED": no,
            "TERMINATE": to(TERMINATE, C.STOP, C.CLOSE),
        },
    ),
    **row(
        TERMINATE,
        {
            "PREPARED": no,
            "START": no,
            "TRIGGER": no,
            "STOP": no,
            "CLOSE": no,
            "RESET": no,
            "FAILED": no,
            "TERMINATE": to(TERMINATE, C.STOP, C.CLOSE),
        },
    ),
}

R = receiver.Effect
RECEIVER = {
    **row(
        IDLE,
        {
            "PREPARED": to(PREPARED),
            "START": no,
            "STOP": to(IDLE),
            "ENDED": to(IDLE),
            "FAILED": to(IDLE),
            "RESET": to(IDLE),
            "TERMINATE": to(TERMINATE, R.DISCARD),
        },
    ),
    **row(
        PREPARED,
        {
            "PREPARED": to(PREPARED, R.DISCARD),
            "START": to(RUNNING, R.START_RUN),
            "STOP": to(PREPARED),
            "ENDED": to(PREPARED),
            "FAILED": to(PREPARED),
            "RESET": to(IDLE, R.DISCARD),
            "TERMINATE": to(TERMINATE, R.DISCARD),
        },
    ),
    **row(
        RUNNING,
        {
            "PREPARED": no,
            "START": no,
            "STOP": to(RUNNING, R.INTERRUPT),
            "ENDED": to(IDLE),
            "FAILED": to(FAULT, R.INTERRUPT),
            "RESET": to(IDLE, R.DISCARD),
            "TERMINATE": to(TERMINATE, R.DISCARD),
        },
    ),
    # A receiver is never STOPPED: it is RUNNING until its loop has ended, and IDLE afterwards.
    **row(
        STOPPED,
        {
            "PREPARED": no,
            "START": no,
            "STOP": no,
            "ENDED": no,
            "FAILED": no,
            "RESET": no,
            "TERMINATE": to(TERMINATE, R.DISCARD),
        },
    ),
    **row(
        FAULT,
        {
            "PREPARED": no,
            "START": no,
            "STOP": to(FAULT, R.INTERRUPT),
            "ENDED": to(FAULT),
            "FAILED": to(FAULT),
            "RESET": to(IDLE, R.DISCARD),
            "TERMINATE": to(TERMINATE, R.DISCARD),
        },
    ),
    **row(
        TERMINATE,
        {
            "PREPARED": no,
            "START": no,
            "STOP": no,
            "ENDED": to(TERMINATE),
            "FAILED": to(TERMINATE),
            "RESET": no,
            "TERMINATE": to(TERMINATE, R.DISCARD),
        },
    ),
}

S = run.RunState
NOTHING = {
    "START": no,
    "NOT_ACTIVATED": no,
    "ACQUIRED": no,
    "PROCESSED": no,
    "PROCESSED_WITH_ERROR": no,
    "DISCARD": no,
}
RUN = {
    **row(
        S.PREPARED,
        {
            **NOTHING,
            "START": to(S.RUNNING),
            "NOT_ACTIVATED": to(S.FAILED),
            "DISCARD": to(S.DISCARDED),
        },
    ),
    **row(S.RUNNING, {**NOTHING, "ACQUIRED": to(S.DRAINING)}),
    **row(
        S.DRAINING,
        {**NOTHING, "PROCESSED": to(S.DONE), "PROCESSED_WITH_ERROR": to(S.FAILED)},
    ),
    **row(S.DONE, NOTHING),
    **row(S.FAILED, NOTHING),
    **row(S.DISCARDED, NOTHING),
}

LIFE_CYCLES = {
    "control": (control, AcqState, CONTROL),
    "receiver": (receiver, AcqState, RECEIVER),
    "run": (run, S, RUN),
}
PAIRS = [
    pytest.param(name, state, event, id=f"{name}-{state.name}-{event.name}")
    for name, (module, states, _) in LIFE_CYCLES.items()
    for state, event in itertools.product(states, module.Event)
]


@pytest.mark.parametrize(("name", "state", "event"), PAIRS)
def test_a_state_and_an_event_lead_where_they_should(name, state, event):
    module, _, expectations = LIFE_CYCLES[name]
    expected = expectations[state, event.name]
    machine = Machine(state, module.TABLE, name)

    if expected is no:
        assert not machine.allows(event)
        with pytest.raises(StateError, match=state.name):
            machine.feed(event)
        assert machine.state is state
        assert machine.history == ()
    else:
        assert machine.allows(event)
        effects = machine.feed(event)
        assert (machine.state, list(effects)) == expected
        assert machine.history == (Step(state, event, expected[0]),)


@pytest.mark.parametrize("name", LIFE_CYCLES)
def test_every_pair_is_expected_to_do_something_and_no_other(name):
    module, states, expectations = LIFE_CYCLES[name]

    pairs = {(state, event.name) for state, event in itertools.product(states, module.Event)}

    assert set(expectations) == pairs
    assert {pair for pair, cell in expectations.items() if cell is not no} == {
        (state, event.name) for state, event in module.TABLE
    }


def test_states_have_the_numbers_of_the_wire():
    assert {state.name: state.value for state in AcqState} == {
        "IDLE": 0,
        "PREPARED": 1,
        "RUNNING": 2,
        "STOPPED": 3,
        "FAULT": 4,
        "TERMINATE": 5,
    }


@pytest.mark.parametrize(
    ("machine", "first"),
    [
        (control.control_machine(), IDLE),
        (receiver.receiver_machine(), IDLE),
        (run.run_machine("a"), S.PREPARED),
    ],
)
def test_machines_begin_at_rest(machine, first):
    assert machine.state is first


def test_a_refusal_tells_what_was_tried_where_and_what_it_needs():
    machine = control.control_machine("c0")
    machine.feed(control.Event.PREPARED)
    machine.feed(control.Event.START)

    with pytest.raises(StateError) as caught:
        machine.require(control.Event.PREPARED, "Prepare")

    assert caught.value.message == (
        "Prepare is not possible in state RUNNING; it needs IDLE or PREPARED or STOPPED"
    )
    assert caught.value.details == {
        "state": "RUNNING",
        "history": "PREPARED>PREPARED, START>RUNNING",
    }


def test_the_last_transitions_are_remembered_and_no_more():
    machine = control.control_machine()

    for _ in range(20):
        machine.feed(control.Event.STOP)

    assert len(machine.history) == 16
