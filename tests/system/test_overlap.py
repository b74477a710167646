"""The next acquisition starts while the one before is still being saved (G5), over Tango."""

import contextlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.system.lab import SMALL, expected
from tests.tango.devices import IDLE, PREPARED, changed, wait_until

LARGE = {"topleft": {"x": 512, "y": 512}, "dimensions": {"x": 1024, "y": 1024}}
# Frames of floats that hardly shrink: 4 MiB that take 100 ms each to be packed.
SLOW = {"img.roi": LARGE, "det.generator.pixel_type": "gray32f"}


@pytest.fixture
def system(lab):
    """The devices, driven without the conductor."""
    yield lab.system
    lab.system.clear()


@pytest.fixture
def one_core(plain_lab):
    """Both receivers share a core: what takes long takes seconds, however many cores there are."""
    pids = [plain_lab.servers.pid(f"simulator_rcv{number}") for number in (1, 2)]
    cores = os.sched_getaffinity(0)

    def bind(cores):
        for pid in pids:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    os.sched_setaffinity(int(thread.name), cores)

    bind({min(cores)})  # threads of a run are begun by these
    yield
    bind(cores)


def files(folder, prefix, nb_frames):
    """Frames of both receivers by their index."""
    frames = {}
    for path in sorted(folder.glob(f"{prefix}_*.h5")):
        receiver, number = (int(part) for part in path.stem.split("_")[-2:])
        with h5py.File(path) as file:
            for row, image in enumerate(file["entry_0000/measurement/data"][()]):
                frames[2 * (10 * number + row) + receiver] = image
    assert sorted(frames) == list(range(nb_frames))
    return np.stack([frames[idx] for idx in range(nb_frames)])


def saving(system, folder, prefix, changes=None):
    return system.processing(
        changes={
            "saving.enabled": True,
            "saving.base_path": str(folder),
            "saving.filename_prefix": prefix,
            "saving.nb_frames_per_file": 10,
            **(changes or {}),
        }
    )


def test_two_acquisitions_overlap_and_both_are_right(system, one_core, tmp_path):
    slow = saving(system, tmp_path, "slow", {"saving.compression": "zip"})
    quick = saving(system, tmp_path, "quick")
    large = system.acquisition({"acq.nb_frames": 40, "det.nb_prefetch_frames": 5, **SLOW})

    first = system.prepare(large, slow)
    system.start()
    system.wait_receivers(IDLE)
    system.control.Close()
    second = system.prepare(system.acquisition({"acq.nb_frames": 40}), quick)
    prepared = system.states()
    system.start()
    saved = [counters["nb_frames_saved"] for counters in first.counters()]
    both = [list(receiver.pipelines)[-2:] for receiver in system.receivers]
    still_saving = [device.is_finished for device in first.devices]
    second.wait_finished()
    first.wait_finished(40)
    system.control.Close()

    assert prepared == [PREPARED, PREPARED, PREPARED]
    assert still_saving == [False, False]
    assert max(saved) < 20
    assert both == [[first.acq_id, second.acq_id]] * 2
    for run, prefix, nb_frames, period in ((first, "slow", 40, 5), (second, "quick", 40, 4)):
        images = files(tmp_path, prefix, nb_frames)
        assert [round(float(image.max())) for image in images] == [
            expected(idx, period) for idx in range(nb_frames)
        ]
        for idx in (0, 1, nb_frames - 2, nb_frames - 1):
            assert np.array_equal(images[idx], run.image(idx % 2, idx)[0])
        assert [len(events.seen) for events in (*run.finished, *run.failed)] == [1, 1, 0, 0]
        assert [c["nb_frames_saved"] for c in run.counters()] == [nb_frames // 2] * 2


def test_a_run_that_is_erased_while_it_is_saved_goes_on_to_its_end(system, one_core, tmp_path):
    late = {"saving.compression": "zip", "saving.nb_frames_per_file": 20}
    slow = saving(system, tmp_path, "slow", late)
    large = system.acquisition({"acq.nb_frames": 40, **SLOW})
    first = system.prepare(large, slow)
    system.start()
    system.wait_receivers(IDLE)
    system.control.Close()
    still_saving = [not device.is_finished for device in first.devices]
    for receiver in system.receivers:
        receiver.erasePipeline(first.acq_id)

    second = system.acquire(system.acquisition({"acq.nb_frames": 4}))
    complete = [tmp_path / f"slow_{receiver}_00000.h5" for receiver in range(2)]

    def lengths():
        found = []
        for path in complete:
            try:
                with h5py.File(path) as file:
                    found.append(len(file["entry_0000/measurement/data"]))
            except OSError:  # still locked
                return None
        return found

    assert still_saving == [True, True]
    assert wait_until(lengths, "the files of the erased run", 40) == [20, 20]
    images = files(tmp_path, "slow", 40)
    assert [round(float(image.max())) for image in images] == [
        expected(idx, 4) for idx in range(40)
    ]
    assert [list(receiver.pipelines) for receiver in system.receivers] == [[second.acq_id]] * 2


def test_a_reset_lets_the_frames_that_came_be_saved(system, tmp_path):
    run = system.prepare(system.acquisition({"acq.nb_frames": 0}), saving(system, tmp_path, "kept"))
    system.start()
    wait_until(lambda: sum(system.xferred()) > 40, "some frames", 20)
    system.reset()
    states = system.states()
    run.wait_finished()
    received = system.xferred()

    assert states == [IDLE, IDLE, IDLE]
    assert [counters["nb_frames_saved"] for counters in run.counters()] == received


def test_a_failure_of_one_run_does_not_touch_the_other(system, one_core, tmp_path):
    folder = tmp_path / "away"
    folder.mkdir()
    large = system.acquisition({"acq.nb_frames": 40, **SLOW})
    late = {"saving.compression": "zip", "saving.nb_frames_per_file": 15}
    first = system.prepare(large, saving(system, folder, "slow", late))
    system.start()
    system.wait_receivers(IDLE)
    system.control.Close()
    begun = [folder / f"slow_{receiver}_00000.h5" for receiver in range(2)]
    wait_until(lambda: all(path.exists() for path in begun), "the first files", 20)
    folder.rename(tmp_path / "moved")  # the next file of the first run cannot be made

    second = system.prepare(
        system.acquisition({"acq.nb_frames": 40, "img.roi": SMALL}),
        changed(saving(system, tmp_path, "quick"), {"saving.nb_frames_per_file": 10}),
    )
    system.start()
    second.wait_finished()
    first.wait_finished(30)
    system.control.Close()

    assert [len(events.seen) for events in first.failed] == [1, 1]
    assert json.loads(first.devices[0].last_error)["errinfo"]["code"] == "storage"
    assert system.states() == [IDLE, IDLE, IDLE]
    assert [receiver.last_error for receiver in system.receivers] == ["No error"] * 2
    assert [len(events.seen) for events in second.failed] == [0, 0]
    assert len(files(tmp_path, "quick", 40)) == 40
