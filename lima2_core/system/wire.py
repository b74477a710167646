"""Orders, descriptions and news as trees of plain values, to cross processes and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Affine, Placement
from lima2_core.data.news import dtype_of
from lima2_core.data.pooling import reached
from lima2_core.data.record import RecordSpec
from lima2_core.errors import ParamError
from lima2_core.flow.pipeline import SavedFiles
from lima2_core.ids import AcqId
from lima2_core.system.ports import (
    RunDescription,
    RunOrder,
    RunStatus,
    SavedDescription,
)


def order_to_tree(order: RunOrder) -> dict[str, Any]:
    """Take an order apart."""
    return {
        "acq_id": order.acq_id,
        "acquisition": dict(order.acquisition),
        "processing": dict(order.processing),
        "deferred": order.deferred,
    }


def order_from_tree(tree: Mapping[str, Any]) -> RunOrder:
    """Put an order together.

    Raises:
        ParamError: something is missing.
    """
    try:
        return RunOrder(
            AcqId(str(tree["acq_id"])),
            dict(tree["acquisition"]),
            dict(tree["processing"]),
            bool(tree.get("deferred", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ParamError(f"this is no order for a receiver: {error}", path="order") from error


def spec_to_tree(spec: FrameSpec) -> dict[str, Any]:
    """Take a frame spec apart."""
    return {
        "shape": list(spec.shape),
        "dtype": spec.dtype.str,
        "unit": spec.unit,
        "affine": spec.affine.matrix.tolist(),
    }


def spec_from_tree(tree: Mapping[str, Any]) -> FrameSpec:
    """Put a frame spec together."""
    bands, rows, cols = (int(size) for size in tree["shape"])
    return FrameSpec(
        (bands, rows, cols),
        dtype_of(tree["dtype"]),
        str(tree["unit"]),
        Affine(np.array(tree["affine"], np.float64)),
    )


def description_to_tree(description: RunDescription) -> dict[str, Any]:
    """Take a description apart."""
    return {
        "input_spec": spec_to_tree(description.input_spec),
        "output_spec": spec_to_tree(description.output_spec),
        "streams": {
            name: {
                "dtype": np.lib.format.dtype_to_descr(spec.dtype),
                "rows_per_frame": spec.rows_per_frame,
            }
            for name, spec in description.streams.items()
        },
        "saved": {
            name: {"spec": spec_to_tree(saved.spec), "files": asdict(saved.files)}
            for name, saved in description.saved.items()
        },
        "sources": list(description.sources),
        "depth": description.depth,
        "keeps_rows": description.keeps_rows,
        "placement": asdict(description.placement) if description.placement else None,
        "output_placement": (
            asdict(description.output_placement) if description.output_placement else None
        ),
        "fill": description.fill,
        "output_fill": description.output_fill,
        "remarks": list(description.remarks),
        "reaches": {name: list(reach) for name, reach in description.reaches.items()},
    }


def description_from_tree(tree: Mapping[str, Any]) -> RunDescription:
    """Put a description together.

    Raises:
        ParamError: it is none.
    """
    try:
        return _description(tree)
    except (LookupError, TypeError, ValueError) as error:
        raise ParamError(f"this describes no run: {error}", path="description") from error


def _description(tree: Mapping[str, Any]) -> RunDescription:
    placement, output_placement = tree["placement"], tree.get("output_placement")
    streams = {
        name: RecordSpec(name, dtype_of(one["dtype"]), int(one["rows_per_frame"]))
        for name, one in tree["streams"].items()
    }
    reaches = {
        name: tuple((int(first), int(end)) for first, end in reach)
        for name, reach in tree.get("reaches", {}).items()
    }
    for name, reach in reaches.items():
        reached([reach], streams[name].rows_per_frame)
    return RunDescription(
        input_spec=spec_from_tree(tree["input_spec"]),
        output_spec=spec_from_tree(tree["output_spec"]),
        streams=streams,
        saved={
            name: SavedDescription(spec_from_tree(one["spec"]), SavedFiles(**one["files"]))
            for name, one in tree["saved"].items()
        },
        sources=tuple(tree["sources"]),
        depth=int(tree["depth"]),
        keeps_rows=bool(tree["keeps_rows"]),
        placement=Placement(**placement) if placement else None,
        output_placement=Placement(**output_placement) if output_placement else None,
        fill=tree.get("fill", 0),
        output_fill=tree.get("output_fill", 0),
        remarks=tuple(tree.get("remarks", ())),
        reaches=reaches,
    )


def status_to_tree(status: RunStatus) -> dict[str, Any]:
    """Take a status apart."""
    return asdict(status)


def status_from_tree(tree: Mapping[str, Any]) -> RunStatus:
    """Put a status together.

    Raises:
        ParamError: it is none.
    """
    try:
        queues = {name: (int(level), int(size)) for name, (level, size) in tree["queues"].items()}
        return RunStatus(**{**tree, "queues": queues})
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ParamError(f"this is no status of a run: {error}", path="status") from error
