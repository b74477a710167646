"""The shipped suite over the tasks of the pipelines."""

import numpy as np
import pytest

from lima2_core.camera.params import PointParams, RectParams
from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.data.memory import PoolSet
from lima2_core.ids import ReceiverIdx
from lima2_core.testing.task_suite import TaskCase, TaskSuite
from processing.params import (
    ArcRoiParams,
    BinningParams,
    CenterParams,
    CountrateProtectionParams,
    GeometryParams,
    ProfilesParams,
    StatisticsParams,
)
from processing.saving import SavingParams
from processing.tasks.correct_pixels import CorrectPixels
from processing.tasks.encode_chunk import EncodeChunk
from processing.tasks.protect_countrate import ProtectCountrate
from processing.tasks.reduce_rois import ProjectRois, ReduceRois
from processing.tasks.reshape_image import ReshapeImage
from processing.tasks.sparsify import Sparsify

ROWS, COLS = 12, 16
SPEC = FrameSpec((2, ROWS, COLS), np.dtype(np.uint16))
ONE_BAND = FrameSpec((1, ROWS, COLS), np.dtype(np.uint16))
TINY = FrameSpec((1, 1, 1), np.dtype(np.uint16))
R0 = ReceiverIdx(0)
RECT = RectParams(topleft=PointParams(x=2, y=3), dimensions=PointParams(x=5, y=4))


def image(value):
    return np.full((ROWS, COLS), value, np.float32)


def correct_pixels():
    mask = np.zeros((ROWS, COLS), np.uint8)
    mask[2, 3] = 1
    return CorrectPixels(image(2), image(0.5), mask, PoolSet(2**24), 4)


def reshape_image():
    roi = RectParams(topleft=PointParams(x=1, y=1), dimensions=PointParams(x=5, y=4))
    params = GeometryParams(
        binning=BinningParams(x=2, y=2), roi=roi, flip="left_right", rotation="90"
    )
    return ReshapeImage(params, PoolSet(2**24), 4)


def reduce_rois():
    arc = ArcRoiParams(center=CenterParams(x=8.0, y=6.0), r1=1, r2=5, a1=0, a2=180)
    return ReduceRois(StatisticsParams(enabled=True, rect_rois=(RECT,), arc_rois=(arc,)), R0, None)


def project_rois():
    params = ProfilesParams(enabled=True, rois=(RECT, RECT), directions=("horizontal", "vertical"))
    return ProjectRois(params, R0, None)


def reduce_parts():
    rects = (RECT, RectParams(topleft=PointParams(x=20, y=0), dimensions=PointParams(x=9, y=40)))
    params = StatisticsParams(enabled=True, rect_rois=rects)
    return ReduceRois(params, R0, None, place=Placement(8, 10, 40, 60))


def encode_chunk(compression):
    return EncodeChunk(SavingParams(enabled=True, compression=compression))


CASES = {
    "correct_pixels": TaskCase(correct_pixels, SPEC, refused=[TINY]),
    "reshape_image": TaskCase(reshape_image, SPEC, refused=[TINY]),
    "reduce_rois": TaskCase(reduce_rois, SPEC, refused=[TINY]),
    "project_rois": TaskCase(project_rois, SPEC, refused=[TINY]),
    "reduce_parts": TaskCase(reduce_parts, SPEC),
    "protect_countrate": TaskCase(
        lambda: ProtectCountrate(CountrateProtectionParams(enabled=True), 1.0, ()), SPEC
    ),
    "sparsify": TaskCase(lambda: Sparsify(30.0), ONE_BAND, refused=[SPEC]),
    "sparsify-crowd": TaskCase(Sparsify, ONE_BAND, refused=[SPEC]),
    **{
        f"encode_chunk-{compression}": TaskCase(
            lambda compression=compression: encode_chunk(compression),
            SPEC,
            refused=[FrameSpec((1, 4, 4), np.dtype(np.complex64))],
        )
        for compression in ("none", "zip", "bshuf_lz4", "bshuf_zstd")
    },
}


class TestTasks(TaskSuite):
    @pytest.fixture(params=CASES)
    def case(self, request):
        return CASES[request.param]
