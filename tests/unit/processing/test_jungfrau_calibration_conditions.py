"""How pedestals were taken: what is known of it, kept, and told where a run is taken otherwise."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from camera_plugins.jungfrau.params import JungfrauParams
from lima2_core.camera.params import AcquisitionParams
from lima2_core.errors import ParamError
from processing.jungfrau.calibration import load_calibration, read_calibration, save_calibration
from processing.jungfrau.conditions import Conditions, remarks
from processing.jungfrau.written import calibration_written
from tests.unit.processing.jungfrau import calibration, saved

FULL = Conditions(10e-6, 120.0, False, "half", 21.5, "2024-05-01T08:00:00+00:00", "run-1")
WHERE = "photons.calibration_path"


def test_parameters_of_a_jungfrau_tell_how_its_frames_are_taken():
    asked = JungfrauParams.from_tree(
        {
            "acq": {"expo_time": 25},
            "det": {"high_gain_g0": True, "high_voltage": 180, "readout_speed": "quarter"},
        }
    )

    told = Conditions.of_acquisition(asked.to_tree(), "run-1")

    assert told == Conditions(25e-6, 180.0, True, "quarter", acq_id="run-1")


def test_a_voltage_that_is_left_as_it_is_is_not_known():
    assert Conditions.of_acquisition(JungfrauParams().to_tree()).high_voltage_v is None


def test_another_detector_tells_nothing():
    assert Conditions.of_acquisition(AcquisitionParams().to_tree()) == Conditions()


def test_conditions_are_kept_for_each_stage(tmp_path):
    stages = (FULL, Conditions(), replace(FULL, high_gain_g0=None, exposure_s=5e-6))
    path = saved(tmp_path, calibration(conditions=stages))

    assert load_calibration(path, WHERE).conditions == stages
    with h5py.File(path) as file:
        told = dict(file["conditions/G0"].attrs)
        assert told == {
            "exposure_s": 10e-6,
            "high_voltage_v": 120.0,
            "high_gain_g0": False,
            "readout_speed": "half",
            "temperature_c": 21.5,
            "date": "2024-05-01T08:00:00+00:00",
            "acq_id": "run-1",
        }
        assert not dict(file["conditions/G1"].attrs)


def test_a_file_from_before_there_were_conditions_is_read(tmp_path):
    path = saved(tmp_path, calibration(conditions=(FULL, FULL, FULL)))
    with h5py.File(path, "r+") as file:
        del file["conditions"]

    assert load_calibration(path, WHERE).conditions == (Conditions(),) * 3


def test_a_condition_that_is_none_is_refused_with_the_path(tmp_path):
    path = saved(tmp_path, calibration())
    with h5py.File(path, "r+") as file:
        file["conditions/G1"].attrs["exposure_s"] = "long"

    with pytest.raises(ParamError, match="no usable calibration") as caught:
        read_calibration(path, WHERE)

    assert caught.value.path == WHERE


def test_frames_taken_in_two_ways_have_in_common_what_both_tell():
    other = Conditions(10.05e-6, None, False, "half", 22.0, "2024-04-30T08:00:00+00:00", "run-2")

    both = FULL.both(other)

    assert both == Conditions(10e-6, None, False, "half", 21.5, other.date, "")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"exposure_s": 20e-6}, "an exposure time of 20 us, .* an exposure time of 10 us"),
        ({"high_voltage_v": 0.0}, "0 V, .* 120 V"),
        ({"high_gain_g0": True}, "with high gain in G0, .* without"),
        ({"readout_speed": "full"}, "full readout speed, .* half"),
    ],
)
def test_frames_of_a_stage_that_were_taken_unlike_are_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        FULL.both(replace(FULL, **changed))


def test_nothing_is_told_of_runs_like_the_pedestals_or_of_which_nothing_is_known():
    near = Conditions(10.09e-6, 120.0, False, "half")

    for now in (near, FULL, Conditions()):
        assert remarks((FULL,) * 3, now, "c.h5", WHERE) == ()
    assert remarks((Conditions(),) * 3, near, "c.h5", WHERE) == ()


def test_what_differs_is_told_once_with_the_stages():
    now = Conditions(20e-6, 60.0, False, "full")
    stages = (FULL, replace(FULL, exposure_s=20e-6), replace(FULL, high_voltage_v=None))

    told = remarks(stages, now, "c.h5", WHERE)

    assert [text.split(": ")[0] for text in told] == [
        "the pedestals of G0 and G2 in c.h5 were taken with an exposure time of 10 us, this run "
        "is taken with an exposure time of 20 us",
        "the pedestals of G0 and G1 in c.h5 were taken with a high voltage of 120 V, this run is "
        "taken with a high voltage of 60 V",
        "the pedestals of G0 and G1 and G2 in c.h5 were taken at half readout speed, this run is "
        "taken at full readout speed",
    ]


def test_the_other_gain_of_g0_is_refused_and_matters_in_g0_only():
    high = replace(FULL, high_gain_g0=True)

    with pytest.raises(ParamError, match=r"c\.h5 were taken with high gain.*without") as caught:
        remarks((high, FULL, FULL), FULL, "c.h5", WHERE)

    assert caught.value.path == WHERE
    assert remarks((FULL, high, high), FULL, "c.h5", WHERE) == ()


def test_the_file_tells_which_runs_it_was_made_of(tmp_path):
    made = calibration(conditions=(FULL, Conditions(), Conditions()))
    path = saved(tmp_path, made)
    (tmp_path / "text.h5").write_text("no HDF5")

    def written(name, run="run-1", *, enabled=True):
        group = {"enabled": enabled, "path": str(tmp_path / name)}
        return calibration_written({"pedestal": group}, run)

    assert written("calibration.h5") == (path,)
    assert written("calibration.h5", "run-2") == ()
    assert written("calibration.h5", enabled=False) == ()
    assert written("none.h5") == ()
    assert written("text.h5") == ()
    assert calibration_written({}, "run-1") == ()


def test_modules_are_chosen_with_all_their_maps(tmp_path):
    made = calibration(3, conditions=(FULL, FULL, FULL))

    some = made.of_modules((102, 100), "m")
    save_calibration(some, tmp_path / "some.h5")

    assert some.module_ids == (102, 100)
    for name in ("pedestal", "pedestal_rms", "gain", "mask"):
        assert np.array_equal(getattr(some, name), getattr(made, name)[[2, 0]])
    assert some.conditions == made.conditions
    with pytest.raises(ParamError, match="module 9 has no calibration"):
        made.of_modules((9,), "m")
