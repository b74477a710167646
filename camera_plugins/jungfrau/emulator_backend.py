"""The emulated detector as a back-end: a process of its own that sends over real sockets."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from camera_plugins.jungfrau.backend import Backend, Setup
from camera_plugins.jungfrau.emulator.process import BUILT_IN, ENDLESS, MESSAGE_BYTES, SHARED_BYTES
from camera_plugins.jungfrau.faults import FaultMix, FaultRule
from camera_plugins.jungfrau.installation import Installation
from camera_plugins.jungfrau.params import EmulatorParams, JungfrauParams
from camera_plugins.jungfrau.wire import DaqInfo
from lima2_core.camera.api import Failure, Scalar
from lima2_core.errors import BusyError, CameraError, ParamError

_ANSWER_S: Final = 2.0
_PREPARE_S: Final = 1.5
"""It may take longer where a large file of images is read; then one has to ask again."""
_LONGEST_PREPARE_S: Final = 60.0
_END_S: Final = 1.0
_ROOT = Path(__file__).resolve().parents[2]

_STAGES: Mapping[str, tuple[int, DaqInfo]] = {
    "dynamic": (0, DaqInfo(0)),
    "forceswitchg1": (1, DaqInfo.FORCED_SWITCH_1),
    "forceswitchg2": (2, DaqInfo.FORCED_SWITCH_2),
    "fixg1": (1, DaqInfo.FIXED_STAGE_1),
    "fixg2": (2, DaqInfo.FIXED_STAGE_2),
}
"""Gain stage of dark images, and DAQ info, by gain mode."""


class EmulatorBackend(Backend):
    """Sends what modules send; the process starts with the first acquisition and stays."""

    trigger_modes = ("internal", "software")

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._shared: mmap.mmap | None = None
        self._words: str | None = None
        """How the process ended; None as long as that is not known."""
        self._frames = self._per_trigger = 0
        self._ready = self._started = False
        self._exposed = 0
        self._late_since_s: float | None = None
        """Since when the answer to a request to prepare has been awaited."""

    @property
    def model(self) -> str:
        return "JUNGFRAU (emulated)"

    @property
    def serial(self) -> str:
        return "emulator"

    def readings(self) -> Mapping[str, Scalar]:
        alive = self._process is None or self._process.poll() is None
        return {"emulator": "ready" if alive else "died"}

    def check(self, params: JungfrauParams) -> None:
        emulator = params.det.emulator
        if emulator.images not in BUILT_IN:
            _check_file(emulator.images, "images")
        elif emulator.images == "dark":
            _check_file(emulator.calibration_path, "calibration_path")
        self._check_faults(emulator)
        if params.det.additional_storage_cells:
            raise ParamError(
                "the emulator has one storage cell; use 0", path="det.additional_storage_cells"
            )

    def prepare(self, setup: Setup) -> JungfrauParams:
        if self._process is None or self._process.poll() is not None:
            self._begin()
        if self._late_since_s is not None:
            self._prepared()  # for what was asked for then; its images are kept
        self._tell({"do": "prepare", **self._request(setup)}, "prepare")
        self._late_since_s = time.monotonic()
        answer = self._prepared()
        if "error" in answer:
            raise ParamError(answer["error"], path=answer["path"] or "properties.udp_addresses")
        acq = setup.params.acq
        self._frames = acq.nb_frames or ENDLESS
        self._per_trigger = 0 if acq.trigger_mode == "internal" else acq.nb_frames_per_trigger
        self._ready, self._started = True, False
        return setup.params

    def start(self) -> None:
        self._ask({"do": "start", "per_trigger": self._per_trigger}, "start")
        self._started = True

    def trigger(self) -> None:
        self._ask({"do": "trigger"}, "take a trigger")

    def stop(self) -> int | None:
        if self._ready:
            self._exposed = self.nb_exposed()
            self._ready = False
            self._exposed = int(self._ask({"do": "stop"}, "stop")["exposed"])
        return self._exposed

    def nb_exposed(self) -> int:
        shared = self._shared
        if not self._ready or shared is None:
            return self._exposed
        return int.from_bytes(shared[:8], sys.byteorder)

    def failure(self) -> Failure | None:
        process = self._process
        if not self._ready or process is None or process.poll() is None:
            return None
        exposed = self.nb_exposed()
        if exposed >= self._frames:
            return None
        of_all = f" of {self._frames}" if self._frames != ENDLESS else ""
        return Failure(
            f"the emulated detector died after {exposed}{of_all} frames{self._how_it_ended()}"
        )

    def close(self) -> None:
        self._end(_END_S)

    def _end(self, patience_s: float) -> None:
        """End the process: by itself, if it does so in time."""
        self._ready = False
        self._late_since_s = None
        if self._control is not None:
            self._control.close()  # the process ends by itself
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
            self._process = None
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def _check_faults(self, emulator: EmulatorParams) -> None:
        for number, text in enumerate(emulator.faults):
            FaultRule.from_text(text, f"det.emulator.faults.{number}")
        if emulator.mix:
            FaultMix.from_text(emulator.mix, emulator.seed, "det.emulator.mix")

    def _request(self, setup: Setup) -> dict[str, Any]:
        """The values of a request to prepare."""
        installation, acq, det = self._installation, setup.params.acq, setup.params.det
        stage, daq_info = _STAGES[det.gain_mode]
        if det.high_gain_g0:
            daq_info |= DaqInfo.HIGH_GAIN
        config = {
            "destinations": setup.destinations,
            "modules": installation.modules,
            "interfaces": installation.interfaces,
            "rows": det.readout_rows,
            "frames": acq.nb_frames or ENDLESS,
            "first_frame": setup.first_number,
            "period_s": acq.period_s,
            "modules_per_column": installation.modules_per_column,
            "exposure_s": acq.expo_time_s,
            "daq_info": int(daq_info),
        }
        emulator = det.emulator
        images = {
            "images": emulator.images,
            "dataset": emulator.dataset,
            "calibration_path": emulator.calibration_path,
            "stage": stage,
            "faults": emulator.faults,
            "mix": emulator.mix,
            "seed": emulator.seed,
        }
        return {"config": config, "images": images}

    def _begin(self) -> None:
        """Start the process; what is left of an earlier one goes."""
        self.close()
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        memory = os.memfd_create("lima2-emulator", os.MFD_CLOEXEC)
        try:
            os.ftruncate(memory, SHARED_BYTES)
            self._shared = mmap.mmap(memory, SHARED_BYTES)
            path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
            with far:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "camera_plugins.jungfrau.emulator.process",
                        str(far.fileno()),
                        str(memory),
                    ],
                    pass_fds=(far.fileno(), memory),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                )
        finally:
            os.close(memory)
        self._control, self._words = near, None

    def _prepared(self) -> dict[str, Any]:
        """The answer to a request to prepare.

        Raises:
            CameraError: the process died; or it is not ready, and goes on.
            BusyError: it has not become ready for too long.
        """
        since_s = self._late_since_s
        try:
            answer = self._answer("prepare", _PREPARE_S)
        except TimeoutError as error:
            if since_s is None or time.monotonic() - since_s > _LONGEST_PREPARE_S:
                self.close()
                raise BusyError(
                    f"the emulated detector did not prepare within {_LONGEST_PREPARE_S:g} s"
                ) from error
            raise CameraError(
                "the emulated detector is not ready, as it starts or reads its images; try again "
                "in a few seconds",
                left_s=_PREPARE_S,
            ) from error
        self._late_since_s = None
        return answer

    def _ask(self, request: Mapping[str, Any], to_do: str) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            CameraError: the process died.
            BusyError: it does not answer in time.
        """
        self._tell(request, to_do)
        try:
            return self._answer(to_do, _ANSWER_S)
        except TimeoutError as error:
            self._end(0.0)  # a late answer would be taken for that of the next request
            raise BusyError(
                f"the emulated detector did not {to_do} within {_ANSWER_S:g} s"
            ) from error

    def _tell(self, request: Mapping[str, Any], to_do: str) -> None:
        control = self._control
        message = json.dumps(request).encode()
        if len(message) > MESSAGE_BYTES:
            raise ParamError(
                "more than can be told to the emulator; write fewer rules, or use det.emulator.mix",
                path="det.emulator.faults",
            )
        try:
            if control is None:
                raise BrokenPipeError
            control.settimeout(_ANSWER_S)
            control.send(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise CameraError(
                f"the emulated detector cannot {to_do}: {self._last_words()}"
            ) from error

    def _answer(self, to_do: str, limit_s: float) -> dict[str, Any]:
        control = self._control
        message = b""
        if control is not None:
            control.settimeout(limit_s)
            with contextlib.suppress(ConnectionResetError):
                message = control.recv(MESSAGE_BYTES)
        if not message:
            raise CameraError(f"the emulated detector cannot {to_do}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _last_words(self) -> str:
        if self._process is None:
            return "it is not prepared"
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "it hung up"
        return f"it died{self._how_it_ended()}"

    def _how_it_ended(self) -> str:
        """What is known of the end of the process, to be put behind the statement that it died."""
        process = self._process
        if self._words is None and process is not None and process.stderr is not None:
            text = process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            if not text and (process.returncode or 0) < 0:
                text = f"killed by {signal.Signals(-process.returncode).name}"
            self._words = f": {text}" if text else ""
        return self._words or ""


def _check_file(name: str, parameter: str) -> None:
    path = f"det.emulator.{parameter}"
    if not os.path.isabs(name):
        raise ParamError(
            f"{name!r} must be an absolute path, as servers have no folder"
            + (f", or one of {', '.join(BUILT_IN)}" if parameter == "images" else ""),
            path=path,
        )
    if not os.path.isfile(name):
        raise ParamError(f"there is no file {name} on the computer of the control", path=path)
