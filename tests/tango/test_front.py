"""The front: one device for a whole acquisition, under the names of Lima1."""

import json
import math
import shutil
import threading
import time
from functools import partial

import h5py
import numpy as np
import pytest
import tango

from lima2_core.data.news import unpack
from lima2_core.worker import Worker
from tests.tango.conftest import CONTROL
from tests.tango.devices import PATIENCE_S, Events, reason, wait_until

ENDLESS = 0
DONE = 5
"""Number of the phase among its labels."""


def image_of(idx):
    """Brightest pixel of frame ``idx``, by the parameters of the simulator."""
    return round(100 * (1 + 0.1 * (idx % 16)))


# -- a whole acquisition -------------------------------------------------------------------------


def test_one_command_makes_a_whole_acquisition(front, tmp_path):
    front.set(saving_enabled=True, saving_directory=str(tmp_path), saving_prefix="scan1")

    run = front.acquire()

    assert run.phase == "done"
    assert front.state == "idle"
    assert front.control.verdict == "all 10 frames are valid"
    assert json.loads(front.control.ledger_counts) == {"expected": 10, "open": 0, "valid": 10}
    assert str(front.control.state()) == "ON"
    assert front.control.status() == "Ended: all 10 frames are valid."
    assert {path.name for path in tmp_path.glob("scan1_[01]_*.h5")} == {
        "scan1_0_00000.h5",
        "scan1_1_00000.h5",
    }
    assert front.control.current_run_device == run.device.dev_name()
    assert list(front.control.runs) == [front.control.current_run]
    assert list(front.control.run_phases) == ["done"]


def test_an_acquisition_goes_through_its_states(front):
    seen = [(front.state, str(front.control.state()))]
    front.set(acq_nb_frames=ENDLESS)
    run = front.prepare()
    seen.append((front.state, str(front.control.state()), run.phase))
    assert front.control.status() == "Prepared for any number of frames."
    front.control.startAcq()
    seen.append((front.state, str(front.control.state()), run.phase))
    wait_until(lambda: front.control.frames_received > 10, "some frames")
    assert "frames taken" in front.control.status()
    front.control.stopAcq()
    front.wait_state("idle")
    run.wait_ended()
    seen.append((front.state, str(front.control.state()), run.phase))

    assert seen == [
        ("idle", "ON"),
        ("prepared", "STANDBY", "prepared"),
        ("running", "RUNNING", "running"),
        ("idle", "ON", "done"),
    ]
    counts = run.counts()
    assert counts["valid"] == counts["expected"] > 10
    assert front.control.last_image_ready == counts["valid"] - 1


def test_software_triggers_are_given_through_the_front(front):
    front.set(acq_trigger_mode="software", acq_nb_frames=6, nb_frames_per_trigger=2)
    with pytest.raises(tango.DevFailed, match="nothing waits for a trigger"):
        front.control.triggerAcq()
    run = front.run(front.control.acquire())
    for count in (2, 4, 6):
        front.control.triggerAcq()
        wait_until(lambda n=count: front.control.frames_received == n, f"{count} frames")

    assert run.wait_ended() == "done"
    assert run.device.acq_trigger_mode == "INTERNAL_TRIGGER_MULTI"


def test_a_lost_frame_is_in_the_ledger_and_reads_as_zeros(front):
    front.change({"acquisition.det.dropped_frame_idx": 3})

    run = front.acquire()

    assert run.phase == "incomplete"
    assert run.counts() == {"expected": 10, "open": 0, "valid": 9, "dropped": 1}
    assert front.control.frames_lost == 1
    assert "9 of 10 frames are valid; 1 dropped" in front.control.status()
    assert [run.image(idx).max() for idx in (2, 3, 4)] == [image_of(2), 0, image_of(4)]
    tree, arrays = run.ledger()
    assert tree == {"first": 0, "parts": 1, "end": 10}
    assert arrays["code"].tolist() == [0, 0, 0, 2, 0, 0, 0, 0, 0, 0]
    assert arrays["receiver"].tolist() == [0, 1] * 5
    assert (np.diff(np.delete(arrays["timestamp_s"], 3)) > 0).all()
    assert run.ledger(4, 6)[1]["receiver"].tolist() == [0, 1]


def test_losses_may_be_tolerated(front):
    front.change({"acquisition.det.dropped_frame_idx": 3})
    front.set(fault_policy='{"frame_lost": "tolerate", "tolerated_fraction": 0.2}')

    assert front.acquire().phase == "done"


def test_abort_gives_up_what_is_prepared_or_running(front):
    prepared = front.prepare()
    front.control.abortAcq()
    states = [front.state, prepared.phase]
    front.set(acq_nb_frames=ENDLESS)
    running = front.run(front.control.acquire())
    front.control.abortAcq()
    running.wait_ended()
    states.append(front.state)

    assert states == ["idle", "discarded", "idle"]
    front.control.abortAcq()
    front.control.stopAcq()


def test_the_front_recovers_from_a_fault(front):
    front.set(pipeline="LimaProcessingFailing")
    front.change({"processing.failed_on_activate": True})
    failed = front.acquire()
    error = front.control.front_error
    front.defaults()

    run = front.acquire()

    assert failed.phase == "incomplete"
    assert "simulator1" in error
    assert run.phase == "done"
    assert front.control.front_error == "No error"


def test_runs_may_overlap_and_are_kept_apart(front, tmp_path):
    front.set(acq_nb_frames=40, saving_enabled=True, saving_directory=str(tmp_path))
    front.change({"acquisition.det.generator.gauss.grow_factor": 0.0})
    runs = []
    for number in range(3):
        front.set(saving_prefix=f"run{number}")
        front.change({"acquisition.det.generator.gauss.peaks": [{"max": 50.0 * (number + 1)}]})
        runs.append(front.run(front.control.acquire()))
        front.wait_state("idle")

    assert [run.wait_ended() for run in runs] == ["done"] * 3
    assert [run.image(39).max() for run in runs] == [50, 100, 150]
    assert [len(list(tmp_path.glob(f"run{n}_[01]_*.h5"))) for n in range(3)] == [2, 2, 2]


def test_deferred_runs_wait_until_they_are_asked_for(front, tmp_path):
    front.set(deferred_processing=True, saving_enabled=True, saving_directory=str(tmp_path))
    runs = []
    for number in range(3):
        front.set(saving_prefix=f"batch{number}")
        runs.append(front.run(front.control.acquire()))
        front.wait_state("idle")
    waiting = [run.phase for run in runs]
    why = "10 frames are collected; processAcq begins to process them"
    wait_until(lambda: runs[0].device.stuck == why, "why it waits")
    for run in runs:
        front.control.processAcq(run.device.dev_name().split("/")[-1])

    assert waiting == ["draining"] * 3
    assert [run.wait_ended() for run in runs] == ["done"] * 3


@pytest.mark.parametrize("mode", ["full_random", "partial_frame"])
def test_frames_are_found_however_they_are_spread(front, mode):
    front.set(acq_nb_frames=40, image_max_size=16)
    front.change(
        {
            "acquisition.det.dispatch_mode": mode,
            "acquisition.det.dropped_frame_idx": 5,
            "acquisition.det.generator.gauss.peaks": [{"fwhm": 1e6}],
        }
    )

    run = front.acquire()
    images = [run.image(idx) for idx in range(40)]

    assert {image.shape for image in images} == {(32, 48)}
    assert [image.max() for image in images] == [image.min() for image in images]
    assert [image.max() for image in images] == [0 if i == 5 else image_of(i) for i in range(40)]
    wait_until(lambda: front.control.last_image.shape == (11, 16), "the live image")


def test_the_live_image_is_of_the_band_that_is_asked_for(front):
    front.set(acq_nb_frames=3)
    front.change({"acquisition.det.generator.nb_channels": 3})
    run = front.acquire()
    bands = run.frame("2").data

    for asked, shown in ((1, 1), (0, 0), (9, 2)):
        front.control.image_band = asked
        wait_until(
            lambda shown=shown: np.array_equal(front.control.last_image, bands[shown]), "the band"
        )
    assert bands[0].max() > bands[1].max() > bands[2].max()


def test_init_gives_up_what_was_going_on(front):
    front.set(acq_nb_frames=ENDLESS)
    run = front.run(front.control.acquire())

    front.control.Init()

    with pytest.raises(tango.DevFailed):
        run.device.ping()
    assert front.state == "idle"
    assert front.control.acq_nb_frames == 1
    front.control.resetAcq()
    front.defaults()
    assert front.acquire().phase == "done"


def test_runs_are_forgotten_with_their_devices(front):
    first = front.acquire()
    acq_id = front.control.current_run
    front.control.eraseRun(acq_id)

    assert front.control.runs in (None, ())
    with pytest.raises(tango.DevFailed):
        first.device.ping()
    with pytest.raises(tango.DevFailed, match="there is no run"):
        front.control.eraseRun(acq_id)
    runs = [front.acquire() for _ in range(6)]
    assert len(front.control.runs) < 6
    runs[-1].device.ping()


# -- what is refused -----------------------------------------------------------------------------


def test_refusals_keep_their_text_where_tango_lets_them(front):
    levels = {}
    for name, refused in {
        "start": front.control.startAcq,
        "roi": lambda: front.set(image_roi=[1, 2, 3]),
        "json": lambda: front.set(fault_policy="{"),
        "pipeline": lambda: front.set(pipeline="Nothing"),
        "params": lambda: front.set(front_params='{"acquisition": {"acq": {"nb_frames": -1}}}'),
    }.items():
        with pytest.raises(tango.DevFailed) as failed:
            refused()
        levels[name] = reason(failed.value)

    assert {len(found) for found, _ in levels.values()} == {2}
    texts = {name: payload["what"] for name, (_, payload) in levels.items()}
    assert texts["start"].startswith("start is not possible while the system is idle")
    roi = "acquisition.img.roi: image_roi is refused: 4 numbers are wanted, not 3"
    assert texts["roi"] == roi
    assert texts["params"].startswith("acquisition.acq.nb_frames: ")


def test_only_the_run_that_is_prepared_can_be_started_by_its_id(front):
    given_up = front.control.prepareWith("{}")
    prepared = front.control.prepareWith("{}")
    told = []
    for acq_id in (given_up, "nothing"):
        with pytest.raises(tango.DevFailed) as failed:
            front.control.startRun(acq_id)
        told.append(reason(failed.value)[1])

    assert {payload["errinfo"]["code"] for payload in told} == {"state"}
    assert (
        told[0]["what"]
        == f"run {given_up} was given up or has ended: {prepared} was prepared since"
    )
    assert front.state == "prepared"
    front.control.startRun(prepared)
    front.wait_state("idle")
    with pytest.raises(tango.DevFailed, match="start is not possible while the system is idle"):
        front.control.startRun(prepared)


def test_what_the_detector_cannot_do_is_refused_before_anything_is_touched(front):
    front.set(image_bin=[2, 2])  # then the region is outside

    with pytest.raises(tango.DevFailed) as failed:
        front.control.prepareAcq()

    assert reason(failed.value)[1]["what"].startswith("acquisition.img.roi.dimensions: ")
    assert reason(failed.value)[1]["errinfo"]["path"] == "acquisition.img.roi.dimensions"
    assert front.control.runs in (None, ())


def test_what_a_receiver_refuses_is_told_and_leaves_nothing_behind(front, tmp_path):
    front.set(saving_enabled=True, saving_directory=str(tmp_path / "missing"))

    with pytest.raises(tango.DevFailed) as failed:
        front.control.prepareAcq()

    assert ": processing.saving.base_path: " in reason(failed.value)[1]["what"]
    assert reason(failed.value)[1]["errinfo"]["path"] == "processing.saving.base_path"
    assert front.state == "idle"
    assert front.control.runs in (None, ())
    assert "missing" in front.control.front_error
    assert "refused" in front.control.status()
    front.set(saving_directory=str(tmp_path))
    assert front.acquire().phase == "done"


def test_a_master_that_must_not_be_overwritten_refuses_the_run(front, tmp_path):
    front.set(saving_enabled=True, saving_directory=str(tmp_path), saving_prefix="a")
    (tmp_path / "a_master_00000.h5").touch()

    with pytest.raises(tango.DevFailed) as failed:
        front.control.prepareAcq()

    told = reason(failed.value)[1]
    assert told["what"].startswith("processing.saving.file_exists_policy: ")
    assert "a_master_00000.h5 exists" in told["what"]
    assert told["errinfo"]["path"] == "processing.saving.file_exists_policy"
    assert front.state == "idle"
    assert front.control.runs in (None, ())
    front.set(saving_overwrite_policy="overwrite")
    assert front.acquire().phase == "done"


def test_a_run_that_cannot_fit_on_the_disk_is_refused(front, tmp_path):
    front.set(acq_nb_frames=2_000_000, image_roi=[0] * 4, saving_compression="none")
    front.set(saving_enabled=True, saving_directory=str(tmp_path))

    with pytest.raises(tango.DevFailed) as failed:
        front.control.prepareAcq()

    assert "GiB left" in reason(failed.value)[1]["what"]
    assert front.state == "idle"


def test_a_run_that_may_not_fit_is_warned_of(front, tmp_path):
    frames = 20 * shutil.disk_usage(tmp_path).free // 2048**2
    front.set(acq_nb_frames=frames, image_roi=[0] * 4)
    front.set(saving_enabled=True, saving_directory=str(tmp_path))

    front.prepare()

    # Another one may tell that a queue was full in an earlier run.
    (warning,) = [one for one in front.control.preflight if "only if they are compressed" in one]
    assert warning in front.control.status()


# -- notes ---------------------------------------------------------------------------------------


def note(device, name, value, **more):
    return device.addNote(json.dumps({"name": name, "value": value, **more}))


def test_notes_are_in_the_master_file_from_prepare_to_the_last_frame(front, tmp_path):
    front.set(acq_nb_frames=ENDLESS, saving_enabled=True, saving_directory=str(tmp_path))
    run = front.prepare()
    began_s = time.time()
    times_s = [note(run.device, "temperature", 293.2, unit="K")]
    front.control.startAcq()
    wait_until(lambda: front.control.frames_saved > 4, "some frames")
    times_s.append(note(front.control, "temperature", 294))
    note(run.device, "slits", [1, math.nan])
    told = json.loads(run.device.notes)
    front.control.stopAcq()
    run.wait_ended()
    with pytest.raises(tango.DevFailed, match="takes no more notes: all its frames are saved"):
        note(run.device, "temperature", 295)

    assert began_s - 1 < times_s[0] < times_s[1] < time.time() + 1
    assert told["temperature"] == {"value": 294, "unit": "K", "time": times_s[1], "count": 2}
    assert told["slits"]["value"] == [1, None]
    (path,) = tmp_path.glob("*_master.h5")
    with h5py.File(path) as file:
        log = file["entry_0000/notes/temperature"]
        assert log["value"][:].tolist() == [293.2, 294]
        assert log["time"][:].tolist() == times_s
        assert log["value"].attrs["units"] == "K"
        assert sorted(file["entry_0000/notes"]) == ["slits", "temperature"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "no JSON"),
        ("[]", "expected an object"),
        ('{"name": "a/b", "value": 1}', "is no name"),
        ('{"name": "a", "value": null}', "flat list"),
    ],
)
def test_notes_that_cannot_be_kept_are_refused(front, text, sentence):
    front.prepare()

    with pytest.raises(tango.DevFailed, match=sentence):
        front.control.addNote(text)


def test_a_run_that_was_given_up_takes_no_notes(front):
    run = front.prepare()
    front.control.abortAcq()

    with pytest.raises(tango.DevFailed, match="given up before its start"):
        note(run.device, "a", 1)


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "path", "leaf"),
    [
        ("acq_nb_frames", 7, "acquisition.acq.nb_frames", 7),
        ("acq_expo_time", 0.25, "acquisition.acq.expo_time", 250_000),
        ("latency_time", 0.001, "acquisition.acq.latency_time", 1000),
        ("acq_trigger_mode", 1, "acquisition.acq.trigger_mode", "software"),
        ("image_flip", 2, "acquisition.img.flip", "up_down"),
        ("saving_enabled", True, "processing.saving.enabled", True),
        ("saving_directory", "/data", "processing.saving.base_path", "/data"),
        ("saving_prefix", "abc", "processing.saving.filename_prefix", "abc"),
        ("saving_overwrite_policy", "overwrite", "processing.saving.file_exists_policy", None),
        ("saving_frame_per_file", 9, "processing.saving.nb_frames_per_file", 9),
        ("saving_compression", "none", "processing.saving.compression", "none"),
        ("deferred_processing", True, "deferred", True),
        ("user_metadata", '{"a": 1}', "metadata", {"a": 1}),
    ],
)
def test_everyday_parameters_are_leaves_of_all_parameters(front, name, value, path, leaf):
    front.set(**{name: value})

    place = front.params()
    for part in path.split("."):
        place = place[part]
    assert place == (value if leaf is None else leaf)
    assert front.control.read_attribute(name).value == value


def test_the_parameters_of_the_front_are_not_those_of_the_detector(front):
    before = front.control.acq_params

    front.set(acq_nb_frames=77)

    assert front.control.acq_params == before
    assert json.loads(front.control.acq_params)["acq"]["nb_frames"] != 77


def test_parameters_may_come_with_the_prepare(front):
    asked = front.params()
    asked["acquisition"]["acq"]["nb_frames"] = 7
    front.set(acq_nb_frames=3)

    run = front.run(front.control.prepareWith(json.dumps(asked)))

    assert run.device.acq_nb_frames == 7
    assert front.control.acq_nb_frames == 7
    for wrong, sentence in (
        ("{", "no JSON"),
        ('{"acquisition": {"acq": {"nb_frames": -1}}}', "acquisition.acq.nb_frames: "),
        ('{"acquisition": {"acq": {"expo_time": 100000000}}}', "acquisition.acq.expo_time: "),
        ('{"processing": {"saving": {"enabled": 3, "prefix": 1}}}', "processing.saving.prefix: "),
    ):
        with pytest.raises(tango.DevFailed) as failed:
            front.control.prepareWith(wrong)
        assert sentence in reason(failed.value)[1]["what"]
    assert front.control.acq_nb_frames == 7
    assert (front.state, run.phase) == ("prepared", "prepared")


def test_clients_that_prepare_at_once_each_get_what_they_asked_for(front):
    trees = []
    for nb_frames in (1, 2, 3, 4):
        tree = front.params()
        tree["acquisition"]["acq"]["nb_frames"] = nb_frames
        trees.append(tree)
    prepared = {}
    together = threading.Barrier(len(trees))

    def prepare(tree):
        with tango.EnsureOmniThread():
            device = front.proxy(CONTROL)
            for _ in range(5):
                together.wait(PATIENCE_S)
                run = front.run(device.prepareWith(json.dumps(tree)))
                # Runs that were given up are forgotten once there are more of them.
                together.wait(PATIENCE_S)
                asked = json.loads(run.device.parameters)["acquisition"]["acq"]["nb_frames"]
                prepared.setdefault(tree["acquisition"]["acq"]["nb_frames"], set()).add(asked)

    workers = [Worker(f"client-{n}", partial(prepare, tree)) for n, tree in enumerate(trees)]

    assert all(worker.join(20) for worker in workers)
    assert prepared == {n: {n} for n in (1, 2, 3, 4)}


def test_what_became_of_sums_is_told_whether_they_are_saved_or_not(front, tmp_path):
    front.set(acq_nb_frames=8)
    front.change(
        {
            "acquisition.det.dropped_frame_idx": 3,
            "processing.accumulation.enabled": True,
            "processing.accumulation.nb_frames": 2,
        }
    )
    found = []
    for saved in (False, True):
        front.set(saving_enabled=saved, saving_directory=str(tmp_path))
        run = front.acquire()
        assert json.loads(run.device.sources)["frame"]["depth"] == 2
        _, block = run.device.readSourceLedger('{"source": "frame"}')
        tree, arrays = unpack(block)
        assert (tree["first"], tree["end"]) == (0, 4)
        found.append(arrays["code"].tolist())

    # Frame 3 is in the first sum of receiver 1.
    assert found == [[0, 1, 0, 0]] * 2
    with pytest.raises(tango.DevFailed, match="give one of the sources"):
        run.device.readSourceLedger('{"source": "raw"}')


def test_regions_give_a_stream_of_statistics(front):
    front.set(statistics_rois="[[0, 0, 10, 10], [24, 16, 0, 8, 0, 360]]")

    run = front.acquire()
    cursor = run.device.openCursor("roi_statistics")
    tree, records = run.read(cursor)

    assert json.loads(front.control.statistics_rois) == [[0, 0, 10, 10], [24, 16, 0, 8, 0, 360]]
    assert tree == {"stream": "roi_statistics", "first": 0, "finished": True}
    assert records["frame_idx"].tolist() == [idx for idx in range(10) for _ in range(2)]
    front.set(statistics_rois="[]")
    assert front.params()["processing"]["statistics"]["enabled"] is False


def test_the_schema_of_all_parameters_is_in_the_database(front, devices):
    schema = json.loads(devices.schema("LimaSimulatorControl", "front_params"))

    assert set(schema["properties"]) == set(front.params())


# -- what can be seen ----------------------------------------------------------------------------


def test_changes_are_pushed(front):
    watched = {
        name: Events(front.control, name, tango.EventType.CHANGE_EVENT)
        for name in ("front_state", "run_phase", "acq_nb_frames", "frames_received", "last_image")
    }
    front.set(acq_nb_frames=30)
    front.acquire()

    wait_until(lambda: watched["acq_nb_frames"].seen[-1] == 30, "the number asked for")
    wait_until(lambda: watched["frames_received"].seen[-1] == 30, "the last count")
    wait_until(lambda: watched["run_phase"].seen[-1] == DONE, "the end of the run")
    wait_until(lambda: len(watched["last_image"].seen) > 1, "an image")
    assert watched["front_state"].seen[-1] == 0
    # What was written before the subscription may be told after it.
    assert list(dict.fromkeys(watched["acq_nb_frames"].seen)) == [10, 30]
    for events in watched.values():
        events.close()


def test_the_live_image_changes_and_is_reduced(front):
    front.set(acq_nb_frames=ENDLESS, acq_expo_time=0.02, image_max_size=16)
    front.control.acquire()
    wait_until(lambda: front.control.last_image.shape == (11, 16), "a reduced image")

    maxima = set()
    wait_until(
        lambda: maxima.add(front.control.last_image.max()) or len(maxima) > 2, "other images"
    )

    assert front.control.last_image.dtype == np.float32
    front.set(image_max_size=512)
    wait_until(lambda: front.control.last_image.shape == (32, 48), "a whole image")
    front.control.stopAcq()


def test_images_are_there_or_not_available_yet(front):
    front.set(acq_trigger_mode="software", acq_nb_frames=2)
    run = front.prepare()
    assert run.device.last_image_ready == -1
    for device in (run.device, front.control):
        for idx in (-1, 0):
            with pytest.raises(tango.DevFailed) as failed:
                device.readImage(idx)
            assert "not available yet" in failed.value.args[0].desc
    front.control.startAcq()
    front.control.triggerAcq()
    wait_until(lambda: run.device.last_image_ready == 0, "the first frame")

    assert run.image(0).shape == (32, 48)
    assert run.image(-1).max() == image_of(0)
    assert run.frame("0").data.shape == (1, 32, 48)
    assert run.frame('{"source": "input_frame", "idx": -1}').idx == 0
    with pytest.raises(tango.DevFailed, match="not available yet"):
        run.image(1)
    with pytest.raises(tango.DevFailed, match="the run has 2"):
        run.image(2)
    with pytest.raises(tango.DevFailed, match="there are no frames"):
        run.frame('{"source": "nothing"}')
    with pytest.raises(tango.DevFailed, match="neither a number"):
        run.frame("first")


def test_clients_with_cursors_do_not_take_each_others_records(front):
    front.set(acq_nb_frames=40, statistics_rois="[[0, 0, 48, 32]]")
    run = front.prepare()
    early = [run.device.openCursor("roi_statistics") for _ in range(2)]
    front.control.startAcq()
    first = []
    wait_until(lambda: first.extend(run.read(early[0])[1]["frame_idx"]) or len(first) == 40, "all")
    run.wait_ended()

    second = run.read(early[1])[1]["frame_idx"].tolist()
    late = run.read(run.device.openCursor("roi_statistics"))[1]["frame_idx"].tolist()

    assert first == second == late == list(range(40))
    run.device.closeCursor(early[0])
    with pytest.raises(tango.DevFailed, match="is not known"):
        run.read(early[0])
    with pytest.raises(tango.DevFailed, match="there are: roi_statistics"):
        run.device.openCursor("nothing")
    assert json.loads(run.device.streams)["roi_statistics"]["rows_per_frame"] == 1


def test_a_run_tells_what_it_was_asked_for(front):
    front.set(user_metadata='{"sample": "B"}')

    run = front.acquire()

    parameters = json.loads(run.device.parameters)
    assert parameters["metadata"] == {"sample": "B"}
    assert parameters["topology"] == "round_robin"
    assert parameters["applied"]["acq"]["nb_frames"] == 10
    assert json.loads(run.device.sources)["frame"]["accessible"] == 10
    progress = json.loads(run.device.progress)
    assert (progress["received"], progress["processed"], progress["percent"]) == (10, 10, 100)
    assert progress["time_to_overrun_s"] is None
    assert (run.device.acq_mode, run.device.acq_nb_frames) == ("SINGLE", 10)
    assert math.isinf(front.control.time_to_overrun)


def test_it_says_why_nothing_happens(front):
    front.set(acq_trigger_mode="software")
    front.control.acquire()

    wait_until(lambda: front.control.stuck.startswith("no trigger (software) seen for"), "why")

    wait_until(lambda: "Stuck: no trigger" in front.control.status(), "why, in the status")
    front.control.triggerAcq()
    wait_until(lambda: front.control.stuck == "", "a trigger")


# -- other clients -------------------------------------------------------------------------------


def test_an_acquisition_of_another_client_is_seen_and_not_disturbed(front, system):
    front.acquire()
    run = system.prepare(system.acquisition({"acq.nb_frames": 0, "acq.expo_time": 10_000}))
    seen = [front.state]
    system.start()
    seen.append(front.state)
    with pytest.raises(tango.DevFailed) as failed:
        front.control.prepareAcq()
    front.control.stopAcq()
    front.control.abortAcq()
    went_on = system.states()
    system.stop()
    system.finish(run)

    assert seen == ["foreign", "foreign"]
    assert f"another client ({run.acq_id})" in reason(failed.value)[1]["what"]
    assert went_on == [2, 2, 2]
    assert sum(system.xferred()) > 0
    assert front.acquire().phase == "done"


def test_a_receiver_that_works_for_another_client_is_left_alone(front, system):
    front.acquire()
    acquisition = system.acquisition({"acq.nb_frames": 0, "acq.expo_time": 10_000})
    system.write(acquisition, system.processing())
    acq_id = "0f3a4b5c-1d2e-11f0-8b7a-0242ac120002"
    system.receivers[1].Prepare(acq_id)
    system.receivers[1].Start()

    with pytest.raises(tango.DevFailed) as failed:
        front.control.prepareAcq()

    assert (
        f"simulator2 is busy with an acquisition of another client ({acq_id})"
        in (reason(failed.value)[1]["what"])
    )
    assert int(system.receivers[1].acq_state) == 2
    sentence = "simulator2 is taking frames for another client"
    wait_until(lambda: sentence in front.control.status(), "the receiver to be noticed")
    assert front.state == "foreign"
    front.control.resetAcq()
    wait_until(lambda: int(system.receivers[1].acq_state) == 0, "the receiver at rest")


def test_foreign_clients_find_the_devices_as_ever_after_the_front(front, system):
    front.acquire()

    run = system.acquire(system.acquisition({"acq.nb_frames": 4}))

    assert system.xferred() == [2, 2]
    assert run.counters()[0]["nb_frames_source"] == 2
