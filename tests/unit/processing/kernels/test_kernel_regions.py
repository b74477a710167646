from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lima2_core.data.geometry import Roi
from lima2_core.errors import ParamError
from processing.kernels.arcs import Arc, ArcPixels
from processing.kernels.moments import Moments
from processing.kernels.regions import ROI_RECORD, RegionStatistics, rect_statistics

SHAPE = (2, 13, 17)
VALUES = ("min", "max", "avg", "std", "sum")
RECTS = [
    Roi(0, 0, 13, 17),
    Roi(3, 4, 5, 6),
    Roi(12, 16, 1, 1),
    Roi(-2, -3, 6, 7),
    Roi(10, 12, 50, 50),
    Roi(40, 40, 3, 3),
    Roi(-9, 0, 4, 4),
    Roi(5, 5, 0, 4),
]
ARCS = [
    Arc(9.0, 7.0, 2.0, 6.5, -280.5, -100.4),
    Arc(0.0, 0.0, 5.0, 12.0, 0.0, 360.0),
    Arc(90.0, 90.0, 1.0, 4.0, 0.0, 90.0),
]


def exact(pixels: Iterable[Any]) -> Moments:
    """The definition, in fractions."""
    values = [Fraction(pixel.item()) for pixel in pixels]
    if not values:
        return Moments(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    numbers = (min(values), max(values), mean, math.sqrt(variance), sum(values), len(values))
    return Moments(*map(float, numbers))


def pixels_in(image: NDArray[Any], region: Roi | Arc, mask: NDArray[Any] | None) -> list[Any]:
    bands, rows, cols = image.shape
    if isinstance(region, Roi):
        inside = {
            (row, col)
            for row in range(region.row, region.row + region.rows)
            for col in range(region.col, region.col + region.cols)
            if 0 <= row < rows and 0 <= col < cols
        }
    else:
        radii, angles = (region.r1, region.r2), (region.a1_deg, region.a2_deg)
        arc = ArcPixels.of(region.center_x, region.center_y, *radii, *angles, rows, cols)
        inside = {divmod(int(index), cols) for index in arc.indices}
    return [
        image[band, row, col]
        for band in range(bands)
        for row, col in inside
        if mask is None or not np.broadcast_to(mask, image.shape)[band, row, col]
    ]


def masks() -> dict[str, NDArray[Any] | None]:
    rng = np.random.default_rng(3)
    return {
        "none": None,
        "one": rng.integers(0, 2, SHAPE[1:]).astype(np.uint8) * 9,
        "per_band": rng.random(SHAPE) < 0.2,
        "empty": np.zeros(SHAPE[1:], np.uint8),
        "all": np.ones(SHAPE[1:], np.uint8),
    }


def assert_same(record: Any, expected: Moments, dtype: np.dtype[Any]) -> None:
    for name in ("min", "max", "avg", "std"):
        wanted = np.float32(getattr(expected, name))
        assert record[name] == pytest.approx(wanted, rel=1e-6, abs=1e-5)
    if dtype.kind == "f":
        assert record["sum"] == pytest.approx(expected.sum, rel=1e-12)
    else:
        assert record["sum"] == expected.sum


def test_a_record_is_laid_out_as_on_the_wire():
    assert ROI_RECORD.itemsize == 32
    assert ROI_RECORD.names == ("frame_idx", "recv_idx", "min", "max", "avg", "std", "sum")
    formats = [ROI_RECORD[name].str for name in ROI_RECORD.names]
    assert formats == ["<i4", "<i4", "<f4", "<f4", "<f4", "<f4", "<f8"]


@pytest.mark.parametrize("which", masks())
def test_each_region_has_the_statistics_of_its_pixels(
    draw: Any, dtype: np.dtype[Any], accelerate: bool, which: str
):
    mask = masks()[which]
    image = draw(*SHAPE)
    image.flags.writeable = False
    statistics = RegionStatistics(RECTS, ARCS, SHAPE, dtype, mask, accelerate=accelerate)
    records = np.zeros(statistics.length, ROI_RECORD)

    statistics.fill(image, records)

    assert statistics.length == len(RECTS) + len(ARCS)
    for record, region in zip(records, [*RECTS, *ARCS], strict=True):
        assert_same(record, exact(pixels_in(image, region, mask)), dtype)


@pytest.mark.parametrize("which", masks())
def test_one_rectangle_alone_has_the_same_statistics(draw: Any, dtype: np.dtype[Any], which: str):
    mask = masks()[which]
    image = draw(*SHAPE)

    for rect in RECTS:
        alone = rect_statistics(image, rect, mask)

        assert alone == pytest.approx(exact(pixels_in(image, rect, mask)), rel=1e-12, abs=1e-9)


def test_the_indices_of_a_record_are_left_alone(accelerate: bool, dtype: np.dtype[Any]):
    records = np.zeros(3, ROI_RECORD)
    records["frame_idx"], records["recv_idx"] = 41, 2

    RegionStatistics([RECTS[1]], [], SHAPE, dtype, accelerate=accelerate).fill(
        np.ones(SHAPE, dtype), records[1:2]
    )

    assert records["frame_idx"].tolist() == [41, 41, 41]
    assert records["recv_idx"].tolist() == [2, 2, 2]
    assert records["sum"].tolist() == [0, 60, 0]


def test_no_region_writes_nothing(accelerate: bool, dtype: np.dtype[Any]):
    RegionStatistics([], [], SHAPE, dtype, accelerate=accelerate).fill(
        np.ones(SHAPE, dtype), np.zeros(0, ROI_RECORD)
    )


@pytest.mark.parametrize("dtype", [np.dtype(n) for n in ("uint16", "uint32", "float64")])
def test_a_small_spread_on_a_large_offset_survives(dtype: np.dtype[Any], accelerate: bool):
    image = np.full((1, 100, 100), 65_000, dtype)
    image[0, 50, 50] += 1
    statistics = RegionStatistics(
        [Roi(0, 0, 100, 100)], [], (1, 100, 100), dtype, accelerate=accelerate
    )
    records = np.zeros(1, ROI_RECORD)

    statistics.fill(image, records)

    assert records["std"][0] == pytest.approx(math.sqrt(1e-4 * (1 - 1e-4)), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.dtype(n) for n in ("uint8", "int16", "uint16", "uint32")])
def test_sums_of_many_extreme_pixels_are_exact(dtype: np.dtype[Any], accelerate: bool):
    shape = (1, 600, 700)
    extreme = int(np.iinfo(dtype).max)
    image = np.full(shape, extreme, dtype)
    image[0, 7, 7] = 0
    statistics = RegionStatistics([Roi(0, 0, 600, 700)], [], shape, dtype, accelerate=accelerate)
    records = np.zeros(1, ROI_RECORD)

    statistics.fill(image, records)

    assert records["sum"][0] == extreme * (600 * 700 - 1)
    assert records["min"][0] == 0
    assert records["std"][0] == pytest.approx(extreme * math.sqrt(600 * 700 - 1) / (600 * 700))


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)])
def test_a_nan_shows_unless_it_is_masked(dtype: np.dtype[Any], accelerate: bool):
    image = np.arange(12, dtype=dtype).reshape(1, 3, 4)
    image[0, 1, 1] = np.nan
    rects = [Roi(0, 0, 3, 4), Roi(0, 0, 1, 4)]
    mask = np.isnan(image[0])
    records = np.zeros(2, ROI_RECORD)

    RegionStatistics(rects, [], (1, 3, 4), dtype, accelerate=accelerate).fill(image, records)
    assert all(np.isnan(records[name][0]) for name in VALUES)
    assert records["sum"][1] == 6

    RegionStatistics(rects, [], (1, 3, 4), dtype, mask, accelerate=accelerate).fill(image, records)
    assert records["sum"].tolist() == [61, 6]


def test_a_view_is_as_good_as_a_contiguous_image(draw: Any, dtype: Any, accelerate: bool):
    view = draw(1, 20, 30)[:, ::2, 3:]
    statistics = RegionStatistics([Roi(1, 1, 7, 9)], [], (1, 10, 27), dtype, accelerate=accelerate)
    records = np.zeros(1, ROI_RECORD)

    statistics.fill(view, records)

    assert_same(records[0], exact(pixels_in(view, Roi(1, 1, 7, 9), None)), dtype)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ParamError, match="mask"):
        RegionStatistics([], [], SHAPE, np.dtype(np.uint8), np.zeros((3, 3)))
