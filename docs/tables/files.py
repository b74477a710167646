"""What lies in the files, from a file without rows."""

from __future__ import annotations

import ast
import enum
import inspect
import io
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from lima2_core.data.fields import FrameField
from lima2_core.data.frame import PIXEL_TYPES, FrameSpec, Validity
from lima2_core.ids import AcqId
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5_layout import FileLayout, file_image
from tables.markdown import code, prose, table

ABOUT = {
    "/": "",
    "{entry}": "one run",
    "{entry}/entry_identifier_uuid": "the run (uuid)",
    "{entry}/program_name": "",
    "{entry}/start_time": "first row of the file, ISO 8601",
    "{entry}/end_time": "end of the file; empty after a crash",
    "{entry}/measurement": "",
    "{entry}/measurement/data": "link to the frames, where Reader and others look",
    "{instrument}": "",
    "{detector}": "",
    "{detector}/data": "the frames; one chunk each, shape (rows, [bands,] rows, columns)",
    "{detector}/validity": "what became of each row, see below",
    "{detector}/frame_idx": "index of each row in the acquisition; only if `include_frame_idx`",
    "{detector}/frame_metadata": "only if the camera tells something of every frame",
    "{detector}/frame_metadata/bunch_id": "one dataset for each value, here an example",
    "{detector}/image_to_detector": "3 x 3 matrix from image to detector pixels, row by row",
    "{detector}/detector_information": "what the camera says about itself; with `units`: "
    "`pixel_size` in m and `dimensions` in pixels, x along a row and y along a column",
    "{detector}/params": "",
    "{detector}/params/acquisition": "all acquisition parameters, one group for each level",
    "{detector}/params/processing": "all processing parameters",
    "{detector}/plot": "what viewers open",
    "{detector}/plot/data": "link to the frames",
}
"""What is told of each item; an item that is not here stops the generation."""


def layout_table() -> str:
    """What is where in a file."""
    params = SavingParams(enabled=True, nb_frames_per_file=50)
    spec = FrameSpec((1, 512, 1024), np.dtype(np.uint16))
    example = FrameField("bunch_id", np.dtype(np.uint64), doc="bunch that made the frame")
    layout = FileLayout.of(params, spec, 50, True, [example])
    image = file_image(layout, params, spec, FileMetadata(AcqId("uuid")))
    places = {
        "{detector}": layout.detector,
        "{instrument}": layout.detector.rpartition("/")[0],
        "{entry}": layout.entry,
    }

    def about(path: str) -> str:
        for short, long in places.items():
            if path.startswith(long):
                path = short + path.removeprefix(long)
                break
        return ABOUT[path]

    with h5py.File(io.BytesIO(image)) as file:
        rows = [(code(path), kind, attrs, about(path)) for path, kind, attrs in _items(file)]
    return table(("path", "what", "attributes", "meaning"), rows)


def pixel_types_table() -> str:
    """Pixel types by their names in the parameters."""
    return table(
        ("name in the parameters", "type in the file"),
        [(code(name), code(dtype)) for name, dtype in PIXEL_TYPES.items()],
    )


def _items(file: h5py.File) -> Iterator[tuple[str, str, str]]:
    """Path, kind and attributes of everything, depth first; links are shown where they are."""

    def walk(path: str, item: Any) -> Iterator[tuple[str, str, str]]:
        shown = {**item.attrs}
        shown.pop("creator_version", None)
        shown.pop("version", None)
        attrs = ", ".join(f"{key}={value}" for key, value in shown.items())
        if isinstance(item, h5py.Dataset):
            kind = "text" if h5py.check_string_dtype(item.dtype) else str(item.dtype)
            yield path, f"{kind} {item.shape if item.shape else ''}".strip(), prose(attrs)
            return
        yield path, "group", prose(attrs)
        for name in item:
            yield from walk(f"{path}/{name}".lstrip("/"), item[name])

    yield from walk("/", file)


def validity_table() -> str:
    """The codes of the dataset ``validity``."""
    docs = _member_docs(Validity)
    rows = [(str(int(item)), code(item.name), prose(docs.get(item.name))) for item in Validity]
    return table(("code", "name", "meaning"), rows)


def _member_docs(kind: type[enum.Enum]) -> dict[str, str]:
    """The texts below the members of an enumeration."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for member, below in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(member, ast.Assign)
            and isinstance(member.targets[0], ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            docs[member.targets[0].id] = str(below.value.value)
    return docs
