"""Where pixels of modules go: into the image, and into the laboratory."""

import json

import numpy as np
import pytest

from lima2_core.data.geometry import Roi
from lima2_core.errors import ParamError
from processing.jungfrau.layout import load_layout
from processing.kernels.placing import ModulePlace, Placing, double_size, stacked
from tests.unit.processing.jungfrau import layout

FOUR = ((0, 0, 0), (600, 0, 180), (0, 1100, 90), (0, 1700, 270))


def assembled(values, places, shape, rows=512):
    """The image, pixel by pixel of the chips."""
    image = np.full(shape, -1, np.int32)
    first = (512 - rows) // 2
    for number, (top, left, turn) in enumerate(places):
        module = np.full((514, 1030), -1, np.int32)
        for row in range(first, first + rows):
            line = values[number * rows + row - first]
            for chip in range(4):
                down = row + 2 * (row > 255)
                module[down, chip * 258 : chip * 258 + 256] = line[chip * 256 : chip * 256 + 256]
        turned = np.rot90(module, turn // 90)
        image[top : top + turned.shape[0], left : left + turned.shape[1]] = turned
    return image


@pytest.mark.parametrize("rows", [512, 256, 8])
def test_turned_modules_and_parts_of_them_go_where_the_layout_says(rows):
    made = layout(*FOUR)
    values = np.arange(4 * rows * 1024, dtype=np.int32).reshape(-1, 1024)

    image = made.placing(rows).put(values, -1)

    assert np.array_equal(image[0], assembled(values, FOUR, made.shape, rows))


@pytest.mark.parametrize("modules", [[0], [2, 3], [1, 0], range(1, 4)])
def test_some_modules_lie_in_the_box_around_them_as_in_the_whole_image(modules):
    made = layout(*FOUR)
    values = np.arange(4 * 512 * 1024, dtype=np.int32).reshape(4, 512, 1024)
    whole = made.placing().put(values, -1)[0]
    box = made.box(modules)
    # The box may reach into a module that is not among them.
    others = [n for n in range(4) if n not in modules]
    seen = whole[box.slices].copy()
    seen[np.isin(seen, values[others])] = -1

    placing = made.placing(modules=modules)

    assert placing.shape == (1, box.rows, box.cols)
    assert np.array_equal(placing.put(values[list(modules)], -1)[0], seen)


def test_equal_shares_of_the_modules_have_a_rectangle_each():
    made = layout((0, 0, 0), (520, 0, 180), (0, 1100, 0), (600, 1100, 180))

    assert made.parts(1) == [Roi(0, 0, 1114, 2130)]
    assert made.parts(2) == [Roi(0, 0, 1034, 1030), Roi(0, 1100, 1114, 1030)]
    assert [made.parts(4)[n].row for n in range(4)] == [0, 520, 0, 600]


def test_shares_whose_rectangles_overlap_are_named():
    made = layout((0, 0, 0), (600, 1100, 0), (600, 0, 0), (0, 1100, 0))

    with pytest.raises(ParamError) as caught:
        made.parts(2)

    assert "modules 0 to 1 (receiver 0)" in caught.value.message
    assert "and 2 to 3 (receiver 1)" in caught.value.message
    assert "round_robin" in caught.value.message


def test_the_image_is_as_large_as_needed_or_as_asked_for():
    assert layout((0, 0, 0), (550, 0, 0)).shape == (1064, 1030)
    assert layout((0, 0, 90)).shape == (1030, 514)
    assert layout((0, 0, 0), rows=600, cols=1100).shape == (600, 1100)


def test_a_stack_stays_as_it_came():
    values = np.arange(2 * 512 * 1024, dtype=np.int32)

    for shape in ((1, 1024, 1024), (2, 512, 1024)):
        placing = stacked(shape)
        assert np.array_equal(placing.put(values, -1), values.reshape(shape))
        assert len(placing.empty_runs) == 0
    assert np.array_equal(
        stacked((1, 16, 1024), rows=8).put(values[:16384], -1).ravel(), values[:16384]
    )


def test_pixels_that_nothing_reaches_are_known():
    placing = layout(*FOUR).placing()
    empty = placing.put(np.zeros(placing.pixels, bool), True).ravel()

    marked = np.zeros_like(empty)
    for first, length in placing.empty_runs:
        assert not marked[first : first + length].any()
        marked[first : first + length] = True

    assert np.array_equal(marked, empty)


def test_each_gap_pixel_of_a_module_is_covered_by_one_double_size_pixel():
    placing = layout((3, 5, 90)).placing(split=True)
    whole = layout((3, 5, 90)).placing()

    targets = placing.shares[:, 1:][placing.shares[:, 1:] >= 0]

    assert len(targets) == len(set(targets.tolist())) == 514 * 1030 - 512 * 1024
    reached = np.isin(np.arange(np.prod(placing.shape)), placing.shares[:, 0])
    values = double_size()
    assert np.array_equal(whole.put(values, False).ravel(), reached)
    # A corner has three gap pixels, one of an edge has one.
    assert ((placing.shares >= 0).sum(axis=1) == 4).sum() == 12
    assert ((placing.shares >= 0).sum(axis=1) == 2).sum() == len(placing.shares) - 12


def test_a_place_outside_the_image_is_refused_before_memory_is_overwritten():
    with pytest.raises(ValueError, match="module 0 leaves the image"):
        Placing((1, 512, 1024), [ModulePlace(0, 1024, 1)], gap=2)


def test_positions_lead_from_the_image_to_the_module_and_the_laboratory():
    made = layout(*FOUR)
    values = np.arange(4 * 512 * 1024, dtype=np.int32)
    image = made.placing().put(values, -1)[0]

    for number, (row, col, _) in enumerate(FOUR):
        at = (row + 3, col + 7)
        down, along = (round(value) for value in made.to_module(number).apply(*at))
        expected = (
            number * 512 * 1024 + (down - 2 * (down > 257)) * 1024 + along - 2 * (along // 258)
        )
        assert image[at] == expected
        x, y, z = made.to_lab(number) @ (down, along, 1)
        assert (x, y, z) == pytest.approx((at[1] * 0.075, at[0] * 0.075, 0))


def test_a_given_place_in_the_laboratory_is_kept():
    lab = {"origin_mm": [10, 20, 200], "row_axis": [0, 0, 1], "col_axis": [0, -1, 0]}
    made = layout(modules=[{"lab": lab}], pixel_mm=0.1)

    centres = made.centres(0)

    assert centres[0, 0] == pytest.approx([10, 20, 200])
    assert centres[2, 3] == pytest.approx([10, 19.7, 200.2])
    # Behind a gap; the pixels at the gap have their centres half a pixel towards it.
    assert centres[0, 257] == pytest.approx([10, 20 - 25.9, 200])
    assert centres[0, 255] == pytest.approx([10, 20 - 25.55, 200])
    assert centres[0, 256] == pytest.approx([10, 20 - 25.75, 200])


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"modules": [{"row": 0}, {"row": 500}]}, "modules.1: it overlaps with module 0"),
        ({"modules": [{}], "rows": 512, "cols": 1030}, "modules.0: it ends at row 514"),
        ({"modules": []}, "modules"),
        ({"modules": [{"rotation": 45}]}, "modules.0.rotation"),
        ({"modules": [{"lab": {"row_axis": [0, 2, 0]}}]}, "row_axis has the length 2"),
        ({"version": 2, "modules": [{}]}, "version"),
        ({"modules": [{}], "chip": 3}, "chip"),
    ],
)
def test_what_is_wrong_in_a_layout_is_named(tmp_path, tree, words):
    file = tmp_path / "layout.json"
    file.write_text(json.dumps(tree))

    with pytest.raises(ParamError, match="in the layout") as caught:
        load_layout(str(file), "photons.layout_path")

    assert caught.value.path == "photons.layout_path"
    assert words in str(caught.value)


def test_a_layout_that_is_not_there_is_refused(tmp_path):
    for name in ("layout.json", str(tmp_path / "none.json")):
        with pytest.raises(ParamError, match=r"absolute|cannot be read") as caught:
            load_layout(name, "photons.layout_path")
        assert caught.value.path == "photons.layout_path"
