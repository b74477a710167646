from __future__ import annotations

import math

import numpy as np
import pytest

from lima2_core.errors import ParamError
from processing.kernels.arcs import ArcPixels


def pixels_of(
    center: tuple[float, float],
    r1: float,
    r2: float,
    a1_deg: float,
    a2_deg: float,
    size: tuple[int, int],
) -> set[tuple[int, int]]:
    indices = ArcPixels.of(*center, r1, r2, a1_deg, a2_deg, *size).indices
    assert (np.diff(indices) > 0).all()
    return {divmod(int(index), size[1]) for index in indices}


def one_by_one(
    center: tuple[float, float],
    r1: float,
    r2: float,
    a1_deg: float,
    a2_deg: float,
    size: tuple[int, int],
) -> set[tuple[int, int]]:
    """The definition, asked of each pixel: is its angle, some turns on, between the two."""
    found = set()
    for row in range(size[0]):
        for col in range(size[1]):
            x, y = col - center[0], row - center[1]
            angle_deg = math.atan2(y, x) * 180.0 / math.pi
            turned = any(
                a1_deg - 1e-9 <= angle_deg + 360 * turn <= a2_deg + 1e-9 for turn in range(-5, 6)
            )
            if r1 <= math.hypot(x, y) < r2 and turned:
                found.add((row, col))
    return found


@pytest.mark.parametrize(
    "angles",
    [(0, 90), (90, 180), (-90, 0), (-280.5, -100.4), (350, 370), (700, 1000), (0, 0), (10, 369)],
)
@pytest.mark.parametrize("center", [(10.0, 12.0), (9.7, 11.2), (-3.0, 4.5), (30.0, 24.0)])
def test_an_arc_has_the_pixels_that_its_definition_names(
    center: tuple[float, float], angles: tuple[float, float]
):
    # The outer radius avoids a centre exactly on it, where hypot and the squares may differ.
    arguments = (center, 3.1, 17.3, *angles, (25, 31))

    assert pixels_of(*arguments) == one_by_one(*arguments)


def test_angles_go_from_x_towards_y_which_points_down():
    size = (5, 5)

    assert pixels_of((2, 2), 1, 2.1, 0, 0, size) == {(2, 3), (2, 4)}
    assert pixels_of((2, 2), 1, 2.1, 90, 90, size) == {(3, 2), (4, 2)}
    assert pixels_of((2, 2), 1, 2.1, -90, -90, size) == {(1, 2), (0, 2)}
    assert pixels_of((2, 2), 1, 2.1, 540, 540, size) == {(2, 1), (2, 0)}


def test_the_inner_radius_belongs_to_the_arc_and_the_outer_does_not():
    assert pixels_of((2, 2), 1, 2, 0, 0, (5, 5)) == {(2, 3)}


def test_a_full_turn_is_the_whole_ring_and_takes_each_pixel_once():
    ring = pixels_of((2, 2), 0, 1.5, 0, 360, (5, 5))

    assert ring == {(row, col) for row in (1, 2, 3) for col in (1, 2, 3)}
    assert pixels_of((2, 2), 0, 1.5, 17, 1000, (5, 5)) == ring


def test_the_centre_lies_at_every_angle():
    assert pixels_of((2, 2), 0, 1, 100, 110, (5, 5)) == {(2, 2)}


def test_an_arc_outside_the_image_is_empty():
    assert pixels_of((100, 100), 1, 5, 0, 360, (5, 5)) == set()
    assert pixels_of((-100, 2), 1, 5, 0, 360, (5, 5)) == set()
    assert pixels_of((2, 2), 3, 3, 0, 360, (5, 5)) == set()


@pytest.mark.parametrize(
    ("radii", "angles", "path"),
    [
        ((1, 2), (10, 5), "a2"),
        ((1, 2), (0, math.nan), "a2"),
        ((3, 2), (0, 5), "r2"),
        ((-1, 2), (0, 5), "r2"),
    ],
)
def test_an_impossible_arc_is_refused(
    radii: tuple[float, float], angles: tuple[float, float], path: str
):
    with pytest.raises(ParamError) as refusal:
        ArcPixels.of(2, 2, *radii, *angles, 5, 5)

    assert refusal.value.path == path
