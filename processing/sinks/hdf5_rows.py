"""What all sinks have in common that write rows into HDF5 files, a fixed number in each.

Nothing is imported from h5py before `RowFilesSink.open`.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from lima2_core.clock import Clock, SystemClock
from lima2_core.data.fields import FrameField
from lima2_core.data.frame import FrameSpec
from lima2_core.errors import StorageError
from lima2_core.flow.sink import Row, Sink
from lima2_core.ids import LocalIdx
from processing.file_locks import being_written
from processing.saving import FileMetadata, SavingParams

if TYPE_CHECKING:
    from processing.sinks.hdf5_files import RowFile
    from processing.sinks.hdf5_layout import FileLayout

log = logging.getLogger(__name__)

F = TypeVar("F", bound="RowFile")

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


class RowFilesSink(Sink, Generic[F]):
    """Write rows into files; file f takes the rows f*N to f*N + N - 1.

    A file appears with its first row, is locked while rows come, and is closed when it is full.
    What a kind of files looks like, a subclass says.

    Args:
        spec: of the frames.
        expected_rows: of this receiver, if known; the last of them completes its file.
        with_frame_idx: whether the number of each row in the acquisition is saved, even if
            ``params`` do not ask for it.
        fields: what the camera tells of every frame, to be saved beside it.

    Threads: `stats` from any thread; the rest one at a time.
    """

    even_empty = False
    """Whether a run that ends well without a row leaves a file too."""

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
        self._image: tuple[FileLayout, bytes] | None = None
        self._file: F | None = None
        self._next = LocalIdx(0)
        self._frames = 0
        self._empty_files = 0
        self._bytes = 0
        self._flushed_at_s = 0.0
        self._stats = Hdf5Stats()  # replaced as a whole, by the writing thread

    def stats(self) -> Hdf5Stats:
        """What has been saved so far."""
        return self._stats

    @property
    def files(self) -> tuple[str, ...]:
        """The files made so far, oldest first."""
        made = -(-self._next // self._params.nb_frames_per_file) or self._empty_files
        return tuple(str(self._params.path(number)) for number in range(made))

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
        if self.even_empty and self._next == 0:
            try:
                self._new_file(LocalIdx(0))
                self._empty_files = 1
            except HDF5_ERRORS as error:
                raise self._failure("cannot be made", self._params.path(0), error) from error
        self._end()

    def abort(self) -> None:
        try:
            self._end()
        except StorageError as error:
            log.warning("Frames after the last flush may be lost: %s", error)

    def _end(self) -> None:
        if self._file is None:
            return
        path = self._file.path
        try:
            self._finish(self._file)
        except HDF5_ERRORS as error:
            raise self._failure("cannot be closed", path, error) from error

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
        if (held := being_written(existing)) is not None:
            raise StorageError(
                f"{held} is being written by another run; choose another filename_prefix or "
                "base_path",
                file=str(held),
            )
        for path in (*existing, params.draft):
            path.unlink(missing_ok=True)

    @abstractmethod
    def _layout_of(self, rows: int) -> tuple[FileLayout, bytes]:
        """The layout of files that take so many rows, and the bytes of one without a row."""

    @abstractmethod
    def _start_file(self, path: Path, layout: FileLayout, image: bytes) -> F:
        """Make a file for the next row."""

    @abstractmethod
    def _put(self, file: F, row: Row) -> int:
        """Write what stands in a row.

        Returns:
            Bytes of the frame, before HDF5 packs them.

        Raises:
            ValueError: it is nothing that such files take.
        """

    def _prepare_image(self) -> None:
        """Make what is the same in all files."""
        rows = min(self._params.nb_frames_per_file, self._expected_rows or sys.maxsize)
        self._image = self._layout_of(rows)

    def _add(self, row: Row) -> None:
        if row.local != self._next:
            raise ValueError(f"row {row.local} came where row {self._next} was due")
        file = self._file or self._new_file(row.local)
        if row.gap is not None:
            file.add_gap(row.idx, row.gap.cause)
        else:
            self._bytes += self._put(file, row)
            self._frames += 1
        self._next = LocalIdx(row.local + 1)
        full = self._next % self._params.nb_frames_per_file == 0
        if full or self._next == self._expected_rows:
            self._finish(file)
        else:
            self._flush_if_due(file)

    def _new_file(self, local: LocalIdx) -> F:
        params = self._params
        path = params.path(local // params.nb_frames_per_file)
        if self._image is None:
            raise ValueError("the sink is not open")
        if path.exists() and params.file_exists_policy != "overwrite":
            raise ValueError("it was made by somebody else since the run was prepared")
        self._file = self._start_file(path, *self._image)
        return self._file

    def _flush_if_due(self, file: F) -> None:
        unsaved = self._next > self._stats.rows_saved
        if unsaved and self._clock.now_s() - self._flushed_at_s >= FLUSH_PERIOD_S:
            file.flush()
            self._note_saved(file)

    def _finish(self, file: F) -> None:
        self._file = None  # whatever comes of it, it is not touched again
        file.finish(self._clock.wall_s(), keep_empty=self._empty_files > 0)
        self._note_saved(file)

    def _note_saved(self, file: F) -> None:
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
