"""Images from files: masks, backgrounds, flat fields."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Placement, Roi
from lima2_core.errors import ParamError
from processing.params import CalibrationFileParams

_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".cxi")
_ASK = "give file.h5::/dataset, or an EDF, TIFF, CBF or NPY file"
_READ_ERRORS = (OSError, ValueError, LookupError, TypeError, RuntimeError, AttributeError, EOFError)
"""What the libraries raise at files that are not what they should be."""

Shape = tuple[int, int, int]


def load_map(
    params: CalibrationFileParams,
    spec: FrameSpec,
    where: str,
    placement: Placement | None = None,
) -> NDArray[Any] | None:
    """The image that ``params`` name, for frames of ``spec``; None if it is off.

    Shapes: (rows, cols) or (bands, rows, cols).

    Args:
        params: the file, and whether it is used.
        spec: of the frames.
        where: path of ``params`` in the tree of parameters.
        placement: of the frames, if they are parts: all receivers get the image of whole frames,
            and each takes its part.

    Raises:
        ParamError: no such file, no image in it, or one of another shape.
    """
    if not params.enabled:
        return None
    path = f"{where}.path"
    name, _, dataset = params.path.partition("::")
    if not name:
        raise ParamError(f"no file is given; {_ASK}", path=path)
    if not os.path.isabs(name):
        raise ParamError(f"{name!r} must be an absolute path, as servers have no folder", path=path)
    file = Path(name)
    if not file.is_file():
        raise ParamError(f"there is no file {name} on this computer", path=path)
    whole = spec.shape
    if placement is not None:
        whole = (spec.shape[0], placement.rows, placement.cols)
    try:
        image = _load(name, dataset, whole, file.stat().st_mtime_ns)
    except _READ_ERRORS as error:
        raise ParamError(f"{name} cannot be read: {error}; {_ASK}", path=path) from error
    if image.shape not in (whole, whole[1:]):
        raise ParamError(
            f"the image in {params.path} has the shape {image.shape}, camera frames have "
            f"{whole[1:]} (rows, cols); make one of this size",
            path=path,
        )
    if image.dtype.kind not in "biuf":
        raise ParamError(
            f"the image in {params.path} is of type {image.dtype}; integers or floats are needed",
            path=path,
        )
    if placement is None:
        return image
    own = Roi(placement.row, placement.col, *spec.shape[1:])
    return np.ascontiguousarray(image[..., *own.slices])


@lru_cache(maxsize=8)
def _load(name: str, dataset: str, shape: Shape, changed_ns: int) -> NDArray[Any]:
    """Read an image; ``changed_ns`` makes a changed file another entry of the cache."""
    suffix = Path(name).suffix.lower()
    if dataset or suffix in _HDF5_SUFFIXES:
        image = _from_hdf5(name, dataset, shape)
    elif suffix == ".npy":
        image = np.load(name, allow_pickle=False)
    else:
        image = _from_fabio(name)
    image.setflags(write=False)
    return image


def _from_hdf5(name: str, dataset: str, shape: Shape) -> NDArray[Any]:
    import h5py
    import hdf5plugin  # noqa: F401  registers the filters

    with h5py.File(name, "r") as file:
        if not dataset:
            fitting: list[str] = []
            others: list[str] = []  # only to tell what is wrong with them

            def look(key: str, node: Any) -> None:
                if isinstance(node, h5py.Dataset) and node.shape in (shape[1:], shape):
                    fitting.append(key)
                elif isinstance(node, h5py.Dataset) and node.ndim == 2:
                    others.append(key)

            file.visititems(look)
            if not fitting and not others:
                raise ValueError("it has no 2D dataset")
            dataset = (fitting or others)[0]
        node = file.get(dataset)
        if not isinstance(node, h5py.Dataset):
            raise ValueError(f"it has no dataset {dataset}")
        return np.asarray(node[()])


def _from_fabio(name: str) -> NDArray[Any]:
    import fabio

    with fabio.open(name) as image:
        return np.array(image.data)
