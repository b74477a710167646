"""Receivers that each have some modules of every frame make one image of the detector."""

import json
from contextlib import ExitStack

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest

from client.validate import validate
from lima2_core import registry
from lima2_core.camera.api import CameraEnv
from lima2_core.camera.dispatch import Share
from lima2_core.errors import Lima2Error
from lima2_core.ids import ReceiverIdx
from lima2_core.service.control import ControlService
from lima2_core.service.link import FanOut
from lima2_core.service.receiver import ReceiverService, ReceiverSettings
from lima2_core.state.system import Phase
from lima2_core.system.coordinator import Coordinator
from lima2_core.system.images import frame_of
from lima2_core.system.local import LocalControl, LocalReceiver
from lima2_core.system.run import SystemOrder
from lima2_core.testing.doubles import eventually
from processing.outputs.master import MasterOutput
from tests.unit.processing.jungfrau import calibration, layout, photons, saved

# Up to seven receivers after each other, each with images of two million pixels.
pytestmark = [pytest.mark.usefixtures("patient_commands"), pytest.mark.timeout(60)]

DETECTOR = "entry_0000/instrument/detector"
FRAMES = 3
PLACES = ((0, 0, 0), (520, 0, 180), (10, 1100, 0), (560, 1100, 0))
"""Two columns of modules; 40 columns between them, and rows where no module is."""
SHAPE = (1074, 2130)
GENERATOR = {
    "type": "gauss",
    "pixel_type": "gray16",
    "gauss": {
        "peaks": [{"x0": 700.0, "y0": 1000.0, "fwhm": 900.0, "max": 9000.0}],
        "grow_factor": 0.125,
    },
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    for name, places in (("columns", PLACES), ("crossed", [PLACES[n] for n in (0, 3, 1, 2)])):
        modules = [{"row": row, "col": col, "rotation": turn} for row, col, turn in places]
        (folder / f"{name}.json").write_text(json.dumps({"modules": modules}))
    saved(folder, calibration(4))
    return folder


@pytest.fixture
def take(files, tmp_path):
    """Takes frames with so many receivers; the run, at its end, and the folder of its files."""
    with ExitStack() as stack:

        def take(n, layout="columns", det=None, **processing):
            folder = tmp_path / f"{n}"
            folder.mkdir()
            plugin = registry.load(registry.CAMERAS, "Simulator")
            env = CameraEnv({"rows": "2048", "cols": "1024"})
            receivers = []
            for k in range(n):
                share = Share(ReceiverIdx(k), n)
                settings = ReceiverSettings(2, 2**29)
                service = ReceiverService(f"r{k}", plugin, env, lambda share=share: share, settings)
                stack.callback(service.close)
                receivers.append(service)
            link = FanOut({r.name: r.deliver for r in receivers}, lambda name, error: None)
            stack.callback(link.close)
            control = ControlService("c", plugin, env, link, lambda: n)
            stack.callback(control.close)
            coordinator = Coordinator(
                LocalControl(control),
                [LocalReceiver(receiver) for receiver in receivers],
                outputs=lambda: [MasterOutput()],
            )
            stack.callback(coordinator.close)
            saving = {"enabled": True, "base_path": str(folder)}
            photons = processing.pop("photons", {})
            run = coordinator.prepare(
                SystemOrder(
                    {
                        "acq": {"nb_frames": FRAMES, "expo_time": 100},
                        "det": {
                            "generator": GENERATOR,
                            "nb_prefetch_frames": FRAMES,
                            "dispatch_mode": "partial_frame",
                            **(det or {}),
                        },
                    },
                    {
                        "class_name": "LimaProcessingLegacy",
                        "photons": {
                            "enabled": True,
                            "device": "numpy",
                            "calibration_path": str(files / "calibration.h5"),
                            "layout_path": str(files / f"{layout}.json"),
                            **photons,
                        },
                        "saving": saving,
                        "saving_input": {**saving, "filename_prefix": "raw"},
                        **processing,
                    },
                )
            )
            coordinator.start()
            assert eventually(lambda: run.phase in (Phase.DONE, Phase.INCOMPLETE))
            assert run.phase is Phase.DONE or det
            return run, folder

        yield take


def shown(folder, prefix):
    """Frames of a master, and the matrix from their pixels to the detector."""
    with h5py.File(folder / f"{prefix}_master.h5") as file:
        return file[f"{DETECTOR}/data"][()], file[f"{DETECTOR}/image_to_detector"][()]


def expected(raw, mark, dtype):
    """The image of one raw frame, worked out another way."""
    values = photons(raw[None], calibration(4))[0]
    if np.dtype(dtype).kind == "i":
        values = np.where(np.isfinite(values), np.rint(values), mark).astype(dtype)
    return layout(*PLACES).placing().put(values.astype(dtype).reshape(-1), mark)[0]


@pytest.mark.parametrize(
    ("tree", "dtype", "mark"),
    [
        ({}, "i2", -(2**15)),
        ({"output": "float32"}, "f4", np.nan),
        ({"output": "int32", "no_value": "zero"}, "i4", 0),
    ],
)
def test_any_number_of_receivers_makes_the_same_image(take, tree, dtype, mark):
    images, matrices = [], []
    for n in (1, 2, 4):
        run, folder = take(n, photons=tree)
        made, matrix = shown(folder, "lima2")
        raw, _ = shown(folder, "raw")
        images.append(made)
        matrices.append(matrix)

        assert made.shape == (FRAMES, *SHAPE)
        assert raw.shape == (FRAMES, 2048, 1024)
        for idx in range(FRAMES):
            fetched = frame_of(run, "frame", idx)
            assert np.array_equal(fetched.data[0], made[idx], equal_nan=True)
            assert np.array_equal(frame_of(run, "input_frame", idx).data[0], raw[idx])
        thin = frame_of(run, "frame", 1, 3)
        assert np.array_equal(thin.data[0], made[1, ::3, ::3], equal_nan=True)

    for image, matrix in zip(images[1:], matrices[1:], strict=True):
        assert np.array_equal(image, images[0], equal_nan=True)
        assert np.array_equal(matrix, matrices[0])
    right = expected(raw[0], mark, dtype)
    np.testing.assert_allclose(images[0][0], right, rtol=1e-5, atol=1 if dtype != "f4" else 1e-5)
    assert np.array_equal(images[0][0, :, 1030:1100], np.full((1074, 70), mark), equal_nan=True)


def test_a_mask_of_the_whole_image_is_used_by_every_receiver(take, tmp_path):
    masked = np.zeros(SHAPE, np.uint8)
    masked[500:540, 1000:1200] = 1
    np.save(tmp_path / "mask.npy", masked)
    tree = {"mask": {"enabled": True, "path": str(tmp_path / "mask.npy")}}

    made = [shown(take(n, **tree)[1], "lima2")[0] for n in (1, 2)]

    inside = masked.astype(bool)
    inside[:, 1030:1100] = False  # there the parts do not reach
    assert (made[0][:, inside] == 0).all()
    assert (made[1][:, inside] == 0).all()
    assert np.array_equal(made[0][:, masked == 0], made[1][:, masked == 0])


def test_a_frame_that_is_lost_reads_as_no_value_everywhere(take):
    run, folder = take(2, det={"dropped_frame_idx": 1})

    made, _ = shown(folder, "lima2")

    assert (made[1] == -(2**15)).all()
    assert validate(folder / "lima2_master.h5").anomalies == []
    assert (frame_of(run, "frame", 1).data == -(2**15)).all()
    assert not (made[0] == -(2**15)).all()


def test_sums_have_no_value_between_the_modules(take):
    _, folder = take(2, accumulation={"enabled": True, "nb_frames": FRAMES})

    made, _ = shown(folder, "lima2")

    assert made.shape == (1, *SHAPE)
    assert (made[0, :, 1030:1100] == -(2**31)).all()
    assert (made[0, :514, 256:258] == -(2**31)).all()


@pytest.mark.parametrize("n", [1, 2])
def test_files_tell_how_photons_were_made_and_how_no_value_reads(take, files, n):
    _, folder = take(n, photons={"output": "float32"})

    paths = [folder / "lima2_master.h5", *folder.glob("lima2_?_00000.h5")]
    assert len(paths) == n + 1
    for path in paths:
        with h5py.File(path) as file:
            detector = file[DETECTOR]
            assert np.isnan(detector["data"].attrs["no_value"])
            assert detector["data"].attrs["saturated_value"] == np.inf
            assert detector["saturation_value"][()] == np.finfo("f4").max
            told = detector["photon_conversion"]
            assert told["calibration_path"].asstr()[()] == str(files / "calibration.h5")
            assert told["gain_units"].asstr()[()] == "ADU/photon"
            assert told["energy_kev"][()] == 12.4
            assert told["device"].asstr()[()] == "numpy"
            assert sorted(told["modules"]) == ["0", "1", "2", "3"]
            # Modules lie as the layout says, wherever they were received.
            row, col, _ = PLACES[2]
            for matrix in told["modules/2"].values():
                assert matrix.attrs["description"].startswith("3 x 3 matrix, its rows one after")
            to_module = told["modules/2/image_to_module"][()].reshape(3, 3)
            assert (to_module @ (row, col, 1)).tolist() == [0, 0, 1]
            to_lab = told["modules/2/module_to_laboratory_mm"][()].reshape(3, 3)
            assert np.allclose(to_lab @ (0, 0, 1), (col * 0.075, row * 0.075, 0))
    with h5py.File(paths[0]) as file:
        told = file[DETECTOR]["photon_conversion"]
        if n == 1:
            assert told["module_ids"][()].tolist() == [100, 101, 102, 103]
        else:
            own = [told[f"by_receiver/{k}/module_ids"][()].tolist() for k in range(n)]
            assert own == [[100, 101], [102, 103]]
    with h5py.File(folder / "raw_master.h5") as file:
        assert "no_value" not in file[DETECTOR]["data"].attrs
        assert "photon_conversion" not in file[DETECTOR]


def test_rectangles_that_overlap_are_refused(take):
    with pytest.raises(Lima2Error, match=r"photons.layout_path.*modules 0 to 1 .* 2 to 3 .*order"):
        take(2, layout="crossed")


def test_the_image_of_a_part_is_not_turned_afterwards(take):
    with pytest.raises(Lima2Error, match="geometry"):
        take(2, geometry={"flip": "up_down"})
