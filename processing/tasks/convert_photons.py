"""Raw words of JUNGFRAU modules to photons, in an image or a stack."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.geometry import Affine, Placement
from lima2_core.data.memory import PoolSet
from lima2_core.errors import ParamError, PluginError
from lima2_core.flow.task import Transform
from processing.jungfrau.calibration import Calibration, load_calibration
from processing.jungfrau.conditions import Conditions, remarks
from processing.jungfrau.layout import Layout, load_layout
from processing.jungfrau.module_ids import ModuleIdCheck
from processing.jungfrau.params import PhotonsParams
from processing.kernels.jungfrau import NumpyPhotons, PhotonKernel
from processing.kernels.marks import Marks
from processing.kernels.photon_maps import PhotonMaps, photon_maps
from processing.kernels.placing import MODULE_COLS, MODULE_ROWS, Placing, double_size, stacked
from processing.tasks.buffers import OutputBuffers

log = logging.getLogger(__name__)

_MANY_MASKED = 0.05
"""Share of pixels from which on it is worth a word."""


class ConvertPhotons(Transform):
    """Give the photons of each pixel: ``(ADC - pedestal) / gain`` of its gain stage.

    Marks: the largest value of the type (infinity) is a saturated pixel or more photons than
    fit; the smallest (NaN) is a pixel without value: masked, missing, or between modules and
    chips. With ``no_value`` zero the latter read 0.

    Shapes: (bands, rows, 1024) uint16, modules of 512 rows or of those around the centre, one
    after the other -> (1, rows, cols) of the layout, or as they came.

    Threads: `process` from any number at a time, `follow` from one.

    Args:
        where: path of ``params`` in the tree of parameters.
        part: which of how many equal parts of the detector the frames hold. With a layout, which
            is that of the whole detector, the result is the rectangle around their modules.
        origin: first row and column of the frames in those of the whole detector.
        taken: how the frames are taken.
    """

    name = "convert_photons"

    def __init__(
        self,
        params: PhotonsParams,
        pools: PoolSet,
        buffers: int,
        where: str = "photons",
        part: tuple[int, int] = (0, 1),
        origin: tuple[int, int] = (0, 0),
        taken: Conditions | None = None,
    ) -> None:
        self._taken = taken or Conditions()
        if not params.module_rows:
            params = params.model_copy(update={"module_rows": MODULE_ROWS})
        self._params = params
        self._pools = pools
        self._wanted = buffers
        self._where = where
        self._part = part
        self._origin = origin
        self._layout: Layout | None = None
        self.placement: Placement | None = None
        """Where the result lies in the image of the whole detector; None without a layout."""

    def resolve(self, spec: FrameSpec) -> FrameSpec:
        params = self._params
        name, where = params.calibration_path, self._at("calibration_path")
        calibration = load_calibration(name, where)
        self._unlike = remarks(calibration.conditions, self._taken, name, where)
        chosen = self._chosen(calibration)
        self.module_ids = tuple(calibration.module_ids[n] for n in chosen)
        """Of the modules in the frames, in their order."""
        self._ids = ModuleIdCheck(self.module_ids, calibration.module_ids)
        self._check(spec, len(chosen))
        rows = params.module_rows
        placing = self._place(spec, len(chosen), rows)
        marks = Marks.of(params.output, zero=params.no_value == "zero")
        self.maps = self._maps(calibration, chosen, rows, marks)
        """Those of the calibration, as they are used."""
        self.kernel, self.device = self._choose(self.maps, placing)
        """What converts, and where: name and driver of the device, or numpy."""
        log.info("photons are computed by %s", self.device)
        self.told: dict[str, object] = {
            "calibration_path": params.calibration_path,
            "calibration_date": calibration.date,
            "module_ids": list(self.module_ids),
            "energy_kev": params.energy_kev or calibration.gain_energy_kev,
            "gain_units": calibration.gain_units,
            "gain_energy_kev": calibration.gain_energy_kev,
            "device": self.device,
            "maps_16bit": params.maps_16bit,
            "double_pixels": params.double_pixels,
            "layout_path": params.layout_path,
            **({} if self._layout is None else {"modules": self._layout.told()}),
        }
        """How photons are made, for the files."""
        hidden = placing.put(self.maps.hidden(), True)
        self.mask: NDArray[np.bool_] = hidden if len(hidden) > 1 else hidden[0]
        """Pixels of the result that never have a value: (rows, cols), or with bands."""
        self.pedestal_g0, self.rms_g0 = (
            _flat(maps, chosen, rows)[0]
            for maps in (calibration.pedestal, calibration.pedestal_rms)
        )
        """Of the pixels of the frames, to begin to follow with."""
        self.marks = marks
        """What stands where nothing was measured."""
        place = self.placement
        step = None
        if place is not None:
            # From the part that came to the whole detector, and from there to the part made here.
            step = Affine.crop(place.row - self._origin[0], place.col - self._origin[1])
        out = spec.changed(shape=placing.shape, dtype=marks.dtype, unit="photons", step=step)
        self.buffers = OutputBuffers(out, self._pools, self._wanted, "photons")
        return out

    @property
    def remarks(self) -> tuple[str, ...]:
        """What users should know before the start; once it is resolved."""
        told = [f"photons are computed by {self.device}", *self._unlike]
        masked = float(self.maps.hidden().mean())
        if masked > _MANY_MASKED:
            told.append(
                f"{100 * masked:.0f} % of the pixels are masked by {self._params.calibration_path}"
            )
        return tuple(told)

    def process(self, frame: Frame) -> Frame:
        self._ids.look(frame)
        lease, out = self.buffers.take()
        self.kernel.apply(np.ascontiguousarray(frame.data), out)
        return replace(frame, data=out, lease=lease, keepable=True)

    def follow(self, pedestal_g0: NDArray[np.float32]) -> None:
        """Take another G0 pedestal for the frames to come.

        Shapes: as ``pedestal_g0``, (pixels,).

        Threads: one at a time, while others convert.
        """
        self.maps = self.maps.following(pedestal_g0)
        self.kernel.follow(self.maps)

    def _at(self, name: str) -> str:
        return f"{self._where}.{name}"

    def _chosen(self, calibration: Calibration) -> list[int]:
        """Which modules of the calibration the frames hold, in their order."""
        params = self._params
        ids = params.modules or calibration.module_ids
        number, parts = self._part
        if len(ids) % parts:
            raise ParamError(
                f"{len(ids)} modules cannot be dealt out to {parts} receivers; name those of the "
                "detector",
                path=self._at("modules"),
            )
        if len(set(ids)) != len(ids):
            raise ParamError("a module is named twice", path=self._at("modules"))
        each = len(ids) // parts
        own = tuple(ids[number * each : (number + 1) * each])
        return calibration.positions(own, self._at("modules" if params.modules else ""))

    def _check(self, spec: FrameSpec, modules: int) -> None:
        """See that frames of ``spec`` hold so many modules."""
        rows = self._params.module_rows
        if spec.dtype != np.uint16:
            raise ParamError(
                f"frames of {spec.dtype} are no raw words of a JUNGFRAU, which are uint16",
                path=self._at("enabled"),
            )
        if spec.shape[-1] != MODULE_COLS or spec.shape[0] * spec.shape[1] != rows * modules:
            raise ParamError(
                f"frames of {spec.shape} (bands, rows, cols) do not hold {modules} modules of "
                f"{rows} x {MODULE_COLS}, for which there is a calibration; see also modules and "
                "module_rows",
                path=self._at("modules" if self._params.modules else "calibration_path"),
            )

    def _place(self, spec: FrameSpec, modules: int, rows: int) -> Placing:
        params = self._params
        split = params.double_pixels == "split"
        where = self._at("layout_path")
        if not params.layout_path:
            if split:
                raise ParamError(
                    "double-size pixels can only be split in an image with gaps; give a layout",
                    path=where,
                )
            return stacked(spec.shape, rows)
        number, parts = self._part
        layout = self._layout = load_layout(params.layout_path, where)
        if len(layout) != modules * parts:
            raise ParamError(
                f"it has {len(layout)} modules, whole frames have {modules * parts}; describe "
                "these",
                path=where,
            )
        if split and layout.params.chip_gap != 2:
            raise ParamError(
                f"pixels of double size cover 2 gap pixels, the layout has a chip_gap of "
                f"{layout.params.chip_gap}",
                path=self._at("double_pixels"),
            )
        if parts == 1:
            self.placement = Placement(0, 0, *layout.shape)
            return layout.placing(rows, split=split)
        box = layout.parts(parts, where)[number]
        self.placement = Placement(box.row, box.col, *layout.shape)
        own = range(number * modules, (number + 1) * modules)
        return layout.placing(rows, split=split, modules=own)

    def _maps(
        self, calibration: Calibration, chosen: list[int], rows: int, marks: Marks
    ) -> PhotonMaps:
        params = self._params
        gain = calibration.gain_for(params.energy_kev, self._at("energy_kev"))
        hidden = _flat(calibration.hidden(), chosen, rows)
        if params.double_pixels == "mask":
            hidden = hidden | np.tile(double_size(rows).reshape(-1), len(chosen))
        return photon_maps(
            _flat(calibration.pedestal, chosen, rows),
            _flat(gain, chosen, rows),
            hidden,
            marks,
            narrow=params.maps_16bit,
        )

    def _choose(self, maps: PhotonMaps, placing: Placing) -> tuple[PhotonKernel, str]:
        wanted = self._params.device
        if wanted != "numpy":
            # Late: OpenCL takes a while to load, and not every computer has it.
            from processing.kernels.opencl.devices import Kind, search
            from processing.kernels.opencl.photons import DevicePhotons

            found = search()
            kinds: tuple[Kind, ...] = ("gpu", "cpu") if wanted == "auto" else (wanted,)
            for kind in kinds:
                device = found.best(kind)
                if device is None:
                    if wanted != "auto":
                        raise ParamError(found.reason(kind), path=self._at("device"))
                    continue
                try:
                    kernel = DevicePhotons(device, maps, placing)
                except PluginError as error:
                    if wanted != "auto":
                        raise ParamError(error.message, path=self._at("device")) from error
                    log.warning("%s; the next one is tried", error.message)
                    continue
                return kernel, f"{device.name} ({device.driver})"
            log.info("%s; numpy serves", found.reason())
        return NumpyPhotons(maps, placing), "numpy"


def _flat(maps: NDArray[Any], chosen: list[int], rows: int) -> NDArray[Any]:
    """Maps of the chosen modules and of their central rows.

    Shapes: (modules, 3, 512, 1024) -> (3, pixels).
    """
    first = (MODULE_ROWS - rows) // 2
    cut = maps[chosen, :, first : first + rows]
    return np.ascontiguousarray(cut.swapaxes(0, 1)).reshape(maps.shape[1], -1)
