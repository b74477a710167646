"""What fails in the middle ends in a defined state, with its cause, and can be got over."""

import json
import subprocess

import pytest

from lima2_core.data.frame import Validity
from tests.system.lab import expected, saved_frames
from tests.tango.devices import FAULT, IDLE, NO_ERROR


def test_a_failing_detector_faults_the_system_until_reset(lab, tmp_path):
    tree = lab.acquisition({"acq.nb_frames": 3000, "det.failed_frame_idx": 41})
    lab.prepare(tree, lab.saving(tmp_path))
    lab.start()
    lab.wait_failed()
    lab.wait_end()
    failure = lab.failure()
    states = lab.system.states()
    lab.client.acquisition.reset()

    assert any("fails at frame 41" in error for error in failure.acquisition_errors)
    assert states[1:] == [IDLE, FAULT]
    frames, validity = saved_frames(tmp_path, 1)
    assert validity == [Validity.VALID] * 20  # frames 1 to 39
    assert [frame.max() for frame in frames] == [expected(idx) for idx in range(1, 40, 2)]
    assert lab.state() == "IDLE"
    lab.acquire(lab.acquisition({"acq.nb_frames": 6}))
    assert [receiver.last_error for receiver in lab.system.receivers] == [NO_ERROR] * 2


def test_a_folder_that_goes_away_ends_the_run_with_the_cause(lab, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    acq_id = lab.prepare(lab.acquisition({"acq.nb_frames": 3000}), lab.saving(folder))
    folder.rename(tmp_path / "elsewhere")
    lab.start()
    lab.wait_failed()
    lab.wait_end()
    failure = lab.failure()
    lab.client.acquisition.reset()

    assert any(str(folder) in error for error in failure.processing_errors)
    names = [lab.system.processing_name(acq_id, n) for n in range(2)]
    errors = [json.loads(lab.system.proxy(name).last_error) for name in names]
    assert {error["errinfo"]["code"] for error in errors} == {"storage"}
    lab.acquire(lab.acquisition({"acq.nb_frames": 6}))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no program 'mount'")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_the_cause_and_all_earlier_frames_readable(lab, small_disk):
    whole = {"topleft": {"x": 512, "y": 512}, "dimensions": {"x": 512, "y": 512}}
    tree = lab.acquisition({"acq.nb_frames": 4000, "acq.expo_time": 2000, "img.roi": whole})
    saving = {"saving.compression": "none", "saving.nb_frames_per_file": 6}
    acq_id = lab.prepare(tree, lab.saving(small_disk, saving))
    lab.start()
    lab.wait_failed()
    lab.wait_end()
    failure = lab.failure()
    states = lab.system.states()
    counters = lab.counters(acq_id)
    lab.client.acquisition.reset()

    assert any("No space left" in error for error in failure.processing_errors)
    assert set(states[1:]) <= {IDLE, FAULT}
    assert FAULT in states
    total = 0
    for receiver in range(2):
        frames, validity = saved_frames(small_disk, receiver)
        good = [frame for frame, code in zip(frames, validity, strict=True) if code == 0]
        assert len(good) == counters[receiver]["nb_frames_saved"]
        indices = range(receiver, 2 * len(good), 2)
        peaks = [
            round(frame.max() / (1 + 0.1 * (i % 16)))
            for frame, i in zip(good, indices, strict=True)
        ]
        assert len(set(peaks)) == 1
        total += len(good)
    assert total >= 20  # of 256 KiB each
    for path in small_disk.iterdir():
        path.unlink()
    lab.acquire(lab.acquisition({"acq.nb_frames": 6}), lab.saving(small_disk))


@pytest.mark.timeout(200)  # most of the time the conductor sleeps between two looks
def test_a_hundred_short_acquisitions_in_a_row_all_end(lab, tmp_path):
    saving = lab.saving(tmp_path, {"saving.file_exists_policy": "overwrite"})
    for number in range(100):
        nb_frames = 1 + number % 2
        lab.acquire(
            lab.acquisition({"acq.nb_frames": nb_frames}),
            saving if number % 10 == 9 else None,
        )

        assert lab.client.acquisition.nb_frames_xferred() == nb_frames
        assert lab.client.pipeline.progress() == nb_frames
