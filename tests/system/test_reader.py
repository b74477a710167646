"""The camera that plays files, driven by the conductor with what a simulated run has saved."""

import h5py
import numpy as np
import pytest
from lima2.common.exceptions import Lima2BackendError

from tango_servers.deployment import load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tests.system.lab import Lab, expected
from tests.tango.devices import wait_until

DATA = "/entry_0000/instrument/detector/data"
NB_FRAMES = 21
FIRST_FILES = {"acq.nb_frames": 8, "det.dataset_path": DATA, "det.nb_frames_per_file": 4}


@pytest.fixture(scope="module")
def reader_lab(tmp_path_factory):
    """A control and two receivers that play files, and the conductor."""
    folder = tmp_path_factory.mktemp("reader")
    with (
        EmbeddedDatabase(folder, load_deployment("reader_2")) as database,
        Lab(folder, database.tango_host, "reader_2") as lab,
    ):
        yield lab


@pytest.fixture
def reader(reader_lab):
    """The system that plays files, at rest; brought to rest afterwards."""
    yield reader_lab
    reader_lab.recover()


@pytest.fixture(scope="module")
def recorded(plain_lab, tmp_path_factory):
    """The folder of a simulated run: 11 and 10 frames in files of 4."""
    folder = tmp_path_factory.mktemp("recorded")
    plain_lab.acquire(
        plain_lab.acquisition({"acq.nb_frames": NB_FRAMES}),
        plain_lab.saving(folder, {"saving.nb_frames_per_file": 4}),
    )
    plain_lab.recover()
    return folder


def peaks(folder):
    with h5py.File(folder / "lima2_master.h5") as master:
        return [image.max() for image in master[DATA]]


def test_the_reader_is_found_with_the_size_of_its_frames(reader, recorded):
    file = f"{recorded / 'lima2_master.h5'}::{DATA}"
    reader.acquire(reader.acquisition({"acq.nb_frames": 3, "det.file": file}))

    info = reader.client.detector.info()
    assert info["plugin"] == "Reader"
    assert info["dimensions"] == {"x": 48, "y": 32}
    assert reader.client.detector.version() == "core-1.2.0"


def test_a_series_of_files_is_played_and_saved_pixel_by_pixel(reader, recorded, tmp_path):
    series = {
        "acq.nb_frames": 0,  # all there are
        "det.base_path": str(recorded),
        "det.nb_frames_per_file": 4,
    }
    reader.prepare(reader.acquisition(series), reader.saving(tmp_path))
    reader.start()
    reader.wait_end()

    with h5py.File(recorded / "lima2_0_00000.h5") as first:
        image = first[DATA][0]
    assert reader.system.xferred() == [6, 5]
    assert np.array_equal(reader.frame(0).reshape(32, 48), image)
    assert peaks(tmp_path) == [expected(2 * idx) for idx in range(11)]


def test_a_single_file_is_played_as_fast_as_it_can_be_read(reader, recorded, tmp_path):
    tree = reader.acquisition(
        {
            "acq.nb_frames": NB_FRAMES,
            "acq.expo_time": 1_000_000,
            "det.file": f"{recorded / 'lima2_master.h5'}::{DATA}",
            "det.as_fast_as_possible": True,
        }
    )
    reader.acquire(tree, reader.saving(tmp_path), timeout_s=15)  # by the clock it were 21 s

    with (
        h5py.File(recorded / "lima2_master.h5") as played,
        h5py.File(tmp_path / "lima2_master.h5") as saved,
    ):
        assert np.array_equal(played[DATA][()], saved[DATA][()])


def test_a_part_of_the_frames_is_played_again_and_again(reader, recorded):
    tree = reader.acquisition(
        {
            "acq.nb_frames": 10,
            "det.base_path": str(recorded),
            "det.filename_rank": 1,
            "det.nb_frames_per_file": 4,
            "det.frame_slice": {"start": 1, "count": 3, "stride": 2},
            "det.loop": True,
        }
    )
    reader.acquire(tree)

    # Of receiver 1, rows 1, 3 and 5: frames 3, 7 and 11 of the recorded run.
    assert [reader.frame(idx).max() for idx in range(10)] == [
        expected((3, 7, 11)[idx % 3]) for idx in range(10)
    ]


def test_software_triggers_play_one_frame_each(reader, recorded):
    tree = reader.acquisition(
        {
            "acq.nb_frames": 5,
            "acq.trigger_mode": "software",
            "det.base_path": str(recorded),
            "det.nb_frames_per_file": 4,
        }
    )
    reader.prepare(tree)
    reader.start()
    for point in range(1, 6):
        reader.client.acquisition.trigger()
        wait_until(lambda n=point: sum(reader.system.xferred()) == n, f"frame {point}", 20)
    reader.wait_end()


def test_an_endless_loop_is_ended_by_a_stop(reader, recorded):
    tree = reader.acquisition(
        {
            "acq.nb_frames": 0,
            "det.base_path": str(recorded),
            "det.nb_frames_per_file": 4,
            "det.loop": True,
        }
    )
    reader.prepare(tree)
    reader.start()
    wait_until(lambda: sum(reader.system.xferred()) > 60, "some frames", 20)
    reader.client.acquisition.stop()
    reader.wait_end(5)

    first, second = reader.system.xferred()
    assert first - second in (0, 1)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"det.base_path": "/nowhere"}, "det"),
        ({"det.filename_prefix": "other"}, "det"),
        ({"det.dataset_path": "/nothing"}, "det"),
        ({"det.dataset_path": "/entry_0000/instrument/detector/validity"}, "det"),
        ({"det.file": "/etc/passwd"}, "det.file"),
        ({"acq.nb_frames": 12}, "acq.nb_frames"),
        ({"det.frame_slice": {"start": 11, "count": 0, "stride": 1}}, "det.frame_slice"),
        ({"img.binning": {"x": 2, "y": 1}}, "img.binning"),
        ({"acq.trigger_mode": "external"}, "acq.trigger_mode"),
    ],
)
def test_files_that_cannot_be_played_are_refused_at_prepare(
    reader, recorded, tmp_path, changes, path
):
    series = {"acq.nb_frames": 1, "det.base_path": str(recorded), "det.nb_frames_per_file": 4}
    tree = reader.acquisition({**series, **changes})

    with pytest.raises(Lima2BackendError) as refusal:
        reader.prepare(tree, reader.saving(tmp_path))

    assert f"Reason: {path}" in str(refusal.value), refusal.value
    assert "Failed to execute" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []
    reader.prepare(reader.acquisition(series))


def test_frames_of_another_shape_in_a_later_file_are_refused_with_both_shapes(reader, tmp_path):
    for number in range(2):
        with h5py.File(tmp_path / f"lima2_0_{number:05d}.h5", "w") as file:
            file[DATA] = np.zeros((4, 32, 48 - number), np.uint8)
    tree = reader.acquisition(
        {
            "acq.nb_frames": 8,
            "det.base_path": str(tmp_path),
            "det.dataset_path": DATA,
            "det.nb_frames_per_file": 4,
        }
    )

    with pytest.raises(Lima2BackendError, match=r"Reason: det\.") as refusal:
        reader.prepare(tree)

    for shape in ("(1, 32, 47)", "(1, 32, 48)"):
        assert shape in str(refusal.value)


def test_a_file_that_goes_away_faults_the_run_with_its_frame(reader, tmp_path):
    for number in range(3):
        with h5py.File(tmp_path / f"lima2_0_{number:05d}.h5", "w") as file:
            file[DATA] = np.zeros((4, 32, 48), np.uint8)
    tree = reader.acquisition(
        {
            "acq.nb_frames": 12,
            "acq.trigger_mode": "software",
            "det.base_path": str(tmp_path),
            "det.dataset_path": DATA,
            "det.nb_frames_per_file": 4,
            "det.nb_prefetch_frames": 1,
        }
    )
    reader.prepare(tree)
    (tmp_path / "lima2_0_00002.h5").unlink()
    reader.start()
    for _ in range(9):  # the last one is for the missing file; then the run takes no more
        reader.client.acquisition.trigger()
    reader.wait_failed()
    reader.wait_end()
    failure = reader.failure()
    reader.client.acquisition.reset()

    assert any("lima2_0_00002.h5" in error for error in failure.acquisition_errors)
    assert any("frame 8" in error for error in failure.acquisition_errors)
    assert reader.state() == "IDLE"
    reader.prepare(reader.acquisition({**FIRST_FILES, "det.base_path": str(tmp_path)}))
