"""Writes the HDF5/NeXus files of one master: segments, and the index that leads to them."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5f, h5p

from lima2_core.data.frame import Validity
from lima2_core.system.ledger import OPEN, LedgerSummary
from lima2_core.system.outputs import RunView, SavedView
from processing.outputs.master_fields import write_fields
from processing.outputs.master_hits import HitPointers, write_hits
from processing.outputs.master_images import escaped, write_images
from processing.outputs.master_notes import write_notes
from processing.outputs.master_plan import FrameTable, MasterFiles, receiver_file
from processing.outputs.master_scale import write_scale
from processing.sinks.nexus import make_group, version, with_units, write_marks, write_tree

_CODES = {code.name: int(code) for code in Validity} | {"OPEN": OPEN}
_MEMORY_STEP_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of a run at its end."""

    summary: LedgerSummary
    """Of the saved source."""
    verdict: str
    ended_wall_s: float


class MasterWriter:
    """Makes the files of one master, each complete when it gets its name.

    Args:
        pointers: where the hits of frames are, if these are saved; None: images are.

    Threads: one at a time.

    Raises:
        OSError, RuntimeError, ValueError: from every method, where the medium or HDF5 fails.
    """

    def __init__(
        self, run: RunView, saved: SavedView, files: MasterFiles, pointers: HitPointers | None
    ) -> None:
        self._pointers = pointers
        self._run = run
        self._saved = saved
        self._files = files
        self._entry = saved.files[0].entry
        self._detector = saved.files[0].detector
        self._data = saved.files[0].dataset
        self._image = b""

    def draft_segment(self, number: int, table: FrameTable) -> Path:
        """Write a segment under a hidden name, and give this name."""
        path = self._files.segment(number)
        with _drafted(self._files.draft(path), self._template()) as file:
            file.attrs["file_name"] = path.name
            self._write_frames(file, table, whole=True)
            self._write_times(file, None)
        return self._files.draft(path)

    def draft_index(
        self,
        segments: Mapping[int, tuple[int, int]],
        table: FrameTable | None = None,
        outcome: Outcome | None = None,
        *,
        whole: bool = False,
    ) -> Path:
        """Write the index under a hidden name, and give this name.

        Args:
            segments: first frame and number of frames of those that are in place.
            table: all frames, if the run is at its end.
            outcome: how it ended.
            whole: whether one dataset, or one group of hits, shall hold all frames.
        """
        path = self._files.index
        with _drafted(self._files.draft(path), self._template()) as file:
            file.attrs["file_name"] = path.name
            if table is not None:
                self._write_frames(file, table, whole=whole)
            self._link_segments(file, segments, plot=not whole)
            self._write_times(file, outcome.ended_wall_s if outcome is not None else None)
            write_notes(file[self._entry], self._run.notes())
            if outcome is not None:
                _write_outcome(file[self._entry]["ledger"], outcome)
        return self._files.draft(path)

    def _template(self) -> bytes:
        """The bytes of a file with all that is the same in each; made once."""
        if not self._image:
            with _in_memory() as file:
                self._write_static(file)
                file.flush()
                self._image = bytes(file.id.get_file_image())
        return self._image

    def _write_static(self, file: h5py.File) -> None:
        run, saved, suite_version = self._run, self._saved, version()
        file.attrs.update(
            NX_class="NXroot",
            default=self._entry,
            creator="lima2-suite",
            creator_version=suite_version,
        )
        _, *middle, last = self._detector.split("/")
        entry = make_group(file, self._entry, "NXentry", (*middle, last)[0])
        entry["entry_identifier_uuid"] = str(run.acq_id)
        entry["program_name"] = "lima2-suite"
        entry["program_name"].attrs["version"] = suite_version
        parent = entry
        for name, below in zip(middle, [*middle[1:], last], strict=True):
            parent = make_group(parent, name, "NXinstrument", below)
        detector = make_group(parent, last, "NXdetector", "plot" if self._pointers is None else "")
        _write_tree_surely(detector, "detector_information", with_units(run.detector))
        params = make_group(detector, "params", "NXcollection")
        _write_tree_surely(params, "requested", run.requested)
        _write_tree_surely(params, "acquisition", run.applied)
        _write_tree_surely(params, "processing", run.processing)
        for name in saved.files[0].collections:
            told = [files.collections.get(name, {}) for files in saved.files]
            _write_tree_surely(detector, name, _put_together(told))
        write_marks(detector, saved.files[0].marks, saved.spec.dtype)
        # Nothing that a user gave shall be missing.
        _write_tree_surely(entry, "metadata", run.metadata, none="")
        _write_tree_surely(
            entry,
            "acquisition",
            {
                "device": run.device,
                "receivers": list(run.receivers),
                "topology": run.topology,
                "source": saved.name,
                "nb_frames_expected": saved.ledger.expected,
            },
        )
        make_group(entry, "ledger", "NXcollection")
        write_scale(detector, run, saved.spec)
        back = detector.create_dataset("image_to_detector", data=saved.spec.affine.matrix)
        back.attrs["description"] = (
            "(row, col, 1) of a pixel of the image -> (row, col, 1) on the detector, in pixels"
        )

    def _write_frames(self, file: h5py.File, table: FrameTable, *, whole: bool) -> None:
        """What is known of every frame; ``whole``: and the frames."""
        detector = file[self._detector]
        n = len(table)
        detector["frame_idx"] = np.arange(table.first, table.first + n, dtype=np.int64)
        codes = h5py.enum_dtype(_CODES, basetype=np.uint8)
        detector.create_dataset("validity", data=table.code, dtype=codes)
        detector["receiver"] = table.receiver
        detector["row"] = table.row if table.row.shape[1] > 1 else table.row[:, 0]
        detector["timestamp"] = table.timestamp_s
        for name, text in _MEANINGS.items():
            detector[name].attrs["description"] = text
        detector["timestamp"].attrs["units"] = "s"
        if not whole:
            return
        if self._pointers is not None:
            write_hits(file, self._saved, table, self._pointers, self._name_of)
        else:
            write_images(file, self._saved, table, self._name_of)
        write_fields(file, self._detector, self._saved, table, self._name_of)
        data = file[self._data]
        if self._pointers is not None:
            detector.attrs["default"] = "data"
        else:
            _plot(detector)["data"] = data
        make_group(file[self._entry], "measurement", "NXcollection")["data"] = data

    def _name_of(self, receiver: int, number: int) -> bytes:
        """A file relative to the master, so that the folder can be moved."""
        path = receiver_file(self._saved.files[receiver], number)
        return escaped(os.path.relpath(path, self._files.folder))

    def _link_segments(
        self, file: h5py.File, segments: Mapping[int, tuple[int, int]], *, plot: bool
    ) -> None:
        group = make_group(file[self._detector], "segments", "NXcollection")
        numbers = sorted(segments)
        for number in numbers:
            group[f"{number:05d}"] = self._link(number)
        group.attrs["first_frame"] = np.array([segments[n][0] for n in numbers], np.int64)
        group.attrs["nb_frames"] = np.array([segments[n][1] for n in numbers], np.int64)
        if plot and numbers and self._pointers is None:
            _plot(file[self._detector])["data"] = self._link(numbers[0])

    def _link(self, number: int) -> h5py.ExternalLink:
        return h5py.ExternalLink(self._files.segment(number).name, f"/{self._data}")

    def _write_times(self, file: h5py.File, ended_wall_s: float | None) -> None:
        entry = file[self._entry]
        started_wall_s = self._run.started_wall_s()
        if started_wall_s:
            entry["start_time"] = _iso(started_wall_s)
        if ended_wall_s is not None:
            entry["end_time"] = _iso(ended_wall_s)


_MEANINGS = {
    "frame_idx": "index of the frame in the acquisition",
    "validity": "what became of the frame",
    "receiver": "which receiver has the frame; -1: none, or each has a part of it",
    "row": "row of the frame in the files of its receiver; -1: nothing can be read",
    "timestamp": "start of the exposure, since 1970; 0 if unknown",
}


@contextlib.contextmanager
def _drafted(path: Path, image: bytes) -> Iterator[h5py.File]:
    """A file that begins as a copy of ``image``, and is at ``path`` in the end.

    It is made in memory: of a disk that is full, HDF5 would hold on to files it cannot close.
    """
    with _in_memory(image) as file:
        yield file
        file.flush()
        image = bytes(file.id.get_file_image())
    try:
        path.write_bytes(image)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _in_memory(image: bytes = b"") -> h5py.File:
    """A file without a disk; HDF5 knows it by its name all the same."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fapl_core(_MEMORY_STEP_BYTES, False)
    name = f"lima2-{uuid.uuid4().hex}".encode()
    if not image:
        return h5py.File(h5f.create(name, h5f.ACC_TRUNC, fapl=access))
    access.set_file_image(image)
    return h5py.File(h5f.open(name, h5f.ACC_RDWR, fapl=access))


def _plot(detector: h5py.Group) -> h5py.Group:
    plot = make_group(detector, "plot", "NXdata")
    plot.attrs["signal"] = "data"
    return plot


def _iso(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s).astimezone().isoformat(timespec="milliseconds")


def _write_outcome(group: h5py.Group, outcome: Outcome) -> None:
    """How many frames ended in which class, and the verdict."""
    summary = outcome.summary
    group.attrs["verdict"] = outcome.verdict
    group.attrs["frames_of_this_file"] = summary.sentence()
    group.attrs["nb_frames_expected"] = -1 if summary.expected is None else summary.expected
    group.attrs["nb_frames_lost"] = summary.lost
    group.attrs["adds_up"] = summary.adds_up
    for code in Validity:
        group.attrs[code.name] = summary.counts.get(code, 0)


def _put_together(told: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    """What all receivers tell alike, and the rest by receiver."""
    alike = {
        name: value
        for name, value in told[0].items()
        if all(one.get(name) == value for one in told[1:])
    }
    rest = [{name: one[name] for name in one if name not in alike} for one in told]
    return alike | ({"by_receiver": rest} if any(rest) else {})


def _write_tree_surely(
    parent: h5py.Group, name: str, tree: Mapping[str, Any], none: str | None = None
) -> None:
    """A tree as groups and datasets; what HDF5 cannot take so stands there as JSON text."""
    group = make_group(parent, name, "NXcollection")
    try:
        write_tree(group, tree, none)
    # No medium can fail here, as the file is in memory: whatever HDF5 says is about the tree.
    except (OSError, RuntimeError, TypeError, ValueError, OverflowError):
        del parent[name]
        text = json.dumps(tree, default=str, skipkeys=True)
        make_group(parent, name, "NXcollection")["json"] = text
