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
_NAP_S = 0.1
"""A stop is looked for so often while the next frame is far away."""


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
    keep_masks: bool = True
    """Whether the account has the mask of every frame, not only of incomplete ones."""

    def __post_init__(self) -> None:
        PortShape(self.interfaces, self.rows)
        for name, least in (("modules", 1), ("modules_per_column", 0), ("period_s", 0)):
            if not getattr(self, name) >= least:
                raise ParamError(f"{getattr(self, name)} is less than {least}", path=name)
        if not self.destinations:
            raise ParamError("there must be one at least", path="destinations")
        for number, entry in enumerate(self.destinations):
            if len(entry) != self.modules * self.interfaces:
                raise ParamError(
                    f"addresses: {len(entry)}, needed: {self.modules * self.interfaces}, one for "
                    "each interface of each module",
                    path=f"destinations.{number}",
                )
        if self.frames < 1:
            raise ParamError("there must be one frame at least", path="frames")
        if self.first_frame < 1:
            raise ParamError("the numbers of frames count from 1", path="first_frame")
        if not 0 <= self.first_entry < len(self.destinations):
            raise ParamError("there is no such destination", path="first_entry")


class Emulator:
    """Sends one acquisition.

    Args:
        tell: told how many frames are exposed, before the last of them is sent.

    Threads: everything on one, where ``stop`` is asked, too.
    """

    def __init__(
        self,
        config: EmulatorConfig,
        images: ImageSource,
        tell: Callable[[int], None] = lambda exposed: None,
    ) -> None:
        self._tell = tell
        self._stop: Callable[[], bool] = lambda: False
        self._config = config
        self._images = images
        self._lines: list[list[Line]] = []
        """By destination, then by module and port."""
        try:
            for entry, addresses in enumerate(config.destinations):
                self._lines.append([])
                for number, address in enumerate(addresses):
                    self._lines[-1].append(self._line(entry, number, address))
        except OSError:
            self.close()
            raise
        self.account = Account([line.account for lines in self._lines for line in lines])
        self._start_s = 0.0
        # Without a period frames have no duration either.
        self._exposure_s = config.exposure_s if config.period_s else 0.0

    def _line(self, entry: int, number: int, address: Address) -> Line:
        """The way of one port to one destination."""
        config = self._config
        module, port = divmod(number, config.interfaces)
        shape = PortShape(config.interfaces, config.rows, port)
        per_column = config.modules_per_column or config.modules
        row, column = port_place(module, port, config.interfaces, per_column)
        fields = {
            "row": row,
            "column": column,
            "module_id": config.module_id + module,
            "exp_length_100ns": round(config.exposure_s * _TICKS_PER_S),
            "daq_info": config.daq_info,
        }
        account = LineAccount(module, port, entry, shape.packets)
        stride = len(config.destinations)
        return Line(
            shape,
            address,
            account,
            stride,
            fields,
            keep_masks=config.keep_masks,
            pause=self._pause,
        )

    def run(self, stop: Callable[[], bool] = lambda: False) -> Account:
        """Send all frames; ``stop`` is asked before each one. Closes the sockets."""
        try:
            self.burst(self._config.frames, stop)
            return self.finish()
        finally:
            self.close()

    def burst(self, frames: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Expose and send so many frames, the first one at once.

        ``stop`` is asked before each, and again and again while a long exposure or pause lasts.
        """
        self._stop = stop
        now_s = time.perf_counter()
        self._start_s = self._start_s or now_s
        begun_s = now_s - self._start_s
        for number in range(frames):
            if stop():
                break
            exposed_s = begun_s + number * self._config.period_s
            if not self._wait_until(self._start_s + exposed_s + self._exposure_s, stop):
                break
            index = self.account.frames
            self._tell(index + 1)
            self._send(index, exposed_s)
            self.account.frames = index + 1

    def finish(self) -> Account:
        """Send the delayed packets that are left; what was done."""
        for lines in self._lines:
            for line in lines:
                line.flush()
        self.account.seconds = time.perf_counter() - self._start_s
        return self.account

    def close(self) -> None:
        """Close the sockets; harmless at any time."""
        for lines in self._lines:
            for line in lines:
                line.close()

    def _send(self, index: int, exposed_s: float) -> None:
        config = self._config
        lines = self._lines[(config.first_entry + index) % len(self._lines)]
        fields = {
            "bunch_id": config.bunch_id + index,
            "timestamp_100ns": round(exposed_s * _TICKS_PER_S) if config.period_s else 0,
        }
        for number, line in enumerate(lines):
            module, port = divmod(number, config.interfaces)
            shape = PortShape(config.interfaces, config.rows, port)
            image = shape.part_of(self._images(index, module))
            faults = config.faults.of_frame(module, port, index, shape.packets)
            line.send(config.first_frame + index, image, faults, fields)

    def _pause(self, duration_s: float) -> None:
        """Send nothing for a while; after a stop the rest of the frame comes at once."""
        until_s = time.perf_counter() + duration_s
        while (left_s := until_s - time.perf_counter()) > _NAP_S:
            if self._stop():
                return
            time.sleep(_NAP_S / 2)
        time.sleep(max(0.0, left_s))

    def _wait_until(self, then_s: float, stop: Callable[[], bool]) -> bool:
        """Sleep, and spin for the last bit; False if a stop came first."""
        if not self._config.period_s:
            return True
        left_s = then_s - time.perf_counter()
        if left_s < 0:
            self.account.behind += 1
        while left_s > _NAP_S:
            time.sleep(_NAP_S / 2)
            if stop():
                return False
            left_s = then_s - time.perf_counter()
        if left_s > _SPIN_S:
            time.sleep(left_s - _SPIN_S)
        while time.perf_counter() < then_s:
            pass
        return True
