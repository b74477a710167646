from dataclasses import replace

import numpy as np
import pytest

from lima2_core.data.geometry import Affine, Placement
from lima2_core.errors import ParamError
from lima2_core.system.layout import layout_of
from lima2_core.testing.system_script import SUMS, describe


@pytest.mark.parametrize(
    ("n", "keeps_rows", "topology", "known"),
    [
        (1, True, "single", True),
        (1, False, "single", True),
        (2, True, "round_robin", True),
        (3, False, "dynamic", False),
    ],
)
def test_whole_frames_are_with_one_receiver_each(n, keeps_rows, topology, known):
    layout = layout_of([describe(keeps_rows=keeps_rows, streams={SUMS: 2}, saved=["frame"])] * n)

    assert (layout.topology, layout.known, layout.parts) == (topology, known, 1)
    assert layout.placements("frame") == ()
    assert layout.streams[SUMS].rows_per_frame == 2
    assert layout.saved["frame"].shape == layout.sources["frame"].shape == (1, 4, 6)


def test_parts_make_whole_frames_and_have_no_records_in_common():
    strips = [(0, 1), (1, 4)]

    layout = layout_of([describe(strip=s, streams={SUMS: 1}, saved=["frame"]) for s in strips])

    assert (layout.topology, layout.known, layout.parts) == ("partial", True, 2)
    assert layout.placements("frame") == (Placement(0, 0, 4, 6), Placement(1, 0, 4, 6))
    assert layout.fill("frame") == 0
    assert layout.saved["frame"].shape == layout.sources["frame"].shape == (1, 4, 6)
    assert layout.streams == {}


def test_records_of_parts_are_put_together_where_it_is_told_what_they_contribute_to():
    strips = [(0, 1), (1, 4)]

    layout = layout_of([describe(strip=s, streams={SUMS: 3}, reaches=True) for s in strips])

    assert layout.streams[SUMS].rows_per_frame == 3
    assert layout.reaches == {SUMS: (((0, 3),), ((0, 3),))}


def test_input_frames_are_those_of_the_detector_whatever_is_summed():
    one = replace(describe(depth=10), sources=("input_frame", "frame"))
    one = replace(one, output_spec=one.output_spec.changed(dtype=np.dtype(np.uint32)))

    layout = layout_of([one])

    assert layout.sources["input_frame"].dtype == np.uint16
    assert layout.sources["frame"].dtype == np.uint32
    assert (layout.depth_of("input_frame"), layout.depth_of("frame")) == (1, 10)
    assert layout.depth_of(SUMS) == 10


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"streams": {SUMS: 2}}, "another pipeline"),
        ({"saved": ["frame", "input_frame"]}, "another pipeline"),
        ({"reaches": True}, "another pipeline"),
        ({"strip": (0, 4)}, "some whole ones"),
    ],
)
def test_receivers_that_do_not_fit_together_are_refused(other, what):
    with pytest.raises(ParamError, match=what):
        layout_of([describe(streams={SUMS: 1}), describe(**{"streams": {SUMS: 1}, **other})])


@pytest.mark.parametrize(
    "changed",
    [
        {"shape": (1, 2, 3), "step": Affine.binning(1, 2)},
        {"step": Affine.flip_rows(2)},
    ],
)
def test_parts_that_the_processing_moved_are_refused(changed):
    parts = [describe(strip=strip) for strip in ((0, 2), (2, 4))]
    moved = replace(parts[0], output_spec=parts[0].output_spec.changed(**changed))

    with pytest.raises(ParamError, match="geometry") as refused:
        layout_of([moved, parts[1]])

    assert refused.value.path == "processing.geometry"


def moved(strip, place, shape=(1, 3, 3)):
    """A receiver that makes a rectangle of another image from its strip of every frame."""
    one = describe(strip=strip, saved=["frame", "input_frame"])
    # From the strip to the first detector pixel, and from there to the rectangle.
    step = Affine.crop(place.row - strip[0], place.col)
    return replace(
        one,
        output_spec=one.output_spec.changed(shape=shape, step=step),
        saved={
            **one.saved,
            "frame": replace(
                one.saved["frame"], spec=one.output_spec.changed(shape=shape, step=step)
            ),
        },
        sources=("input_frame", "frame"),
        output_placement=place,
        output_fill=-5,
    )


def test_processed_parts_lie_where_the_pipeline_says_and_those_of_the_camera_where_they_came():
    places = (Placement(0, 4, 10, 7), Placement(6, 0, 10, 7))

    layout = layout_of([moved((0, 2), places[0]), moved((2, 4), places[1])])

    assert layout.placements("frame") == places
    assert layout.placements("input_frame") == (Placement(0, 0, 4, 6), Placement(2, 0, 4, 6))
    assert layout.sources["frame"].shape == layout.saved["frame"].shape == (1, 10, 7)
    assert layout.sources["input_frame"].shape == layout.saved["input_frame"].shape == (1, 4, 6)
    assert layout.saved["frame"].affine == Affine()
    assert (layout.fill("frame"), layout.fill("input_frame")) == (-5, 0)


def test_parts_of_images_of_different_sizes_are_refused():
    with pytest.raises(ParamError, match="different sizes") as refused:
        layout_of([moved((0, 2), Placement(0, 0, 10, 7)), moved((2, 4), Placement(6, 0, 10, 8))])

    assert refused.value.path == "processing"
