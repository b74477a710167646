"""Pixels that reach a threshold: the compiled loops against numpy, and numpy against a list."""

import threading

import numpy as np
import pytest

from processing.kernels.hits import COUNT, GATHER, choose_finder, find_hits, threshold_in
from processing.kernels.jit import warm_up

DTYPES = ["uint8", "uint16", "int16", "uint32", "float32"]


@pytest.fixture(params=DTYPES)
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(params=["numpy", "numba"])
def accelerate(request, dtype):
    if request.param == "numba":
        warm_up([dtype], [COUNT, GATHER], threading.Event())
        assert COUNT.compiled(dtype)
        assert GATHER.compiled(dtype)
    return request.param == "numba"


def check(found, pixels, least):
    index, intensity = found
    expected = [n for n, value in enumerate(pixels.tolist()) if value >= least]
    assert index.tolist() == expected
    assert index.dtype == np.int32
    assert intensity.dtype == pixels.dtype
    assert np.array_equal(intensity, pixels[expected])


@pytest.mark.parametrize("size", [1, 63, 64, 65, 5000])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 3.0])
def test_hits_are_the_pixels_from_the_threshold_on(dtype, accelerate, size, rate):
    pixels = np.random.default_rng(size).poisson(rate, size).astype(dtype)
    least = threshold_in(dtype, 1)

    found = choose_finder(dtype, least, accelerate=accelerate)(pixels, size)

    check(found, pixels, 1)


def test_more_hits_than_wanted_are_none(dtype, accelerate):
    pixels = np.zeros(2000, dtype)
    pixels[[0, 700, 1999]] = 5
    find = choose_finder(dtype, threshold_in(dtype, 1), accelerate=accelerate)

    assert find(pixels, 2) is None
    check(find(pixels, 3), pixels, 1)


@pytest.mark.parametrize("accelerate", [False, True])
def test_marks_of_no_value_are_no_hits_and_saturated_pixels_are(accelerate):
    if accelerate:
        warm_up([np.dtype("f4"), np.dtype("i2")], [COUNT, GATHER], threading.Event())
    floats = np.array([np.nan, np.inf, -1, 0, 0.99, 1], "f4")
    numbers = np.array([-(2**15), 2**15 - 1, -1, 0, 1], "i2")

    for pixels, expected in ((floats, [1, 5]), (numbers, [1, 4])):
        least = threshold_in(pixels.dtype, 1)
        find = choose_finder(pixels.dtype, least, accelerate=accelerate)
        assert find(pixels, 6)[0].tolist() == expected


@pytest.mark.parametrize(
    ("dtype", "asked", "least"),
    [("u1", 0.5, 1), ("u1", 255, 255), ("u1", 255.5, None), ("i4", 2.0, 2), ("i4", 2.1, 3)],
)
def test_a_threshold_between_two_integers_is_the_upper_one(dtype, asked, least):
    found = threshold_in(np.dtype(dtype), asked)

    assert (found if found is None else found.tolist()) == (None if least is None else [least])


def test_a_threshold_that_is_no_float32_lets_nothing_below_it_pass():
    least = threshold_in(np.dtype("f4"), 0.1)
    below = np.nextafter(least, np.float32(0))

    assert float(below[0]) < 0.1 <= float(least[0])
    assert find_hits(np.concatenate([below, least]), least, 2)[0].tolist() == [1]
