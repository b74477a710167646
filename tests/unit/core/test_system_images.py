"""Frames of a run, from whichever receiver has them."""

from types import SimpleNamespace

import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec, Validity
from lima2_core.data.geometry import Placement
from lima2_core.data.rows import ROW_RECORD
from lima2_core.errors import NotAvailableError, ParamError
from lima2_core.system.images import frame_of, main_source
from lima2_core.system.ledger import Ledger
from lima2_core.system.ports import UnreachableError

SPEC = FrameSpec((1, 4, 6), np.dtype(np.uint16))


class FakePort:
    """Has every frame that it is asked for, filled with its number and the index."""

    def __init__(self, number, shape=SPEC.shape):
        self.number, self.shape = number, shape
        self.newest = None

    def frame(self, source, idx, step=1):
        if idx == -1:
            if self.newest is None:
                raise NotAvailableError("the first frame is not available yet")
            idx = self.newest
        data = np.full(self.shape, 100 * self.number + idx, SPEC.dtype)
        return Frame(idx, data[:, ::step, ::step])


def tell(ledger, receiver, indices, code=Validity.VALID):
    rows = np.zeros(len(indices), ROW_RECORD)
    rows["frame_idx"], rows["code"] = indices, code
    ledger.tell(receiver, rows)


def make_run(ports, expected=10, placements=(), saved=None, depth=1, fill=0, accessible=0):
    parts = len(placements) or 1
    members = [
        SimpleNamespace(name=f"r{n}", port=port, lost="", status=SimpleNamespace(received=0))
        for n, port in enumerate(ports)
    ]
    return SimpleNamespace(
        members=members,
        ledger=Ledger(expected, parts),
        layout=SimpleNamespace(
            parts=parts,
            placements=lambda name: placements,
            fill=lambda name: fill,
            depth_of=lambda name: depth,
            known=True,
        ),
        view=SimpleNamespace(sources={"frame": SPEC}, saved=saved or {}),
        accessible=lambda source: accessible,
    )


def test_a_frame_comes_from_the_receiver_that_has_it():
    run = make_run([FakePort(0), FakePort(1)])
    tell(run.ledger, 1, [3])

    frame = frame_of(run, "", 3, step=2)

    assert frame.idx == 3
    assert frame.data.shape == (1, 2, 3)
    assert frame.data.max() == 103


@pytest.mark.parametrize("code", [Validity.DROPPED, Validity.RECEIVER_LOST, Validity.NEVER_SENT])
def test_a_gap_is_a_frame_of_zeros_with_its_index(code):
    run = make_run([FakePort(1)])
    tell(run.ledger, 0, [3], code)

    frame = frame_of(run, "frame", 3)

    assert (frame.idx, frame.data.shape, frame.data.dtype) == (3, SPEC.shape, SPEC.dtype)
    assert not frame.data.any()


def test_what_is_not_told_of_is_not_available_yet():
    run = make_run([FakePort(0), FakePort(1)])
    tell(run.ledger, 1, [3])

    for idx in (0, 4, 9):
        with pytest.raises(NotAvailableError, match="not available yet"):
            frame_of(run, "frame", idx)
    with pytest.raises(NotAvailableError, match="the run has 10") as refused:
        frame_of(run, "frame", 10**12)
    assert "yet" not in str(refused.value)
    with pytest.raises(ParamError):
        frame_of(run, "frame", -2)
    with pytest.raises(NotAvailableError, match="there are: frame"):
        frame_of(run, "raw", 0)


def test_the_newest_frame_is_that_of_the_receiver_that_is_ahead():
    run = make_run([FakePort(0), FakePort(1), FakePort(2)])
    with pytest.raises(NotAvailableError, match="first frame is not available yet"):
        frame_of(run, "frame", -1)
    for receiver, member in enumerate(run.members):
        member.status.received = member.port.newest = receiver + 2
    for receiver in (0, 1):
        tell(run.ledger, receiver, [receiver + 2])
    run.members[2].lost = "r2 died"

    assert frame_of(run, "frame", -1).idx == 3


@pytest.mark.parametrize(("last", "newest"), [(0, 8), (1, 9)])
def test_the_newest_frame_is_with_who_told_of_the_last_one_however_many_each_took(last, newest):
    run = make_run([FakePort(0), FakePort(1)])
    for receiver, port in enumerate(member.port for member in run.members):
        run.members[receiver].status.received = 5 - receiver
        port.newest = 8 + receiver
    tell(run.ledger, 1 - last, [3, 5])
    tell(run.ledger, last, [newest])
    tell(run.ledger, 1 - last, [newest + 1], code=Validity.DROPPED)

    assert frame_of(run, "frame", -1).idx == newest


def test_frames_of_a_receiver_that_is_gone_cannot_be_had():
    run = make_run([FakePort(0)])
    tell(run.ledger, 0, [0])
    run.members[0].lost = "r0 died"

    with pytest.raises(NotAvailableError, match="r0 died"):
        frame_of(run, "frame", 0)


def test_parts_are_put_together_and_lost_ones_stay_empty():
    places = (Placement(0, 0, 4, 6), Placement(2, 0, 4, 6))
    run = make_run([FakePort(1, (1, 2, 6)), FakePort(2, (1, 2, 6))], placements=places)
    for receiver in (0, 1):
        tell(run.ledger, receiver, [0, 1])

    whole = frame_of(run, "frame", -1)
    run.members[1].lost = "r1 died"
    half = frame_of(run, "frame", 0)

    assert whole.idx == 1
    assert whole.data[0, :, 0].tolist() == [101, 101, 201, 201]
    assert half.data[0, :, 0].tolist() == [100, 100, 0, 0]


class Holed(FakePort):
    """Never got one frame."""

    def frame(self, source, idx, step=1):
        raise NotAvailableError("it is not there")


def test_a_part_that_never_came_reads_as_fill_and_one_that_is_gone_is_told():
    upper, lower = (1, 2, 6), (1, 2, 6)
    places = (Placement(0, 0, 4, 6), Placement(2, 0, 4, 6))
    run = make_run([FakePort(0, upper), Holed(1, lower)], placements=places, fill=9)
    for receiver in (0, 1):
        tell(run.ledger, receiver, [0], Validity.VALID)
    tell(run.ledger, 0, [1])
    tell(run.ledger, 1, [1], Validity.PACKET_LOSS)

    with pytest.raises(NotAvailableError):
        frame_of(run, "frame", 0)
    frame = frame_of(run, "frame", 1)

    assert frame.validity is Validity.PARTIAL
    assert (frame.data[0, :2] == 1).all()
    assert (frame.data[0, 2:] == 9).all()


def test_what_no_receiver_has_reads_as_the_mark_of_pixels_without_value():
    places = (Placement(0, 0, 4, 6), Placement(2, 3, 4, 6))
    ports = [FakePort(1, (1, 2, 3)), FakePort(2, (1, 2, 3))]
    run = make_run(ports, placements=places, fill=9)
    for receiver in (0, 1):
        tell(run.ledger, receiver, [0])
        tell(run.ledger, receiver, [1], Validity.DROPPED)

    whole = frame_of(run, "frame", 0)
    lost = frame_of(run, "frame", 1)

    assert whole.data[0].tolist() == [[100] * 3 + [9] * 3] * 2 + [[9] * 3 + [200] * 3] * 2
    assert (lost.data == 9).all()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_parts_may_leave_out_pixels(step):
    places = (Placement(0, 0, 4, 6), Placement(2, 0, 4, 6))
    run = make_run([FakePort(1, (1, 2, 6)), FakePort(2, (1, 2, 6))], placements=places)
    for receiver in (0, 1):
        tell(run.ledger, receiver, [0])

    whole = frame_of(run, "frame", 0)
    reduced = frame_of(run, "frame", 0, step)

    assert reduced.data.tolist() == whole.data[:, ::step, ::step].tolist()


def test_sums_that_are_not_saved_are_dealt_out_in_turn():
    run = make_run([FakePort(0), FakePort(1)], depth=5)

    assert frame_of(run, "frame", 3).data.max() == 103


def test_a_sum_of_no_frame_is_a_gap_though_nobody_keeps_books_on_it():
    run = make_run([FakePort(0), FakePort(1)], depth=2, accessible=4)
    tell(run.ledger, 0, [0, 1, 2, 3, 4, 6])
    tell(run.ledger, 1, [5, 7], Validity.DROPPED)

    assert [frame_of(run, "frame", idx).data.max() for idx in range(4)] == [0, 101, 2, 0]


@pytest.mark.parametrize("saved", [False, True])
def test_sums_of_parts_are_found_by_their_own_index(saved):
    places = (Placement(0, 0, 4, 6), Placement(2, 0, 4, 6))
    ports = [FakePort(1, (1, 2, 6)), FakePort(2, (1, 2, 6))]
    ledger = Ledger(5, 2)
    more = {"saved": {"frame": SimpleNamespace(ledger=ledger)}} if saved else {"accessible": 4}
    run = make_run(ports, placements=places, depth=2, **more)
    for receiver in (0, 1):
        tell(run.ledger, receiver, [0, 1, 4, 5])
        tell(run.ledger, receiver, [2, 3, 6, 7], Validity.DROPPED)
        tell(ledger, receiver, [0, 2])
        tell(ledger, receiver, [1, 3], Validity.DROPPED)

    found = [frame_of(run, "frame", idx) for idx in (0, 1, 2, 3, -1)]

    assert [frame.idx for frame in found] == [0, 1, 2, 3, 2]
    assert [int(frame.data[0, 0, 0]) for frame in found] == [100, 0, 102, 0, 102]


def test_the_newest_of_parts_is_one_that_is_there():
    places = (Placement(0, 0, 4, 6), Placement(2, 0, 4, 6))
    run = make_run([FakePort(1, (1, 2, 6)), FakePort(2, (1, 2, 6))], placements=places)
    for receiver in (0, 1):
        tell(run.ledger, receiver, [2, 1], Validity.DROPPED)
    with pytest.raises(NotAvailableError, match="first frame is not available yet"):
        frame_of(run, "frame", -1)
    for receiver in (0, 1):
        tell(run.ledger, receiver, [0])
    run.ledger.end(10)

    assert frame_of(run, "frame", -1).idx == 0


def test_sums_that_are_saved_have_books_of_their_own():
    ledger = Ledger(2)
    tell(ledger, 1, [0])
    run = make_run(
        [FakePort(0), FakePort(1)], depth=5, saved={"frame": SimpleNamespace(ledger=ledger)}
    )

    assert frame_of(run, "frame", 0).data.max() == 100
    with pytest.raises(NotAvailableError, match="yet"):
        frame_of(run, "frame", 1)


def test_an_unreachable_receiver_is_named():
    class Silent(FakePort):
        def frame(self, source, idx, step=1):
            raise UnreachableError("r0 does not answer")

    run = make_run([Silent(0)])
    tell(run.ledger, 0, [0])

    with pytest.raises(UnreachableError, match="r0"):
        frame_of(run, "frame", 0)


def test_the_main_source_is_that_of_processed_frames():
    run = make_run([FakePort(0)])
    run.view.sources = {"input_frame": SPEC, "sparse": SPEC}
    assert main_source(run) == "input_frame"
    run.view.sources = {"sparse": SPEC}
    assert main_source(run) == "sparse"
    run.view.sources = {}
    with pytest.raises(NotAvailableError, match="keeps no frames"):
        main_source(run)
