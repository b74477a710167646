"""Records of parts of frames become those of whole frames, in frame order."""

import numpy as np
import pytest

from lima2_core.data.record import RecordSpec
from lima2_core.system.merge_parts import PartMerger
from lima2_core.testing.system_script import SUM_RECORD, part_sums

BOTH = ((0, 1),)


def merger_of(n=2, per_frame=1, reaches=None):
    spec = RecordSpec("sums", SUM_RECORD, per_frame)
    merger = PartMerger(spec, reaches or [((0, per_frame),)] * n)
    return merger, merger.stream.cursor()


def put(merger, part, *indices, **options):
    merger.parts[part].put(part_sums(*indices, **options))
    merger.merge()


def miss(merger, part, *indices):
    merger.parts[part].miss(np.array(indices, np.int64))
    merger.merge()


def test_a_frame_is_there_once_all_its_parts_are():
    merger, cursor = merger_of()

    put(merger, 0, 0, 1, 2)
    assert len(cursor.read()) == 0
    put(merger, 1, 2, 0)
    assert cursor.read()["frame_idx"].tolist() == [0]
    put(merger, 1, 1)

    told = cursor.read()
    assert told["frame_idx"].tolist() == [1, 2]
    assert told["sum"].tolist() == [20, 40]
    assert told["recv_idx"].tolist() == [-1, -1]
    assert merger.highest == 3


def test_a_missing_part_delays_nothing():
    merger, cursor = merger_of()

    put(merger, 0, 0, 1, 2)
    put(merger, 1, 0, 2)
    miss(merger, 1, 1)

    told = cursor.read()
    assert told["frame_idx"].tolist() == [0, 1, 2]
    assert np.isnan(told["sum"]).tolist() == [False, True, False]


def test_only_what_the_missing_part_contributes_to_has_no_values():
    merger, cursor = merger_of(per_frame=3, reaches=[((0, 2),), ((1, 3),)])

    put(merger, 0, 0, per_frame=3)
    miss(merger, 1, 0)

    assert np.isnan(cursor.read()["sum"]).tolist() == [False, True, True]


def test_many_frames_of_one_part_wait_for_the_other():
    merger, cursor = merger_of(3)

    for part, step in ((0, 1), (1, 7), (2, 100)):
        for first in range(0, 1000, step):
            put(merger, part, *range(first, min(1000, first + step)))

    told = cursor.read()
    assert told["frame_idx"].tolist() == list(range(1000))
    assert told["sum"].tolist() == [30.0 * idx for idx in range(1000)]


def test_a_part_that_comes_too_late_changes_nothing():
    merger, cursor = merger_of()

    put(merger, 0, 0)
    miss(merger, 1, 0)
    put(merger, 1, 0)
    put(merger, 0, 0)

    assert np.isnan(cursor.read()["sum"]).tolist() == [True]


def test_the_only_part_is_the_whole():
    merger, cursor = merger_of(1)

    put(merger, 0, 1, 0)

    assert cursor.read()["sum"].tolist() == [0, 10]


def test_a_reach_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no records"):
        merger_of(reaches=[BOTH, ((0, 2),)])


def test_frames_of_very_many_records_are_put_together_one_by_one():
    merger, cursor = merger_of(2, per_frame=50_000)

    for part in (0, 1):
        put(merger, part, 0, 1, 2, per_frame=50_000)

    told = cursor.read().reshape(3, -1)
    assert told["frame_idx"][:, -1].tolist() == [0, 1, 2]
    assert told["sum"][:, 7].tolist() == [14, 34, 54]
