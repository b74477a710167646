"""The control part of a JUNGFRAU: one acquisition after the other on a back-end.

It tells the receivers what they cannot know:

========= ============= ==========================================================
kind      values        meaning
========= ============= ==========================================================
start     t0_wall_s     the detector was started at this time
trigger   count         the trigger number ``count`` was given, from 1
stop      nb_exposed    no frame from this index on will come; -1: it is not known
========= ============= ==========================================================
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from camera_plugins.jungfrau.backend import Backend, Setup, first_number
from camera_plugins.jungfrau.counts import counts_of
from camera_plugins.jungfrau.emulator_backend import EmulatorBackend
from camera_plugins.jungfrau.installation import Installation
from camera_plugins.jungfrau.params import JungfrauParams
from lima2_core.camera.api import (
    CameraControl,
    CameraEnv,
    CameraLink,
    CameraMessage,
    Capabilities,
    DetectorInfo,
    Failure,
    Scalar,
)
from lima2_core.camera.limits import check_against
from lima2_core.camera.params import AcquisitionParams
from lima2_core.errors import ParamError, StateError
from lima2_core.ids import AcqId

log = logging.getLogger(__name__)

PIXEL_SIZE_M = 75e-6
UNKNOWN = -1


@dataclass(slots=True)
class _Run:
    """One acquisition."""

    acq_id: AcqId
    setup: Setup
    started: bool = False
    stopped: bool = False
    failed: bool = False
    triggers: int = 0


class JungfrauControl(CameraControl):
    """Drives the detector behind a back-end."""

    def __init__(self, env: CameraEnv, link: CameraLink) -> None:
        self._installation = Installation.of(env.properties)
        self._clock = env.clock
        self._link = link
        self._backend = _backend(self._installation)
        self._run: _Run | None = None
        self._exposed = 0

    def info(self) -> DetectorInfo:
        rows, cols = self._installation.shape
        return DetectorInfo(
            self._backend.model,
            self._backend.serial,
            rows,
            cols,
            (PIXEL_SIZE_M, PIXEL_SIZE_M),
            {
                "modules": self._installation.modules,
                "interfaces": self._installation.interfaces,
                "backend": self._installation.backend,
            },
        )

    def capabilities(self) -> Capabilities:
        return Capabilities(
            trigger_modes=self._backend.trigger_modes,
            expo_time_range_s=(1e-6, 60.0),
            latency_time_range_s=(0.0, 3600.0),
            image_operations=(),  # det.readout_rows are rows around the centre
        )

    def status(self) -> Mapping[str, Scalar]:
        run = self._run
        if run is None:
            state = "idle"
        elif not run.started or run.stopped:
            state = "stopped" if run.stopped else "armed"
        else:
            state = "acquiring"
        return {"state": state, **self._backend.readings()}

    def check(self, params: AcquisitionParams) -> None:
        jungfrau = _own(params)
        check_against(params, self.capabilities())
        det = jungfrau.det
        if det.readout_speed == "full" and self._installation.interfaces == 1:
            raise ParamError(
                "full speed needs two interfaces, property interfaces says one; use half",
                path="det.readout_speed",
            )
        if 0 < det.high_voltage < 60:
            raise ParamError(
                f"{det.high_voltage} V is not possible; use 0 or 60 to 200, or -1 to leave it",
                path="det.high_voltage",
            )
        counts_of(jungfrau)
        self._backend.check(jungfrau)

    def prepare(
        self, acq_id: AcqId, params: AcquisitionParams, n_receivers: int
    ) -> AcquisitionParams:
        self.check(params)
        self.close()
        jungfrau = _own(params)
        setup = Setup(
            jungfrau,
            first_number(acq_id),
            self._installation.destinations(n_receivers, partial=jungfrau.det.is_partial),
        )
        applied = self._backend.prepare(setup)
        self._run = _Run(acq_id, replace(setup, params=applied))
        self._exposed = 0
        return applied

    def start(self) -> None:
        run = self._run
        if run is None or run.started or run.stopped:
            raise StateError("the detector is not armed; prepare an acquisition first")
        t0_wall_s = self._clock.wall_s()
        self._backend.start()
        run.started = True
        self._tell(run, "start", {"t0_wall_s": t0_wall_s})

    def trigger(self) -> None:
        run = self._run
        if run is None or not run.started or run.stopped:
            raise StateError("the detector takes triggers only between its start and its stop")
        acq = run.setup.params.acq
        if acq.trigger_mode != "software":
            raise StateError(f"the trigger mode is {acq.trigger_mode!r}, not 'software'")
        if acq.nb_frames and run.triggers * acq.nb_frames_per_trigger >= acq.nb_frames:
            log.warning("A trigger beyond the %d frames asked for is ignored.", acq.nb_frames)
            return
        self._backend.trigger()
        run.triggers += 1
        self._tell(run, "trigger", {"count": run.triggers})

    def stop(self) -> None:
        run = self._run
        if run is None or run.stopped:
            return
        run.stopped = True
        exposed = UNKNOWN
        try:
            known = self._backend.stop()
            exposed = UNKNOWN if known is None or run.failed else known
        finally:
            self._exposed = self._backend.nb_exposed() if exposed == UNKNOWN else exposed
            # Whatever the detector says, receivers need not wait for more.
            self._tell(run, "stop", {"nb_exposed": exposed})

    def close(self) -> None:
        self.stop()
        self._run = None

    def release(self) -> None:
        self._backend.close()

    def nb_frames_acquired(self) -> int:
        run = self._run
        if run is None or run.stopped:
            return self._exposed
        return self._backend.nb_exposed() if run.started else 0

    def failure(self) -> Failure | None:
        run = self._run
        if run is None or not run.started or run.stopped:
            return None
        failure = self._backend.failure()
        # Whatever such a detector counted, nobody knows what of it was sent.
        run.failed = failure is not None
        return failure

    def _tell(self, run: _Run, kind: str, values: Mapping[str, Scalar]) -> None:
        self._link.broadcast(CameraMessage(run.acq_id, kind, values))


def _backend(installation: Installation) -> Backend:
    if installation.backend == "emulator":
        return EmulatorBackend(installation)
    from camera_plugins.jungfrau.slsdet_backend import SlsdetBackend

    return SlsdetBackend(installation)


def _own(params: AcquisitionParams) -> JungfrauParams:
    if not isinstance(params, JungfrauParams):
        raise TypeError(f"a JUNGFRAU takes JungfrauParams, not {type(params).__name__}")
    return params
