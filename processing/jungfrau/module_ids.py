"""Whether frames come from the modules whose calibration is used, as far as packets tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from lima2_core.data.frame import Frame

log = logging.getLogger(__name__)

FIELD = "module_ids"
"""What the camera tells of every frame: the id that came from each port, by module."""
NO_PACKETS = 0xFFFF
"""Nothing of the port came."""


class ModuleIdCheck:
    """Compares the ids in the packets of the first frame with those of the calibration.

    It warns, once: a detector whose modules were given no ids, or other ones since, still measures.
    Where either side has no ids worth the name (0 to n - 1, or all 0), nothing is said.

    Threads: `look` from any.

    Args:
        module_ids: of the modules in the frames, in their order.
        calibrated: all ids of the calibration file.
    """

    def __init__(self, module_ids: Sequence[int], calibrated: Sequence[int]) -> None:
        self._expected = np.array(module_ids, np.int64)
        self._due = list(calibrated) != list(range(len(calibrated)))

    def look(self, frame: Frame) -> None:
        """Compare, if this frame is the first that tells of ids."""
        if not self._due or frame.fields is None:
            return
        self._due = False
        if FIELD not in (frame.fields.dtype.names or ()):
            return
        came = np.asarray(frame.fields[FIELD], np.int64).reshape(-1)
        each, rest = divmod(len(came), len(self._expected))
        if rest or not each:
            return
        expected = np.repeat(self._expected, each)
        there = came != NO_PACKETS
        if not came[there].any() or (came == expected)[there].all():
            return
        modules = came.reshape(-1, each).min(
            axis=1
        )  # a port without packets has the largest number
        log.warning(
            "frame %d comes from modules %s, and the calibration of modules %s is used for it: "
            "photons are wrong unless modules were given other ids; see photons.modules",
            frame.idx,
            _listed(modules.tolist()),
            _listed(self._expected.tolist()),
        )


def _listed(ids: Sequence[int]) -> str:
    return ", ".join("?" if one == NO_PACKETS else str(one) for one in ids)
