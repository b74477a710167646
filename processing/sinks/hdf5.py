"""Rows into HDF5/NeXus files, a fixed number in each.

Nothing is imported from h5py before `Hdf5Sink.open`.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lima2_core.clock import Clock, SystemClock
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import FrameSpec
from lima2_core.errors import StorageError
from lima2_core.flow.sink import Row, Sink
from lima2_core.ids import LocalIdx
from processing.codecs import EncodedChunk
from processing.saving import FileMetadata, SavingParams

if TYPE_CHECKING:
    from processing.sinks.hdf5_files import GrowingFile
    from processing.sinks.hdf5_layout import FileLayout

log = logging.getLogger(__name__)

HDF5_ERRORS = (OSError, RuntimeError, ValueError)
"""What h5py raises where HDF5 fails."""

FLUSH_PERIOD_S = 0.5
"""At most this much is lost with a crash."""


@dataclass(frozen=True, slots=True)
class Hdf5Stats:
    """What has been saved so far; it counts what is flushed."""

    rows_saved: int = 0
    """Places in the files, gaps included."""
    frames_saved: int = 0
    bytes_saved: int = 0
    """Of packed frames."""
    rate_bytes_s: float = 0.0
    """Between the last two flushes."""
    file: Path | None = None
    """The last file that was written to."""


def preload() -> None:
    """Import what saving needs; for a background thread at start.

    Raises:
        ImportError: a library is not installed.
    """
    from processing import codecs
    from processing.sinks import hdf5_files  # noqa: F401  imported for its own imports

    codecs.preload()


class Hdf5Sink(Sink):
    """Write `EncodedChunk` rows; file f takes the rows f*N to f*N + N - 1.

    A file appears with its first row, is locked while rows come, and is closed when it is full.
    The rows of gaps are not written: they read as zeros, and `validity` tells why.

    Args:
        spec: of the frames before they were packed.
        expected_rows: of this receiver, if known; the last of them completes its file.
        with_frame_idx: whether the number of each row in the acquisition is saved, even if
            ``params`` do not ask for it.
        fields: what the camera tells of every frame, to be saved beside it.

    Threads: `stats` from any thread; the rest one at a time.
    """

    name = "hdf5"

    def __init__(
        self,
        params: SavingParams,
        spec: FrameSpec,
        metadata: FileMetadata,
        *,
        expected_rows: int | None = None,
        with_frame_idx: bool = False,
        fields: Sequence[FrameField] = (),
        clock: Clock | None = None,
    ) -> None:
        self._params = params
        self._spec = spec
        self._metadata = metadata
        self._expected_rows = expected_rows or None
        self._with_frame_idx = with_frame_idx or params.include_frame_idx
        self._fields = tuple(fields)
        self._clock = clock or SystemClock()
        self._layout: FileLayout | None = None
        self._image = b""
        self._file: GrowingFile | None = None
        self._next = LocalIdx(0)
        self._frames = 0
        self._bytes = 0
        self._flushed_at_s = 0.0
        self._stats = Hdf5Stats()  # replaced as a whole, by the writing thread

    def stats(self) -> Hdf5Stats:
        """What has been saved so far."""
        return self._stats

    @property
    def files(self) -> tuple[str, ...]:
        """The files made so far, oldest first."""
        full = -(-self._next // self._params.nb_frames_per_file)
        return tuple(str(self._params.path(number)) for number in range(full))

    def open(self) -> None:
        params = self._params
        if not params.format_is_followed:
            log.warning(
                "The file name format %r is not followed, as readers look for %s.",
                params.filename_format,
                params.path(0).name,
            )
        try:
            self._clear_folder()
            self._prepare_image()
        except (*HDF5_ERRORS, ImportError, TypeError) as error:
            raise self._failure("cannot be prepared", params.path(0), error) from error
        self._flushed_at_s = self._clock.now_s()

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            try:
                self._add(row)
            except HDF5_ERRORS as error:
                path = self._params.path(row.local // self._params.nb_frames_per_file)
                raise self._failure(f"takes no frame {row.idx}", path, error) from error

    def idle(self) -> None:
        if self._file is None:
            return
        try:
            self._flush_if_due(self._file)
        except HDF5_ERRORS as error:
            raise self._failure("cannot be flushed", self._file.path, error) from error

    def close(self) -> None:
        if self._file is None:
            return
        path = self._file.path
        try:
            self._finish(self._file)
        except HDF5_ERRORS as error:
            raise self._failure("cannot be closed", path, error) from error

    def abort(self) -> None:
        try:
            self.close()
        except StorageError as error:
            log.warning("Frames after the last flush may be lost: %s", error)

    def _clear_folder(self) -> None:
        """Remove files of earlier runs, whose frames would be taken for ours.

        Raises:
            StorageError: there are some that must not be removed.
            OSError: the folder cannot be read, or a file not be removed.
        """
        params = self._params
        existing = params.existing_files()
        if existing and params.file_exists_policy != "overwrite":
            raise StorageError(
                f"{existing[0]} exists and must not be overwritten; choose another "
                "filename_prefix or base_path",
                file=str(existing[0]),
            )
        for path in (*existing, params.draft):
            path.unlink(missing_ok=True)

    def _prepare_image(self) -> None:
        """Make what is the same in all files."""
        from processing.sinks.hdf5_layout import FileLayout, file_image

        rows = min(self._params.nb_frames_per_file, self._expected_rows or sys.maxsize)
        self._layout = FileLayout.of(
            self._params, self._spec, rows, self._with_frame_idx, self._fields
        )
        self._image = file_image(self._layout, self._params, self._spec, self._metadata)

    def _add(self, row: Row) -> None:
        if row.local != self._next:
            raise ValueError(f"row {row.local} came where row {self._next} was due")
        file = self._file or self._new_file(row.local)
        if isinstance(row.value, EncodedChunk):
            chunk = row.value
            file.add(row.idx, chunk.validity, chunk.data, chunk.fields)
            self._frames += 1
            self._bytes += chunk.nbytes
        elif row.gap is not None:
            file.add(row.idx, row.gap.cause, None)
        else:
            raise ValueError(f"a {type(row.value).__name__} is neither a packed frame nor a gap")
        self._next = LocalIdx(row.local + 1)
        full = self._next % self._params.nb_frames_per_file == 0
        if full or self._next == self._expected_rows:
            self._finish(file)
        else:
            self._flush_if_due(file)

    def _new_file(self, local: LocalIdx) -> GrowingFile:
        from processing.sinks.hdf5_files import GrowingFile

        params = self._params
        path = params.path(local // params.nb_frames_per_file)
        if self._layout is None:
            raise ValueError("the sink is not open")
        if path.exists() and params.file_exists_policy != "overwrite":
            raise ValueError("it was made by somebody else since the run was prepared")
        self._file = GrowingFile(
            path, params.draft, self._image, self._layout, self._clock.wall_s()
        )
        return self._file

    def _flush_if_due(self, file: GrowingFile) -> None:
        unsaved = self._next > self._stats.rows_saved
        if unsaved and self._clock.now_s() - self._flushed_at_s >= FLUSH_PERIOD_S:
            file.flush()
            self._note_saved(file)

    def _finish(self, file: GrowingFile) -> None:
        self._file = None  # whatever comes of it, it is not touched again
        file.finish(self._clock.wall_s())
        self._note_saved(file)

    def _note_saved(self, file: GrowingFile) -> None:
        now_s = self._clock.now_s()
        passed_s = now_s - self._flushed_at_s
        bytes_new = self._bytes - self._stats.bytes_saved
        self._flushed_at_s = now_s
        self._stats = Hdf5Stats(
            rows_saved=self._next,
            frames_saved=self._frames,
            bytes_saved=self._bytes,
            rate_bytes_s=bytes_new / passed_s if passed_s > 0 else 0.0,
            file=file.path,
        )

    def _failure(self, what: str, path: Path, error: Exception) -> StorageError:
        """The error for people: which file, why, how much space is left, what is safe."""
        if isinstance(error, StorageError):
            return error
        # HDF5 tells the cause somewhere in a long text, with a time and with addresses.
        told = re.search("error message = '([^']+)'", str(error))
        reason = told[1] if told else str(error)
        try:
            free_bytes = shutil.disk_usage(self._params.folder).free
            space = f"{free_bytes / 2**20:.1f} MiB are free there"
        except OSError:
            free_bytes = 0
            space = "the folder cannot be reached"
        return StorageError(
            f"{path} {what}: {reason}; {space}. {self._frames} frames were written before",
            file=str(path),
            free_bytes=free_bytes,
            frames_written=self._frames,
        )
