"""The library slsdet, in a process of its own: what it can be asked, and its far side.

A call of slsdet has no time limit, and while it waits for a detector no other thread of its
process runs. So it lives in a process that can be left waiting, or ended; `slsdet_link` is the
near side. A request is a JSON list of steps, carried out in order; the answer is a list of
results, or what went wrong with the first step that failed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from lima2_core.errors import CameraError

Value = bool | int | float | str
Verb = Literal["connect", "forget", "get", "set", "do", "text", "note"]

MESSAGE_BYTES: Final = 2**17
INSTALL: Final = 'pip install "lima2-suite[jungfrau]"'


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: a name, and what it needs.

    ``connect`` makes the modules ``value`` describes known; ``forget`` drops what slsdet keeps
    of them; ``get`` and ``set`` are about `ITEMS`, ``do`` about `ACTIONS`; ``text`` is a command
    as slsdet's command line has it; ``note`` keeps a text until the process ends, and ``get`` of
    ``note`` gives it back.
    """

    verb: Verb
    name: str = ""
    value: Any = None
    modules: tuple[int, ...] = ()
    """Which; all of them if empty."""


Results = list[Any]
"""Of each step: the values of all modules for ``get``, a mapping for ``connect``, else None."""


class SlsError(Exception):
    """What slsdet raised."""

    @property
    def from_detector(self) -> bool:
        """Whether the detector refused; else it may not be there."""
        return "Detector returned" in str(self)


class Detector(Protocol):
    """What carries out steps."""

    @property
    def alive(self) -> bool:
        """Whether what was connected or noted before still holds."""
        ...

    def run(
        self, steps: Sequence[Step], about: str, *, limit_s: float, patience_s: float = 0.0
    ) -> Results:
        """Carry out steps in order.

        Args:
            steps: what to do.
            about: what is being done, for messages: "is being connected".
            limit_s: how long to wait for the answer.
            patience_s: how long it may take. Without it what is late is given up, and the
                process with it; within it what is late goes on, and is waited for by the next
                call. One that only gets the same again takes that answer for its own.

        Raises:
            SlsError: slsdet refused a step; none of those behind it was done.
            CameraError: there was no answer in time.
        """
        ...

    def close(self) -> None: ...


def require() -> None:
    """Find slsdet, without importing it.

    Raises:
        CameraError: it is not installed.
    """
    if importlib.util.find_spec("slsdet") is None:
        raise CameraError(f"the library slsdet that drives a JUNGFRAU is missing; {INSTALL}")


@dataclass(frozen=True, slots=True)
class _Item:
    """How slsdet calls a value: ``get<name>`` and ``set<name>``."""

    name: str
    kind: str = ""
    """Its class in slsdet, if it is no plain value."""
    index: str = ""
    """Which dacIndex, if it needs one."""
    sets_all: bool = False
    """It can only be set for all modules at once."""


ITEMS: Final[Mapping[str, _Item]] = {
    "status": _Item("DetectorStatus"),
    "is_virtual": _Item("_VirtualDetectorServer"),
    "serial": _Item("SerialNumber"),
    "firmware": _Item("FirmwareVersion"),
    "chip": _Item("ChipVersion"),
    "hardware": _Item("HardwareVersion"),
    "row": _Item("Row"),
    "column": _Item("Column"),
    "interfaces": _Item("NumberofUDPInterfaces"),
    "destinations": _Item("NumberofUDPDestinations"),
    "first_destination": _Item("FirstUDPDestination"),
    "source_ip": _Item("SourceUDPIP", "IpAddr"),
    "source_ip2": _Item("SourceUDPIP2", "IpAddr"),
    "source_mac": _Item("SourceUDPMAC", "MacAddr"),
    "source_mac2": _Item("SourceUDPMAC2", "MacAddr"),
    "destination_ip": _Item("DestinationUDPIP", "IpAddr"),
    "destination_ip2": _Item("DestinationUDPIP2", "IpAddr"),
    "destination_mac": _Item("DestinationUDPMAC", "MacAddr"),
    "destination_mac2": _Item("DestinationUDPMAC2", "MacAddr"),
    "destination_port": _Item("DestinationUDPPort"),
    "destination_port2": _Item("DestinationUDPPort2"),
    "chips_on": _Item("PowerChip"),
    "high_voltage": _Item("HighVoltage"),
    "too_hot": _Item("TemperatureEvent"),
    "temperature_fpga": _Item("Temperature", index="TEMPERATURE_FPGA"),
    "temperature_adc": _Item("Temperature", index="TEMPERATURE_ADC"),
    "settings": _Item("Settings", "detectorSettings"),
    "gain_mode": _Item("GainMode", "gainMode"),
    "readout_speed": _Item("ReadoutSpeed", "speedLevel"),
    "rows": _Item("ReadNRows"),
    "flip_rows": _Item("FlipRows"),
    "pedestal_mode": _Item("PedestalMode", "pedestalParameters"),
    "storage_cells": _Item("NumberOfAdditionalStorageCells", sets_all=True),
    "storage_cell_start": _Item("StorageCellStart"),
    "timing": _Item("TimingMode", "timingMode"),
    "frames": _Item("NumberOfFrames", sets_all=True),
    "triggers": _Item("NumberOfTriggers", sets_all=True),
    "exposure_s": _Item("Exptime", "DurationWrapper"),
    "period_s": _Item("Period", "DurationWrapper"),
    "delay_s": _Item("DelayAfterTrigger", "DurationWrapper"),
    "next_number": _Item("NextFrameNumber"),
    "exposed": _Item("NumberOfFramesFromStart"),
}

ACTIONS: Final[Mapping[str, str]] = {
    "clear_destinations": "clearUDPDestinations",
    "validate_network": "validateUDPConfiguration",
    "start": "startDetector",
    "stop": "stopDetector",
    "trigger": "sendSoftwareTrigger",
}


class _Library:
    """The far side: slsdet itself."""

    def __init__(self) -> None:
        import slsdet
        from slsdet import _slsdet

        self._sls: Any = slsdet
        self._forget: Any = _slsdet.freeSharedMemory
        self._detector: Any = None
        self._id = 0
        self._note = ""

    def step(self, step: Step) -> Any:
        match step.verb:
            case "connect":
                return self._connect(**step.value)
            case "forget":
                self._detector = None
                self._forget(self._id)
            case "get":
                return [self._note] if step.name == "note" else self._get(ITEMS[step.name])
            case "set":
                self._set(ITEMS[step.name], step.value, step.modules)
            case "do":
                getattr(self._detector, ACTIONS[step.name])()
            case "text":
                self._detector.loadParameters([step.value])
            case "note":
                self._note = step.value
        return None

    def _connect(
        self,
        detector_id: int,
        hosts: list[str],
        ports: list[int],
        size: tuple[int, int],
        places: list[tuple[int, int]],
    ) -> dict[str, Any]:
        """Find the modules in shared memory, as they should be, or make them known there.

        The latter takes a second or two for each module that has been configured before.
        ``places`` are rows and columns of the modules with one interface.
        """
        self._id = detector_id
        self._note = ""
        error = ""
        if not self._is_known(hosts, ports, size, places):
            self._forget(detector_id)
            self._detector = self._sls.Jungfrau(detector_id)
            self._detector.setDetectorSize(self._size(size))
            try:
                self._detector.setHostname(
                    [f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)]
                )
            except RuntimeError as refusal:
                error = str(refusal).strip()
        servers: list[str] = []
        if self._detector.size():
            try:
                servers = list(self._detector.getDetectorServerVersion())
            except RuntimeError as refusal:
                error = error or str(refusal).strip()
        client = str(self._sls.__version__)
        return {"client": client, "servers": servers, "error": error}

    def _is_known(
        self,
        hosts: list[str],
        ports: list[int],
        size: tuple[int, int],
        places: list[tuple[int, int]],
    ) -> bool:
        try:
            self._detector = self._sls.Jungfrau(self._id)
            known = self._detector.size() == len(hosts) and (
                list(self._detector.getHostname()),
                list(self._detector.getControlPort()),
            ) == (hosts, ports)
            if not known:
                return False
            there = self._detector.getDetectorSize()
            interfaces = self._detector.getNumberofUDPInterfaces()
            rows = [row * count for (row, _), count in zip(places, interfaces, strict=True)]
            return (
                (there.x, there.y) == tuple(size)
                and list(self._detector.getRow()) == rows
                and list(self._detector.getColumn()) == [column for _, column in places]
            )
        except RuntimeError:  # of another version, or the detector has been away
            return False

    def _size(self, size: tuple[int, int]) -> Any:
        found = self._sls.xy()
        found.x, found.y = size
        return found

    def _get(self, item: _Item) -> list[Any]:
        name = f"is{item.name[1:]}" if item.name.startswith("_") else f"get{item.name}"
        index = (getattr(self._sls.dacIndex, item.index),) if item.index else ()
        return [_plain(value) for value in getattr(self._detector, name)(*index)]

    def _set(self, item: _Item, value: Value, modules: Sequence[int]) -> None:
        call = getattr(self._detector, f"set{item.name}")
        if item.sets_all:
            call(value)
        elif item.name.startswith("DestinationUDPPort"):
            for module in modules:
                call(value, module)  # for -1 it would count up
        else:
            call(self._native(item.kind, value), list(modules))

    def _native(self, kind: str, value: Value) -> Any:
        match kind:
            case "":
                return value
            case "IpAddr" | "MacAddr" | "DurationWrapper":
                return getattr(self._sls, kind)(value)
            case "pedestalParameters":
                found = self._sls.pedestalParameters()
                found.enable = int(value)
                return found
        return getattr(getattr(self._sls, kind), str(value))


def _plain(value: Any) -> Value:
    """A value of slsdet as one that can cross processes."""
    if isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "enable"):
        return bool(value.enable)
    if hasattr(value, "total_seconds"):
        return float(value.total_seconds())
    return str(getattr(value, "name", value))


def serve(control: socket.socket, open_library: Callable[[], Any] = _Library) -> None:
    """Carry out requests until the other side hangs up."""
    try:
        library = open_library()
    except (ImportError, OSError, RuntimeError) as error:
        _answer(control, {"fatal": f"slsdet cannot be loaded: {error}; {INSTALL}"})
        return
    while message := control.recv(MESSAGE_BYTES):
        results: Results = []
        try:
            for fields in json.loads(message):
                results.append(library.step(Step(**fields)))
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            _answer(control, {"error": str(error).strip()})
        else:
            _answer(control, {"results": results})


def _answer(control: socket.socket, answer: Mapping[str, Any]) -> None:
    try:
        control.send(json.dumps(answer).encode())
    except BrokenPipeError:  # nobody waits for it any more
        return


def main() -> None:
    """The far side, as a program: the number of its socket is its argument."""
    # slsdet writes what it does to the standard output, a line for every refusal.
    with open(os.devnull, "w", encoding="ascii") as nothing:
        os.dup2(nothing.fileno(), 1)
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
