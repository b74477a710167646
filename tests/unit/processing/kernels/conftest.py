from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from processing.kernels.accumulate import ADD
from processing.kernels.calibration import CORRECT, HIDE
from processing.kernels.compiled import KERNELS
from processing.kernels.jit import warm_up
from processing.kernels.moments import choose_column_loop, choose_run_loop

Draw = Callable[..., NDArray[Any]]


@pytest.fixture(
    params=["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def dtype(request: pytest.FixtureRequest) -> np.dtype[Any]:
    return np.dtype(request.param)


@pytest.fixture(params=["numpy", "numba"])
def accelerate(request: pytest.FixtureRequest, dtype: np.dtype[Any]) -> bool:
    """Whether to use the compiled version; makes it before the test begins."""
    if request.param == "numba":
        warm_up([dtype], KERNELS, threading.Event())
        assert choose_run_loop(dtype) is not None
        assert choose_column_loop(dtype) is not None
        assert all(kernel.compiled(dtype) is not None for kernel in (ADD, CORRECT, HIDE))
    return bool(request.param == "numba")


@pytest.fixture
def draw(dtype: np.dtype[Any]) -> Draw:
    """Random images over the whole range of the pixel type."""
    rng = np.random.default_rng(20)

    def image(*shape: int) -> NDArray[Any]:
        if dtype.kind == "f":
            return rng.normal(500.0, 300.0, shape).astype(dtype)
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)

    return image
