"""Receivers in another server as ports: orders, news, frames, errors."""

import uuid
import weakref

import numpy as np
import pytest
import tango

from lima2_core.data.rows import LEDGER
from lima2_core.errors import NotAvailableError, ParamError, StateError
from lima2_core.state.device import AcqState
from lima2_core.system.ports import RunOrder, UnreachableError
from tango_servers import ports
from tango_servers.errors import error_of
from tango_servers.news import MOST_LISTENERS
from tango_servers.ports import Line, TangoReceiver
from tests.tango.conftest import RECEIVERS
from tests.tango.devices import PATIENCE_S, wait_until

FRAMES = 12


@pytest.fixture
def port(tango_server):
    """The first receiver."""
    receiver = TangoReceiver(f"tango://{tango_server}/{RECEIVERS[0]}")
    yield receiver
    receiver.close()


@pytest.fixture
def order(system):
    """An order for one receiver of two."""

    def make(**changes):
        acquisition = system.acquisition({"acq.nb_frames": FRAMES, **changes})
        return RunOrder(str(uuid.uuid1()), acquisition, system.processing())

    return make


def start_control(system, order):
    system.write(dict(order.acquisition), dict(order.processing))
    system.control.Prepare(order.acq_id)
    system.control.Start()


def collect(run):
    """All news until the run is finished."""
    records = {}

    def finished():
        try:
            news = run.news()
        except UnreachableError:  # late; what it told is told again
            return None
        for name, new in news.records.items():
            records[name] = np.concatenate([records[name], new]) if name in records else new
        return news.status if news.status.finished else None

    return wait_until(finished, "the end of the run"), records


def test_a_run_is_prepared_started_and_told_of(system, port, order):
    asked = order()
    run = port.prepare(asked)
    prepared = port.status()
    port.start()
    start_control(system, asked)
    status, records = collect(run)

    assert (prepared.state, prepared.acq_id) == (AcqState.PREPARED, asked.acq_id)
    assert run.describe().input_spec.shape == (1, 32, 48)
    assert status.received == FRAMES // 2
    assert records[LEDGER]["frame_idx"].tolist() == list(range(0, FRAMES, 2))
    assert run.frame("frame", 4).data.shape == (1, 32, 48)
    assert run.frame("frame", -1, step=4).data.shape == (1, 8, 12)
    run.close()
    with pytest.raises(NotAvailableError, match="listener"):
        run.news()


def test_news_whose_answer_was_lost_are_told_again(system, port, order):
    asked = order()
    run = port.prepare(asked)
    port.start()
    start_control(system, asked)
    device = system.proxy(system.processing_name(asked.acq_id, 0))
    listener = device.openNews()

    first = device.readNews([listener, 1])
    again = device.readNews([listener, 1])
    device.readNews([listener, 2])

    assert first == again
    with pytest.raises(tango.DevFailed, match="number 3"):
        device.readNews([listener, 1])
    collect(run)


def test_listeners_that_nobody_serves_are_given_up(system, port, order):
    run = port.prepare(order())
    device = tango.DeviceProxy(run.device)
    run.news()

    listeners = [device.openNews() for _ in range(MOST_LISTENERS + 1)]

    with pytest.raises(NotAvailableError, match="not served"):
        run.news()
    device.readNews([listeners[-1], 1])
    with pytest.raises(tango.DevFailed, match="not served"):
        device.readNews([listeners[0], 1])


def test_refusals_have_the_class_that_they_had_there(system, port, order):
    with pytest.raises(ParamError, match=r"^acq\.nb_frames: ") as refused:
        port.prepare(order(**{"acq.nb_frames": -1}))
    assert refused.value.path == "acq.nb_frames"
    with pytest.raises(StateError, match="IDLE"):
        port.start()
    with pytest.raises(NotAvailableError, match="no run"):
        port.erase("nothing")


def test_nobody_there_is_told_from_no_such_device(tango_server):
    gone = TangoReceiver(f"tango://{tango_server}/id00/limareceiver/nobody")

    with pytest.raises(UnreachableError) as refused:
        gone.stop()

    assert refused.value.details["dead"]
    gone.close()


@pytest.mark.parametrize(
    ("reason", "desc", "dead"),
    [
        ("API_CorbaException", "TRANSIENT CORBA system exception: TRANSIENT_CallTimedout", None),
        ("API_CorbaException", "TRANSIENT CORBA system exception: TRANSIENT_ConnectFailed", True),
        ("API_CommandTimedOut", "Not able to acquire serialization monitor", None),
        ("API_CantConnectToDevice", "The connection request was delayed.", True),
        ("API_DeviceNotExported", "id00/x/y is not exported", True),
        ("API_CorbaException", "COMM_FAILURE CORBA system exception: COMM_FAILURE", None),
    ],
)
def test_silence_is_no_death(reason, desc, dead):
    with pytest.raises(tango.DevFailed) as failed:
        tango.Except.throw_exception(reason, desc, "here")

    error = error_of(failed.value, "id00/x/y")

    assert isinstance(error, UnreachableError)
    assert error.details.get("dead") is dead


def test_a_line_keeps_a_few_connections_only(system, port, monkeypatch):
    line = Line("several")
    monkeypatch.setattr(ports, "MOST_PROXIES", 2)
    made = []
    names = [system.control.name(), *(receiver.name() for receiver in system.receivers)]
    asked = [f"tango://{port.name.split('/')[2]}/{name}" for name in names]

    for name in (*asked, asked[-1]):
        made.append(line.ask(name, weakref.ref, PATIENCE_S))

    assert [proxy() is not None for proxy in made] == [False, True, True, True]
    assert made[2]() is made[3]()
    line.close()
