"""Pixels without value and saturated ones on their way through the classic pipeline."""

import numpy as np
import pytest

from processing.kernels.marks import Marks, without_value
from tests.integration.bench import Bench, rect, spec_of
from tests.unit.processing.jungfrau import calibration, photons, saved, words

ROWS = np.s_[128:132]
"""Of which a packet is missing."""


@pytest.fixture(params=["int16", "int32", "float32"])
def output(request):
    return request.param


@pytest.fixture
def raws():
    """Frame 0 is whole, frame 1 lacks a packet, frame 2 has a saturated pixel."""
    frames = np.stack([words(seed=seed, switched=0) % 16000 + 100 for seed in range(3)])
    frames[1, 0, ROWS] = 0x8000
    frames[2, 0, 200, 300] = 0xC000
    return frames


@pytest.fixture
def steps(tmp_path, output):
    path = saved(tmp_path, calibration())

    def steps(*, photons=None, **more):
        tree = {"enabled": True, "calibration_path": path, "device": "numpy", "output": output}
        return {"photons": {**tree, **(photons or {})}, **more}

    return steps


def regions(*rects):
    return {"enabled": True, "rect_rois": [rect(*one) for one in rects]}


def test_statistics_are_those_of_the_pixels_that_were_measured(steps, raws, output):
    tree = steps(statistics=regions((290, 120, 20, 100), (0, 128, 1024, 4)))

    records = Bench(tree, spec_of(raws), workers=1).run(raws).records().reshape(3, 2)

    for n in range(3):
        image = photons(raws[n], calibration())[0, 120:220, 290:310]
        values = image[np.isfinite(image)]
        values = values if output == "float32" else np.rint(values)
        record = records[n, 0]
        assert record["sum"] == pytest.approx(values.sum(), rel=1e-4)
        assert record["avg"] == pytest.approx(values.mean(), rel=1e-4)
        assert record["std"] == pytest.approx(values.std(), rel=1e-4)
        assert record["min"] == pytest.approx(values.min(), abs=1e-3)
    saturated = np.float32(Marks.of(output).saturated)
    assert (records["max"][:, 0] == saturated).tolist() == [False, False, True]
    assert np.isnan(records[["min", "max", "avg", "std", "sum"]][1, 1].tolist()).all()


def test_rows_of_a_missing_packet_have_no_value_in_a_profile(steps, raws):
    tree = steps(
        profiles={
            "enabled": True,
            "rois": [rect(10, 120, 30, 20), rect(10, 120, 30, 20)],
            "directions": ["vertical", "horizontal"],
        }
    )

    records = Bench(tree, spec_of(raws), workers=1).run(raws).records("roi_profiles")

    rows, cols = np.split(records.reshape(3, 50)[1], [20])
    assert np.flatnonzero(np.isnan(rows["avg"])).tolist() == [8, 9, 10, 11]
    assert np.isfinite(cols["avg"]).all()


def test_a_sum_has_no_value_where_a_frame_has_none(steps, raws, output):
    tree = steps(accumulation={"enabled": True, "nb_frames": 3})

    bench = Bench(tree, spec_of(raws)).run(raws)

    result, marks = bench.result(0).data[0], Marks.of(bench.pipeline.output_spec.dtype)
    alone = Bench(steps(), spec_of(raws)).run(raws)
    images = [alone.result(n).data[0].astype(np.float64) for n in range(3)]
    empty, full = without_value(result, marks), result == marks.saturated
    assert np.flatnonzero(empty.all(axis=1)).tolist() == [128, 129, 130, 131]
    assert empty.sum() == 4 * 1024
    assert np.argwhere(full).tolist() == [[200, 300]]
    good = ~empty & ~full
    assert np.allclose(result[good], np.sum(images, axis=0)[good], rtol=1e-6)


def test_marks_stay_marks_through_correction_binning_and_rotation(steps, raws, tmp_path):
    np.save(tmp_path / "flat.npy", np.full((512, 1024), 2, np.float32))
    tree = steps(
        flatfield={"enabled": True, "path": str(tmp_path / "flat.npy")},
        geometry={"binning": {"x": 2, "y": 2}, "rotation": "180"},
    )

    bench = Bench(tree, spec_of(raws)).run(raws)

    first, second, third = (bench.result(n).data[0] for n in range(3))
    assert np.isfinite(first).all()
    assert np.flatnonzero(np.isnan(second).all(axis=1)).tolist() == [190, 191]
    assert np.argwhere(np.isinf(third)).tolist() == [[255 - 100, 511 - 150]]


def test_marks_stay_marks_in_binned_integers(steps, raws, output):
    tree = steps(geometry={"binning": {"x": 2, "y": 2}, "flip": "left_right"})

    bench = Bench(tree, spec_of(raws)).run(raws)

    marks = Marks.of(bench.pipeline.output_spec.dtype)
    second, third = (bench.result(n).data[0] for n in (1, 2))
    empty = without_value(second, marks)
    assert np.flatnonzero(empty.all(axis=1)).tolist() == [64, 65]
    assert empty.sum() == 2 * 512
    assert np.argwhere(third == marks.saturated).tolist() == [[100, 511 - 150]]


@pytest.mark.parametrize("photons", [True, False])
def test_the_protection_looks_at_photons(steps, raws, photons):
    protection = {"enabled": True, "max_countrate": 1000}  # 100 in an exposure; words are beyond
    tree = steps(max_countrate_protection=protection, photons={"enabled": photons})

    bench = Bench(tree, spec_of(raws), workers=1).run(raws)

    (failure,) = bench.failures
    assert ("is saturated" in str(failure)) is photons
    assert failure.details["frame_idx"] == (2 if photons else 0)
