"""``lima2 pedestal``: a calibration file from saved dark frames."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from lima2_core.errors import NotAvailableError, ParamError, StorageError
from processing.jungfrau.calibration import load_calibration, read_calibration
from processing.jungfrau.calibration_command import main as show
from processing.jungfrau.command import _parser, main
from processing.jungfrau.conditions import Conditions
from tests.unit.processing.jungfrau import CODES, calibration, saved

DETECTOR = "entry_0000/instrument/detector"
START = "2024-05-01T10:00:00.250+02:00"
TAKEN = {"exposure": 10, "voltage": 120, "high_gain": False, "speed": "half"}


def raw_file(path, made, stage, *, frames=10, run="run-1", **taken):
    """Dark frames as this suite saves them, and one more that is incomplete."""
    random = np.random.default_rng(stage)
    level = made.pedestal[:, stage]
    words = np.rint(random.normal(level, 12, (frames, *level.shape))).astype(np.uint16)
    data = np.concatenate([CODES[stage] << 14 | words, np.zeros_like(words[:1])])
    tree = {"acq/expo_time": "exposure", "det/high_voltage": "voltage"}
    tree |= {"det/high_gain_g0": "high_gain", "det/readout_speed": "speed"}
    with h5py.File(path, "w") as file:
        file[f"{DETECTOR}/data"] = data.reshape(frames + 1, 1, -1, 1024)
        file[f"{DETECTOR}/validity"] = [0] * frames + [3]
        if taken:
            file["entry_0000/entry_identifier_uuid"] = run
            file["entry_0000/start_time"] = START
            params = file.create_group(f"{DETECTOR}/params/acquisition")
            params["det/gain_mode"] = "dynamic"
            for name, key in tree.items():
                if key in taken:
                    params[name] = taken[key]
    return str(path)


@pytest.fixture
def dark(tmp_path):
    """Makes a file of dark frames of one module."""
    made = calibration()

    def make(stage, name="", **taken):
        return raw_file(tmp_path / (name or f"raw_{stage}.h5"), made, stage, **taken)

    return make


def test_it_makes_a_calibration_of_saved_frames(tmp_path, dark, capsys):
    made = calibration()
    gains = saved(tmp_path, made, "gains.h5")
    output = tmp_path / "made.h5"

    assert main([dark(0), dark(1), dark(2), "--output", str(output), "--gain", gains]) == 0

    result = load_calibration(str(output), "p")
    assert "10 dark frames of G0, 10 of G1, 10 of G2" in capsys.readouterr().out
    assert result.pedestal_frames == (10, 10, 10)
    assert np.abs(result.pedestal - made.pedestal).mean() < 12
    assert result.conditions == (Conditions(),) * 3


def test_what_the_files_tell_is_kept_by_stage(tmp_path, dark, capsys):
    output = str(tmp_path / "made.h5")

    main([dark(0, **TAKEN), dark(1, run="run-2", **TAKEN | {"voltage": -1}), "--output", output])
    main([dark(2), "--output", output, "--exposure", "20", "--temperature", "21.5"])

    g0, g1, g2 = read_calibration(output, "p").conditions
    date = "2024-05-01T08:00:00+00:00"
    assert g0 == Conditions(10e-6, 120.0, False, "half", None, date, "run-1")
    assert g1 == Conditions(10e-6, None, False, "half", None, date, "run-2")
    assert g2 == Conditions(20e-6, temperature_c=21.5)
    capsys.readouterr()
    assert show([output]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for line in (
        "dark frames 10 10 10",
        "exposure time 10 us 10 us 20 us",
        "high voltage 120 V - -",
        "high gain in G0 off off -",
        "readout speed half half -",
        "temperature - - 21.5 degC",
        f"taken {date} {date} -",
        "run of G1 run-2",
    ):
        assert line in shown


def test_options_complete_what_files_do_not_tell(tmp_path, dark):
    output = str(tmp_path / "made.h5")
    words = ["--high-voltage", "120", "--high-gain", "off", "--speed", "half", "--exposure", "10"]

    main([dark(0, exposure=10), "--output", output, *words])

    told = read_calibration(output, "p").conditions[0]
    assert replace(told, date="", acq_id="") == Conditions(10e-6, 120.0, False, "half")


@pytest.mark.parametrize(
    "option",
    [
        ("--exposure", "20"),
        ("--high-voltage", "60"),
        ("--high-gain", "on"),
        ("--speed", "full"),
    ],
)
def test_an_option_that_contradicts_a_file_is_refused_by_name(tmp_path, dark, option):
    output = tmp_path / "made.h5"

    with pytest.raises(ParamError, match=r"raw_0\.h5 says that it was taken") as caught:
        main([dark(0, **TAKEN), "--output", str(output), *option])

    assert caught.value.path == option[0]
    assert not output.exists()


def test_files_of_a_stage_that_were_taken_unlike_are_refused(tmp_path, dark):
    output = tmp_path / "made.h5"
    files = [dark(0, "a.h5", **TAKEN), dark(0, "b.h5", **TAKEN | {"exposure": 500})]

    with pytest.raises(ParamError, match=r"b\.h5, frame 0: .* 500 us, others of its stage .* 10 u"):
        main([*files, "--output", str(output)])

    assert not output.exists()


def test_modules_are_chosen_from_the_gain_file(tmp_path, dark):
    made = calibration(3)
    gains = saved(tmp_path, made, "gains.h5")
    output = str(tmp_path / "made.h5")

    main([dark(0), "--output", output, "--gain", gains, "--modules", "102"])

    result = read_calibration(output, "p")
    assert result.module_ids == (102,)
    assert np.array_equal(result.gain, made.gain[2:])


def test_without_gains_modules_get_their_ids(tmp_path, dark):
    output = str(tmp_path / "made.h5")

    main([dark(0), "--output", output, "--modules", "7"])

    assert read_calibration(output, "p").module_ids == (7,)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--gain", "{gains}", "--modules", "9"], "--modules"),
        (["--gain", "{gains}", "--modules", "100", "101"], "--modules"),
        (["--gain", "{gains}"], "--gain"),  # of three modules, frames have one
        (["--gain", "{folder}/none.h5"], "--gain"),
        (["--min-frames", "1"], "--min-frames"),
        (["--wrong-share", "2"], "--wrong-share"),
        (["--noise-factor", "0"], "--noise-factor"),
        (["--exposure", "0"], "--exposure"),
        (["--high-voltage", "-5"], "--high-voltage"),
    ],
)
def test_what_cannot_be_is_refused_with_the_name_of_the_option(tmp_path, dark, words, option):
    gains = saved(tmp_path, calibration(3), "gains.h5")
    output = tmp_path / "made.h5"
    words = [word.format(gains=gains, folder=tmp_path) for word in words]

    with pytest.raises(ParamError) as caught:
        main([dark(0), "--output", str(output), *words])

    assert caught.value.path == option
    assert str(caught.value).count(f"{option}: ") == 1
    assert "pedestal." not in str(caught.value)
    assert not output.exists()


def test_modules_of_an_output_that_exists_are_verified(tmp_path, dark):
    output = saved(tmp_path, calibration())

    with pytest.raises(ParamError, match=r"frames are of modules 7, .* of 100") as caught:
        main([dark(0), "--output", output, "--modules", "7"])

    assert caught.value.path == "--output"


def test_gains_that_would_not_be_used_are_refused(tmp_path, dark):
    made = calibration()
    output = saved(tmp_path, made)
    same = saved(tmp_path, made, "same.h5")
    other = saved(tmp_path, replace(made, gain=made.gain * 2), "other.h5")

    main([dark(0), "--output", output, "--gain", same])
    with pytest.raises(ParamError, match="exists and has other gains than") as caught:
        main([dark(1), "--output", output, "--gain", other])

    assert caught.value.path == "--gain"
    assert read_calibration(output, "p").pedestal_frames == (10, 0, 0)


def test_files_without_frames_are_refused(tmp_path, dark):
    output = str(tmp_path / "made.h5")

    with pytest.raises(StorageError, match="cannot be read"):
        main([str(tmp_path / "none.h5"), "--output", output])
    with pytest.raises(NotAvailableError):
        main([dark(0, frames=0), "--output", output])


def test_frames_of_parts_of_modules_are_refused(tmp_path, dark):
    path = dark(0, **TAKEN)
    with h5py.File(path, "r+") as file:
        file[f"{DETECTOR}/params/acquisition/det/readout_rows"] = 256

    with pytest.raises(ParamError, match="256 rows of each module") as caught:
        main([path, "--output", str(tmp_path / "made.h5")])

    assert caught.value.path == "files"


def test_every_option_is_explained():
    assert [one.dest for one in _parser()._actions if not one.help] == []
