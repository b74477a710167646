"""The conversion of raw words to photons on a device."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import PluginError
from processing.kernels.marks import Marks
from processing.kernels.opencl.devices import Device, load_opencl
from processing.kernels.opencl.programs import program
from processing.kernels.photon_maps import PhotonMaps, photon_maps
from processing.kernels.placing import MODULE_COLS, MODULE_ROWS, ModulePlace, Placing

_GROUP = 8
"""Rows of a work group on a CPU; raw rows come in multiples of it."""
_ITEMS = 64
"""Work items of the small kernels on a CPU."""
_OUT = {"float32": "OUT_FLOAT", "int16": "OUT_INT16", "int32": "OUT_INT32"}


def preload(device: Device) -> None:
    """Build what most runs need, in the driver's cache on disk as well.

    A program depends on the type of the result, the width of the maps and the gaps between chips,
    not on the size of the detector.

    Raises:
        PluginError: the device cannot build it.
    """
    marks = Marks.of("int16")
    count = MODULE_ROWS * MODULE_COLS
    nothing = np.zeros((3, count), np.float32)
    for gap, narrow in product((0, 2), (False, True)):
        cols = MODULE_COLS + 3 * gap
        shape = (1, MODULE_ROWS + gap, cols)
        placing = Placing(shape, [ModulePlace(0, cols, 1)], gap=gap)
        maps = photon_maps(nothing, nothing + 1, nothing > 0, marks, narrow=narrow)
        DevicePhotons(device, maps, placing)


@dataclass(slots=True)
class _Lane:
    """What one thread works with: OpenCL keeps the arguments of a call in the kernel."""

    queue: Any
    convert: Any
    fill: Any
    share: Any
    raw: Any = None
    out: Any = None
    """Buffers on a device with memory of its own."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    offset: Any
    factor: Any
    scale: NDArray[np.float32]


class DevicePhotons:
    """Frames go to the device and come back as images; on a CPU they stay where they are.

    Args:
        device: one of `devices.search`.
        by_pixel: take the kernel with an item per pixel; None chooses by the device.

    Raises:
        PluginError: the device cannot build the kernels, or has no memory for the maps.

    Threads: see `PhotonKernel`; each thread has a queue of its own.
    """

    def __init__(
        self, device: Device, maps: PhotonMaps, placing: Placing, *, by_pixel: bool | None = None
    ) -> None:
        self._cl = load_opencl()
        self._device = device
        self._by_pixel = device.kind == "gpu" if by_pixel is None else by_pixel
        self._pixels, self._rows = placing.pixels, placing.pixels // MODULE_COLS
        self._shape, self._dtype = placing.shape, maps.marks.dtype
        options = [
            f"-D{_OUT[str(self._dtype)]}",
            f"-DROWS={placing.rows}",
            f"-DFIRST_ROW={placing.first_row}",
            f"-DGAP={placing.gap}",
        ]
        if maps.narrow:
            options.append("-DMAPS_16")
        self._program = program(device, "photons.cl", tuple(options))
        places = [(place.first, place.row_step, place.col_step) for place in placing.modules]
        runs = placing.empty_runs if self._by_pixel else placing.runs_between_rows()
        self._counts = len(runs), len(placing.shares)
        self._no_value = self._dtype.type(maps.marks.no_value)
        self._saturated = self._dtype.type(maps.marks.saturated)
        self._lanes = threading.local()
        try:
            self._places = self._constant(np.array(places, np.int32))
            self._runs = self._constant(runs)
            self._shares = self._constant(placing.shares)
            self._maps = self._load(maps)
            # Drivers finish compiling with the first call, and some fail only there.
            blank = np.zeros(placing.pixels, np.uint16)
            self.apply(blank, np.empty(self._shape, self._dtype))
        except self._cl.Error as error:
            raise PluginError(
                f"{device.name} does not take the maps of {placing.pixels} pixels: {error}",
                name=device.name,
            ) from error

    def follow(self, maps: PhotonMaps) -> None:
        """Take other offsets for the frames to come; factors stay."""
        offset = self._constant(maps.offset)
        self._maps = _Loaded(offset, self._maps.factor, self._maps.scale)

    def apply(self, raw: NDArray[np.uint16], out: NDArray[Any]) -> None:
        cl, lane, maps = self._cl, self._lane(), self._maps
        queue, flags = lane.queue, cl.mem_flags
        if self._device.shares_memory:
            source = cl.Buffer(
                self._device.context, flags.READ_ONLY | flags.USE_HOST_PTR, hostbuf=raw
            )
            target = cl.Buffer(
                self._device.context, flags.WRITE_ONLY | flags.USE_HOST_PTR, hostbuf=out
            )
        else:
            source, target = lane.raw, lane.out
            cl.enqueue_copy(queue, source, raw, is_blocking=False)
        items, group = ((self._pixels,), None) if self._by_pixel else ((self._rows,), (_GROUP,))
        lane.convert(
            queue,
            items,
            group,
            source,
            maps.offset,
            maps.factor,
            target,
            self._places,
            np.int32(self._pixels),
            maps.scale,
            self._no_value,
            self._saturated,
        )
        runs, shares = self._counts
        if runs:
            lane.fill(
                queue, *self._spread(runs), target, self._runs, np.int32(runs), self._no_value
            )
        if shares:
            lane.share(
                queue,
                *self._spread(shares),
                target,
                self._shares,
                np.int32(shares),
                self._no_value,
                self._saturated,
            )
        if self._device.shares_memory:
            # Mapping makes the result visible to the host; on a CPU there is nothing to move.
            mapped, _ = cl.enqueue_map_buffer(
                queue, target, cl.map_flags.READ, 0, (out.nbytes,), np.uint8, is_blocking=True
            )
            mapped.base.release(queue)
            queue.finish()
        else:
            cl.enqueue_copy(queue, out, target, is_blocking=True)

    def _spread(self, count: int) -> tuple[tuple[int], tuple[int] | None]:
        """Work items, and those of a group, of the small kernels.

        Groups of one item on a CPU: each may go to another core, and all counts share a program.
        """
        return ((count,), None) if self._device.kind == "gpu" else ((min(count, _ITEMS),), (1,))

    def _constant(self, values: NDArray[Any]) -> Any:
        """A copy of ``values`` on the device; None if there are none."""
        if not values.size:
            return None
        flags = self._cl.mem_flags
        return self._cl.Buffer(
            self._device.context,
            flags.READ_ONLY | flags.COPY_HOST_PTR,
            hostbuf=np.ascontiguousarray(values),
        )

    def _load(self, maps: PhotonMaps) -> _Loaded:
        scale = np.append(maps.scale, np.float32(0)).astype(np.float32)
        return _Loaded(self._constant(maps.offset), self._constant(maps.factor), scale)

    def _lane(self) -> _Lane:
        lane: _Lane | None = getattr(self._lanes, "lane", None)
        if lane is None:
            cl, context = self._cl, self._device.context
            convert = "convert_pixels" if self._by_pixel else "convert_rows"
            lane = _Lane(
                cl.CommandQueue(context),
                *(cl.Kernel(self._program, name) for name in (convert, "fill_empty", "share")),
            )
            if not self._device.shares_memory:
                flags = cl.mem_flags
                nbytes = int(np.prod(self._shape)) * self._dtype.itemsize
                lane.raw = cl.Buffer(context, flags.READ_ONLY, self._pixels * 2)
                lane.out = cl.Buffer(context, flags.READ_WRITE, nbytes)
            self._lanes.lane = lane
        return lane
