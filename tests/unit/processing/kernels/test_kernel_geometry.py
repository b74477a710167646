from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lima2_core.data.geometry import Affine, Roi
from lima2_core.errors import ParamError
from processing.kernels.geometry import Flip, crop, flip, rotate

IMAGE = np.arange(2 * 3 * 4, dtype=np.uint16).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("how", "first_line"),
    [("none", [0, 1, 2, 3]), ("left_right", [3, 2, 1, 0]), ("up_down", [8, 9, 10, 11])],
)
def test_a_flip_mirrors_each_band(how: Flip, first_line: list[int]):
    flipped = flip(IMAGE, how)

    assert flipped[0, 0].tolist() == first_line
    assert (flipped[1] == flipped[0] + 12).all()
    assert flipped.flags.c_contiguous
    assert not np.shares_memory(flipped, IMAGE)


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4])
def test_a_rotation_turns_each_band_as_rot90(turns: int):
    rotated = rotate(IMAGE, turns)

    for band in range(2):
        assert (rotated[band] == np.rot90(IMAGE[band], turns)).all()
    assert rotated.flags.c_contiguous
    assert not np.shares_memory(rotated, IMAGE)


@pytest.mark.parametrize("turns", [1, 3])
def test_a_rotation_of_more_than_one_tile_is_complete(turns: int):
    image = np.arange(1 * 130 * 70).reshape(1, 130, 70)

    assert (rotate(image, turns)[0] == np.rot90(image[0], turns)).all()


def test_the_affine_of_a_rotation_describes_what_the_kernel_does():
    rotated = rotate(IMAGE, 1)
    affine = Affine.rotation(1, 3, 4)

    for (row, col), value in np.ndenumerate(rotated[0]):
        assert affine.apply(row, col) == pytest.approx(divmod(int(value), 4))


def test_a_crop_keeps_the_region_of_each_band():
    cut = crop(IMAGE, Roi(1, 2, 2, 2))

    assert cut.tolist() == [[[6, 7], [10, 11]], [[18, 19], [22, 23]]]
    assert cut.flags.c_contiguous


@pytest.mark.parametrize("roi", [Roi(0, 0, 4, 1), Roi(-1, 0, 2, 2), Roi(0, 0, 0, 4)])
def test_a_crop_that_leaves_the_image_is_refused(roi: Roi):
    with pytest.raises(ParamError, match="leaves the image of 3x4"):
        crop(IMAGE, roi)


def test_given_arrays_are_filled_and_given_back():
    same: Any = np.empty_like(IMAGE)
    turned = np.empty((2, 4, 3), np.uint16)
    small = np.empty((2, 1, 1), np.uint16)

    assert flip(IMAGE, "up_down", same) is same
    assert rotate(IMAGE, 1, turned) is turned
    assert crop(IMAGE, Roi(2, 3, 1, 1), small) is small
    assert same[0, 0].tolist() == [8, 9, 10, 11]
    assert turned[0, 0].tolist() == [3, 7, 11]
    assert small.ravel().tolist() == [11, 23]
