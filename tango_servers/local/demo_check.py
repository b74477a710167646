"""What the demonstration finds in its files, and a picture of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Validity
from lima2_core.errors import StorageError
from tango_servers.local.demo_outcome import PREFIX, Outcome
from tango_servers.local.demo_plan import Plan

_COLOURS = (
    (0, 0, 4),
    (60, 15, 110),
    (150, 40, 120),
    (225, 95, 60),
    (250, 180, 60),
    (252, 255, 200),
)
"""From the least to the most, at equal distances."""
_DARKEST, _BRIGHTEST = 1.0, 99.9
"""Percentiles of the pixels that get the first and the last colour."""
_LOG_RANGE = 100.0
"""How many times as bright the last colour is as the step from the first to the second."""


@dataclass(slots=True)
class Findings:
    """What the files hold, compared with what they should."""

    saved: int = 0
    """Frames in the files that are valid."""
    lost: dict[int, str] = field(default_factory=dict)
    """Frames that are not there, and why."""
    different: list[int] = field(default_factory=list)
    """Frames with a pixel that is not as in the reference."""
    wrong_statistics: list[int] = field(default_factory=list)
    """Frames whose statistics are not those of their pixels in the file."""
    files: int = 0
    file_bytes: int = 0


def inspect(plan: Plan, outcome: Outcome, folder: Path) -> Findings:
    """Read every frame back through the master file.

    Raises:
        StorageError: a file cannot be read.
    """
    findings = Findings()
    try:
        valid = _validity(plan, outcome, folder, findings)
        _compare(plan, outcome, valid, findings)
    except (OSError, KeyError) as error:
        raise StorageError(f"The files in {folder} cannot be read: {error}") from error
    return findings


def write_picture(plan: Plan, outcome: Outcome, idx: int, path: Path) -> None:
    """Write a frame as PNG, its first band, with colours by the logarithm.

    Raises:
        StorageError: a file cannot be read or written.
    """
    import h5py
    import hdf5plugin  # noqa: F401  registers the compression filters
    from PIL import Image

    try:
        with h5py.File(outcome.master_file, "r") as file:
            image = frames_of(file, outcome.dataset)[idx].reshape(plan.shape)[0]
        Image.fromarray(coloured(image)).save(path)
    except (OSError, KeyError) as error:
        raise StorageError(f"Cannot write {path}: {error}", file=str(path)) from error


def coloured(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours that show weak pixels beside bright ones.

    Shapes: (rows, cols) -> (rows, cols, 3).
    """
    values = image.astype(np.float32)
    low, high = np.percentile(values, (_DARKEST, _BRIGHTEST))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    part = np.clip((values - low) / max(high - low, 1e-30), 0, 1)
    level = np.log1p(_LOG_RANGE * part) / np.log1p(_LOG_RANGE)
    anchors = np.linspace(0, 255, len(_COLOURS))
    table = np.stack(
        [np.interp(np.arange(256), anchors, channel) for channel in zip(*_COLOURS, strict=True)],
        axis=1,
    ).astype(np.uint8)
    colours: NDArray[np.uint8] = table[(255 * level).astype(np.uint8)]
    return colours


def _validity(plan: Plan, outcome: Outcome, folder: Path, findings: Findings) -> NDArray[np.bool_]:
    """Whether each frame is in a file, by what the files say.

    Shapes: (frames,).
    """
    valid = np.zeros(plan.nb_frames, np.bool_)
    findings.lost = dict.fromkeys(range(plan.nb_frames), "in no file")
    for path in sorted(folder.glob(f"{PREFIX}_*.h5")):
        findings.files += 1
        findings.file_bytes += path.stat().st_size
    for idx, code in _codes(outcome, folder):
        if code == Validity.VALID:
            valid[idx] = True
            del findings.lost[idx]
        elif idx in findings.lost:
            findings.lost[idx] = Validity(code).name.lower().replace("_", " ")
    findings.saved = int(valid.sum())
    return valid


def _codes(outcome: Outcome, folder: Path) -> Iterator[tuple[int, int]]:
    """Frames and their classes: from our master, or from the receivers if it does not have them."""
    import h5py

    detector = outcome.dataset.rpartition("/")[0]
    with h5py.File(outcome.master_file, "r") as file:
        if ours := f"{detector}/validity" in file:
            yield from enumerate(file[f"{detector}/validity"][()].tolist())
    for path in () if ours else sorted(folder.glob(f"{PREFIX}_*.h5")):
        if path == outcome.master_file:
            continue
        with h5py.File(path, "r") as file:
            numbers = file[f"{detector}/frame_idx"][()].tolist()
            yield from zip(numbers, file[f"{detector}/validity"][()].tolist(), strict=True)


class _Segments:
    """Frames of a master that has too many of them for one dataset; used as one."""

    def __init__(self, group: Any) -> None:
        self._group = group
        self._names = sorted(group)
        self._first = group.attrs["first_frame"]
        self._count = int(group.attrs["nb_frames"].sum())

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, idx: int) -> NDArray[Any]:
        number = int(np.searchsorted(self._first, idx, "right")) - 1
        image: NDArray[Any] = self._group[self._names[number]][idx - self._first[number]]
        return image


def frames_of(file: Any, dataset: str) -> Any:
    """All frames of a master that is open, by their index."""
    if dataset in file:
        return file[dataset]
    return _Segments(file[f"{dataset.rpartition('/')[0]}/segments"])


def _compare(plan: Plan, outcome: Outcome, valid: NDArray[np.bool_], findings: Findings) -> None:
    import h5py
    import hdf5plugin  # noqa: F401

    rows, cols = plan.roi
    with h5py.File(outcome.master_file, "r") as file:
        frames = frames_of(file, outcome.dataset)
        for idx in np.flatnonzero(valid).tolist():
            if idx >= len(frames):
                findings.different.append(idx)
                continue
            image = frames[idx].reshape(plan.shape)
            if not plan.reference.agrees(idx, image):
                findings.different.append(idx)
            region = image[:, rows, cols]
            if not _agree(outcome.statistics, idx, region, plan.reference.measured(region)):
                findings.wrong_statistics.append(idx)


def _agree(
    statistics: NDArray[Any], idx: int, region: NDArray[Any], measured: NDArray[np.bool_]
) -> bool:
    """Whether a record is what numpy makes of the pixels."""
    if idx >= len(statistics):
        return False
    found = statistics[idx]
    values = region[measured].astype(np.float64)
    expected = {
        "min": values.min(),
        "max": region.max(),
        "avg": values.mean(),
        "std": values.std(),
        "sum": values.sum(),
    }
    return all(
        bool(np.isclose(found[name], value, rtol=1e-5, atol=1e-6))
        for name, value in expected.items()
    )
