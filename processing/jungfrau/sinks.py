"""Where dark frames end: in a calibration file, or in the pedestal that the run uses."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec, Validity
from lima2_core.errors import ParamError, StorageError
from lima2_core.flow.sink import Row, Sink
from processing.jungfrau.calibration import Calibration, blank, read_calibration, save_calibration
from processing.jungfrau.conditions import Conditions
from processing.jungfrau.params import FollowParams, PedestalParams
from processing.jungfrau.pedestal import (
    Drift,
    PedestalFollower,
    PedestalRun,
    Rules,
    modules_of,
)

log = logging.getLogger(__name__)

_UPDATES = 10
"""So many times in a window the followed pedestal is given to the conversion."""


class PedestalSink(Sink):
    """Writes the calibration file at the end of a run of dark frames.

    Frames may be of several gain stages, each of one; partial frames are left out. Stages that do
    not occur, gains and ids are taken from the file that is replaced, or from another.

    Args:
        module_ids: of the modules in the frames, in their order; empty: as in these files.
        conditions: how the frames are taken; may be changed between `write`.

    Raises:
        ParamError: these are no raw frames, or a file does not go with them.
    """

    name = "pedestal"

    def __init__(
        self,
        params: PedestalParams,
        spec: FrameSpec,
        module_ids: tuple[int, ...] = (),
        conditions: Conditions | None = None,
        where: str = "pedestal",
    ) -> None:
        self.conditions = conditions or Conditions()
        self._taken: dict[int, Conditions] = {}
        self._file = Path(params.path)
        if not self._file.is_absolute():
            raise ParamError(
                f"{params.path!r} must be an absolute path, as servers have no folder",
                path=f"{where}.path",
            )
        modules = modules_of(spec.shape)
        if modules is None or spec.dtype != np.uint16:
            raise ParamError(
                f"frames of {spec.shape} {spec.dtype} are not whole modules of raw words; take "
                "pedestals with all rows",
                path=f"{where}.enabled",
            )
        self._rules = Rules(params.min_frames, params.wrong_share, params.noise_factor)
        self._old = self._begin(params, modules, module_ids, where)
        self.run = PedestalRun(modules)

    def open(self) -> None:
        if not os.access(self._file.parent, os.W_OK | os.X_OK):
            raise StorageError(
                f"the calibration cannot be written: {self._file.parent} is no folder to write to",
                file=str(self._file),
            )

    def write(self, rows: Sequence[Row]) -> None:
        """Take frames.

        Raises:
            ValueError: one has another size, or was taken unlike others of its stage.
        """
        for row in rows:
            frame = row.value
            if isinstance(frame, Frame) and frame.validity is Validity.VALID:
                stage = self.run.add(frame.data)
                known = self._taken.get(stage)
                date = _date(frame.timestamp_s) if known is None else known.date
                now = self.conditions.filled(Conditions(date=date))
                self._taken[stage] = now if known is None else known.both(now)

    def close(self) -> None:
        if not any(self.run.frames):
            log.info("no dark frame came: %s stays as it is", self._file)
            return
        made = self.run.calibrate(self._old, self._rules, self._taken)
        save_calibration(made, self._file)
        bad = int(np.count_nonzero(made.mask))
        log.info(
            "%s: dark frames of G0, G1, G2: %s; %d bad pixels", self._file, self.run.frames, bad
        )

    def _begin(
        self, params: PedestalParams, modules: int, module_ids: tuple[int, ...], where: str
    ) -> Calibration:
        """What is known before the run, of the modules in the frames."""
        if module_ids and (len(module_ids) != modules or len(set(module_ids)) != modules):
            raise ParamError(
                f"frames hold {_counted(modules)}; name each once, not {_listed(module_ids)}",
                path="photons.modules",
            )
        if self._file.exists():
            old = read_calibration(params.path, f"{where}.path")
            if module_ids and set(module_ids) != set(old.module_ids):
                raise ParamError(
                    f"frames are of modules {_listed(module_ids)}, {self._file} of "
                    f"{_listed(old.module_ids)}; choose another file",
                    path=f"{where}.path",
                )
            place = f"{where}.path"
        elif params.gain_path:
            place = f"{where}.gain_path"
            old = read_calibration(params.gain_path, place)
        else:
            return blank(module_ids or tuple(range(modules)))
        if module_ids:
            return old.of_modules(module_ids, "photons.modules")
        if len(old) != modules:
            raise ParamError(
                f"frames hold {_counted(modules)}, the calibration {_counted(len(old))}: "
                f"{_listed(old.module_ids)}; name those of the frames, or choose another file",
                path=place,
            )
        return old


def _date(timestamp_s: float) -> str:
    """ISO 8601; empty if it is not known."""
    if not timestamp_s:
        return ""
    return datetime.fromtimestamp(timestamp_s, UTC).isoformat(timespec="seconds")


def _counted(modules: int) -> str:
    return f"{modules} module" if modules == 1 else f"{modules} modules"


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))


class FollowSink(Sink):
    """Lets the G0 pedestal follow the dark frames among the frames of a run.

    The conversion takes it up some frames later, when it is there; the result of a run then
    depends on its timing.

    Args:
        give: takes the new pedestal.

    Threads: `drift` from any.
    """

    name = "follow_pedestal"

    def __init__(
        self,
        params: FollowParams,
        pedestal: NDArray[np.float32],
        rms: NDArray[np.float32],
        give: Callable[[NDArray[np.float32]], None],
    ) -> None:
        self._params = params
        self._follower = PedestalFollower(pedestal, rms, params.window)
        self._give = give
        self._new = 0
        self._drift = Drift(0, 0.0, 0.0)

    def write(self, rows: Sequence[Row]) -> None:
        params = self._params
        for row in rows:
            frame = row.value
            if not isinstance(frame, Frame) or frame.validity is not Validity.VALID:
                continue
            if frame.idx >= params.dark_first and not (
                (frame.idx - params.dark_first) % params.dark_every
            ):
                self._follower.add(frame.data)
                self._new += 1
        if self._new >= max(1, params.window // _UPDATES):
            self._new = 0
            self._give(self._follower.pedestal)
            self._drift = self._follower.drift()

    def drift(self) -> Drift:
        """How far the pedestal had moved in this run when it was last handed on."""
        return self._drift

    def readings(self) -> Mapping[str, float]:
        drift = self._drift
        return {
            "dark_frames": drift.dark_frames,
            "pedestal_drift_median_adu": drift.median,
            "pedestal_drift_largest_adu": drift.largest,
        }

    def close(self) -> None:
        drift = self._drift = self._follower.drift()
        log.info(
            "the G0 pedestal drifted by %.2f ADU (median; single pixels up to %.1f) over %d dark "
            "frames",
            drift.median,
            drift.largest,
            drift.dark_frames,
        )
