"""Why is it stuck: one sentence that names the blocking stage."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from lima2_core.state.system import Phase
from lima2_core.system.stuck import ActivityWatch, MemberView, Situation, why_stuck

MEMBERS = (MemberView("r0", received=50), MemberView("r1", received=50))
WELL = Situation(
    phase=Phase.RUNNING,
    trigger_mode="internal",
    expected=1000,
    exposed=100,
    exposed_idle_s=0.0,
    received_idle_s=0.0,
    front=100,
    front_idle_s=0.0,
    period_s=0.01,
    processed=100,
    owner=0,
    members=MEMBERS,
)


def member(**changes):
    return (replace(MEMBERS[0], **changes), MEMBERS[1])


def test_nothing_is_said_while_all_goes_on():
    assert why_stuck(WELL) == ""
    assert why_stuck(replace(WELL, phase=Phase.DONE, exposed_idle_s=99)) == ""
    assert why_stuck(replace(WELL, phase=Phase.PREPARED, exposed_idle_s=99)) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"trigger_mode": "external", "exposed": 0, "exposed_idle_s": 7.2},
            "no trigger (external) seen for 7 s",
        ),
        (
            {"trigger_mode": "software", "exposed_idle_s": 3.0},
            "no further trigger (software) seen for 3 s; triggerAcq gives one",
        ),
        (
            {"exposed_idle_s": 5.0},
            "the detector is silent: no frame after the first 100 exposed for 5 s",
        ),
        ({"exposed": 0, "exposed_idle_s": 5.0}, "the detector is silent: no frame exposed for 5 s"),
        (
            {"members": member(queues={"camera": (100, 100), "frame": (0, 5), "saving": (64, 64)})},
            "queue 'saving' of r0 is full: its writer waits for the disk",
        ),
        (
            {"members": member(queues={"camera": (98, 100), "saving": (3, 64)})},
            "the queue of r0 is full: processing is slower than the camera",
        ),
        (
            {"members": member(queues={"camera": (98, 100), "x": (8, 8)})},
            "queue 'x' of r0 is full: what it leads to is too slow",
        ),
        (
            {"front": 42, "front_idle_s": 4.0, "received_idle_s": 3.0, "owner": 0},
            "waiting for frame 42 of r0 for 4 s",
        ),
        (
            {"front": 42, "front_idle_s": 4.0, "received_idle_s": 3.0, "owner": None},
            "waiting for frame 42 for 4 s",
        ),
        ({"members": member(unheard_s=1.3)}, "r0 has not answered for 1.3 s"),
    ],
)
def test_the_blocking_stage_of_a_running_acquisition_is_named(changes, sentence):
    assert why_stuck(replace(WELL, **changes)) == sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"deferred": True, "processed": 0},
            "100 frames are collected; processAcq begins to process them",
        ),
        (
            {"members": member(queues={"saving": (64, 64)})},
            "queue 'saving' of r0 is full: its writer waits for the disk",
        ),
        (
            {"front": 7, "front_idle_s": 2.0, "received_idle_s": 9.0},
            "waiting for frame 7 of r0 for 2 s",
        ),
        ({"exposed_idle_s": 100.0, "trigger_mode": "external"}, ""),
    ],
)
def test_the_blocking_stage_of_the_processing_is_named(changes, sentence):
    assert why_stuck(replace(WELL, phase=Phase.DRAINING, **changes)) == sentence


def test_outputs_that_do_not_end_are_named():
    ending = replace(WELL, phase=Phase.ENDING)

    assert why_stuck(ending) == ""
    assert (
        why_stuck(replace(ending, troubles=("blissdata: Redis is away",)))
        == "waiting for the outputs: blissdata: Redis is away"
    )


def test_slow_acquisitions_are_given_three_frame_times():
    slow = replace(WELL, period_s=10.0, exposed_idle_s=25.0)

    assert why_stuck(slow) == ""
    assert "silent" in why_stuck(replace(slow, exposed_idle_s=31.0))


def test_a_detector_that_cannot_be_asked_is_named_once_its_frames_do_not_come():
    doubted = replace(WELL, exposed_idle_s=5.0, doubt="it does not answer")

    assert why_stuck(doubted) == ""
    silent = replace(doubted, received_idle_s=2.0)
    assert why_stuck(silent) == "the detector may be lost: it does not answer"


def test_a_detector_that_has_exposed_all_is_not_blamed():
    assert why_stuck(replace(WELL, exposed=1000, exposed_idle_s=50, front=1000)) == ""


def test_queues_of_lost_receivers_do_not_matter():
    gone = member(queues={"camera": (9, 9)}, lost=True, unheard_s=9.0)

    assert why_stuck(replace(WELL, members=gone)) == ""


def test_a_writer_that_writes_nothing_is_named_before_its_queue_is_full():
    waiting = replace(
        WELL,
        phase=Phase.DRAINING,
        members=member(queues={"camera": (0, 100), "saving": (7, 64)}),
        saved_idle_s=1.5,
    )

    assert why_stuck(waiting) == (
        "the writer of r0 waits for the disk, with 7 frames in its queue 'saving'"
    )
    assert why_stuck(replace(waiting, saved_idle_s=0.5)) == ""
    assert why_stuck(replace(waiting, members=MEMBERS)) == ""


@pytest.mark.parametrize("name", ["nb_frames_saved", "nb_frames_input_saved"])
def test_whatever_kind_of_frames_is_written_is_a_sign_of_life(name):
    status = SimpleNamespace(received=5, counters={name: 1, "nb_frames_processed": 7}, queues={})
    member = SimpleNamespace(name="r0", status=status, asked_s=0.0, lost="", ended=False)
    run = SimpleNamespace(
        view=SimpleNamespace(
            applied={"acq": {"trigger_mode": "internal", "expo_time": 1, "latency_time": 0}}
        ),
        phase=Phase.DRAINING,
        ledger=SimpleNamespace(front=0),
        layout=SimpleNamespace(known=True, parts=1),
        members=[member],
        expected=10,
        exposed=10,
        doubt="",
        order=SimpleNamespace(deferred=False),
        outputs=SimpleNamespace(threads=()),
    )
    watch = ActivityWatch(run)
    watch.look(0.0)
    assert watch.look(2.0).saved_idle_s == 2.0

    status.counters[name] = 2

    assert watch.look(3.0).saved_idle_s == 0.0
