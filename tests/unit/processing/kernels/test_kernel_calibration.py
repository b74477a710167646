from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lima2_core.errors import ParamError
from processing.kernels.calibration import PixelCorrection, correct_pixels, corrected_dtype

SHAPE = (2, 37, 131)  # more pixels than one block of the compiled loop
USES = list(itertools.product([False, True], repeat=3))


def maps_for(use: tuple[bool, bool, bool], map_shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(7)
    background = rng.uniform(0.0, 50.0, map_shape)
    flatfield = rng.uniform(0.5, 1.5, map_shape)
    mask = (rng.random(map_shape) < 0.2).astype(np.int16) * 3
    return tuple(
        m if used else None for m, used in zip((background, flatfield, mask), use, strict=True)
    )


@pytest.mark.parametrize("map_shape", [SHAPE[1:], SHAPE], ids=["one_map", "map_per_band"])
@pytest.mark.parametrize("use", USES, ids=str)
def test_each_pixel_is_what_the_formula_says(
    draw: Any,
    dtype: np.dtype[Any],
    accelerate: bool,
    use: tuple[bool, bool, bool],
    map_shape: tuple[int, ...],
):
    image = draw(*SHAPE)
    image.flags.writeable = False
    background, flatfield, mask = maps_for(use, map_shape)
    correction = PixelCorrection(
        SHAPE, dtype, background=background, flatfield=flatfield, mask=mask, accelerate=accelerate
    )
    out = np.full(SHAPE, 77, correction.dtype)

    correction.apply(image, out)

    expected = image.astype(np.longdouble)
    if background is not None:
        expected = expected - background
    if flatfield is not None:
        expected = expected / flatfield
    if mask is not None:
        expected = np.where(np.broadcast_to(mask, SHAPE) != 0, 0, expected)
    assert correction.dtype == (np.float32 if use[0] or use[1] else dtype)
    if correction.dtype == dtype and not (use[0] or use[1]):
        assert (out == expected).all()
    else:
        np.testing.assert_allclose(out, expected.astype(np.float64), rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("use", USES, ids=str)
def test_numpy_and_numba_agree_to_the_last_bit(
    draw: Any, dtype: np.dtype[Any], accelerate: bool, use: tuple[bool, bool, bool]
):
    image = draw(*SHAPE)
    background, flatfield, mask = maps_for(use, SHAPE[1:])
    names = {"background": background, "flatfield": flatfield, "mask": mask}
    plain = PixelCorrection(SHAPE, dtype, **names, accelerate=False)
    chosen = PixelCorrection(SHAPE, dtype, **names, accelerate=accelerate)
    outs = [np.empty(SHAPE, plain.dtype) for _ in range(2)]

    plain.apply(image, outs[0])
    chosen.apply(image, outs[1])

    assert outs[0].tobytes() == outs[1].tobytes()


@pytest.mark.parametrize("dtype", [np.dtype(name) for name in ("uint32", "int32", "float64")])
def test_a_small_difference_of_large_counts_survives(accelerate: bool, dtype: np.dtype[Any]):
    image = np.full((1, 1, 1), 16_777_217, dtype)
    correction = PixelCorrection(
        (1, 1, 1), dtype, background=np.full((1, 1), 16_777_216.0), accelerate=accelerate
    )
    out = np.empty((1, 1, 1), np.float32)

    correction.apply(image, out)

    assert out[0, 0, 0] == 1.0


def test_a_pixel_without_flat_field_reads_zero(accelerate: bool, dtype: np.dtype[Any]):
    flatfield = np.array([[0.0, np.nan, np.inf, 2.0]])
    correction = PixelCorrection((1, 1, 4), dtype, flatfield=flatfield, accelerate=accelerate)
    out = np.empty((1, 1, 4), np.float32)

    correction.apply(np.full((1, 1, 4), 8, dtype), out)

    assert out.tolist() == [[[0.0, 0.0, 0.0, 4.0]]]


def test_a_masked_nan_reads_zero():
    out = np.empty((1, 1, 2))

    correct_pixels(np.array([[[np.nan, 3.0]]]), None, None, np.array([[1, 0]]), out)

    assert out.tolist() == [[[0.0, 3.0]]]


def test_maps_need_no_preparation():
    out = np.empty((1, 2, 2), np.float32)

    correct_pixels(
        np.array([[[10, 20], [30, 40]]], np.uint16),
        np.array([[1, 2], [3, 4]]),
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        np.array([[0, 0], [0, 1]], np.uint8),
        out,
    )

    assert out.tolist() == [[[9.0, 9.0], [9.0, 0.0]]]


def test_a_map_of_another_shape_is_refused_by_name():
    with pytest.raises(ParamError, match=r"flatfield: the map has the shape \(3, 2\)"):
        PixelCorrection((1, 2, 3), np.dtype(np.uint8), flatfield=np.ones((3, 2)))


def test_only_calibration_changes_the_pixel_type():
    assert corrected_dtype(np.dtype(np.int16), calibrated=False) == np.int16
    assert corrected_dtype(np.dtype(np.float64), calibrated=True) == np.float32
