"""``lima2 calibration``: maps that exist already, as a calibration file."""

import h5py
import numpy as np
import pytest

from lima2_core import cli
from lima2_core.errors import ParamError
from processing.jungfrau.calibration import PER_KEV, BadPixel, load_calibration
from processing.jungfrau.calibration_command import main


@pytest.fixture
def maps(tmp_path):
    """Maps of two modules in a file, one of them also apart."""
    random = np.random.default_rng(3)
    path = tmp_path / "maps.h5"
    with h5py.File(path, "w") as file:
        file["pedestal"] = random.normal(2500, 50, (2, 3, 512, 1024)).astype("f4")
        file["gain"] = random.normal(40, 1, (2, 3, 512, 1024)).astype("f4")
        file["rms"] = np.full((2, 512, 1024), 11, "f4")
        file["wrong"] = np.zeros((3, 512, 1000))
        mask = np.zeros((2, 512, 1024), "u1")
        mask[1, 5, 6] = 1
        file["mask"] = mask
        np.save(tmp_path / "one.npy", file["pedestal"][0])
        np.save(tmp_path / "gain.npy", file["gain"][0])
    return path


def make(path, *words):
    output = path.parent / "made.h5"
    assert main(["--output", str(output), *words]) == 0
    return load_calibration(str(output), "made")


def test_maps_of_several_modules(maps):
    made = make(
        maps,
        *("--pedestal", f"{maps}::pedestal", "--gain", f"{maps}::gain", "--rms", f"{maps}::rms"),
        *("--mask", f"{maps}::mask", "--modules", "12", "7", "--energy", "12.4"),
    )

    with h5py.File(maps) as file:
        assert np.array_equal(made.pedestal, file["pedestal"][()])
        assert np.array_equal(made.gain, file["gain"][()])
    assert made.module_ids == (12, 7)
    assert made.gain_energy_kev == 12.4
    assert (made.pedestal_rms[:, 0] == 11).all()
    assert np.isnan(made.pedestal_rms[:, 1:]).all()
    assert np.argwhere(made.mask).tolist() == [[1, 5, 6]]
    assert made.mask[1, 5, 6] == BadPixel.USER


def test_maps_of_one_module_from_numpy_files(maps):
    folder = maps.parent

    made = make(
        maps,
        *("--pedestal", str(folder / "one.npy"), "--gain", str(folder / "gain.npy")),
        *("--units", PER_KEV, "--valid-until", "2100-01-01"),
    )

    assert made.pedestal.shape == (1, 3, 512, 1024)
    assert made.gain_units == PER_KEV
    assert made.valid_until == "2100-01-01"
    assert made.date


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["--pedestal", "{maps}::nothing", "--gain", "{maps}::gain"], "--pedestal"),
        (["--pedestal", "{maps}::wrong", "--gain", "{maps}::gain"], "--pedestal"),
        (["--pedestal", "{folder}/one.npy", "--gain", "{maps}::gain"], "--gain"),
        (
            ["--pedestal", "{maps}::pedestal", "--gain", "{maps}::gain", "--modules", "1"],
            "--modules",
        ),
        (
            ["--pedestal", "{maps}::pedestal", "--gain", "{maps}::gain", "--modules", "1", "1"],
            "--modules",
        ),
        (
            ["--pedestal", "{maps}::pedestal", "--gain", "{maps}::gain", "--mask", "{maps}::wrong"],
            "--mask",
        ),
        (
            ["--pedestal", "{maps}::pedestal", "--gain", "{maps}::gain", "--valid-from", "soon"],
            "--valid-from",
        ),
    ],
)
def test_what_is_no_map_is_refused_and_leaves_no_file(maps, words, path):
    output = maps.parent / "made.h5"

    with pytest.raises(ParamError) as refused:
        main(
            ["--output", str(output)]
            + [word.format(maps=maps, folder=maps.parent) for word in words]
        )

    assert refused.value.path == path
    assert not output.exists()


def test_it_is_a_command(capsys):
    cli.main(["--help"])

    assert f"  calibration {main.__doc__}" in capsys.readouterr().out
