"""Regions of a whole image, reduced part by part, against those of the whole image."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lima2_core.data.geometry import Placement, Roi
from lima2_core.data.pooling import PART_RECORD, pooled, reach_of, reached
from processing.kernels.arcs import Arc, ArcPixels
from processing.kernels.compiled import KERNELS
from processing.kernels.jit import warm_up
from processing.kernels.marks import Marks, measured
from processing.kernels.profiles import RegionProfiles
from processing.kernels.regions import ROI_RECORD, RegionStatistics

SHAPE = (2, 24, 31)
PLACES = [(0, 0, 9, 31), (9, 0, 15, 12), (9, 14, 13, 17)]
"""Row, column and size of each part; two columns and a corner are in none."""
VALUES = ("min", "max", "avg", "std", "sum")
FLAT: list[Any] = ["horizontal", "vertical"] * 8


def random_regions(seed: int) -> tuple[list[Roi], list[Arc]]:
    """Regions across the borders of parts, within one, beyond the image, and in no part."""
    random = np.random.default_rng(seed)
    rects = [Roi(0, 0, *SHAPE[1:]), Roi(22, 15, 2, 9), Roi(10, 12, 4, 2), Roi(20, 25, 90, 90)]
    for _ in range(12):
        row, col = random.integers(-3, 22), random.integers(-3, 29)
        rects.append(Roi(int(row), int(col), *map(int, random.integers(1, 20, 2))))
    arcs = []
    for _ in range(8):
        center, r1, first = random.uniform(0, 30, 2), random.uniform(0, 9), random.uniform(-400, 90)
        size, turn = random.uniform(0.5, 15), random.uniform(5, 400)
        arcs.append(Arc(*map(float, center), float(r1), r1 + size, first, first + turn))
    return rects, arcs


def cut(image: NDArray[Any], place: tuple[int, int, int, int]) -> NDArray[Any]:
    row, col, rows, cols = place
    return image[..., row : row + rows, col : col + cols]


def covered() -> NDArray[np.bool_]:
    """The pixels that are in some part."""
    found = np.zeros(SHAPE[1:], bool)
    for place in PLACES:
        cut(found, place)[...] = True
    return found


def by_parts(
    kind: Any,
    image: NDArray[Any],
    mask: NDArray[Any],
    regions: tuple[Any, Any],
    lost: tuple[int, ...] = (),
    **options: Any,
) -> NDArray[Any]:
    """Records of the whole image, made of those of its parts, of which some are lost."""
    told, reaches = [], []
    for number, place in enumerate(PLACES):
        own = cut(image, place)
        kernel = kind(
            *regions,
            own.shape,
            image.dtype,
            cut(mask, place),
            place=Placement(place[0], place[1], *SHAPE[1:]),
            **options,
        )
        records = np.zeros(kernel.length, PART_RECORD)
        kernel.fill(own, records)
        if number in lost:
            for name in (*VALUES, "pixels"):
                records[name] = np.nan
        told.append(records[None])
        reaches.append(reach_of(kernel.sizes))
    return pooled(np.stack(told), reached(reaches, len(told[0][0])), ROI_RECORD)[0]


def at_once(
    kind: Any, image: NDArray[Any], mask: NDArray[Any], regions: tuple[Any, Any], **options: Any
) -> NDArray[Any]:
    """Records of the whole image, of which what is in no part does not count."""
    hidden = (mask != 0) | ~covered()
    kernel = kind(*regions, image.shape, image.dtype, hidden, **options)
    records = np.zeros(kernel.length, ROI_RECORD)
    kernel.fill(image, records)
    return records


def assert_alike(made: NDArray[Any], wanted: NDArray[Any], exact: bool) -> None:
    for name in ("min", "max"):
        np.testing.assert_array_equal(made[name], wanted[name], name)
    for name in ("avg", "std"):
        np.testing.assert_allclose(made[name], wanted[name], 3e-7, 1e-6, err_msg=name)
    if exact:
        np.testing.assert_array_equal(made["sum"], wanted["sum"])
    else:
        np.testing.assert_allclose(made["sum"], wanted["sum"], 1e-12, 1e-9)


@pytest.fixture
def mask() -> NDArray[Any]:
    found = (np.random.default_rng(8).random(SHAPE[1:]) < 0.2).astype(np.uint8)
    found[9:15, 2:8] = 1
    return found


@pytest.mark.parametrize("seed", range(3))
def test_statistics_of_parts_are_those_of_the_whole(
    draw: Any, dtype: np.dtype[Any], accelerate: bool, mask: NDArray[Any], seed: int
):
    image, regions = draw(*SHAPE), random_regions(seed)

    made = by_parts(RegionStatistics, image, mask, regions, accelerate=accelerate)

    wanted = at_once(RegionStatistics, image, mask, regions, accelerate=accelerate)
    assert_alike(made, wanted, dtype.kind != "f")
    assert values(made[2]) == [0] * 5


@pytest.mark.parametrize("seed", range(2))
def test_profiles_of_parts_are_those_of_the_whole(
    draw: Any, dtype: np.dtype[Any], accelerate: bool, mask: NDArray[Any], seed: int
):
    image, regions = draw(*SHAPE), (random_regions(seed)[0], FLAT)

    made = by_parts(RegionProfiles, image, mask, regions, accelerate=accelerate)

    wanted = at_once(RegionProfiles, image, mask, regions, accelerate=accelerate)
    assert_alike(made, wanted, dtype.kind != "f")


@pytest.mark.parametrize("lost", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("kind", [RegionStatistics, RegionProfiles])
def test_what_a_lost_part_would_have_changed_has_no_value(
    kind: Any, lost: tuple[int, ...], mask: NDArray[Any]
):
    image = np.random.default_rng(6).integers(-99, 999, SHAPE)
    rects, arcs = random_regions(7)
    regions = (rects, arcs) if kind is RegionStatistics else (rects, FLAT)
    alone = np.full(SHAPE, np.nan)
    for number, place in enumerate(PLACES):
        cut(alone, place)[...] = np.nan if number in lost else cut(image, place)

    made = by_parts(kind, image, mask, regions, lost)

    # In floats with not-a-number in the lost parts it comes out by itself.
    wanted = at_once(kind, alone, mask, regions)
    for name in VALUES:
        expected = wanted[name] if len(lost) < len(PLACES) else np.nan
        np.testing.assert_allclose(made[name], expected, 3e-7, 1e-6)
    assert len(lost) > 1 or 0 < np.isnan(made["sum"]).sum() < len(made)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
@pytest.mark.parametrize("accelerate", [False, True], ids=["numpy", "numba"])
@pytest.mark.parametrize("kind", [RegionStatistics, RegionProfiles])
def test_values_that_are_no_measurements_are_left_out_of_all_parts(
    kind: Any, dtype: str, accelerate: bool, mask: NDArray[Any]
):
    if accelerate:
        warm_up([np.dtype(dtype)], KERNELS, threading.Event())
    marks = Marks.of(dtype)
    random = np.random.default_rng(5)
    image = random.integers(-3, 900, SHAPE).astype(dtype)
    image[random.random(SHAPE) < 0.1] = marks.no_value
    image[random.random(SHAPE) < 0.01] = marks.saturated
    cut(image, PLACES[1])[...] = marks.no_value
    image[:, 15, :4] = marks.saturated
    rects, arcs = random_regions(4)
    inside = Roi(10, 2, 9, 6)  # of a part in which hardly anything was measured
    regions = ([inside, *rects], arcs) if kind is RegionStatistics else (rects, FLAT)

    made = by_parts(kind, image, mask, regions, accelerate=accelerate, marks=marks)

    wanted = at_once(kind, image, mask, regions, accelerate=accelerate, marks=marks)
    assert_alike(made, wanted, exact=dtype != "float32")
    if kind is RegionStatistics:
        assert np.isnan(made["sum"][0])
        assert made["max"][0] == np.float32(marks.saturated)


def test_a_nan_shows_where_it_is(mask: NDArray[Any]):
    image = np.ones(SHAPE, np.float64)
    image[0, 8, 20] = np.nan
    mask[8, 20] = 0
    regions = ([Roi(0, 0, 8, 31), Roi(7, 18, 9, 4), Roi(9, 18, 9, 4)], [])

    made = by_parts(RegionStatistics, image, mask, regions)

    assert np.isnan(made["sum"]).tolist() == [False, True, False]
    assert np.isnan(made["std"]).tolist() == [False, True, False]


def test_a_part_tells_how_many_pixels_it_measured(draw: Any, dtype: Any, accelerate: bool):
    image, (rects, arcs) = draw(*SHAPE), random_regions(1)
    mask = np.zeros(SHAPE[1:], np.uint8)
    mask[5] = 1
    kernel = RegionStatistics(rects, arcs, SHAPE, dtype, mask, accelerate=accelerate)
    records = np.zeros(kernel.length, PART_RECORD)

    kernel.fill(image, records)

    assert records["pixels"].tolist() == kernel.sizes.tolist()
    assert kernel.sizes[0] == 2 * 23 * 31


def test_marked_pixels_are_not_counted():
    marks = Marks.of("int16")
    image = np.arange(-2, 10, dtype=np.int16).reshape(1, 3, 4)
    image[0, 1] = [marks.no_value, marks.saturated, 7, 7]
    for accelerate in (False, True):
        kernel = RegionStatistics(
            [Roi(0, 0, 3, 4), Roi(1, 0, 1, 2)],
            [],
            (1, 3, 4),
            image.dtype,
            accelerate=accelerate,
            marks=marks,
        )
        records = np.zeros(2, PART_RECORD)

        kernel.fill(image, records)

        assert records["pixels"].tolist() == [measured(image, marks).sum(), 0]


@pytest.mark.parametrize("center", [(29.7, 11.3), (0.1, 700.7), (515.3, 1023.6)])
def test_parts_find_the_very_pixels_of_an_arc(center: tuple[float, float]):
    x, y = center
    rows, cols, border = 1024, 40, 512
    limits = (x, y, 40.2, 507.55, -280.5, -100.4)
    whole = ArcPixels.of(*limits, rows, cols).indices

    upper = ArcPixels.of(*limits, border, cols).indices
    lower = ArcPixels.of(*limits, rows - border, cols, (border, 0)).indices

    assert len(whole)
    assert np.concatenate([upper, lower + border * cols]).tolist() == whole.tolist()


def values(record: Any) -> list[float]:
    return [float(record[name]) for name in VALUES]
