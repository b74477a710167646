"""A control and its receivers with the simulated detector and the classic pipeline, as one."""

import gc
import threading
import weakref

import h5py
import numpy as np
import pytest

from lima2_core.camera import paced
from lima2_core.data.frame import Validity
from lima2_core.errors import ParamError, StateError
from lima2_core.state.device import AcqState
from lima2_core.state.run import RunState
from lima2_core.state.system import Phase
from lima2_core.system.policy import FaultPolicy
from lima2_core.testing.doubles import LIMIT_S, FakePipeline, GatedSink, eventually, installed
from lima2_core.testing.fake_camera import FakeCamera
from lima2_core.testing.system_doubles import ScriptedOutput
from tests.integration.coordinated import (
    ENDED,
    Simulated,
    acquisition,
    codes,
    comes_to,
    counts,
    regions,
    saving,
)

pytestmark = pytest.mark.usefixtures("patient_commands")

SYSTEM = Simulated
MODES = ("round_robin", "predictive_random", "full_random")
TOPOLOGY = {"round_robin": "round_robin", "partial_frame": "partial"}


@pytest.fixture
def patient_sources(monkeypatch):
    """On a busy computer a source may hear late that the detector was stopped."""
    monkeypatch.setattr(paced, "STOP_LEAD_S", 1.0)
    monkeypatch.setattr(paced, "STOP_WAIT_S", LIMIT_S)
    monkeypatch.setattr(paced, "STOP_LIMIT_S", LIMIT_S)


def pattern(nb_images=16, **det):
    """Images that differ, so that one can see which is which."""
    gauss = {"peaks": [{"x0": 4, "y0": 4, "fwhm": 6, "max": 100}], "grow_factor": 1.0}
    generator = {"gauss": gauss, "pixel_type": "gray16"}
    return {"generator": generator, "nb_prefetch_frames": nb_images, **det}


def saved_rows(view, receiver):
    """What is in the files of a receiver, row after row."""
    files = view.files[receiver]
    rows = []
    for number in range(100):
        name = f"{files.folder}/{files.prefix}_{files.rank}_{number:05d}.h5"
        try:
            with h5py.File(name, locking=False) as file:
                rows += list(file[files.dataset][()])
        except FileNotFoundError:
            return rows
    raise AssertionError("too many files")


# Whole acquisitions


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lost", [0, 7])
def test_every_frame_is_accounted_for_and_has_its_records(system, tmp_path, mode, lost):
    det = pattern(dispatch_mode=mode, dropped_frame_idx=lost)
    order = acquisition(40, det=det, statistics=regions(3), saving=saving(tmp_path))
    run = system.coordinator.prepare(order)
    cursors = [run.view.streams["roi_statistics"].cursor() for _ in range(2)]
    system.coordinator.start()

    assert comes_to(run, *ENDED)

    assert run.phase is (Phase.INCOMPLETE if lost else Phase.DONE)
    assert run.view.topology == TOPOLOGY.get(mode, "dynamic")
    expected = ["VALID"] * 40
    if lost:
        expected[lost] = "DROPPED"
    saved = run.view.saved["frame"]
    assert codes(run.ledger, 40) == codes(saved.ledger, 40) == expected
    for cursor in cursors:
        told = cursor.read()
        assert told["frame_idx"].tolist() == np.repeat(np.arange(40), 3).tolist()
        assert np.unique(told["frame_idx"][np.isnan(told["sum"])]).tolist() == [lost] * bool(lost)
        sums = told["sum"][::3]
        np.testing.assert_array_equal(sums[:16][sums[:16] > 0], sums[16:32][sums[:16] > 0])
    check_files(saved, 40)


def check_files(saved, total):
    """Each frame of the ledger is where the ledger says, and is the right one."""
    rows = {receiver: saved_rows(saved, receiver) for receiver in range(len(saved.files))}
    entries = saved.ledger.entries(0, total)
    for idx in range(total):
        if entries.code[idx] == Validity.VALID:
            image = rows[int(entries.receiver[idx])][int(entries.row[idx, 0])]
            assert image.max() == 100 * (1 + idx % 16)
    assert [saved.flushed(receiver) for receiver in rows] == [len(rows[r]) for r in rows]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_partial_frames_are_placed_in_the_whole_image(make_system, tmp_path, n):
    system = make_system(n, rows=8, cols=8)
    det = pattern(dispatch_mode="partial_frame", dropped_frame_idx=3)
    run = system.acquire(acquisition(12, det=det, saving=saving(tmp_path), statistics=regions()))

    assert run.view.topology == "partial"
    assert run.expected == 12
    expected = ["VALID"] * 3 + ["DROPPED"] + ["VALID"] * 8
    saved = run.view.saved["frame"]
    assert codes(run.ledger, 12) == codes(saved.ledger, 12) == expected
    assert saved.spec.shape == (1, 8, 8)
    assert run.received == 11
    strips = [np.array(saved_rows(saved, receiver)) for receiver in range(n)]
    whole = np.zeros((12, 8, 8), np.uint16)
    for strip, place in zip(strips, saved.placements, strict=True):
        whole[:, place.row : place.row + strip.shape[1]] = strip
    entries = saved.ledger.entries(0, 12)
    assert (entries.row == np.arange(12)[:, None]).all()
    for idx in (0, 1, 2, 11):
        assert whole[idx, 4, 4] == 100 * (1 + idx)
        np.testing.assert_array_equal(whole[idx], whole[idx].T)  # a round peak in the middle
    assert not whole[3].any()


def test_partial_frames_of_more_receivers_than_rows_are_refused(make_system):
    system = make_system(3, rows=2)

    with pytest.raises(ParamError, match="cannot be split") as refused:
        system.coordinator.prepare(acquisition(4, det={"dispatch_mode": "partial_frame"}))

    assert refused.value.path == "acquisition.det.dispatch_mode"
    assert system.acquire(acquisition(4)).phase is Phase.DONE


def test_partial_frames_that_are_turned_are_refused(system):
    det = {"dispatch_mode": "partial_frame"}

    with pytest.raises(ParamError, match="geometry"):
        system.coordinator.prepare(acquisition(4, det=det, geometry={"rotation": "90_cw"}))

    assert system.acquire(acquisition(4, det=det)).phase is Phase.DONE


@pytest.mark.parametrize("mode", ["round_robin", "partial_frame"])
def test_sums_are_numbered_over_the_receivers(system, tmp_path, mode):
    order = acquisition(
        22,
        det=pattern(dispatch_mode=mode),
        accumulation={"enabled": True, "nb_frames": 4},
        statistics=regions(2),
        saving=saving(tmp_path),
    )
    run = system.coordinator.prepare(order)
    cursor = None
    if mode == "round_robin":
        cursor = run.view.streams["roi_statistics"].cursor()
    system.coordinator.start()
    assert comes_to(run, *ENDED)

    assert codes(run.ledger, 22) == ["VALID"] * 22
    saved = run.view.saved["frame"].ledger
    # 11 frames each make 3 sums, the last of three; or 22 each make 6, the last of two.
    expected = ["VALID"] * 4 + ["PARTIAL"] * 2 if cursor else ["VALID"] * 5 + ["PARTIAL"]
    assert saved.expected == 6
    assert codes(saved, 6) == expected
    assert run.accessible("frame") == 6
    if cursor is not None:
        told = cursor.read()
        assert told["frame_idx"].tolist() == np.repeat(np.arange(6), 2).tolist()
        assert told["recv_idx"].tolist() == np.repeat(np.arange(6) % 2, 2).tolist()
        assert not np.isnan(told["sum"]).any()


def test_software_triggers_give_frames_one_by_one(system):
    run = system.begin(acquisition(3, expo_us=1000, acq={"trigger_mode": "software"}))
    for count in range(1, 4):
        system.coordinator.trigger()
        assert eventually(lambda count=count: run.ledger.front == count)

    assert comes_to(run, Phase.DONE)
    assert run.verdict() == "all 3 frames are valid"


def test_a_trigger_that_nobody_waits_for_is_refused(system):
    with pytest.raises(StateError):
        system.coordinator.trigger()
    system.begin(acquisition(0))

    with pytest.raises(StateError, match="trigger_mode"):
        system.coordinator.trigger()


@pytest.mark.usefixtures("patient_sources")
@pytest.mark.parametrize("nb_frames", [0, 1_000_000])
@pytest.mark.parametrize("mode", MODES)
def test_after_a_stop_all_that_was_exposed_is_there(system, tmp_path, nb_frames, mode):
    det = pattern(dispatch_mode=mode)
    run = system.begin(
        acquisition(nb_frames, expo_us=1000, det=det, statistics=regions(), saving=saving(tmp_path))
    )
    assert eventually(lambda: run.ledger.front > 20)

    system.coordinator.stop()

    assert comes_to(run, Phase.DONE)
    exposed = system.control.nb_frames_acquired
    assert counts(run.ledger)["VALID"] == exposed
    assert run.ledger.expected == (nb_frames or exposed)
    assert sum(counts(run.ledger).values()) == run.ledger.expected
    check_files(run.view.saved["frame"], exposed)


def test_a_run_without_end_shows_how_far_it_is(system):
    run = system.begin(acquisition(0))

    assert eventually(lambda: run.received > 10)
    assert run.expected is None
    assert run.ledger.summary().adds_up
    assert eventually(lambda: run.counter("nb_frames_source") > 10)
    # What nobody has told of yet is not open: there is no end to that.
    told = run.ledger.summary()
    assert told.open < run.ledger.highest


# Faults of real services


def test_a_detector_that_fails_at_one_receiver_leaves_the_frames_of_the_other(system):
    run = system.acquire(acquisition(20, det={"failed_frame_idx": 5}))

    assert run.phase is Phase.INCOMPLETE
    assert codes(run.ledger, 20) == [*["VALID"] * 4, *["VALID", "DROPPED"] * 8]
    assert "fails at frame 5" in run.verdict()
    assert system.acquire(acquisition(20)).phase is Phase.DONE


@pytest.mark.parametrize("nb_frames", [1000, 0], ids=["finite", "endless"])
@pytest.mark.parametrize("mode", [*MODES, "partial_frame"])
def test_frames_after_the_death_of_the_detector_were_never_sent(system, tmp_path, mode, nb_frames):
    det = pattern(dead_after_frames=15, dispatch_mode=mode)
    run = system.acquire(acquisition(nb_frames, det=det, saving=saving(tmp_path)))

    assert run.phase is Phase.INCOMPLETE
    assert system.coordinator.state is AcqState.FAULT
    cause = "control: the simulated detector died after 15 frames, as det.dead_after_frames asks"
    assert str(system.coordinator.last_error) == cause
    never = {"NEVER_SENT": nb_frames - 15} if nb_frames else {}
    assert counts(run.ledger) == {"VALID": 15, **never}
    assert codes(run.ledger, 15) == ["VALID"] * 15
    assert run.verdict().endswith(f"({cause})")
    assert run.view.verdict() == run.verdict()
    assert codes(run.view.saved["frame"].ledger, 15) == ["VALID"] * 15
    assert system.acquire(acquisition(20)).phase is Phase.DONE


def test_a_task_that_fails_costs_the_frames_behind_it(system):
    failing = {"class_name": "LimaProcessingFailing", "failed_frame_idx": 4}
    run = system.acquire(acquisition(20, **failing))

    assert run.phase is Phase.INCOMPLETE
    assert counts(run.ledger).keys() <= {"VALID", "PROCESSING_FAULT"}
    assert codes(run.ledger, 5)[4] == "PROCESSING_FAULT"
    assert codes(run.ledger, 20)[1::2] == ["VALID"] * 10
    assert run.ledger.summary().adds_up
    assert system.acquire(acquisition(20)).phase is Phase.DONE


def test_a_pipeline_that_cannot_be_activated_ends_its_run(system):
    failing = {"class_name": "LimaProcessingFailing", "failed_on_activate": True}
    run = system.begin(acquisition(20, **failing))

    assert comes_to(run, Phase.INCOMPLETE)
    assert run.ledger.summary().adds_up
    assert "activation was to fail" in run.verdict()
    assert system.acquire(acquisition(20)).phase is Phase.DONE


def test_what_a_receiver_refuses_is_told_with_names_and_path(system):
    with pytest.raises(ParamError, match=r"^r0, r1: processing\.saving\.base_path") as refused:
        system.coordinator.prepare(acquisition(4, saving=saving("/nowhere/at/all")))

    assert refused.value.path == "processing.saving.base_path"
    assert [receiver.state for receiver in system.receivers] == [AcqState.IDLE] * 2
    assert eventually(lambda: system.control.state is AcqState.IDLE)
    assert system.acquire(acquisition(4)).phase is Phase.DONE


def test_an_unknown_parameter_is_refused_by_name(system):
    with pytest.raises(ParamError) as refused:
        system.coordinator.prepare(acquisition(4, acq={"nb_farmes": 3}))

    assert refused.value.path == "acquisition.acq.nb_farmes"


def test_a_lost_frame_ends_a_run_that_must_have_all(system):
    policy = FaultPolicy(frame_lost="fail")
    run = system.begin(acquisition(0, det={"dropped_frame_idx": 9}, policy=policy))

    assert comes_to(run, Phase.INCOMPLETE)
    assert system.coordinator.state is AcqState.FAULT
    assert counts(run.ledger)["DROPPED"] == 1
    assert "stopped at the first lost frame" in run.verdict()
    assert system.acquire(acquisition(4)).phase is Phase.DONE


def test_an_acquisition_of_another_client_goes_on(system):
    receiver = system.receivers[1]
    receiver.requested.ask_acquisition('{"acq": {"nb_frames": 0}}')
    receiver.prepare("foreign")
    receiver.start()

    with pytest.raises(StateError, match=r"r1 is busy with an acquisition of another .*foreign"):
        system.coordinator.prepare(acquisition(4))

    assert receiver.state is AcqState.RUNNING
    receiver.reset()
    assert eventually(lambda: receiver.state is AcqState.IDLE)
    assert system.acquire(acquisition(4)).phase is Phase.DONE


# Runs that overlap


@pytest.fixture
def held(make_system):
    """A system of two fake cameras whose files wait until the test lets them go."""
    camera, pipeline = FakeCamera(buffers=64), FakePipeline()
    pipeline.make_sink = GatedSink
    with installed(pipelines={"LimaProcessingLegacy": pipeline.plugin}):
        system = make_system(plugin=camera.plugin)
        system.camera, system.pipeline = camera, pipeline
        yield system
        camera.expose(10**9)
        for sink in pipeline.sinks:
            sink.open_gate()
        system.close()


def idxs(system, run_number):
    """Frames in the sinks of one run, of both receivers."""
    first, second = system.pipeline.sinks[2 * run_number : 2 * run_number + 2]
    return sorted(first.idxs + second.idxs)


def test_five_runs_overlap_and_none_gets_frames_of_another(held):
    runs = []
    for number in range(5):
        runs.append(held.begin(acquisition(4 + number)))
        assert comes_to(runs[-1], Phase.DRAINING)
        assert eventually(lambda: held.coordinator.state is AcqState.IDLE)
    assert [run.phase for run in runs] == [Phase.DRAINING] * 5

    for sink in reversed(held.pipeline.sinks):
        sink.open_gate()

    for number, run in enumerate(runs):
        assert comes_to(run, Phase.DONE)
        assert idxs(held, number) == list(range(4 + number))
        assert run.verdict() == f"all {4 + number} frames are valid"


def test_a_deferred_batch_is_processed_when_it_is_asked_for(system, tmp_path):
    runs = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        order = acquisition(
            10 + number, det=pattern(), saving=saving(folder), statistics=regions(), deferred=True
        )
        run = system.coordinator.prepare(order)
        runs.append((run, run.view.streams["roi_statistics"].cursor()))
        system.coordinator.start()
        assert comes_to(run, Phase.DRAINING)
        assert eventually(lambda: system.coordinator.state is AcqState.IDLE)
        assert run.received == 10 + number
        assert run.ledger.front == 0
        assert all(r.run(run.acq_id).waits_to_process for r in system.receivers)

    for run, _ in reversed(runs):
        system.coordinator.process(run.acq_id)

    for number, (run, cursor) in enumerate(runs):
        assert comes_to(run, Phase.DONE)
        assert run.verdict() == f"all {10 + number} frames are valid"
        assert cursor.read()["frame_idx"].tolist() == list(range(10 + number))
        check_files(run.view.saved["frame"], 10 + number)


def test_files_of_a_run_that_has_not_ended_are_nobody_elses(system, tmp_path):
    """No file of it is there yet, so that only its parameters tell."""
    folder, link = tmp_path / "data", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    order = acquisition(6, det=pattern(), saving=saving(folder), deferred=True)
    first = system.coordinator.prepare(order)
    system.coordinator.start()
    assert comes_to(first, Phase.DRAINING)
    assert eventually(lambda: system.coordinator.state is AcqState.IDLE)

    for named in (folder, link):
        with pytest.raises(ParamError, match=f"run {first.acq_id} still writes files") as refused:
            system.coordinator.prepare(acquisition(4, saving=saving(named)))
        assert refused.value.path == "processing.saving.filename_prefix"
    other = system.begin(acquisition(3, saving=saving(folder, filename_prefix="other")))
    assert comes_to(other, Phase.DONE)
    system.coordinator.process(first.acq_id)
    assert comes_to(first, Phase.DONE)
    check_files(first.view.saved["frame"], 6)

    assert comes_to(system.begin(acquisition(4, saving=saving(link))), Phase.DONE)


def test_a_deferred_run_that_is_discarded_at_its_end_is_processed_all_the_same(system):
    run = system.begin(acquisition(6, deferred=True))
    assert comes_to(run, Phase.DRAINING)

    system.coordinator.reset()
    assert run.phase is Phase.DRAINING  # it has nothing to do with the next acquisition
    system.coordinator.process(run.acq_id)

    assert comes_to(run, Phase.DONE)


def test_deferred_frames_that_must_not_be_kept_are_processed_at_once(make_system):
    camera, pipeline = FakeCamera(buffers=4, keepable=False), FakePipeline()
    with installed(pipelines={"LimaProcessingLegacy": pipeline.plugin}):
        system = make_system(plugin=camera.plugin)  # its frames come in a ring of four buffers
        run = system.begin(acquisition(20, deferred=True))

        assert comes_to(run, Phase.DONE)
        assert run.verdict() == "all 20 frames are valid"


@pytest.mark.usefixtures("patient_sources")
def test_a_deferred_run_without_end_is_processed_when_its_queue_is_full(system, monkeypatch):
    monkeypatch.setattr("lima2_core.service.run._DEFERRED_FRAMES", 50)
    run = system.begin(acquisition(0, expo_us=1000, deferred=True))
    assert eventually(lambda: run.ledger.front > 200)

    system.coordinator.stop()

    assert comes_to(run, Phase.DONE)
    assert counts(run.ledger) == {"VALID": system.control.nb_frames_acquired}


# What can be seen meanwhile


def test_states_on_the_way_can_be_seen(make_system, held):
    output = ScriptedOutput(wait_in="finish")
    held.given.append(output)
    held.camera.hold()
    run = held.begin(acquisition(4))
    assert run.phase is Phase.RUNNING
    held.camera.expose(4)
    assert comes_to(run, Phase.DRAINING)
    assert not run.view.finished()

    for sink in held.pipeline.sinks:
        sink.open_gate()
    assert comes_to(run, Phase.ENDING)
    assert run.view.finished()
    output.let_go()

    assert comes_to(run, Phase.DONE)


def test_a_queue_that_fills_up_can_be_seen(held):
    held.pipeline.lane_depth = 2
    run = held.begin(acquisition(40))
    assert held.pipeline.sinks[0].wait_until_holding()

    assert eventually(lambda: run.members[0].status.queues.get("save") == (2, 2))
    assert run.members[0].status.memory_limit_bytes == 2**26


def test_frames_can_be_fetched_from_the_receiver_that_has_them(system):
    run = system.acquire(acquisition(10, det=pattern()))

    for idx in range(10):
        frame = run.members[idx % 2].port.frame("frame", idx)
        assert (frame.idx, frame.data.max()) == (idx, 100 * (1 + idx))
    small = run.members[0].port.frame("frame", 0, step=2)
    assert small.data.shape == (1, 4, 4)


@pytest.mark.usefixtures("patient_sources")
def test_outputs_hear_of_frames_while_the_run_goes_on(make_system):
    seen = threading.Event()

    class Watching(ScriptedOutput):
        def update(self):
            super().update()
            if self.run.ledger.front > 5 and not self.run.finished():
                seen.set()

    output = Watching()
    system = make_system(outputs=[output])
    run = system.begin(acquisition(0))

    assert seen.wait(LIMIT_S)
    system.coordinator.stop()
    assert comes_to(run, Phase.DONE)
    assert len(output.threads) == 1
    assert (output.calls[0], output.calls[-1]) == ("open", "finish")


def test_runs_of_a_receiver_are_forgotten_with_those_of_the_system(system):
    runs = [system.acquire(acquisition(2)) for _ in range(6)]

    kept = {run.acq_id for run in system.coordinator.runs}
    assert kept == {run.acq_id for run in runs[-4:]}
    assert eventually(lambda: not set(system.receivers[0].acq_ids) - kept)
    assert all(r.run(runs[-1].acq_id).state is RunState.DONE for r in system.receivers)


def test_systems_beside_each_other_have_nothing_in_common(make_system):
    runs = [make_system(n).begin(acquisition(10)) for n in (1, 2)]

    assert all(comes_to(run, Phase.DONE) for run in runs)
    assert [run.view.topology for run in runs] == ["single", "round_robin"]


def test_forgotten_runs_leave_the_memory_of_receivers_without_a_search_for_rings(system, tmp_path):
    order = acquisition(4, saving=saving(tmp_path))
    system.acquire(order)
    first = weakref.ref(system.receivers[0].current)
    gc.disable()
    try:
        for _ in range(5):
            system.acquire(order)

        assert eventually(lambda: first() is None)
    finally:
        gc.enable()
