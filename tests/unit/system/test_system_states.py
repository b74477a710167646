"""Every (state, event) pair of a system, and every (phase, event) pair of its runs.

The expectations are written out here, so that a change of a table has to be made twice.
"""

import itertools

import pytest

from lima2_core.errors import StateError
from lima2_core.state.device import AcqState
from lima2_core.state.machine import Machine
from lima2_core.state.system import (
    ENDED,
    PHASES,
    TABLE,
    Effect,
    Event,
    Phase,
    PhaseEvent,
    phase_machine,
    system_machine,
)

IDLE, PREPARED, RUNNING, STOPPED, FAULT, TERMINATE = AcqState
DISCARD, START, STOP = Effect
no = None


def to(state, *effects):
    return state, list(effects)


SYSTEM = {
    #           PREPARED      START                ENDED          FAILED
    IDLE: (to(PREPARED), no, to(IDLE), to(IDLE)),
    PREPARED: (to(PREPARED), to(RUNNING, START), to(PREPARED), to(FAULT, DISCARD)),
    RUNNING: (no, no, to(IDLE), to(FAULT, STOP)),
    # A system is never STOPPED: it is RUNNING until no receiver takes frames any more.
    STOPPED: (no, no, to(STOPPED), to(STOPPED)),
    FAULT: (to(PREPARED), no, to(FAULT), to(FAULT)),
    TERMINATE: (no, no, to(TERMINATE), to(TERMINATE)),
}
COMMANDS = {
    #           STOP               RESET               TERMINATE
    IDLE: (to(IDLE), to(IDLE), to(TERMINATE)),
    PREPARED: (to(PREPARED), to(IDLE, DISCARD), to(TERMINATE, DISCARD)),
    RUNNING: (to(RUNNING, STOP), to(IDLE, STOP), to(TERMINATE, STOP)),
    STOPPED: (to(STOPPED), no, to(TERMINATE)),
    FAULT: (to(FAULT), to(IDLE), to(TERMINATE)),
    TERMINATE: (to(TERMINATE), no, to(TERMINATE)),
}
HAPPENINGS = (Event.PREPARED, Event.START, Event.ENDED, Event.FAILED)
EXPECTED = {
    (state, event): cell
    for events, table in (
        (HAPPENINGS, SYSTEM),
        ((Event.STOP, Event.RESET, Event.TERMINATE), COMMANDS),
    )
    for state, cells in table.items()
    for event, cell in zip(events, cells, strict=True)
}
RUNS = {
    (Phase.PREPARED, PhaseEvent.START): Phase.RUNNING,
    (Phase.PREPARED, PhaseEvent.DISCARD): Phase.DISCARDED,
    (Phase.RUNNING, PhaseEvent.ACQUIRED): Phase.DRAINING,
    (Phase.DRAINING, PhaseEvent.PROCESSED): Phase.ENDING,
    (Phase.ENDING, PhaseEvent.WRITTEN): Phase.DONE,
    (Phase.ENDING, PhaseEvent.WRITTEN_INCOMPLETE): Phase.INCOMPLETE,
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(AcqState, Event)))
def test_a_state_and_an_event_lead_where_they_should(state, event):
    expected = EXPECTED[state, event]
    machine = Machine(state, TABLE, "system")

    if expected is no:
        with pytest.raises(StateError, match=state.name):
            machine.feed(event)
        assert machine.state is state
    else:
        effects = machine.feed(event)
        assert (machine.state, list(effects)) == expected


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, PhaseEvent)))
def test_a_phase_and_an_event_lead_where_they_should(phase, event):
    machine = Machine(phase, PHASES, "run")

    if (phase, event) in RUNS:
        assert list(machine.feed(event)) == []
        assert machine.state is RUNS[phase, event]
    else:
        with pytest.raises(StateError):
            machine.feed(event)
        assert machine.state is phase


def test_every_pair_is_expected_to_do_something():
    assert set(EXPECTED) == set(itertools.product(AcqState, Event))


def test_nothing_follows_the_end():
    assert set(Phase) - {phase for phase, _ in PHASES} == ENDED
    assert {Phase.DONE, Phase.INCOMPLETE, Phase.DISCARDED} == ENDED
    assert {after for (state, _), (after, _) in TABLE.items() if state is TERMINATE} == {TERMINATE}


def test_machines_begin_at_rest():
    assert system_machine().state is IDLE
    assert phase_machine("a").state is Phase.PREPARED
