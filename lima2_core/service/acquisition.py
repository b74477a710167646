"""The acquisition thread of a run: from the frame source into the channel (G28)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from lima2_core.camera.api import FrameSource
from lima2_core.data.frame import Frame, Gap
from lima2_core.errors import EndOfFrames, OverrunError, PipelineError
from lima2_core.flow.channel import Channel, ChannelClosedError
from lima2_core.ids import AcqId

log = logging.getLogger(__name__)

_POLL_S = 0.1
_GAPS_KEPT = 10_000


class Acquisition:
    """Takes frames until the source ends, is interrupted, or fails.

    Args:
        on_items: called with what is about to be handed on.
        on_rowless: called with gaps that are not handed on, as they have no row.

    Threads: `run` on the acquisition thread, once; the rest from any.
    """

    def __init__(
        self,
        acq_id: AcqId,
        source: FrameSource,
        channel: Channel[Frame | Gap],
        on_items: Callable[[Sequence[Frame | Gap]], None] | None = None,
        on_rowless: Callable[[Sequence[Gap]], None] | None = None,
    ) -> None:
        self._acq_id = acq_id
        self._source = source
        self._channel = channel
        self._on_items = on_items
        self._on_rowless = on_rowless
        self._keeps_rows = source.keeps_rows
        self._interrupted = threading.Event()
        self._cancelled = threading.Event()
        self.received = 0
        """Frames taken; written by the acquisition thread only."""
        self.lost = 0
        """Gaps met; written by the acquisition thread only."""
        self.gaps: list[Gap] = []
        """The first gaps, for the people who ask why."""

    def interrupt(self) -> None:
        """End early, with the frames that were exposed."""
        if not self._interrupted.is_set():
            self._interrupted.set()
            self._source.interrupt()

    def cancel(self) -> None:
        """End at once; what the source still has is given up."""
        self._cancelled.set()
        self.interrupt()

    def run(self) -> None:
        """Take all frames, then close the channel and the source, whatever happened.

        Raises:
            CameraError: the detector failed.
            PipelineError: frames are missing that nobody gave a reason for.
        """
        try:
            self._take_all()
        finally:
            self._on_items = None  # it leads to the run, and so to us
            self._channel.close()
            self._source.close()

    def _take_all(self) -> None:
        while not self._cancelled.is_set():
            try:
                items = self._source.next_frames(_POLL_S)
            except EndOfFrames:
                self._check_complete()
                return
            if not items:
                continue
            try:
                self._hand_on(items)
            except ChannelClosedError:
                return  # the processing gave up, and has told why
            except OverrunError:
                self._source.interrupt()
                raise
            items = ()  # nothing stays leased while waiting for the next

    def _hand_on(self, items: Sequence[Frame | Gap]) -> None:
        gaps = [item for item in items if isinstance(item, Gap)]
        if gaps:
            self.lost += len(gaps)
            self.gaps += gaps[: _GAPS_KEPT - len(self.gaps)]
            log.warning(
                "acquisition %s: %d frames missing, the first is %d: %s",
                self._acq_id,
                len(gaps),
                gaps[0].idx,
                gaps[0].detail or gaps[0].cause.name,
            )
            if not self._keeps_rows:
                items = [item for item in items if not isinstance(item, Gap)]
                if self._on_rowless is not None:
                    self._on_rowless(gaps)
        if self._on_items is not None:
            self._on_items(items)
        try:
            replaced = self._channel.send(items)
        except OverrunError as error:
            sent = int(str(error.details["sent"]))
            self.received += sum(isinstance(item, Frame) for item in items[:sent])
            raise
        self.received += sum(isinstance(item, Frame) for item in items) - replaced
        self.lost += replaced

    def _check_complete(self) -> None:
        """Nothing is lost silently: received + gaps >= expected.

        A source that hears late of a stop has more than the detector counts; nothing is missing.
        """
        expected = self._source.expected_frames()
        found = self.received + self.lost
        if expected is None or self._interrupted.is_set() or found >= expected:
            return
        raise PipelineError(
            f"{expected} frames were expected, {self.received} came and {self.lost} are known to "
            f"be missing: {expected - found} are unaccounted for",
            expected=expected,
            received=self.received,
            lost=self.lost,
        )
