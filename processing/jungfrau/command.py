"""``lima2 pedestal``: a calibration file from saved dark frames."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.errors import NotAvailableError, ParamError, StorageError
from lima2_core.flow.sink import Row
from lima2_core.ids import FrameIdx, LocalIdx
from processing.jungfrau.calibration import READ_ERRORS, Calibration, read_calibration
from processing.jungfrau.conditions import Conditions
from processing.jungfrau.options import add_conditions, asked_conditions, completed, described
from processing.jungfrau.params import PedestalParams
from processing.jungfrau.sinks import PedestalSink
from processing.kernels.placing import MODULE_ROWS

DATASET = "entry_0000/instrument/detector/data"
_OPTIONS = {
    "min_frames": "--min-frames",
    "wrong_share": "--wrong-share",
    "noise_factor": "--noise-factor",
    "pedestal.path": "--output",
    "pedestal.gain_path": "--gain",
    "pedestal.enabled": "files",
    "photons.modules": "--modules",
}
"""What users of the command call the parameters."""


@dataclass(frozen=True, slots=True)
class _Dark:
    """A frame of a file."""

    name: Path
    row: int
    pixels: NDArray[Any]
    conditions: Conditions


def main(argv: Sequence[str]) -> int:
    """Make a JUNGFRAU calibration file from saved dark frames."""
    options = _parser().parse_args(list(argv))
    asked = asked_conditions(options)
    try:
        made, (g0, g1, g2) = _made(options, asked)
    except ParamError as error:
        if error.path not in _OPTIONS:
            raise
        text = error.message.removeprefix(f"{error.path}: ")
        raise ParamError(text, path=_OPTIONS[error.path]) from error
    print(f"{options.output}: renewed from {g0} dark frames of G0, {g1} of G1, {g2} of G2")
    for line in described(made):
        print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = PedestalParams()
    parser = argparse.ArgumentParser(
        prog="lima2 pedestal",
        description=main.__doc__,
        epilog="Stages of which there are no frames stay as they are in the calibration file, so "
        "files of the three stages can be given at once or one after the other.",
    )
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        type=Path,
        help="HDF5 files of raw dark frames, or their master; each frame of one gain stage, G0, G1 "
        "and G2 in any order",
    )
    add(
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="calibration file; if it exists, only the stages that were measured are renewed",
    )
    add(
        "--gain",
        type=Path,
        metavar="FILE",
        help="calibration file whose gains, masks and module ids are taken over; without it gains "
        "stay unknown, unless the output exists",
    )
    add("--dataset", default=DATASET, help="of the frames in the files; default %(default)s")
    add(
        "--modules",
        type=int,
        nargs="+",
        default=[],
        metavar="ID",
        help="ids of the modules in the frames, in their order: they are looked for in the gain "
        "file, which may hold more, and in an output that exists; default: all of that file, or "
        "0, 1...",
    )
    add(
        "--min-frames",
        type=int,
        default=defaults.min_frames,
        metavar="FRAMES",
        help="a pixel with fewer good readings in a stage is bad; default %(default)s frames",
    )
    add(
        "--wrong-share",
        type=float,
        default=defaults.wrong_share,
        metavar="SHARE",
        help="a pixel is bad if a larger share of its readings, 0 to 1, is of another stage; "
        "default %(default)s",
    )
    add(
        "--noise-factor",
        type=float,
        default=defaults.noise_factor,
        metavar="FACTOR",
        help="a pixel is bad if its rms is above so many times the median of its module and stage; "
        "default %(default)s",
    )
    add_conditions(parser, "For files that do not tell it; those of this suite do")
    return parser


def _made(
    options: argparse.Namespace, asked: Conditions
) -> tuple[Calibration, tuple[int, int, int]]:
    """What is in the file now, and how many frames of each stage were there for it."""
    params = PedestalParams.from_tree(
        {
            "enabled": True,
            "path": str(options.output.resolve()),
            "gain_path": str(options.gain.resolve()) if options.gain else "",
            "min_frames": options.min_frames,
            "wrong_share": options.wrong_share,
            "noise_factor": options.noise_factor,
        }
    )
    modules = tuple(options.modules)
    _check_gains(params, modules)
    sink: PedestalSink | None = None
    for number, dark in enumerate(_frames(options.files, options.dataset, asked)):
        if sink is None:
            spec = FrameSpec((1, *dark.pixels.shape), dark.pixels.dtype)
            sink = PedestalSink(params, spec, modules)
            sink.open()
        sink.conditions = dark.conditions
        frame = Frame(FrameIdx(number), dark.pixels[None])
        try:
            sink.write([Row(LocalIdx(number), frame.idx, frame)])
        except ValueError as error:
            raise ParamError(f"{dark.name}, frame {dark.row}: {error}", path="files") from error
    if sink is None:
        raise NotAvailableError("there is no complete frame in these files")
    sink.close()
    return read_calibration(params.path, "--output"), sink.run.frames


def _check_gains(params: PedestalParams, modules: tuple[int, ...]) -> None:
    """Refuse gains that would not be used.

    Raises:
        ParamError: the output exists, with others.
    """
    if not params.gain_path or not Path(params.path).exists():
        return
    old = read_calibration(params.path, "--output")
    gains = read_calibration(params.gain_path, "--gain")
    gains = gains.of_modules(modules or old.module_ids, "--modules" if modules else "--gain")
    if modules:
        old = old.of_modules(modules, "--modules")
    same = (old.gain_units, old.gain_energy_kev) == (gains.gain_units, gains.gain_energy_kev)
    if not (same and np.array_equal(old.gain, gains.gain, equal_nan=True)):
        raise ParamError(
            f"{params.path} exists and has other gains than {params.gain_path}; leave the option "
            "out to keep them, or choose another output",
            path="--gain",
        )


def _frames(files: Sequence[Path], dataset: str, asked: Conditions) -> Iterator[_Dark]:
    """All complete frames.

    Shapes: pixels (rows, 1024), bands one below the other.

    Raises:
        ParamError: a file has frames that no pedestal can be made of, or options contradict it.
        StorageError: it cannot be read.
    """
    import h5py
    import hdf5plugin  # noqa: F401  registers the filters

    for name in files:
        try:
            with h5py.File(name, "r") as file:
                data = file[dataset]
                _check_rows(data, name)
                conditions = completed(_told(data), asked, str(name))
                beside = data.parent.get("validity")
                codes = np.zeros(len(data)) if beside is None else beside[()]
                for row in np.flatnonzero(codes == 0):
                    pixels = np.asarray(data[int(row)])
                    frame = pixels.reshape(-1, pixels.shape[-1])
                    yield _Dark(name, int(row), frame, conditions)
        except ParamError:
            raise
        except READ_ERRORS as error:
            raise StorageError(f"{name} cannot be read: {error}", file=str(name)) from error


def _check_rows(data: Any, name: Path) -> None:
    """Refuse frames of parts of modules, which would be taken for fewer whole ones.

    Raises:
        ParamError: the file says that not all rows were read out.
    """
    rows = data.parent.get("params/acquisition/det/readout_rows")
    if rows is not None and int(rows[()]) != MODULE_ROWS:
        raise ParamError(
            f"{name} has {int(rows[()])} rows of each module; pedestals are taken of all "
            f"{MODULE_ROWS}",
            path="files",
        )


def _told(data: Any) -> Conditions:
    """What a file of this suite tells of how its frames were taken."""
    params = data.parent.get("params/acquisition")
    if params is None:
        return Conditions()
    groups = [name for name in ("acq", "det") if name in params]
    tree = {name: {key: _value(params[name], key) for key in params[name]} for name in groups}
    entry = data.file[data.name.split("/")[1]]
    started = str(_value(entry, "start_time") or "")
    if started:  # empty in the file of a receiver that was killed
        started = datetime.fromisoformat(started).astimezone(UTC).isoformat(timespec="seconds")
    return Conditions.of_acquisition(
        tree, str(_value(entry, "entry_identifier_uuid") or ""), started
    )


def _value(group: Any, name: str) -> Any:
    """Of a dataset without axes; None if there is none."""
    found = group.get(name)
    if getattr(found, "shape", None) != ():
        return None
    value = found[()]
    return value.decode() if isinstance(value, bytes) else value
