"""Reduced data of a run: records in frame order, for any number of readers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client import wire
from client.errors import ClientError, DecodeError, UnreachableError
from client.link import Device
from client.news import decode_news
from client.waiting import Wait


class Results:
    """The records of one stream of a run.

    Iterating gives what is there and then what comes, in batches, until the run is processed.
    Every iteration has a cursor of its own on the server: it takes nothing from others, and
    begins at the first frame. Of a frame that is missing all floats are not-a-number.

    Shapes: batches (frames, records of each frame), structured; the field ``frame_idx`` is the
    index.
    """

    def __init__(
        self,
        device: Device,
        name: str,
        dtype: np.dtype[Any],
        rows_per_frame: int,
        timeout_s: float | None = None,
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.rows_per_frame = rows_per_frame
        self._device = device
        self._timeout_s = timeout_s

    def with_limit(self, timeout_s: float) -> Results:
        """The same, with a limit for the time until the next batch."""
        return Results(self._device, self.name, self.dtype, self.rows_per_frame, timeout_s)

    def __repr__(self) -> str:
        fields = ", ".join(self.dtype.names or ())
        return f"<Results {self.name}: {self.rows_per_frame} per frame, {fields}>"

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return self.batches(self._timeout_s)

    def batches(self, timeout_s: float | None = None) -> Iterator[NDArray[Any]]:
        """As iterating, with a limit for the time until the next batch.

        Raises:
            DeadlineError: nothing came within ``timeout_s``.
            NotAvailableError: the run is gone, or this reader was too slow.
        """
        wait = Wait(f"records of {self.name}", timeout_s)
        position, cursor = 0, -1
        try:
            while True:
                if cursor < 0:
                    cursor = wait.ask(self._open)
                try:
                    tree, records = self._read(cursor)
                except UnreachableError:
                    # The answer may be lost with records in it: a new cursor gives them again.
                    wait.pause()
                    cursor = -1
                    continue
                first = int(tree["first"])
                if first > position and position:
                    raise ClientError(f"records {position} to {first - 1} of {self.name} are lost")
                new = records[max(0, position - first) :]
                position = max(position, first + len(records))
                if len(new):
                    yield new.reshape(-1, self.rows_per_frame)
                    wait.progressed()
                elif tree["finished"]:
                    return
                else:
                    wait.pause()
        finally:
            self._close(cursor)

    def all(self, timeout_s: float | None = None) -> NDArray[Any]:
        """The records of all frames, once the run is processed.

        Raises:
            DeadlineError: nothing came within ``timeout_s``.
        """
        batches = list(self.batches(self._timeout_s if timeout_s is None else timeout_s))
        if not batches:
            return np.empty((0, self.rows_per_frame), self.dtype)
        return np.concatenate(batches)

    def _open(self) -> int:
        return int(self._device.call(wire.OPEN_CURSOR, self.name))

    def _read(self, cursor: int) -> tuple[dict[str, Any], NDArray[Any]]:
        tree, arrays = decode_news(self._device.call(wire.READ_CURSOR, cursor))
        if not {"first", "finished"} <= tree.keys() or "records" not in arrays:
            raise DecodeError("The block has no records in it")
        return tree, arrays["records"]

    def _close(self, cursor: int) -> None:
        if cursor < 0:
            return
        try:
            self._device.call(wire.CLOSE_CURSOR, cursor)
        except ClientError:
            # A run that is gone has no cursors; others are given up when there are too many.
            return
