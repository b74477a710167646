"""``lima2 calibration``: maps that exist already, as a calibration file."""

import h5py
import numpy as np
import pytest

from lima2_core import cli
from lima2_core.errors import ParamError
from processing.jungfrau.calibration import PER_KEV, BadPixel, load_calibration
from processing.jungfrau.calibration_command import _parser, main
from processing.jungfrau.conditions import Conditions


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


def test_how_pedestals_were_taken_is_kept_and_shown(maps, capsys):
    made = make(
        maps,
        *("--pedestal", f"{maps}::pedestal", "--gain", f"{maps}::gain", "--high-voltage", "120"),
        *("--exposure", "12.5", "--high-gain", "on", "--speed", "full", "--temperature", "19"),
    )
    said = capsys.readouterr().out
    main([str(maps.parent / "made.h5")])

    assert made.conditions == (Conditions(12.5e-6, 120.0, True, "full", 19.0),) * 3
    assert capsys.readouterr().out == said
    assert "exposure time                   12.5 us  12.5 us  12.5 us\n" in said
    assert "gains    ADU/photon\n" in said


MAPS = ["--pedestal", "{maps}::pedestal", "--gain", "{maps}::gain"]


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["{folder}/made.h5", "--output", "{folder}/made.h5"], "--output"),
        (["{folder}/made.h5", "--valid-from", "2024-01-01"], "--valid-from"),
        (["{folder}/made.h5", "--temperature", "20"], "--temperature"),
        (["{maps}"], "file"),
        ([], "--output"),
        (["--output", "{folder}/made.h5", "--gain", "{maps}::gain"], "--pedestal"),
        (["--output", "{folder}/made.h5", "--pedestal", "{maps}::pedestal"], "--gain"),
        (["--output", "{folder}/made.h5", *MAPS, "--exposure", "-1"], "--exposure"),
        (["--output", "{folder}/made.h5", *MAPS, "--energy", "-1"], "--energy"),
        (
            ["--output", "{folder}/made.h5", *MAPS, "--units", PER_KEV, "--energy", "8"],
            "--energy",
        ),
        (
            [
                "--output",
                "{folder}/made.h5",
                "--pedestal",
                "{maps}::pedestal",
                "--gain",
                "{maps}::gain",
                "--valid-from",
                "2024-02-01",
                "--valid-until",
                "2024-01-01",
            ],
            "--valid-until",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(maps, words, path):
    with pytest.raises(ParamError) as refused:
        main([word.format(maps=maps, folder=maps.parent) for word in words])

    assert refused.value.path == path
    assert not (maps.parent / "made.h5").exists()


def test_every_option_is_explained():
    assert [one.dest for one in _parser()._actions if not one.help] == []
