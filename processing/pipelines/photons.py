"""The JUNGFRAU steps of a pipeline: conversion to photons, and what is made of dark frames."""

from __future__ import annotations

from lima2_core.data.geometry import Placement
from lima2_core.errors import ParamError
from lima2_core.flow.pipeline import INPUT, Lane
from lima2_core.flow.plugin import BuildContext
from processing.jungfrau.conditions import Conditions
from processing.jungfrau.params import PedestalParams, PhotonsParams
from processing.jungfrau.sinks import FollowSink, PedestalSink
from processing.kernels.marks import Marks
from processing.kernels.placing import MODULE_ROWS
from processing.tasks.convert_photons import ConvertPhotons

_QUEUE = 4
"""Frames that may wait for a sink."""


def conversion(params: PhotonsParams, context: BuildContext, buffers: int) -> ConvertPhotons:
    """The first transform; not yet resolved."""
    part = (int(context.share.receiver), context.share.n_receivers) if context.parts else (0, 1)
    if not params.module_rows:
        params = params.model_copy(update={"module_rows": rows_read(context)})
    place = context.placement
    origin = (place.row, place.col) if place is not None else (0, 0)
    return ConvertPhotons(
        params, context.pools, buffers, part=part, origin=origin, taken=conditions(context)
    )


def conditions(context: BuildContext) -> Conditions:
    """How the frames of the run are taken, as far as its parameters tell."""
    return Conditions.of_acquisition(context.acquisition.to_tree(), context.acq_id)


def rows_read(context: BuildContext) -> int:
    """Rows of each module that the detector reads out."""
    det = context.acquisition.to_tree().get("det", {})
    return int(det.get("readout_rows", MODULE_ROWS))


def laid_out(convert: ConvertPhotons | None, context: BuildContext) -> Placement | None:
    """Where the image of a part of the detector lies in that of the whole; None if it is none."""
    return convert.placement if convert is not None and context.parts else None


def fill_of(marks: Marks | None, context: BuildContext, *, as_they_came: bool) -> float:
    """What stands where nothing is: between parts, and in parts and frames that are missing."""
    if marks is not None:
        return marks.no_value
    return context.fill if as_they_came else 0


def of_parts(context: BuildContext, streams: tuple[str, ...]) -> tuple[str, ...]:
    """What users should know of records that are made of parts of frames."""
    names = [name for name in ("roi_statistics", "roi_profiles") if name in streams]
    if not context.parts or context.share.n_receivers == 1 or not names:
        return ()
    return (
        f"{' and '.join(names)} of each receiver are of its part of the frames, with regions in "
        "pixels of this part; the system as a whole has none",
    )


def dark_lanes(
    photons: PhotonsParams,
    pedestal: PedestalParams,
    convert: ConvertPhotons | None,
    context: BuildContext,
) -> list[Lane]:
    """Lanes of frames as they came, as far as something is to be made of dark ones.

    Raises:
        ParamError: it cannot be made of these frames.
    """
    lanes: list[Lane] = []
    if pedestal.enabled:
        if context.share.n_receivers > 1:
            raise ParamError(
                f"{context.share.n_receivers} receivers would write the same file, each with its "
                "share of the frames; take pedestals with one receiver, or from saved frames with "
                "'lima2 pedestal'",
                path="pedestal.enabled",
            )
        if rows_read(context) != MODULE_ROWS:
            raise ParamError(
                f"pedestals are taken of whole modules; read out all {MODULE_ROWS} rows, not "
                f"{rows_read(context)}",
                path="pedestal.enabled",
            )
        sink = PedestalSink(pedestal, context.spec, photons.modules, conditions(context))
        lanes.append(Lane("pedestal", sink, INPUT, _QUEUE))
    if convert is not None and photons.follow.enabled:
        follow = FollowSink(photons.follow, convert.pedestal_g0, convert.rms_g0, convert.follow)
        lanes.append(Lane("follow_pedestal", follow, INPUT, _QUEUE))
    return lanes
