from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lima2_core.data.geometry import Affine, Roi

ROWS, COLS = 6, 8
Image = NDArray[Any]
Step = tuple[str, Callable[[Image], Image], Callable[[int, int], Affine]]

STEPS: list[Step] = [
    ("flip_rows", lambda a: a[::-1], lambda rows, cols: Affine.flip_rows(rows)),
    ("flip_cols", lambda a: a[:, ::-1], lambda rows, cols: Affine.flip_cols(cols)),
    *(
        (
            f"rotation_{turns}",
            lambda a, turns=turns: np.rot90(a, turns),
            lambda rows, cols, turns=turns: Affine.rotation(turns, rows, cols),
        )
        for turns in (-1, 0, 1, 2, 3, 4, 5)
    ),
    ("crop", lambda a: a[1:, 2:], lambda rows, cols: Affine.crop(1, 2)),
]


def numbered() -> Image:
    """Each pixel holds its own flat index, so that a moved pixel tells where it came from."""
    return np.arange(ROWS * COLS).reshape(ROWS, COLS)


def assert_leads_back(affine: Affine, moved: Image) -> None:
    for (row, col), origin in np.ndenumerate(moved):
        assert affine.apply(row, col) == pytest.approx(divmod(int(origin), COLS))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[0])
def test_a_step_leads_every_pixel_back_to_where_numpy_took_it_from(step: Step):
    _, move, affine_of = step

    assert_leads_back(affine_of(ROWS, COLS), move(numbered()))


@pytest.mark.parametrize("first", STEPS, ids=lambda step: step[0])
@pytest.mark.parametrize("second", STEPS, ids=lambda step: step[0])
def test_two_steps_compose_in_the_order_in_which_they_were_made(first: Step, second: Step):
    once = first[1](numbered())

    affine = first[2](ROWS, COLS).then(second[2](*once.shape))

    assert_leads_back(affine, second[1](once))


def test_a_binned_pixel_lies_at_the_mean_of_its_pixels_after_any_step():
    for _, move, affine_of in STEPS:
        moved = move(numbered())
        origin_rows, origin_cols = np.divmod(moved, COLS)
        affine = affine_of(ROWS, COLS).then(Affine.binning(2, 3))

        for row in range(moved.shape[0] // 2):
            for col in range(moved.shape[1] // 3):
                block = np.s_[row * 2 : row * 2 + 2, col * 3 : col * 3 + 3]
                mean = (origin_rows[block].mean(), origin_cols[block].mean())
                assert affine.apply(row, col) == pytest.approx(mean)


def test_a_rotation_after_a_crop_after_a_binning_leads_back():
    binned_row, binned_col = np.divmod(np.arange(3 * 4).reshape(3, 4), 4)
    view = np.s_[1:3, 1:4]
    rows = np.rot90(binned_row[view] * 2 + 0.5)
    cols = np.rot90(binned_col[view] * 2 + 0.5)

    affine = Affine.binning(2, 2).then(Affine.crop(1, 1)).then(Affine.rotation(1, 2, 3))

    for row in range(3):
        for col in range(2):
            assert affine.apply(row, col) == pytest.approx((rows[row, col], cols[row, col]))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[0])
def test_a_region_covers_the_detector_pixels_of_its_image_pixels(step: Step):
    _, move, affine_of = step
    moved = move(numbered())
    roi = Roi(1, 0, 2, 3)

    region = affine_of(ROWS, COLS).region(roi)

    origins = set(moved[roi.slices].ravel().tolist())
    assert set(numbered()[region.slices].ravel().tolist()) == origins


def test_a_region_of_a_binned_image_covers_whole_blocks():
    affine = Affine.crop(1, 2).then(Affine.binning(2, 3))

    assert affine.region(Roi(1, 0, 1, 2)) == Roi(3, 2, 2, 6)


@pytest.mark.parametrize("row", range(6))
@pytest.mark.parametrize("block", [2, 3, 7])
def test_one_detector_pixel_lies_in_one_binned_pixel(row: int, block: int):
    to_image = Affine.binning(block, block).inverse()

    assert to_image.region(Roi(row, 0, 1, 1)) == Roi(row // block, 0, 1, 1)


def test_a_region_across_a_block_border_takes_both_blocks():
    to_image = Affine.binning(2, 2).inverse()

    assert to_image.region(Roi(1, 3, 2, 2)) == Roi(0, 1, 2, 2)


def test_the_inverse_undoes_a_long_chain():
    affine = Affine()
    for _, _, affine_of in STEPS:
        affine = affine.then(affine_of(ROWS, COLS))

    assert affine.then(affine.inverse()) == Affine()
    assert affine.inverse().then(affine) == Affine()


def test_a_roi_fits_only_if_it_is_not_empty_and_inside():
    assert Roi(0, 0, 4, 5).fits(4, 5)
    assert Roi(3, 4, 1, 1).fits(4, 5)
    for outside in (Roi(0, 0, 5, 5), Roi(1, 0, 4, 5), Roi(-1, 0, 2, 2), Roi(0, 0, 0, 5)):
        assert not outside.fits(4, 5)
