"""The real detector, driven with slsdet.

What a module keeps is compared before it is set: each change of its network costs two seconds,
and each change of settings touches the chips.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from camera_plugins.jungfrau import slsdet_steps as steps
from camera_plugins.jungfrau._sdk import Detector, Results, SlsError, Step, require
from camera_plugins.jungfrau.backend import Backend, Setup
from camera_plugins.jungfrau.counts import ENDLESS
from camera_plugins.jungfrau.installation import Entry, Installation
from camera_plugins.jungfrau.params import JungfrauDetParams, JungfrauParams
from camera_plugins.jungfrau.slsdet_link import DetectorLink
from camera_plugins.jungfrau.slsdet_progress import Progress, rests, state_of
from camera_plugins.jungfrau.slsdet_site import Site
from lima2_core.camera.api import Failure, Scalar
from lima2_core.errors import CameraError

ANSWER_S: Final = 2.0
"""In which every call has returned, or has raised an error."""
CONNECT_S: Final = 10.0
"""For one module; one that has been configured before takes two seconds."""
UNHEARD_S: Final = 3.0
"""A detector that has not answered for so long while it exposes may be lost."""
SLOW_S: Final = 20.0
"""For the network of all modules, for their settings, and for a stop."""

log = logging.getLogger(__name__)

_GLANCE_S: Final = 0.3
_TURN_S: Final = 0.02
"""For those who must not wait; what comes later is found by the next look."""
_READINGS_KEPT_S: Final = 1.0
_PROGRESS_KEPT_S: Final = 0.1
_POLL_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class _Facts:
    """What does not change while the detector is connected."""

    is_virtual: bool
    chip: float
    hardware: str
    serial: str


class SlsdetBackend(Backend):
    """Modules on the network, or virtual ones.

    Every call returns within `ANSWER_S` or raises `CameraError`. What takes the detector longer
    goes on meanwhile, and the next call waits for it.

    Args:
        installation: hosts, interfaces and addresses.
        detector: what carries out steps; a process with slsdet if not given.

    Raises:
        ParamError: a property is wrong.
        CameraError: slsdet is not installed.
    """

    trigger_modes = ("internal", "software", "external")

    def __init__(
        self,
        installation: Installation,
        detector: Detector | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site = Site.of(installation)
        if detector is None:
            require()
            detector = DetectorLink(now_s=now_s)
        self._detector = detector
        self._now_s = now_s
        self._lock = threading.Lock()
        self._until_s = 0.0
        self._facts: _Facts | None = None
        self._progress: Progress | None = None
        self._readings: dict[str, Scalar] = {"detector_state": "not connected"}
        self._read_s = -_READINGS_KEPT_S
        self._looked_s = -_PROGRESS_KEPT_S
        self._heard_s = 0.0
        """When it was started, or told last how far it is."""
        self._never = threading.Event()

    @property
    def model(self) -> str:
        kind = " (virtual)" if self._facts is not None and self._facts.is_virtual else ""
        return f"JUNGFRAU {self._site.modules / 2:g}M{kind}"

    @property
    def serial(self) -> str:
        """Known once it has been prepared."""
        return self._facts.serial if self._facts is not None else "unknown"

    def readings(self) -> Mapping[str, Scalar]:
        """Of the hottest module; what was read last if the detector is in use otherwise."""
        if self._now_s() - self._read_s >= _READINGS_KEPT_S:
            with self._glancing() as free:
                if free:
                    self._read_s = self._now_s()
                    self._read_readings()
        return dict(self._readings)

    def check(self, params: JungfrauParams) -> None:
        if self._facts is not None:
            steps.check_hardware(params.det, self._facts.chip, self._facts.hardware)

    def prepare(self, setup: Setup) -> JungfrauParams:
        self.check(setup.params)
        with self._calling():
            facts = self._connect()
            det = setup.params.det
            steps.check_hardware(det, facts.chip, facts.hardware)
            expected = steps.network_as_set(self._site, setup.destinations)
            now = self._get("status", "too_hot", "chips_on", *steps.SLOW_ITEMS, *expected)
            self._refuse_unready(now)
            self._progress = None
            if any(now[name] != values for name, values in expected.items()):
                self._set_network(setup.destinations)
            self._power(det, now)
            if slow := steps.slow_steps(det, now):
                self._run(slow, "changes its settings", SLOW_S)
            self._run(steps.acquisition_steps(setup, facts.chip), "is being prepared")
            applied = self._applied(setup.params, facts)
            self._progress = Progress(
                images=setup.params.acq.nb_frames or ENDLESS,
                period_s=applied.acq.period_s,
                cells=det.additional_storage_cells + 1,
                is_virtual=facts.is_virtual,
                software=applied.acq.trigger_mode == "software",
            )
            return applied

    def start(self) -> None:
        with self._calling():
            progress = self._progress
            if self._facts is None or progress is None or progress.started_s is not None:
                raise CameraError("the JUNGFRAU is not prepared, or has been started; prepare it")
            # A virtual server that runs takes a second start, and sends twice.
            self._refuse_running(self._get("status")["status"])
            progress.started_s = self._heard_s = self._now_s()
            self._run([Step("do", "start")], "starts")

    def trigger(self) -> None:
        with self._calling():
            progress = self._progress
            if self._facts is None or progress is None or not progress.software:
                raise CameraError("the JUNGFRAU is not prepared for software triggers")
            if not progress.running:
                raise CameraError("there is nothing to trigger: start the JUNGFRAU first")
            if not self._facts.is_virtual:  # a virtual one never waits
                self._wait_for_waiting()
            self._run([Step("do", "trigger")], "takes a trigger")

    def stop(self) -> int | None:
        progress = self._progress
        is_started = progress is not None and progress.started_s is not None
        if not is_started and (self._facts is None or not self._detector.alive):
            return None
        with self._calling():
            self._connect()
            if not rests(self._get("status")["status"]):
                if progress is not None:
                    progress.stopping = True
                self._run([Step("do", "stop")], "is being stopped", SLOW_S)
            if progress is None:
                return None
            if progress.running:
                now = self._get("status", "exposed")
                progress.note(now["status"], now["exposed"], self._now_s())
            return progress.exposed if progress.is_exact or not is_started else None

    def nb_exposed(self) -> int:
        progress = self._look(_GLANCE_S)
        return progress.exposed if progress is not None else 0

    def _look(self, limit_s: float) -> Progress | None:
        """See how far it is, if nobody has looked just now."""
        progress = self._progress
        if progress is None or not progress.running:
            return progress
        if self._now_s() - self._looked_s >= _PROGRESS_KEPT_S:
            with self._glancing() as free:
                if free:
                    self._looked_s = self._now_s()
                    if (found := self._glance(("status", "exposed"), limit_s)) is not None:
                        progress.note(found["status"], found["exposed"], self._now_s())
                        self._heard_s = self._now_s()
        return progress

    def failure(self) -> Failure | None:
        progress = self._look(_TURN_S)
        if progress is None or progress.started_s is None or progress.stopping:
            return None
        if progress.broken:
            return Failure(f"the JUNGFRAU {progress.broken}", certain=progress.ended)
        if progress.ended or self._now_s() - self._heard_s < UNHEARD_S:
            return None
        if not self._detector.alive:
            return Failure("the process that runs slsdet has ended", certain=False)
        return Failure("the JUNGFRAU does not answer any more", certain=False)

    def close(self) -> None:
        """End what was started here, then let go; voltage and chips stay as they are."""
        if self._progress is not None and self._progress.running:
            try:
                self.stop()
            except CameraError as error:
                log.warning("The JUNGFRAU may still be exposing: %s", error)
        with self._lock:
            self._progress = None
            self._facts = None
            self._readings = {"detector_state": "not connected"}
            self._detector.close()

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """One call at a time, with its time limit."""
        if not self._lock.acquire(timeout=ANSWER_S):
            raise CameraError("the JUNGFRAU is busy with another command; try again")
        try:
            self._until_s = self._now_s() + ANSWER_S
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _glancing(self) -> Iterator[bool]:
        """Whether the detector may be asked something now."""
        if not self._lock.acquire(timeout=_TURN_S):
            yield False
            return
        try:
            yield self._facts is not None and self._detector.alive
        finally:
            self._lock.release()

    def _run(self, what: Sequence[Step], about: str, patience_s: float = 0.0) -> Results:
        """Carry out steps within the time limit of the call."""
        limit_s = max(0.05, self._until_s - self._now_s())
        try:
            return self._detector.run(what, about, limit_s=limit_s, patience_s=patience_s)
        except SlsError as error:
            if not error.from_detector:
                self._facts = None  # it may have been away: look at all anew
            raise CameraError(f"the JUNGFRAU {about} and refuses: {error}") from error
        finally:
            if not self._detector.alive:
                self._facts = None

    def _get(self, *names: str) -> dict[str, list[Any]]:
        found = self._run([Step("get", name) for name in names], "is being read")
        return dict(zip(names, found, strict=True))

    def _connect(self) -> _Facts:
        if self._facts is not None and self._detector.alive:
            return self._facts
        patience_s = CONNECT_S * self._site.modules
        (found,) = self._run([self._site.connect_step()], "is being connected", patience_s)
        client, servers, error = found["client"], found["servers"], found["error"]
        majors = {version.split(".")[0] for version in servers}
        if majors and majors != {client.split(".")[0]}:
            self._forget()
            hint = f'; pip install "slsdet=={majors.pop()}.*"' if len(majors) == 1 else ""
            raise CameraError(
                f"slsdet {client} does not go with the servers of the detector, version "
                f"{', '.join(sorted(set(servers)))}: they need the same major version{hint}",
                client=client,
                servers=", ".join(servers),
            )
        if error or len(servers) != self._site.modules:
            self._forget()
            raise CameraError(
                f"the JUNGFRAU at {', '.join(self._site.hosts)} cannot be connected: "
                f"{error or 'modules are missing'}"
            )
        values = self._get("is_virtual", "chip", "hardware", "serial")
        self._facts = _Facts(
            is_virtual=any(values["is_virtual"]),
            chip=max(values["chip"]),
            hardware=min(values["hardware"]),
            serial=", ".join(f"{number:#x}" for number in values["serial"]),
        )
        return self._facts

    def _forget(self) -> None:
        """Drop the modules: slsdet keeps those that it has refused."""
        self._run([Step("forget")], "is being forgotten")

    def _refuse_unready(self, now: Mapping[str, Sequence[Any]]) -> None:
        if hot := _modules(event for event in now["too_hot"]):
            raise CameraError(
                f"module {hot} was too hot and has switched its chips off; see to the cooling, "
                f"then reset the event: {self._by_hand('resetTemperatureEvent()')}"
            )
        self._refuse_running(now["status"])

    def _refuse_running(self, status: Sequence[str]) -> None:
        if not rests(status):
            raise CameraError(
                f"the JUNGFRAU is {state_of(status)}, and not for this control; stop it first: "
                f"{self._by_hand('stopDetector()')}"
            )

    def _by_hand(self, call: str) -> str:
        """What a person does in a shell; it is not for a program to decide."""
        return f"python -c 'from slsdet import Jungfrau; Jungfrau({self._site.detector_id}).{call}'"

    def _set_network(self, destinations: Sequence[Entry]) -> None:
        what = steps.network_steps(self._site, destinations)
        self._run(what, "sets its addresses", SLOW_S)

    def _power(self, det: JungfrauDetParams, now: Mapping[str, Sequence[Any]]) -> None:
        off = _modules(not on for on in now["chips_on"])
        if not off:
            return
        if not det.power_chips:
            raise CameraError(
                f"the chips of module {off} are off; set det.power_chips to have them switched on "
                "at Prepare, if cooling and power supply (4 A per module at once) are ready"
            )
        self._run([Step("set", "chips_on", True)], "switches its chips on", SLOW_S)

    def _applied(self, asked: JungfrauParams, facts: _Facts) -> JungfrauParams:
        found = self._get("exposure_s", "period_s", "next_number")
        for name, values in found.items():
            if len(set(values)) != 1:
                raise CameraError(f"the modules do not agree on {name}: {values}")
        expo_time = max(1, round(found["exposure_s"][0] * 1e6))
        acq = asked.acq.model_copy(
            update={
                "expo_time": expo_time,
                "latency_time": max(0, round(found["period_s"][0] * 1e6) - expo_time),
            }
        )
        cell = {"storage_cell_start": steps.start_cell(asked.det, facts.chip)}
        return asked.model_copy(update={"acq": acq, "det": asked.det.model_copy(update=cell)})

    def _wait_for_waiting(self) -> None:
        """A trigger during an exposure would be lost."""
        until_s = self._now_s() + ANSWER_S / 2
        while (status := state_of(self._get("status")["status"])) != "waiting":
            if status in ("idle", "stopped", "error") or self._now_s() > until_s:
                raise CameraError(
                    f"the JUNGFRAU is {status} and does not wait for a trigger, which would be lost"
                )
            self._never.wait(_POLL_S)

    def _read_readings(self) -> None:
        names = ("status", "too_hot", "temperature_fpga", "temperature_adc")
        found = self._glance(names, _GLANCE_S)
        if found is None:
            if not self._detector.alive:
                self._readings = {"detector_state": "no answer"}
            elif "temperature" not in self._readings:
                self._readings = {"detector_state": "busy"}
            return
        fpga, adc = max(found["temperature_fpga"]), max(found["temperature_adc"])
        self._readings = {
            "temperature": max(fpga, adc),
            "temperature_fpga": fpga,
            "temperature_adc": adc,
            "detector_state": state_of(found["status"]),
            "temp_event": any(found["too_hot"]),
        }

    def _glance(self, names: Sequence[str], limit_s: float) -> dict[str, list[Any]] | None:
        """Values, if they come soon; the detector is not given up before its time limit."""
        try:
            found = self._detector.run(
                [Step("get", name) for name in names],
                "is being read",
                limit_s=limit_s,
                patience_s=ANSWER_S,
            )
        except (SlsError, CameraError):
            return None
        return dict(zip(names, found, strict=True))


def _modules(flags: Iterator[Any]) -> str:
    """The numbers of the modules with a flag."""
    return ", ".join(str(number) for number, flag in enumerate(flags) if flag)
