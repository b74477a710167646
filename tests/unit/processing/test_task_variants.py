"""The shipped suite over all that each task can be asked to do; no task can be forgotten here."""

import importlib
import inspect
import pkgutil
from functools import partial

import numpy as np
import pytest

import processing.tasks
from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.data.memory import PoolSet
from lima2_core.flow.task import Reduction, Transform
from lima2_core.ids import ReceiverIdx
from lima2_core.testing.task_suite import TaskCase, TaskSuite
from processing.codecs import CODECS
from processing.params import (
    CountrateProtectionParams,
    GeometryParams,
    ProfilesParams,
    StatisticsParams,
)
from processing.pipelines.failing import FailOnFrame
from processing.saving import SavingParams
from processing.tasks.convert_photons import ConvertPhotons
from processing.tasks.correct_pixels import CorrectPixels
from processing.tasks.encode_chunk import EncodeChunk
from processing.tasks.protect_countrate import ProtectCountrate
from processing.tasks.reduce_rois import ProjectRois, ReduceRois
from processing.tasks.reshape_image import ReshapeImage
from processing.tasks.sampled import Sampled
from processing.tasks.sparsify import Sparsify

SPEC = FrameSpec((2, 24, 20), np.dtype(np.uint16))
SMALL = FrameSpec((2, 3, 3), np.dtype(np.uint16))
NAMELESS = FrameSpec((1, 4, 4), np.dtype(np.uint64))  # no pixel type of the wire
RECT = {"topleft": {"x": 2, "y": 4}, "dimensions": {"x": 10, "y": 6}}
ARC = {"center": {"x": 10.0, "y": 12.0}, "r1": 2.0, "r2": 8.0, "a1": -30.0, "a2": 100.0}
MAP = np.random.default_rng(1).uniform(0.5, 2.0, SPEC.shape[1:])
MASK = MAP > 1.9


def correct(background=None, flatfield=None, mask=None):
    return CorrectPixels(background, flatfield, mask, PoolSet(2**24), 2)


def reshape(**tree):
    task = ReshapeImage(GeometryParams.from_tree(tree), PoolSet(2**24), 2)
    resolve = task.resolve

    def resolve_and_reserve(spec):
        # Fewer slots than frames at a time, so that both kinds of memory are met.
        announced = resolve(spec)
        task.buffers.reserve()
        return announced

    task.resolve = resolve_and_reserve
    return task


def reduce(mask=None):
    params = StatisticsParams.from_tree({"enabled": True, "rect_rois": [RECT], "arc_rois": [ARC]})
    return ReduceRois(params, ReceiverIdx(1), mask)


def project(mask=None):
    tree = {"enabled": True, "rois": [RECT, RECT], "directions": ["horizontal", "vertical"]}
    return ProjectRois(ProfilesParams.from_tree(tree), ReceiverIdx(1), mask)


def protect(**changed):
    params = CountrateProtectionParams.from_tree({"enabled": True, **changed})
    return ProtectCountrate(params, 0.1, ())


def encode(compression):
    return EncodeChunk(SavingParams(enabled=True, compression=compression))


ONE_BAND = FrameSpec((1, 24, 20), np.dtype(np.uint16))
PLACE = Placement(3, 5, 100, 200)

CASES = {
    "background": (partial(correct, background=MAP), [SMALL]),
    "flatfield": (partial(correct, flatfield=MAP), [SMALL]),
    "mask": (partial(correct, mask=MASK), [SMALL]),
    "all maps": (partial(correct, MAP, MAP, MASK), [SMALL]),
    "binning": (partial(reshape, binning={"x": 4, "y": 5}), [SMALL]),
    "region": (partial(reshape, roi=RECT), [SMALL]),
    "flip": (partial(reshape, flip="left_right"), []),
    "rotation": (partial(reshape, rotation="90"), []),
    "all geometry": (
        partial(reshape, binning={"x": 1, "y": 2}, roi=RECT, flip="up_down", rotation="270"),
        [SMALL],
    ),
    "statistics": (reduce, [SMALL]),
    "masked statistics": (partial(reduce, MASK), [SMALL]),
    "profiles": (project, [SMALL]),
    "masked profiles": (partial(project, MASK), [SMALL]),
    "protection": (protect, []),
    "protection without the maximum": (partial(protect, ignore_max_value=True), []),
    "failing": (partial(FailOnFrame, 100), []),
    "every frame": (lambda: Sampled(reduce(), 1), [SMALL]),
    **{f"encode {name}": (partial(encode, name), [NAMELESS]) for name in CODECS},
}


class TestVariants(TaskSuite):
    @pytest.fixture(params=CASES)
    def case(self, request):
        make, refused = CASES[request.param]
        return TaskCase(make, SPEC, refused)


class TestSparseVariants(TaskSuite):
    @pytest.fixture(params=[1.0, 22.0, 1000.0])
    def case(self, request):
        return TaskCase(lambda: Sparsify(request.param, PLACE), ONE_BAND, [SPEC, NAMELESS])


def test_every_task_has_a_case():
    # The tests of ConvertPhotons bring the files that it needs.
    covered = {type(make()) for make, _ in CASES.values()} | {ConvertPhotons, Sparsify}
    modules = [
        importlib.import_module(f"processing.tasks.{module.name}")
        for module in pkgutil.iter_modules(processing.tasks.__path__)
    ]
    tasks = {
        member
        for module in modules
        for name, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Transform | Reduction)
        and member.__module__ == module.__name__
        and not name.startswith("_")
    }

    assert tasks - covered == set()
