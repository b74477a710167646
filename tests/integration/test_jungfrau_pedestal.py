"""Pedestals in the classic pipeline: how they were taken, and what they are used for later."""

from dataclasses import replace

import numpy as np
import pytest

from camera_plugins.jungfrau.params import JungfrauParams
from lima2_core.camera.dispatch import Share
from lima2_core.data.frame import FrameSpec
from lima2_core.data.memory import PoolSet
from lima2_core.errors import ParamError
from lima2_core.flow.plugin import BuildContext
from lima2_core.ids import AcqId
from processing.jungfrau.calibration import read_calibration
from processing.jungfrau.conditions import Conditions
from processing.pipelines import legacy
from tests.integration.bench import Bench, saving, spec_of
from tests.unit.processing.jungfrau import CODES, calibration, saved

TAKEN = Conditions(10e-6, 120.0, False, "half")


def remarks(calibration_path, **det):
    """What is told at Prepare of a run of 10 us that converts frames."""
    pools = PoolSet(2**28)
    context = BuildContext(
        acq_id=AcqId("0b3e"),
        spec=FrameSpec((1, 512, 1024), np.dtype(np.uint16)),
        share=Share(),
        acquisition=JungfrauParams.from_tree({"acq": {"expo_time": 10}, "det": det}),
        pools=pools,
        workers=1,
    )
    photons = {"enabled": True, "calibration_path": calibration_path, "device": "numpy"}
    params = legacy.PLUGIN.params.from_tree({"photons": photons})
    return legacy.PLUGIN.build(params, context).remarks


def test_a_run_that_is_taken_unlike_its_pedestals_is_remarked(tmp_path):
    other = replace(TAKEN, exposure_s=500e-6, high_voltage_v=200.0)
    path = saved(tmp_path, calibration(conditions=(TAKEN, other, other)))

    device, *told = remarks(path, high_voltage=120)

    assert device == "photons are computed by numpy"
    assert [text.split(" in ")[0] for text in told] == ["the pedestals of G1 and G2"] * 2
    assert "500 us, this run is taken with an exposure time of 10 us" in told[0]
    assert "200 V, this run is taken with a high voltage of 120 V" in told[1]


def test_a_run_like_its_pedestals_or_with_an_older_calibration_is_not_remarked(tmp_path):
    for conditions in ((TAKEN,) * 3, (Conditions(),) * 3):
        path = saved(tmp_path, calibration(conditions=conditions))
        assert remarks(path, high_voltage=120) == ("photons are computed by numpy",)


def test_pedestals_of_the_other_gain_of_g0_are_refused(tmp_path):
    path = saved(tmp_path, calibration(conditions=(TAKEN,) * 3))

    with pytest.raises(ParamError, match=r"without high gain in G0, .* with high gain") as caught:
        remarks(path, high_gain_g0=True)

    assert caught.value.path == "photons.calibration_path"


def test_the_files_of_a_run_name_the_calibration_that_it_wrote(tmp_path):
    made = calibration()
    old = saved(tmp_path, made, "old.h5")
    path = str(tmp_path / "made.h5")
    raw = np.rint(made.pedestal[:, 1]).astype(np.uint16) | CODES[1] << 14
    group = {"enabled": True, "path": path, "gain_path": old}

    bench = Bench({"pedestal": group, "saving": saving(tmp_path)}, spec_of(raw[None]), n_frames=4)
    before = list(bench.pipeline.files())
    bench.run([raw] * 4)

    assert before == []
    frames, written = bench.pipeline.files()
    assert frames != written == path
    assert read_calibration(path, "p").conditions[1].acq_id == "0b3e"


def test_a_run_without_dark_frames_names_no_calibration(tmp_path):
    path = saved(tmp_path, calibration())
    group = {"enabled": True, "path": path}

    bench = Bench({"pedestal": group}, FrameSpec((1, 512, 1024), np.dtype(np.uint16))).run([])

    assert list(bench.pipeline.files()) == []
