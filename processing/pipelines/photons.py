"""The JUNGFRAU steps of a pipeline: conversion to photons, and what is made of dark frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from lima2_core.data.geometry import Placement
from lima2_core.errors import ParamError
from lima2_core.flow.pipeline import INPUT, Lane
from lima2_core.flow.plugin import BuildContext
from processing.jungfrau.params import PedestalParams, PhotonsParams
from processing.jungfrau.sinks import FollowSink, PedestalSink
from processing.tasks.convert_photons import ConvertPhotons

_QUEUE = 4
"""Frames that may wait for a sink."""


def conversion(params: PhotonsParams, context: BuildContext, buffers: int) -> ConvertPhotons:
    """The first transform; not yet resolved."""
    part = (int(context.share.receiver), context.share.n_receivers) if context.parts else (0, 1)
    place = context.placement
    origin = (place.row, place.col) if place is not None else (0, 0)
    return ConvertPhotons(params, context.pools, buffers, part=part, origin=origin)


def laid_out(convert: ConvertPhotons | None, context: BuildContext) -> Placement | None:
    """Where the image of a part of the detector lies in that of the whole; None if it is none."""
    return convert.placement if convert is not None and context.parts else None


def fill_between(
    convert: ConvertPhotons | None, context: BuildContext, depth: int, dtype: np.dtype[Any]
) -> float:
    """What stands between such parts, in sums of ``depth`` frames of a type."""
    if convert is None or laid_out(convert, context) is None:
        return 0
    fill = depth * convert.fill
    if dtype.kind not in "iu":
        return fill
    limits = np.iinfo(dtype)
    return int(min(max(fill, limits.min), limits.max))


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
        sink = PedestalSink(pedestal, context.spec, photons.modules)
        lanes.append(Lane("pedestal", sink, INPUT, _QUEUE))
    if convert is not None and photons.follow.enabled:
        follow = FollowSink(photons.follow, convert.pedestal_g0, convert.rms_g0, convert.follow)
        lanes.append(Lane("follow_pedestal", follow, INPUT, _QUEUE))
    return lanes
