"""``lima2 pedestal``: a calibration file from saved dark frames."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.errors import NotAvailableError, ParamError, StorageError
from lima2_core.flow.sink import Row
from lima2_core.ids import FrameIdx, LocalIdx
from processing.jungfrau.calibration import read_calibration
from processing.jungfrau.params import PedestalParams
from processing.jungfrau.sinks import PedestalSink
from processing.kernels.placing import MODULE_ROWS

DATASET = "entry_0000/instrument/detector/data"
_READ_ERRORS = (OSError, LookupError, ValueError, RuntimeError, AttributeError)


def main(argv: Sequence[str]) -> int:
    """Make a JUNGFRAU calibration file from saved dark frames."""
    defaults = PedestalParams()
    parser = argparse.ArgumentParser(prog="lima2 pedestal", description=main.__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="raw frames, of any gain stages")
    parser.add_argument("--output", required=True, type=Path, help="calibration file")
    parser.add_argument("--gain", type=Path, help="calibration file whose gains are taken over")
    parser.add_argument("--dataset", default=DATASET, help="of the frames; default %(default)s")
    parser.add_argument("--modules", type=int, nargs="*", default=(), help="ids, in order")
    parser.add_argument("--min-frames", type=int, default=defaults.min_frames)
    parser.add_argument("--wrong-share", type=float, default=defaults.wrong_share)
    parser.add_argument("--noise-factor", type=float, default=defaults.noise_factor)
    options = parser.parse_args(list(argv))

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
    sink: PedestalSink | None = None
    for number, pixels in enumerate(_frames(options.files, options.dataset)):
        if sink is None:
            spec = FrameSpec((1, *pixels.shape), pixels.dtype)
            sink = PedestalSink(params, spec, tuple(options.modules))
            sink.open()
        frame = Frame(FrameIdx(number), pixels[None])
        try:
            sink.write([Row(LocalIdx(number), frame.idx, frame)])
        except ValueError as error:
            raise ParamError(f"frame {number}: {error}", path="files") from error
    if sink is None:
        raise NotAvailableError("there is no complete frame in these files")
    sink.close()
    g0, g1, g2 = sink.run.frames
    masked = read_calibration(params.path, "--output").mask != 0
    print(
        f"{params.path}: {g0} dark frames of G0, {g1} of G1, {g2} of G2; "
        f"{np.count_nonzero(masked)} of {masked.size} pixels masked"
    )
    return 0


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


def _frames(files: Sequence[Path], dataset: str) -> Iterator[NDArray[Any]]:
    """All complete frames.

    Shapes: (rows, 1024), bands one below the other.
    """
    import h5py
    import hdf5plugin  # noqa: F401  registers the filters

    for name in files:
        try:
            with h5py.File(name, "r") as file:
                data = file[dataset]
                _check_rows(data, name)
                beside = data.parent.get("validity")
                codes = np.zeros(len(data)) if beside is None else beside[()]
                for row in np.flatnonzero(codes == 0):
                    pixels = np.asarray(data[int(row)])
                    yield pixels.reshape(-1, pixels.shape[-1])
        except _READ_ERRORS as error:
            raise StorageError(f"{name} cannot be read: {error}", file=str(name)) from error
