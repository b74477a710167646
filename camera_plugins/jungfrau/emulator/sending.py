"""The emulated detector: modules, interfaces, destinations, and the time in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from camera_plugins.jungfrau.emulator.account import Account, LineAccount
from camera_plugins.jungfrau.emulator.images import ImageSource
from camera_plugins.jungfrau.emulator.line import Line
from camera_plugins.jungfrau.faults import Faults
from camera_plugins.jungfrau.wire import MODULE_ROWS, PortShape, port_place
from lima2_core.errors import ParamError

Address = tuple[str, int]

_TICKS_PER_S = 10_000_000
_SPIN_S = 300e-6


@dataclass(frozen=True, slots=True)
class EmulatorConfig:
    """What is sent where.

    Raises:
        ParamError: the numbers do not fit together; the path names one of them.
    """

    destinations: tuple[tuple[Address, ...], ...]
    """Entries of the round robin; each has an address for every port of every module, the ports
    of a module next to each other."""
    modules: int = 1
    interfaces: int = 1
    rows: int = MODULE_ROWS
    frames: int = 1
    first_frame: int = 1
    """Its number."""
    first_entry: int = 0
    """Destination of the first frame."""
    period_s: float = 0.0
    """0: as fast as it goes."""
    modules_per_column: int = 0
    """0: all."""
    exposure_s: float = 10e-6
    module_id: int = 1234
    """Of the first module; the others follow."""
    bunch_id: int = 0
    """Of the first frame; one more with each."""
    daq_info: int = 0
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        PortShape(self.interfaces, self.rows)
        if not self.destinations:
            raise ParamError("there must be one at least", path="destinations")
        for number, entry in enumerate(self.destinations):
            if len(entry) != self.modules * self.interfaces:
                raise ParamError(
                    f"{len(entry)} addresses for {self.modules} modules with "
                    f"{self.interfaces} interfaces",
                    path=f"destinations.{number}",
                )
        if self.frames < 1 or self.first_frame < 1:
            raise ParamError("frames and their numbers count from 1", path="first_frame")
        if not 0 <= self.first_entry < len(self.destinations):
            raise ParamError("there is no such destination", path="first_entry")


class Emulator:
    """Sends one acquisition.

    Threads: `run` on one, ``stop`` is asked on the same.
    """

    def __init__(self, config: EmulatorConfig, images: ImageSource) -> None:
        self._config = config
        self._images = images
        stride = len(config.destinations)
        per_column = config.modules_per_column or config.modules
        self._lines: list[list[Line]] = []
        """By destination, then by module and port."""
        for entry, addresses in enumerate(config.destinations):
            lines = []
            for number, address in enumerate(addresses):
                module, port = divmod(number, config.interfaces)
                shape = PortShape(config.interfaces, config.rows, port)
                row, column = port_place(module, port, config.interfaces, per_column)
                fields = {
                    "row": row,
                    "column": column,
                    "module_id": config.module_id + module,
                    "exp_length_100ns": round(config.exposure_s * _TICKS_PER_S),
                    "daq_info": config.daq_info,
                }
                account = LineAccount(module, port, entry, shape.packets)
                lines.append(Line(shape, address, account, stride, fields))
            self._lines.append(lines)
        self.account = Account([line.account for lines in self._lines for line in lines])

    def run(self, stop: Callable[[], bool] = lambda: False) -> Account:
        """Send all frames; ``stop`` is asked before each one. Closes the sockets."""
        config = self._config
        start_s = time.perf_counter()
        try:
            for index in range(config.frames):
                if stop():
                    break
                self._wait_until(start_s + index * config.period_s)
                self._send(index)
                self.account.frames += 1
            for lines in self._lines:
                for line in lines:
                    line.flush()
        finally:
            self.close()
        self.account.seconds = time.perf_counter() - start_s
        return self.account

    def close(self) -> None:
        """Close the sockets; harmless at any time."""
        for lines in self._lines:
            for line in lines:
                line.close()

    def _send(self, index: int) -> None:
        config = self._config
        lines = self._lines[(config.first_entry + index) % len(self._lines)]
        fields = {
            "bunch_id": config.bunch_id + index,
            "timestamp_100ns": round(index * config.period_s * _TICKS_PER_S),
        }
        for number, line in enumerate(lines):
            module, port = divmod(number, config.interfaces)
            shape = PortShape(config.interfaces, config.rows, port)
            image = shape.part_of(self._images(index, module))
            faults = config.faults.of_frame(module, port, index, shape.packets)
            line.send(config.first_frame + index, image, faults, fields)

    def _wait_until(self, then_s: float) -> None:
        """Sleep, and spin for the last bit."""
        if not self._config.period_s:
            return
        left_s = then_s - time.perf_counter()
        if left_s < 0:
            self.account.behind += 1
        if left_s > _SPIN_S:
            time.sleep(left_s - _SPIN_S)
        while time.perf_counter() < then_s:
            pass
