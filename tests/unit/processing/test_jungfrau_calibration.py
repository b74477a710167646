"""The calibration file: what is kept, what is refused."""

import datetime

import h5py
import numpy as np
import pytest

from lima2_core.errors import ParamError, StorageError
from processing.jungfrau.calibration import (
    BadPixel,
    blank,
    load_calibration,
    read_calibration,
    save_calibration,
)
from tests.unit.processing.jungfrau import calibration, saved

WHERE = "photons.calibration_path"


def test_what_was_saved_is_read(tmp_path):
    mask = np.zeros((2, 512, 1024), np.uint32)
    mask[1, 3, 4] = BadPixel.USER
    made = calibration(
        2, mask=mask, gain_units="ADU/keV", date="2024-05-01", valid_until="2999-01-01T00:00:00"
    )

    read = load_calibration(saved(tmp_path, made), WHERE)

    assert read.module_ids == (100, 101)
    for name in ("pedestal", "pedestal_rms", "gain", "mask"):
        assert np.array_equal(getattr(read, name), getattr(made, name))
    assert (read.gain_units, read.date, read.valid_until) == (
        "ADU/keV",
        "2024-05-01",
        "2999-01-01T00:00:00",
    )


def test_a_changed_file_is_read_again(tmp_path):
    first = read_calibration(saved(tmp_path, calibration()), WHERE)
    second = read_calibration(saved(tmp_path, calibration(module_ids=(5,))), WHERE)

    assert (first.module_ids, second.module_ids) == ((100,), (5,))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = saved(tmp_path, calibration())
    (tmp_path / "no_folder").write_text("")

    with pytest.raises(StorageError, match="cannot be written"):
        save_calibration(calibration(), tmp_path / "no_folder" / "calibration.h5")

    assert sorted(file.name for file in tmp_path.iterdir()) == ["calibration.h5", "no_folder"]
    assert read_calibration(path, WHERE).module_ids == (100,)


def set_attribute(name, value):
    def change(file):
        file.attrs[name] = value

    return change


def reshaped(file):
    del file["gain"]
    file["gain"] = np.zeros((1, 3, 256, 1024), np.float32)


def without_units(file):
    del file["gain"].attrs["units"]


def without_gain(file):
    del file["gain"]


def unknown_g2(file):
    file["pedestal"][0, 2] = np.nan


def unknown_gain(file):
    file["gain"][0, 1] = np.nan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_attribute("format", "other"), "format"),
        (set_attribute("version", 9), "version 9"),
        (without_gain, "lacks gain"),
        (reshaped, "gain has the shape"),
        (without_units, "units of gain"),
        (unknown_g2, "lacks the pedestal map of stage G2 of module 100; take dark frames"),
        (unknown_gain, "lacks the gain map of stage G1"),
        (set_attribute("valid_from", "2900-01-01"), "valid from"),
        (set_attribute("valid_until", "1999-01-01"), "was valid until 1999"),
        (set_attribute("valid_until", "soon"), "no usable calibration"),
    ],
)
def test_a_file_that_does_not_serve_is_refused_with_the_path(tmp_path, change, words):
    path = saved(tmp_path, calibration())
    with h5py.File(path, "r+") as file:
        change(file)

    with pytest.raises(ParamError, match=words) as caught:
        load_calibration(path, WHERE)

    assert caught.value.path == WHERE


def test_no_file_and_no_calibration_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")

    for name, words in (
        ("here.h5", "absolute"),
        (str(tmp_path / "none.h5"), "no file"),
        (str(tmp_path / "text.h5"), "no usable calibration"),
    ):
        with pytest.raises(ParamError, match=words):
            load_calibration(name, WHERE)


def test_validity_is_a_matter_of_the_day(tmp_path):
    made = calibration(valid_from="2024-01-01", valid_until="2024-02-01")
    path = saved(tmp_path, made)

    assert load_calibration(path, WHERE, datetime.datetime(2024, 1, 5, tzinfo=datetime.UTC))
    with pytest.raises(ParamError, match="was valid"):
        load_calibration(path, WHERE, datetime.datetime(2024, 3, 5, tzinfo=datetime.UTC))


def test_gains_follow_the_photon_energy():
    per_photon = calibration(gain_energy_kev=12.0)
    per_kev = calibration(gain_units="ADU/keV")
    unknown = calibration(gain_energy_kev=0.0)

    assert per_photon.gain_for(0, "e") is per_photon.gain
    assert per_photon.gain_for(12.0, "e") is per_photon.gain
    assert np.allclose(per_photon.gain_for(6.0, "e"), per_photon.gain / 2)
    assert np.allclose(per_kev.gain_for(10.0, "e"), per_kev.gain * 10)
    assert unknown.gain_for(0, "e") is unknown.gain
    for made, energy in ((per_kev, 0.0), (unknown, 9.0)):
        with pytest.raises(ParamError) as caught:
            made.gain_for(energy, "photons.energy_kev")
        assert caught.value.path == "photons.energy_kev"


def test_modules_are_found_by_id():
    made = calibration(3)

    assert made.positions((102, 100), "m") == [2, 0]
    with pytest.raises(ParamError, match="module 7 has no calibration"):
        made.positions((102, 7), "photons.modules")


def test_what_is_bad_in_g1_or_g2_is_bad_there_only():
    mask = np.zeros((1, 512, 1024), np.uint32)
    for col, bits in enumerate((BadPixel.NOISY, 4 << 8, 4 << 16, BadPixel.NO_GAIN, BadPixel.USER)):
        mask[0, 0, col] = bits

    hidden = calibration(mask=mask).hidden()[0, :, 0, :6]

    assert hidden.tolist() == [
        [True, False, False, True, True, False],
        [True, True, False, True, True, False],
        [True, False, True, True, True, False],
    ]


def test_a_blank_one_knows_nothing(tmp_path):
    path = saved(tmp_path, blank((4, 5)))

    assert read_calibration(path, WHERE).module_ids == (4, 5)
    with pytest.raises(ParamError, match="lacks the pedestal map of stage G0 of module 4"):
        load_calibration(path, WHERE)
