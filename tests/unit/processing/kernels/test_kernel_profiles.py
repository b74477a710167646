from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lima2_core.data.geometry import Roi
from processing.kernels.profiles import Direction, RegionProfiles
from processing.kernels.regions import ROI_RECORD, rect_statistics

SHAPE = (2, 13, 17)
VALUES = ("min", "max", "avg", "std", "sum")
ROIS = [
    Roi(0, 0, 13, 17),
    Roi(3, 4, 5, 6),
    Roi(-2, -3, 6, 7),
    Roi(10, 12, 9, 12),
    Roi(40, 40, 3, 2),
]
BOTH: list[Direction] = ["horizontal", "vertical"]


def lines_of(roi: Roi, direction: Direction) -> list[Roi]:
    """Each element as a rectangle of its own, whose statistics other tests compare."""
    if direction == "horizontal":
        return [Roi(roi.row, roi.col + k, roi.rows, 1) for k in range(roi.cols)]
    return [Roi(roi.row + k, roi.col, 1, roi.cols) for k in range(roi.rows)]


def masks() -> dict[str, NDArray[Any] | None]:
    rng = np.random.default_rng(4)
    holes = rng.random(SHAPE[1:]) < 0.3
    holes[:, 6] = True
    holes[5] = True
    return {"none": None, "one": holes.astype(np.uint8), "per_band": rng.random(SHAPE) < 0.2}


@pytest.mark.parametrize("which", masks())
def test_each_element_has_the_statistics_of_its_line(
    draw: Any, dtype: np.dtype[Any], accelerate: bool, which: str
):
    mask = masks()[which]
    image = draw(*SHAPE)
    image.flags.writeable = False
    rois = [roi for roi in ROIS for _ in BOTH]
    directions = BOTH * len(ROIS)
    profiles = RegionProfiles(rois, directions, SHAPE, dtype, mask, accelerate=accelerate)
    records = np.zeros(profiles.length, ROI_RECORD)
    records["frame_idx"] = 5

    profiles.fill(image, records)

    lines = [
        line
        for roi, direction in zip(rois, directions, strict=True)
        for line in lines_of(roi, direction)
    ]
    assert profiles.length == len(lines)
    for record, line in zip(records, lines, strict=True):
        expected = rect_statistics(image, line, mask)
        for name in VALUES:
            wanted = getattr(expected, name)
            assert record[name] == pytest.approx(wanted, rel=1e-6, abs=1e-5), (line, name)
    assert (records["frame_idx"] == 5).all()


def test_a_horizontal_profile_runs_along_the_columns():
    image = np.array([[[1, 2, 3], [10, 20, 30]]], np.uint8)
    roi = Roi(0, 0, 2, 3)
    profiles = RegionProfiles([roi, roi], BOTH, (1, 2, 3), image.dtype, accelerate=False)
    records = np.zeros(5, ROI_RECORD)

    profiles.fill(image, records)

    assert records["sum"].tolist() == [11, 22, 33, 6, 60]
    assert records["min"].tolist() == [1, 2, 3, 1, 10]


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)])
def test_a_nan_shows_in_its_own_element_only(dtype: np.dtype[Any], accelerate: bool):
    image = np.ones((1, 3, 3), dtype)
    image[0, 0, 1] = np.nan
    roi = Roi(0, 0, 3, 3)
    profiles = RegionProfiles([roi, roi], BOTH, (1, 3, 3), dtype, accelerate=accelerate)
    records = np.zeros(6, ROI_RECORD)

    profiles.fill(image, records)

    for name in VALUES:
        assert np.isnan(records[name]).tolist() == [False, True, False, True, False, False]


def test_no_profile_has_no_length():
    profiles = RegionProfiles([], [], SHAPE, np.dtype(np.uint8))

    profiles.fill(np.ones(SHAPE, np.uint8), np.zeros(0, ROI_RECORD))

    assert profiles.length == 0
