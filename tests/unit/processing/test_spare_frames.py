"""Frames of the camera that stand behind the pipeline: held where there are enough, else copied."""

import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.flow.sink import Row
from lima2_core.flow.tap import Tap
from lima2_core.ids import FrameIdx, LocalIdx
from processing.pipelines.spare import SpareFrames

SPEC = FrameSpec((1, 2, 3), np.dtype("u2"))


def test_who_asks_first_gets_them():
    spare = SpareFrames(100)

    assert [spare.take(count) for count in (64, 40, 36, 1)] == [True, False, True, False]


@pytest.mark.parametrize("hold", [True, False])
def test_a_tap_holds_frames_only_if_they_can_be_spared(hold):
    tap = Tap(SPEC, 2, hold=hold)
    data, lease = np.zeros(SPEC.shape, "u2"), object()

    tap.write([Row(LocalIdx(0), FrameIdx(0), Frame(FrameIdx(0), data, lease, keepable=False))])

    kept = tap.get(0)
    assert (kept.data is data) is hold
    assert (kept.lease is lease) is hold
