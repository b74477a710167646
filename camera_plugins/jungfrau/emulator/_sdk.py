"""Images from files, whose libraries are imported when they are needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camera_plugins.jungfrau.wire import MODULE_COLS, MODULE_ROWS
from lima2_core.errors import ParamError


def load_images(path: Path, dataset: str, where: str = "images") -> NDArray[np.uint16]:
    """Read images from a NumPy or HDF5 file.

    Raises:
        ParamError: the file cannot be read; the path is ``where``.
    """
    try:
        if path.suffix == ".npy":
            images: NDArray[np.uint16] = np.load(path)
            return images
        import h5py
        import hdf5plugin  # noqa: F401  its import teaches h5py the codecs

        with h5py.File(path) as file:
            data: NDArray[np.uint16] = file[dataset][()]
            return data
    except (OSError, KeyError, ValueError, ImportError) as error:
        raise ParamError(f"no images in {path}: {error}", path=where) from error


def load_dark_maps(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read pedestals and their rms from a calibration file.

    Shapes: twice (modules, 3, 512, 1024).

    Raises:
        ParamError: the file cannot be read, or it lacks values.
    """
    where = "det.emulator.calibration_path"
    try:
        import h5py
        import hdf5plugin  # noqa: F401  its import teaches h5py the codecs

        with h5py.File(path) as file:
            pedestal, rms = (
                np.asarray(file[name][()], np.float32) for name in ("pedestal", "pedestal_rms")
            )
    except (OSError, KeyError, ValueError, ImportError) as error:
        raise ParamError(f"no pedestals in {path}: {error}", path=where) from error
    if pedestal.shape[1:] != (3, MODULE_ROWS, MODULE_COLS) or rms.shape != pedestal.shape:
        raise ParamError(f"pedestals of shape {pedestal.shape} are none of modules", path=where)
    return pedestal, rms
