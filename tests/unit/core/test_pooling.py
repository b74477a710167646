"""Statistics of whole frames, made of those of their parts."""

import math

import numpy as np
import pytest

from lima2_core.data.pooling import ALL_RECEIVERS, PART_RECORD, pooled, reach_of, reached

WHOLE = np.dtype(
    [("frame_idx", "<i4"), ("recv_idx", "<i4")]
    + [(name, "<f4") for name in ("min", "max", "avg", "std")]
    + [("sum", "<f8")]
)
VALUES = ("min", "max", "avg", "std", "sum")


def part(*sets, frame=0):
    """Records of one part: one for each set of pixels; None where the part is missing."""
    records = np.zeros((1, len(sets)), PART_RECORD)
    records["frame_idx"] = frame
    for record, pixels in zip(records[0], sets, strict=True):
        if pixels is None:
            values = [math.nan] * 6
        elif len(pixels):
            found = np.array(pixels, float)
            values = [found.min(), found.max(), found.mean(), found.std(), found.sum(), len(found)]
        else:
            values = [0.0] * 6
        for name, value in zip((*VALUES, "pixels"), values, strict=True):
            record[name] = value
    return records


def whole(*parts, reaching=None):
    """Records of the only frame."""
    if reaching is None:
        reaching = np.ones((len(parts), parts[0].shape[1]), bool)
    (records,) = pooled(np.stack(parts), np.array(reaching, bool), WHOLE)
    return records


def values(record):
    return [float(record[name]) for name in VALUES]


def test_parts_count_by_their_pixels():
    (record,) = whole(part([1, 3]), part([5, 5, 5, 11]))

    assert values(record) == [1, 11, 5, pytest.approx(math.sqrt((16 + 4 + 36) / 6)), 30]
    assert (record["frame_idx"], record["recv_idx"]) == (0, ALL_RECEIVERS)


def test_a_small_spread_on_a_large_offset_survives():
    pixels = 2e9 + np.array([0.0, 1, 2, 3])

    (record,) = whole(part(pixels[:1]), part(pixels[1:]))

    assert record["std"] == pytest.approx(math.sqrt(1.25), rel=1e-6)


def test_a_region_to_which_a_missing_part_would_contribute_has_no_values():
    reaching = [[1, 1, 0, 0], [0, 1, 1, 0]]

    records = whole(part([1, 3], [4], [], []), part(None, None, None, None), reaching=reaching)

    assert values(records[0]) == [1, 3, 2, 1, 4]
    assert np.isnan(values(records[1])).all()
    assert np.isnan(values(records[2])).all()
    assert values(records[3]) == [0] * 5


def test_a_frame_of_which_nothing_came_has_no_values_at_all():
    records = whole(part(None, None), part(None, None), reaching=[[1, 0], [1, 0]])

    assert np.isnan([values(record) for record in records]).all()


def test_a_part_in_which_nothing_was_measured_contributes_nothing():
    unmeasured = part([])
    for name in VALUES:
        unmeasured[name] = np.nan

    (record,) = whole(part([2, 4]), unmeasured)
    (nothing,) = whole(unmeasured, unmeasured)

    assert values(record) == [2, 4, 3, 1, 6]
    assert np.isnan(values(nothing)).all()


def test_saturation_shows_as_the_maximum_even_where_nothing_was_measured():
    saturated = part([])
    for name in VALUES:
        saturated[name] = np.nan
    saturated["max"] = 32767

    (record,) = whole(part([2, 4]), saturated)
    (nothing,) = whole(saturated, saturated)

    assert values(record) == [2, 32767, 3, 1, 6]
    assert float(nothing["max"]) == 32767
    assert np.isnan([nothing[name] for name in ("min", "avg", "std", "sum")]).all()


def test_a_pixel_that_is_not_a_number_shows_in_the_whole_frame():
    odd = part([1, 2])
    for name in VALUES:
        odd[name] = np.nan

    (record,) = whole(odd, part([3]))

    assert np.isnan(values(record)).all()


def test_a_maximum_below_zero_is_not_that_of_parts_without_pixels():
    (record,) = whole(part([-7, -5]), part([]), reaching=[[1], [0]])

    assert values(record) == [-7, -5, -6, 1, -12]


def test_frames_are_kept_apart():
    parts = np.stack(
        [
            np.concatenate([part([1], frame=4), part(None, frame=5), part([2], frame=6)])
            for _ in range(2)
        ]
    )

    records = pooled(parts, np.ones((2, 1), bool), WHOLE)

    assert records["frame_idx"][:, 0].tolist() == [4, 5, 6]
    assert np.isnan(records["sum"][:, 0]).tolist() == [False, True, False]
    assert records["sum"][[0, 2], 0].tolist() == [2, 4]


def test_a_reach_is_told_as_stretches():
    pixels = np.array([0, 3, 1, 0, 0, 9])

    assert reach_of(pixels) == ((1, 3), (5, 6))
    assert reached([reach_of(pixels), ()], 6).tolist() == [(pixels > 0).tolist(), [False] * 6]


@pytest.mark.parametrize("reach", [((0, 3),), ((-1, 1),), ((1, 1),)])
def test_a_reach_beyond_the_records_is_refused(reach):
    with pytest.raises(ValueError, match="no records of 2"):
        reached([reach], 2)
