"""How many exposures a trigger gives, and how many triggers there are."""

from __future__ import annotations

from typing import Final

from camera_plugins.jungfrau.params import JungfrauParams
from lima2_core.errors import ParamError

ENDLESS: Final = 2**31 - 1
"""Images of an endless acquisition: the virtual server counts them in 32 bits."""


def counts_of(params: JungfrauParams) -> tuple[int, int]:
    """Exposures of each trigger, and triggers.

    Raises:
        ParamError: the frames do not divide.
    """
    acq, cells = params.acq, params.det.additional_storage_cells + 1
    if acq.nb_frames % cells:
        raise ParamError(
            f"{acq.nb_frames} frames are not a multiple of the {cells} of each exposure",
            path="acq.nb_frames",
        )
    exposures = acq.nb_frames // cells or ENDLESS // cells
    if acq.trigger_mode == "internal":
        return exposures, 1
    if acq.nb_frames_per_trigger % cells:
        raise ParamError(
            f"{acq.nb_frames_per_trigger} frames are not a multiple of the {cells} of each "
            "exposure",
            path="acq.nb_frames_per_trigger",
        )
    each = acq.nb_frames_per_trigger // cells
    if acq.nb_frames and exposures % each:
        raise ParamError(
            f"{acq.nb_frames} frames are not a multiple of {acq.nb_frames_per_trigger}",
            path="acq.nb_frames_per_trigger",
        )
    return each, max(1, exposures // each)
