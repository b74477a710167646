"""Pedestals as users take them: what a run tells of the file it wrote, and of an unlike one."""

import numpy as np
import pytest

from processing.jungfrau.calibration import read_calibration
from processing.jungfrau.command import main
from tests.system.jungfrau_site import JungfrauSite
from tests.unit.processing.jungfrau import calibration, saved

DET, PROC = "acquisition.det.", "processing."


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One module, one receiver."""
    with JungfrauSite(tmp_path_factory.mktemp("pedestal"), 1, interfaces=2) as site:
        yield site


@pytest.fixture
def known(tmp_path):
    """The calibration whose dark frames the emulator sends."""
    return saved(tmp_path, calibration(), "known.h5")


def dark(known, **changed):
    det = {"emulator.images": "dark", "emulator.calibration_path": known, "high_voltage": 120}
    return {DET + name: value for name, value in (det | changed).items()}


def test_a_run_names_the_calibration_and_the_next_one_is_compared_with_it(single, known, tmp_path):
    path = str(tmp_path / "made.h5")
    pedestal = {PROC + "pedestal": {"enabled": True, "path": path, "gain_path": known}}
    lima = single.client(dark(known) | pedestal)
    for mode in ("forceswitchg1", "forceswitchg2", "dynamic"):
        run = lima.acquire({DET + "gain_mode": mode}, nb_frames=12, exposure_s=0.02).check()
        assert run.files == (path,)

    made = read_calibration(path, "p")
    assert [one.exposure_s for one in made.conditions] == [0.02] * 3
    assert [one.high_voltage_v for one in made.conditions] == [120] * 3
    assert made.conditions[0].acq_id == run.uuid
    assert all(one.date for one in made.conditions)
    photons = {PROC + "photons": {"enabled": True, "calibration_path": path}}
    lima = single.client(dark(known) | photons)
    lima.acquire(nb_frames=2, exposure_s=0.02).check()
    assert not any("pedestals" in text for text in lima.warnings)
    lima.acquire(nb_frames=2, exposure_s=0.04).check()
    (told,) = [text for text in lima.warnings if "pedestals" in text]
    assert "exposure time of 20 ms, this run is taken with an exposure time of 40 ms" in told


def test_saved_dark_frames_tell_the_command_how_they_were_taken(single, known, tmp_path):
    lima = single.client(dark(known, gain_mode="forceswitchg1", high_gain_g0=True))
    run = lima.acquire(nb_frames=10, exposure_s=0.02, save_to=tmp_path, prefix="dark").check()
    output = tmp_path / "made.h5"

    for number, file in enumerate((run.master_file, tmp_path / "dark_0_00000.h5")):
        output = tmp_path / f"made_{number}.h5"
        assert main([str(file), "--gain", known, "--output", str(output)]) == 0

        made = read_calibration(str(output), "p")
        told = made.conditions[1]
        assert (told.exposure_s, told.high_voltage_v, told.high_gain_g0) == (0.02, 120, True)
        assert (told.readout_speed, told.acq_id) == ("half", run.uuid)
        assert told.date
        assert np.isfinite(made.pedestal).all()
