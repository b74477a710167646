"""Images from files, whose libraries are imported when they are needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import ParamError


def load_images(path: Path, dataset: str) -> NDArray[np.uint16]:
    """Read images from a NumPy or HDF5 file.

    Raises:
        ParamError: the file cannot be read.
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
        raise ParamError(f"no images in {path}: {error}", path="images") from error
