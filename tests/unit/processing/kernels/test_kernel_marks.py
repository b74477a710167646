"""Values that are no measurements: what they are, and that they stay what they are."""

import threading

import numpy as np
import pytest

from lima2_core.data.geometry import Roi
from processing.kernels.accumulate import ADD_MARKED, choose_marked_add, deliver, total_dtype
from processing.kernels.arcs import Arc
from processing.kernels.binning import bin_sum
from processing.kernels.calibration import RESTORE, PixelCorrection
from processing.kernels.compiled import KERNELS
from processing.kernels.jit import warm_up
from processing.kernels.marked_moments import MARKED_COLUMNS, MARKED_RUNS
from processing.kernels.marks import Marks, mark_blocks, measured, without_value
from processing.kernels.profiles import RegionProfiles
from processing.kernels.regions import ROI_RECORD, RegionStatistics

SHAPE = (1, 20, 30)
NAMES = ("min", "max", "avg", "std", "sum")


@pytest.fixture(params=["int16", "int32", "float32"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(params=[False, True], ids=["mark", "zero"])
def marks(request, dtype):
    return Marks.of(dtype, zero=request.param)


@pytest.fixture(params=["numpy", "numba"])
def accelerate(request, dtype):
    if request.param == "numba":
        warm_up([dtype], KERNELS, threading.Event())
        assert MARKED_RUNS.compiled(dtype)
        assert MARKED_COLUMNS.compiled(dtype)
        if dtype.kind == "i":
            assert ADD_MARKED.compiled(dtype)
            assert RESTORE.compiled(dtype)
    return request.param == "numba"


def image(marks, seed=3):
    """Photons, of which some are marks: rows 4 and 5 have no value, row 7 is saturated."""
    random = np.random.default_rng(seed)
    made = random.integers(-3, 900, SHAPE).astype(marks.dtype)
    flat = made.reshape(-1)
    flat[random.integers(0, flat.size, 30)] = marks.saturated
    flat[random.integers(0, flat.size, 30)] = marks.no_value
    made[:, 4:6] = marks.no_value
    made[:, 7] = marks.saturated
    return made


def expected(pixels, marks):
    """Statistics of pixels, by the rules of the documentation."""
    values = [float(one) for one in pixels.reshape(-1)]
    no_value = marks.no_value if marks.no_value else None
    there = [one for one in values if one == one and one != no_value and one != marks.saturated]
    if not values:
        return [0.0] * 5
    found = [np.nan] * 5
    if there:
        found = [min(there), max(there), np.mean(there), np.std(there), sum(there)]
    if marks.saturated in values:
        found[1] = float(np.float32(marks.saturated))
    return found


RECTS = [Roi(0, 0, 20, 30), Roi(2, 3, 5, 9), Roi(4, 0, 2, 30), Roi(7, 2, 1, 9), Roi(6, 0, 2, 30)]


def test_statistics_leave_out_what_was_not_measured(marks, accelerate):
    pixels, arc = image(marks), Arc(15.0, 10.0, 0.0, 3.0, 0.0, 360.0)
    kernel = RegionStatistics(RECTS, [arc], SHAPE, marks.dtype, accelerate=accelerate, marks=marks)
    records = np.zeros(kernel.length, ROI_RECORD)

    kernel.fill(pixels, records)

    for roi, record in zip(RECTS, records, strict=False):
        assert [record[name] for name in NAMES] == pytest.approx(
            expected(pixels[:, *roi.slices], marks), rel=1e-6, nan_ok=True
        )
    assert records["max"][0] == np.float32(marks.saturated)
    assert np.isfinite(records["std"][-1])


def test_masked_pixels_are_left_out_as_well(marks, accelerate):
    pixels, mask = image(marks), np.zeros(SHAPE[1:], np.uint8)
    mask[:, :20] = 1
    mask[12] = 1
    roi = Roi(0, 10, 20, 20)
    kernel = RegionStatistics(
        [roi], [], SHAPE, marks.dtype, mask, accelerate=accelerate, marks=marks
    )
    records = np.zeros(1, ROI_RECORD)

    kernel.fill(pixels, records)

    kept = pixels[:, roi.slices[0], roi.slices[1]][(mask == 0)[None, *roi.slices]]
    assert [records[name][0] for name in NAMES] == pytest.approx(expected(kept, marks), rel=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_profiles_leave_out_what_was_not_measured(marks, accelerate, direction, masked):
    pixels, mask = image(marks), np.zeros(SHAPE[1:], np.uint8)
    mask[9, 2:], mask[:, 11] = masked, masked
    roi = Roi(3, 4, 9, 12)
    kernel = RegionProfiles(
        [roi], [direction], SHAPE, marks.dtype, mask, accelerate=accelerate, marks=marks
    )
    records = np.zeros(kernel.length, ROI_RECORD)

    kernel.fill(pixels, records)

    for n, record in enumerate(records):
        line = np.s_[3:12, 4 + n] if direction == "horizontal" else np.s_[3 + n, 4:16]
        there = pixels[0][line][mask[line] == 0]
        assert [record[name] for name in NAMES] == pytest.approx(
            expected(there, marks), rel=1e-6, nan_ok=True
        )


def test_a_sum_keeps_the_marks_of_its_images(marks, accelerate):
    images = [image(marks, seed) for seed in range(4)]
    total = np.zeros(SHAPE, total_dtype(marks.dtype))
    add = choose_marked_add(marks, total.dtype, accelerate=accelerate)
    for one in images:
        add(total, one)
    out = np.empty(SHAPE, np.dtype(f"{marks.dtype.kind}4"))
    deliver(total, out)

    own = marks.to(out.dtype)
    empty = np.any([without_value(one, marks) for one in images], axis=0)
    full = np.any([one == marks.saturated for one in images], axis=0) & ~empty
    good = ~empty & ~full
    assert np.array_equal(out[good], np.sum(images, axis=0, dtype=np.float64)[good])
    assert (out[full] == own.saturated).all()
    assert without_value(out, own)[empty].all()
    assert good.any()
    assert full.any()
    assert empty.any() or not marks.no_value


def test_correction_keeps_marks_but_not_where_it_masks(marks, accelerate):
    pixels, random = image(marks), np.random.default_rng(5)
    mask = random.random(SHAPE[1:]) < 0.2
    flat = random.uniform(0.5, 2, SHAPE[1:]).astype(np.float32)
    correction = PixelCorrection(
        SHAPE, marks.dtype, flatfield=flat, mask=mask, accelerate=accelerate, marks=marks
    )
    out = np.empty(SHAPE, correction.dtype)

    correction.apply(pixels, out)

    own, good = marks.to(out.dtype), measured(pixels, marks) & ~mask
    assert np.allclose(out[good], (pixels / flat)[good], rtol=1e-6)
    assert not out[:, mask].any()
    assert (out[(pixels == marks.saturated) & ~mask] == own.saturated).all()
    assert without_value(out, own)[without_value(pixels, marks) & ~mask].all()


@pytest.mark.parametrize(("rows", "cols"), [(2, 2), (1, 3), (3, 1)])
def test_a_binned_pixel_is_marked_by_any_that_it_is_made_of(marks, rows, cols):
    pixels = image(marks)

    out = bin_sum(pixels, rows, cols)
    mark_blocks(pixels, marks, rows, cols, out)

    own, some = marks.to(out.dtype), set()
    for row in range(SHAPE[1] // rows):
        for col in range(SHAPE[2] // cols):
            block = pixels[0, row * rows : (row + 1) * rows, col * cols : (col + 1) * cols]
            value = out[0, row, col]
            if without_value(block, marks).any():
                some.add("empty")
                assert without_value(value[None], own)[0]
            elif (block == marks.saturated).any():
                some.add("full")
                assert value == own.saturated
            else:
                some.add("good")
                assert value == block.sum(dtype=np.int64)
    assert {"full", "good"} <= some


@pytest.mark.parametrize(
    ("dtype", "zero", "told"),
    [
        ("int16", False, (-32768, 32767, -32767, 32766)),
        ("int32", True, (None, 2**31 - 1, None, 2**31 - 2)),
    ],
)
def test_files_are_told_the_marks_and_what_lies_between_them(dtype, zero, told):
    names = ("no_value", "saturated_value", "underload_value", "saturation_value")
    found = Marks.of(dtype, zero=zero).told()
    assert tuple(found.get(name) for name in names) == told


def test_floats_between_the_limits_are_finite():
    told = Marks.of("float32").told()
    largest = np.finfo(np.float32).max
    assert np.isnan(told["no_value"])
    assert np.isinf(told["saturated_value"])
    assert (told["underload_value"], told["saturation_value"]) == (-largest, largest)
