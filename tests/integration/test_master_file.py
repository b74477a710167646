"""A coordinator with two receivers in this process, and the masters of its runs."""

from contextlib import closing

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest

from camera_plugins.simulator.params import GeneratorParams
from camera_plugins.simulator.patterns import draw
from camera_plugins.simulator.view import view_of
from lima2_core import registry
from lima2_core.camera.api import CameraEnv
from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import ImageParams
from lima2_core.data.frame import Validity
from lima2_core.service.control import ControlService
from lima2_core.service.link import FanOut
from lima2_core.service.receiver import ReceiverService, ReceiverSettings
from lima2_core.state.device import AcqState
from lima2_core.state.system import Phase
from lima2_core.system.coordinator import Coordinator
from lima2_core.system.local import LocalControl, LocalReceiver
from lima2_core.system.run import SystemOrder
from lima2_core.testing.doubles import eventually
from processing.outputs.master import MasterOutput

pytestmark = pytest.mark.usefixtures("patient_commands")

ROWS, COLS = 48, 64
DETECTOR = "entry_0000/instrument/detector"
IMAGES = 16
GENERATOR = {
    "type": "gauss",
    "pixel_type": "gray16",
    "gauss": {
        "peaks": [{"x0": 20.0, "y0": 10.0, "fwhm": 30.0, "max": 1000.0}],
        "grow_factor": 0.125,
    },
}


class System:
    """One control, two receivers, and the outputs of every run."""

    def __init__(self, segment_frames):
        plugin = registry.load(registry.CAMERAS, "Simulator")
        env = CameraEnv({"rows": str(ROWS), "cols": str(COLS)})
        self.receivers = [
            ReceiverService(
                f"r{n}", plugin, env, lambda n=n: Share(n, 2), ReceiverSettings(2, 2**28)
            )
            for n in range(2)
        ]
        self.link = FanOut({r.name: r.deliver for r in self.receivers}, lambda *_: None)
        self.control = ControlService("c", plugin, env, self.link, lambda: 2)
        self.coordinator = Coordinator(
            LocalControl(self.control),
            [LocalReceiver(receiver) for receiver in self.receivers],
            outputs=lambda: [MasterOutput(segment_frames)],
        )

    def prepare(self, folder, nb_frames, *, det=None, deferred=False, expo_us=100, **saving):
        saving = {"base_path": str(folder), "nb_frames_per_file": 10, **saving}
        return self.coordinator.prepare(
            SystemOrder(
                {
                    "acq": {"nb_frames": nb_frames, "expo_time": expo_us, "latency_time": 0},
                    "det": {"generator": GENERATOR, **(det or {})},
                },
                {"class_name": "LimaProcessingLegacy", "saving": {"enabled": True, **saving}},
                deferred=deferred,
            )
        )

    def run(self, folder, nb_frames, **changed):
        run = self.prepare(folder, nb_frames, **changed)
        self.coordinator.start()
        assert eventually(lambda: has_ended(run))
        return run

    def close(self):
        self.coordinator.close()
        self.control.close()
        for receiver in self.receivers:
            receiver.close()
        self.link.close()


def has_ended(run):
    return run.phase in (Phase.DONE, Phase.INCOMPLETE)


@pytest.fixture
def system():
    with closing(System(segment_frames=25)) as system:
        yield system


@pytest.fixture(scope="module")
def images():
    """What the simulator shows; frame n is image n % IMAGES."""
    found = np.empty((IMAGES, ROWS, COLS), np.uint16)
    view = view_of(ImageParams(), ROWS, COLS)
    targets = [image[None] for image in found]
    draw(GeneratorParams.model_validate(GENERATOR), view, (ROWS, COLS), targets)
    return found


def check(path, images, nb_frames, lost=()):
    """Every pixel of every frame, in the index and in the segments."""
    expected = images[np.arange(nb_frames) % IMAGES].copy()
    expected[list(lost)] = 0
    with h5py.File(path) as file:
        assert np.array_equal(file["entry_0000/measurement/data"], expected)
        segments = file[f"{DETECTOR}/segments"]
        assert np.array_equal(np.concatenate([segments[name] for name in segments]), expected)
        codes = file[f"{DETECTOR}/validity"][:]
        told = dict(file["entry_0000/ledger"].attrs)
    assert np.flatnonzero(codes != Validity.VALID).tolist() == list(lost)
    assert told["adds_up"]
    assert told["VALID"] == nb_frames - len(lost)


@pytest.mark.parametrize("mode", ["round_robin", "predictive_random", "full_random"])
def test_every_frame_is_at_its_own_index_and_a_lost_one_is_a_gap(system, images, tmp_path, mode):
    det = {"dispatch_mode": mode, "dropped_frame_idx": 17}
    run = system.run(tmp_path, 120, det=det)

    check(tmp_path / "lima2_master.h5", images, 120, lost=[17])
    assert run.phase is Phase.INCOMPLETE
    (output,) = system.coordinator.outputs(run.acq_id)
    assert len(output.results()) == 6
    assert not output.trouble


def test_each_receiver_has_a_part_of_every_frame(system, images, tmp_path):
    system.run(tmp_path, 60, det={"dispatch_mode": "partial_frame"})

    check(tmp_path / "lima2_master.h5", images, 60)


def test_a_run_that_is_stopped_has_the_frames_that_came(system, images, tmp_path):
    run = system.prepare(tmp_path, 100_000, expo_us=2000)
    system.coordinator.start()
    assert eventually(lambda: run.ledger.front > 60)
    system.coordinator.stop()
    assert eventually(lambda: has_ended(run))

    with h5py.File(tmp_path / "lima2_master.h5") as file:
        codes = file[f"{DETECTOR}/validity"][:]
        count = len(codes)
        segments = file[f"{DETECTOR}/segments"]
        frames = np.concatenate([segments[name] for name in segments])
    assert 60 < count < 100_000
    assert np.array_equal(frames[codes == 0], images[np.arange(count) % IMAGES][codes == 0])


def test_segments_can_be_read_while_the_run_goes_on(system, images, tmp_path):
    # So slow that the files to be completed at the end do not become many, however busy all is.
    run = system.prepare(tmp_path, 0, expo_us=2000)
    system.coordinator.start()
    segment = tmp_path / "lima2_master_00001.h5"
    assert eventually(segment.exists)
    assert run.phase is Phase.RUNNING

    with h5py.File(segment) as file:
        shown = file["entry_0000/measurement/data"][:]
        indices = file[f"{DETECTOR}/frame_idx"][:]
    system.coordinator.stop()
    assert np.array_equal(shown, images[np.arange(25, 50) % IMAGES])
    assert indices.tolist() == list(range(25, 50))
    assert eventually(lambda: has_ended(run))


def test_runs_that_overlap_have_a_complete_master_each(system, images, tmp_path):
    runs = []
    for number in range(5):
        runs.append(system.prepare(tmp_path, 80, filename_prefix=f"scan{number}"))
        system.coordinator.start()
        assert eventually(lambda: system.coordinator.state is AcqState.IDLE)

    assert eventually(lambda: all(has_ended(run) for run in runs))
    for number in range(5):
        check(tmp_path / f"scan{number}_master.h5", images, 80)


def test_runs_that_are_processed_later_have_a_complete_master_each(system, images, tmp_path):
    runs = []
    for number in range(3):
        prefix = f"scan{number}"
        runs.append(system.prepare(tmp_path, 80, deferred=True, filename_prefix=prefix))
        system.coordinator.start()
        assert eventually(lambda: runs[-1].phase is Phase.DRAINING)
    assert not any(has_ended(run) for run in runs)

    for run in reversed(runs):
        system.coordinator.process(run.acq_id)

    assert eventually(lambda: all(has_ended(run) for run in runs))
    for number in range(3):
        check(tmp_path / f"scan{number}_master.h5", images, 80)


def test_frames_of_the_camera_and_processed_ones_have_a_master_each(system, images, tmp_path):
    run = system.coordinator.prepare(
        SystemOrder(
            {"acq": {"nb_frames": 30, "expo_time": 100}, "det": {"generator": GENERATOR}},
            {
                "class_name": "LimaProcessingLegacy",
                "geometry": {"flip": "left_right"},
                "saving": {"enabled": True, "base_path": str(tmp_path)},
                "saving_input": {
                    "enabled": True,
                    "base_path": str(tmp_path),
                    "filename_prefix": "raw",
                },
            },
        )
    )
    system.coordinator.start()
    assert eventually(lambda: has_ended(run))

    check(tmp_path / "raw_master.h5", images, 30)
    check(tmp_path / "lima2_master.h5", images[:, :, ::-1], 30)


def test_a_run_over_an_earlier_one_has_the_new_frames_only(system, images, tmp_path):
    system.run(tmp_path, 120)

    system.run(tmp_path, 30, file_exists_policy="overwrite")

    check(tmp_path / "lima2_master.h5", images, 30)
    assert not (tmp_path / "lima2_master_00002.h5").exists()


def test_the_master_tells_when_each_frame_was_exposed(system, tmp_path):
    run = system.run(tmp_path, 30)

    with h5py.File(tmp_path / "lima2_master.h5") as file:
        times_s = file[f"{DETECTOR}/timestamp"][:]
    # What the clock of the computer is set by meanwhile is less than this.
    assert run.started_wall_s - 0.1 <= times_s[0] <= run.ended_wall_s + 0.1
    assert np.allclose(np.diff(times_s), 100e-6, atol=2e-6)
