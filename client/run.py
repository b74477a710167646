"""One acquisition: its frames, results, ledger, progress and files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from client import wire
from client.decode import decode_frame
from client.errors import IncompleteError, NotAvailableError
from client.files import SavedFrames
from client.frames import OPEN, THERE, Frame, Gap, Validity
from client.ledger import Ledger, counts_of
from client.link import Device
from client.news import decode_news, dtype_of
from client.progress import Progress
from client.results import Results
from client.waiting import Wait

_ENTRIES = 4096
"""Entries of the ledger asked for at once while frames are read."""
_ALIASES = {"roi": wire.STATISTICS_STREAM, "profiles": wire.PROFILES_STREAM}
_MAIN, _INPUT = "frame", "input_frame"
"""Processed frames, and frames as they come from the camera."""

_Known: TypeAlias = tuple[int, NDArray[Any], NDArray[Any]]
"""Index of the first of some frames, and the classes and times of all of them."""


class Run:
    """One acquisition of a system, as the server knows it.

    Args:
        uuid: its id.
        device: the device of the run.
        control: the control device that made it.

    Threads: everything from any thread; an iterator by one at a time.
    """

    def __init__(self, uuid: str, device: Device, control: Device) -> None:
        self.uuid = uuid
        self._device = device
        self._control = control
        self._end_phase = ""
        self._verdict = ""
        self._counts: Mapping[Validity, int] = {}
        self._files: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Run {self.uuid} on {self._control.name}>"

    # How it goes

    @property
    def phase(self) -> str:
        """prepared, running, draining, ending, done, incomplete or discarded."""
        if not self._end_phase:
            phase = str(self._device.read(wire.PHASE))
            if phase not in wire.END_PHASES:
                return phase
            self._verdict = str(self._device.read(wire.VERDICT))
            self._counts = self._read_counts()
            self._files = self._read_files()
            self._end_phase = phase
        return self._end_phase

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.phase in wire.END_PHASES

    @property
    def complete(self) -> bool:
        """Whether it ended as its policy allows, without too many frames missing."""
        return self.phase == "done"

    @property
    def counts(self) -> Mapping[Validity, int]:
        """Frames in each class so far; those that are empty are left out."""
        return self._counts if self.ended else self._read_counts()

    @property
    def verdict(self) -> str:
        """What became of the frames, in a sentence."""
        return self._verdict if self.ended else str(self._device.read(wire.VERDICT))

    @property
    def status(self) -> str:
        """How it goes, in a sentence."""
        return str(self._device.read(wire.STATUS))

    @property
    def stuck(self) -> str:
        """What it waits for; empty if it goes on."""
        return str(self._device.read(wire.STUCK))

    @property
    def troubles(self) -> tuple[str, ...]:
        """Outputs that do not work at present."""
        return tuple(self._device.read(wire.TROUBLES) or ())

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return Progress.from_json(self._device.read(wire.PROGRESS))

    @property
    def ledger(self) -> Ledger:
        """What became of every frame; of those that are still open, nothing."""
        verdict = self.verdict
        pieces: list[dict[str, Any]] = []
        first, end = 0, 1
        while first < end:
            tree, arrays = self._entries(first, -1)
            parts, end = int(tree["parts"]), int(tree["end"])
            pieces.append({**arrays, "row": arrays["row"].reshape(-1, parts)})
            first += len(arrays["code"])
            if not len(arrays["code"]):
                break
        whole = {
            name: np.concatenate([piece[name] for piece in pieces])
            for name in ("code", "receiver", "row", "timestamp_s")
        }
        return Ledger(**whole, verdict=verdict)

    @property
    def parameters(self) -> dict[str, Any]:
        """What was asked for, what the detector took, and how it was done."""
        return dict(json.loads(self._device.read(wire.PARAMETERS)))

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait for its end: all frames taken, processed and saved, and the books closed.

        Args:
            timeout_s: None for no limit, as long as the server answers.

        Raises:
            DeadlineError: it has not ended; it goes on.
            NotAvailableError: it is gone; the server was restarted, say.
            UnreachableError: the server does not answer any more.
        """
        wait = Wait(f"the end of run {self.uuid}", timeout_s)
        while not wait.ask(lambda: self.ended):
            wait.pause()
        return self

    def check(self) -> Self:
        """Make sure that it ended well.

        Raises:
            IncompleteError: frames are missing, or it has not ended.
        """
        if not self.complete:
            raise IncompleteError(f"run {self.uuid} is {self.phase}: {self.verdict}", run=self.uuid)
        return self

    def process(self) -> None:
        """Begin to process what was only collected (parameter ``deferred``)."""
        self._control.call(wire.PROCESS, self.uuid)

    def erase(self) -> None:
        """Have the server forget it; files stay."""
        self._control.call(wire.ERASE, self.uuid)

    # Notes

    def note(self, name: str, value: bool | float | str | Sequence[float], unit: str = "") -> float:
        """Attach a value to the run as of now, such as the temperature of the sample.

        As often as needed, at any time until all frames are saved; the master file has all of
        them with their times.

        Args:
            name: of what it is; letters, digits and ``_``.
            value: boolean, number, text, or list of numbers; of one kind for each name.
            unit: of the values of this name, such as "K".

        Returns:
            The time of the server, seconds since 1970.

        Raises:
            ParamError: name or value are not possible, or there are too many.
            NotAvailableError: it is too late.
        """
        asked = {"name": name, "value": _plain(value), "unit": unit}
        return float(self._device.call(wire.ADD_NOTE, json.dumps(asked)))

    @property
    def readings(self) -> Mapping[str, Mapping[str, float]]:
        """What pipelines tell besides frames, by receiver and name; the drift of a pedestal."""
        return dict(json.loads(self._device.read(wire.READINGS)))

    @property
    def notes(self) -> Mapping[str, Mapping[str, Any]]:
        """The newest note of every name: value, unit, time (seconds since 1970), and count."""
        return dict(json.loads(self._device.read(wire.NOTES)))

    # Files

    @property
    def files(self) -> tuple[str, ...]:
        """Master file and other results, as the computer of the control names them."""
        return self._files if self._end_phase else self._read_files()

    @property
    def master_file(self) -> Path | None:
        """The file that shows all frames in the order of their indices; None if there is none."""
        return next((Path(one) for one in self.files if one.endswith(wire.MASTER_SUFFIX)), None)

    # Frames

    @property
    def sources(self) -> Mapping[str, Mapping[str, Any]]:
        """Frames that can be read, by name: shape, dtype, unit, and ``depth``, frames in each."""
        return dict(json.loads(self._device.read(wire.SOURCES)))

    def frame(self, idx: int = -1, source: str = "") -> Frame:
        """One frame; of a frame that is missing the pixels are 0, see `ledger`.

        Args:
            idx: index in the acquisition; -1 is the newest.
            source: one of `sources`; empty for the processed frames, else those of the camera.

        Raises:
            NotAvailableError: not available yet, or not any more.
        """
        asked = json.dumps({"idx": idx, "source": source})
        found = decode_frame(self._device.call(wire.GET_FRAME, asked))
        return Frame(found.idx, found.data)

    def frames(
        self,
        start: int = 0,
        stop: int | None = None,
        source: str = "",
        timeout_s: float | None = None,
    ) -> Iterator[Frame | Gap]:
        """All frames in the order of their indices, those that are there and those that come.

        It ends with the last frame that was exposed. A frame that is missing is a `Gap`.

        Args:
            start: first index.
            stop: index behind the last one.
            source: as for `frame`.
            timeout_s: limit for the time until the next frame; None for no limit, as long as the
                server answers.

        Raises:
            DeadlineError: no frame came within ``timeout_s``.
            NotAvailableError: the run is gone.
        """
        source = self._main(source)
        saved = SavedFrames(lambda: self.master_file if source == _MAIN else None)
        following = start
        try:
            for first, codes, times_s in self._known(start, stop, source, timeout_s):
                # Those never sent are gaps only if a later one was sent: else all are over.
                for n in np.flatnonzero(codes != Validity.NEVER_SENT).tolist():
                    idx, code = first + n, Validity(codes[n])
                    yield from (Gap(one, Validity.NEVER_SENT) for one in range(following, idx))
                    following = idx + 1
                    if code in THERE:
                        yield self._fetched(idx, code, float(times_s[n]), source, saved)
                    else:
                        yield Gap(idx, code)
        finally:
            saved.close()

    def results(self, name: str = "roi", timeout_s: float | None = None) -> Results:
        """Records that the pipeline makes of every frame.

        Args:
            name: one of `streams`; "roi" and "profiles" stand for statistics and profiles.
            timeout_s: limit for the time until the next batch.

        Raises:
            NotAvailableError: there is no such stream.
        """
        streams = self.streams
        found = streams.get(_ALIASES.get(name, name)) or streams.get(name)
        if found is None:
            known = ", ".join(streams) or "none"
            raise NotAvailableError(
                f"run {self.uuid} makes no results {name!r}; there are: {known}", stream=name
            )
        return found if timeout_s is None else found.with_limit(timeout_s)

    @property
    def streams(self) -> Mapping[str, Results]:
        """All results, by name."""
        told = json.loads(self._device.read(wire.STREAMS))
        return {
            name: Results(self._device, name, dtype_of(one["dtype"]), int(one["rows_per_frame"]))
            for name, one in told.items()
        }

    # How it works

    def _read_files(self) -> tuple[str, ...]:
        return tuple(self._device.read(wire.FILES) or ())

    def _read_counts(self) -> Mapping[Validity, int]:
        return counts_of(self._device.read(wire.LEDGER_COUNTS))

    def _entries(self, first: int, last: int) -> tuple[dict[str, Any], dict[str, Any]]:
        return decode_news(self._device.call(wire.READ_LEDGER, [first, last]))

    def _source_entries(self, asked: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return decode_news(self._device.call(wire.READ_SOURCE_LEDGER, json.dumps(asked)))

    def _main(self, source: str) -> str:
        """The name of a source; of the main one, if none is given."""
        names = self.sources
        if source and source not in names:
            known = ", ".join(names) or "none"
            raise NotAvailableError(f"there are no frames {source!r}; there are: {known}")
        return source or next((one for one in (_MAIN, _INPUT) if one in names), "")

    def _depth(self, source: str) -> int:
        """Frames of the detector in one frame of a source."""
        return int(self.sources.get(source, {}).get("depth", 1))

    def _known(
        self, start: int, stop: int | None, source: str, timeout_s: float | None
    ) -> Iterator[_Known]:
        """What became of the frames of a source, as soon as they can be read."""
        of_source = self._sums if self._depth(source) > 1 else self._settled
        return of_source(start, stop, source, timeout_s)

    def _settled(
        self, start: int, stop: int | None, source: str, timeout_s: float | None
    ) -> Iterator[_Known]:
        """Frames as the detector gave them: as soon as their class is known."""
        wait = Wait(f"the next frame of run {self.uuid}", timeout_s)
        idx = start
        while stop is None or idx < stop:
            over = wait.ask(lambda: self.phase in wire.SETTLED_PHASES)
            last = idx + _ENTRIES if stop is None else min(stop, idx + _ENTRIES)
            _, arrays = wait.ask(lambda first=idx, last=last: self._entries(first, last))  # type: ignore[misc]
            codes = arrays["code"]
            is_open = np.flatnonzero(codes == OPEN)
            known = int(is_open[0]) if len(is_open) else len(codes)
            if known:
                yield idx, codes[:known], arrays["timestamp_s"][:known]
                idx += known
                wait.progressed()
            elif over:
                return
            else:
                wait.pause()

    def _sums(
        self, start: int, stop: int | None, source: str, timeout_s: float | None
    ) -> Iterator[_Known]:
        """Frames that are sums of several: as soon as they can be had."""
        wait = Wait(f"the next frame of run {self.uuid}", timeout_s)
        idx = start
        while stop is None or idx < stop:
            over = wait.ask(lambda: self.phase in wire.SETTLED_PHASES)
            there = int(wait.ask(lambda: self.sources)[source]["accessible"])
            last = there if stop is None else min(stop, there)
            if idx < last:
                asked = {"source": source, "first": idx, "last": last}
                _, arrays = wait.ask(lambda asked=asked: self._source_entries(asked))  # type: ignore[misc]
                codes = arrays["code"]
                # Where nobody knows what it is a sum of, it is asked for.
                yield idx, np.where(codes == OPEN, Validity.VALID, codes), arrays["timestamp_s"]
                idx += len(codes)
                wait.progressed()
            elif over:
                return
            else:
                wait.pause()

    def _fetched(
        self, idx: int, validity: Validity, timestamp_s: float, source: str, saved: SavedFrames
    ) -> Frame | Gap:
        try:
            data = Wait(f"frame {idx}").ask(lambda: self.frame(idx, source).data)
        except NotAvailableError as error:
            # Memory holds the last frames only; what was saved can be read from the files.
            found = saved.get(idx)
            if found is None:
                return Gap(idx, validity, error.message)
            data = found.data
        return Frame(idx, data, validity, timestamp_s)


def _plain(value: Any) -> Any:
    """A value for JSON; numbers and arrays of numpy too."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
