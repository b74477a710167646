"""Groups and trees of values in HDF5 files, as NeXus has them; for files of frames and masters."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata as distribution
from typing import Any

import h5py
import numpy as np


def version() -> str:
    """Version of the suite, which files tell."""
    try:
        return distribution.version("lima2-suite")
    except distribution.PackageNotFoundError:  # run from a source tree
        return "unknown"


def make_group(parent: h5py.Group, name: str, nx_class: str, default: str = "") -> h5py.Group:
    """A group of a NeXus class; ``default`` leads readers to the plot."""
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    if default:
        group.attrs["default"] = default
    return group


def write_tree(group: h5py.Group, tree: Mapping[str, object], none: str | None = None) -> None:
    """Dicts become groups, lists of numbers or of texts arrays, other lists numbered groups.

    Groups are NXcollections. ``name@units`` and ``name@description`` are texts about ``name``, and
    become its attributes.

    Args:
        group: to write into.
        tree: what to write.
        none: what stands for None, as HDF5 has no value for it; None: it is left out.

    Raises:
        TypeError, ValueError, OverflowError: HDF5 has no type for a value, or no name for a key.
    """
    about = [str(key) for key, value in tree.items() if _is_about(str(key), value, tree)]
    for key, value in tree.items():
        if key in about or (value is None and none is None):
            continue
        name = _free_name(group, str(key))
        if isinstance(value, list | tuple):
            array = _plain_array(value)
            value = dict(enumerate(value)) if array is None else array
        if isinstance(value, Mapping):
            below = make_group(group, name, "NXcollection")
            write_tree(below, {str(k): v for k, v in value.items()}, none)
        else:
            group[name] = none if value is None else value
    for key in about:
        name, _, attribute = key.replace("/", "|").rpartition("@")
        group[name].attrs[attribute] = tree[key]


def with_units(detector: Mapping[str, Any]) -> dict[str, Any]:
    """What a camera says about itself, as a tree for `write_tree` that tells its units."""
    tree = dict(detector)
    for name, (unit, of_x, of_y) in _SIZES.items():
        size = tree.get(name)
        if not isinstance(size, Mapping):
            continue
        tree[name] = dict(size)
        for axis, text in (("x", of_x), ("y", of_y)):
            if axis in size:
                tree[name] |= {f"{axis}@units": unit, f"{axis}@description": text}
    return tree


def write_marks(detector: h5py.Group, marks: Mapping[str, float], dtype: np.dtype[Any]) -> None:
    """Say which values of the pixels are no measurements; nothing, if all are.

    Pixels from ``underload_value`` to ``saturation_value`` are measurements, as NeXus has it.
    """
    for name, text in _LIMITS.items():
        if name in marks:
            detector.create_dataset(name, data=dtype.type(marks[name]))
            detector[name].attrs["description"] = text


def mark_data(data: h5py.Dataset, marks: Mapping[str, float]) -> None:
    """Say at the frames how pixels read that are no measurements."""
    for name in ("no_value", "saturated_value"):
        if name in marks:
            data.attrs[name] = data.dtype.type(marks[name])


_SIZES = {
    "pixel_size": ("m", "width of a pixel, along a row", "height of a pixel, along a column"),
    "dimensions": ("pixels", "columns of the detector", "rows of the detector"),
}
"""Unit and meaning of x and y of what a camera says about itself."""
_ABOUT = ("units", "description")
_LONGEST_ABOUT = 1000
"""Attributes of HDF5 are short; a longer text stands for itself."""

_LIMITS = {
    "saturation_value": "the largest value that is a measurement",
    "underload_value": "the smallest value that is a measurement",
}


def _free_name(group: h5py.Group, key: str) -> str:
    """How the file calls what stands under ``key``.

    Raises:
        ValueError: HDF5 has no such names, or would cut them; or something is called so already.
    """
    name = key.replace("/", "|")
    if name in ("", ".") or "\0" in name:
        raise ValueError(f"{key!r} cannot be a name in HDF5 files; choose another key")
    if name in group:
        raise ValueError(
            f"{key!r} and another key would both be {name!r} in HDF5 files; rename one of them"
        )
    return name


def _is_about(key: str, value: object, tree: Mapping[str, object]) -> bool:
    """Whether it is a text about another value of the tree, which is no such text itself."""
    name, _, attribute = key.rpartition("@")
    return (
        attribute in _ABOUT
        and tree.get(name) is not None
        and isinstance(value, str)
        and len(value) <= _LONGEST_ABOUT
        and not _is_about(name, tree[name], tree)
    )


def _plain_array(values: list[object] | tuple[object, ...]) -> Any:
    """The array of ``values`` if they are of one kind, else None."""
    if not values:
        return np.empty(0)
    if all(isinstance(value, str) for value in values):
        return np.array(values, dtype=h5py.string_dtype())
    if all(isinstance(value, bool) for value in values):
        return np.array(values)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.array(values)
    return None
