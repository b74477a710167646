import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec, Validity
from lima2_core.data.geometry import Placement
from lima2_core.errors import ParamError
from processing.hits import Crowd, Hits
from processing.tasks.sparsify import Sparsify, most_hits

SPEC = FrameSpec((1, 4, 6), np.dtype("u2"))


def resolved(threshold=1.0, place=None, spec=SPEC):
    task = Sparsify(threshold, place)
    task.resolve(spec)
    return task


def frame(*hits, spec=SPEC):
    data = np.zeros(spec.shape, spec.dtype)
    for index, value in hits:
        data.reshape(-1)[index] = value
    return Frame(7, data, timestamp_s=1.5, validity=Validity.PARTIAL)


def test_hits_have_a_position_row_by_row_and_keep_what_is_known_of_the_frame():
    hits = resolved().process(frame((3, 9), (8, 1)))

    assert isinstance(hits, Hits)
    assert hits.index.tolist() == [3, 8]
    assert hits.intensity.tolist() == [9, 1]
    assert (hits.validity, hits.timestamp_s) == (Validity.PARTIAL, 1.5)


def test_pixels_below_the_threshold_are_none():
    assert resolved(2.5).process(frame((3, 2), (8, 3))).index.tolist() == [8]


def test_positions_in_parts_of_frames_are_those_in_the_whole_image():
    task = resolved(place=Placement(10, 100, 1000, 2000))

    hits = task.process(frame((0, 1), (5, 1), (6, 1), (23, 1)))

    assert hits.index.tolist() == [10 * 2000 + 100, 20105, 11 * 2000 + 100, 13 * 2000 + 105]
    assert hits.index.dtype == np.int32


def test_positions_in_slices_of_whole_rows_are_moved_down():
    task = resolved(place=Placement(8, 0, 12, 6))

    assert task.process(frame((0, 1), (7, 1))).index.tolist() == [48, 55]


@pytest.mark.parametrize("place", [None, Placement(1, 2, 9, 9)])
def test_a_frame_full_of_hits_is_kept_whole_and_has_them_all(place):
    task = resolved(place=place)
    full = Frame(0, np.arange(24, dtype="u2").reshape(SPEC.shape))

    crowd = task.process(full)

    assert isinstance(crowd, Crowd)
    assert crowd.pixels.nbytes == SPEC.nbytes
    assert not np.shares_memory(crowd.pixels, full.data)
    hits = crowd.hits()
    expected = [n if place is None else (n // 6 + 1) * 9 + n % 6 + 2 for n in range(1, 24)]
    assert hits.index.tolist() == expected
    assert hits.intensity.tolist() == list(range(1, 24))


def test_what_waits_never_takes_more_memory_than_the_frame():
    most = most_hits(SPEC)
    task = resolved()

    hits = task.process(frame(*((n, 1) for n in range(most))))

    assert isinstance(hits, Hits)
    assert hits.index.nbytes + hits.intensity.nbytes <= SPEC.nbytes
    assert isinstance(task.process(frame(*((n, 1) for n in range(most + 1)))), Crowd)


@pytest.mark.parametrize(
    ("spec", "threshold", "path"),
    [
        (FrameSpec((2, 4, 6), np.dtype("u2")), 1, "saving_sparse"),
        (FrameSpec((1, 4, 6), np.dtype("c8")), 1, "saving_sparse"),
        (FrameSpec((1, 2**16, 2**15), np.dtype("u1")), 1, "saving_sparse"),
        (FrameSpec((1, 4, 6), np.dtype("u1")), 300, "sparse.threshold"),
    ],
)
def test_frames_that_cannot_be_saved_as_hits_are_refused_with_the_path(spec, threshold, path):
    with pytest.raises(ParamError) as refused:
        resolved(threshold, spec=spec)

    assert refused.value.path == path
