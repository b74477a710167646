from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lima2_core.errors import ParamError
from processing.kernels.binning import bin_sum, binned_dtype


@pytest.mark.parametrize(
    ("dtype", "rows", "cols", "expected"),
    [
        ("uint8", 1, 1, "uint8"),
        ("uint8", 2, 2, "uint16"),
        ("uint8", 16, 16, "uint16"),
        ("uint8", 16, 17, "uint32"),  # 272 * 255 = 69360
        ("int8", 2, 2, "int16"),
        ("int8", 16, 16, "int32"),  # 256 * -128 = -32768 fits, 256 * 128 does not
        ("uint16", 2, 2, "uint32"),
        ("uint16", 256, 257, "float64"),
        ("int16", 2, 2, "int32"),
        ("uint32", 1, 2, "float64"),
        ("int32", 2, 1, "float64"),
        ("int32", 1, 1, "int32"),
        ("float32", 4, 4, "float32"),
        ("float64", 4, 4, "float64"),
    ],
)
def test_the_type_of_a_sum_holds_the_largest_sum(dtype: str, rows: int, cols: int, expected: str):
    assert binned_dtype(np.dtype(dtype), rows, cols) == np.dtype(expected)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (2, 2), (3, 2), (1, 4), (5, 7)])
def test_each_sum_is_that_of_its_block(draw: Any, dtype: np.dtype[Any], rows: int, cols: int):
    image = draw(2, 11, 14)

    summed = bin_sum(image, rows, cols)

    assert summed.shape == (2, 11 // rows, 14 // cols)
    assert summed.dtype == binned_dtype(dtype, rows, cols)
    for (band, row, col), value in np.ndenumerate(summed):
        block = image[band, row * rows : (row + 1) * rows, col * cols : (col + 1) * cols]
        assert value == pytest.approx(sum(block.ravel().tolist()), rel=1e-5, abs=1e-2)


@pytest.mark.parametrize("name", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
def test_the_extreme_sum_does_not_wrap(name: str):
    for extreme in (np.iinfo(name).min, np.iinfo(name).max):
        image = np.full((1, 16, 16), extreme, name)

        assert bin_sum(image, 16, 16)[0, 0, 0] == int(extreme) * 256


def test_a_given_array_is_filled_and_given_back():
    out = np.empty((1, 1, 2), np.uint16)

    assert bin_sum(np.ones((1, 2, 5), np.uint8), 2, 2, out) is out
    assert out.tolist() == [[[4, 4]]]


def test_a_block_larger_than_the_image_is_refused():
    with pytest.raises(ParamError, match="3x1 do not fit in an image of 2x2"):
        bin_sum(np.ones((1, 2, 2), np.uint8), 3, 1)
