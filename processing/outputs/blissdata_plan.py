"""What of a run goes into its blissdata scan, and under which names; nothing here needs blissdata.

Streams, one entry per frame unless said otherwise; where frames are summed up, those marked (*)
have one per sum:

- ``frame`` and the other sources: images; with several bands ``frame_band0``, ``frame_band1`` ...
  (* all but ``input_frame``)
- ``roi0_sum``, ``roi0_avg`` ...: statistics of each region, rectangles first, then arcs (*)
- ``profile0_sum`` ...: profiles, each entry as long as the profile (*)
- other results: ``<field>``, or ``<result>_<field>`` if a frame has several rows of it (*)
- ``ledger_code`` (a `Validity`), ``receiver`` (-1: none, or all), ``timestamp``
- ``sum_code``, ``sum_timestamp``: the same of saved sums, PARTIAL where a frame is missing (*)
- ``elapsed_time``, ``frame_rate``, ``saving_rate``: about one entry per second

A frame that is missing has its entry: not-a-number in results, its class in ``ledger_code``. What
was given up while Redis was away is not-a-number too, 255 in ``ledger_code`` and ``sum_code``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.record import RecordSpec
from lima2_core.system.ledger import OPEN
from lima2_core.system.outputs import RunView
from processing.outputs.blissdata_segments import Segments, segments_of

LEDGER, SUM_LEDGER, RATES = "ledger", "sum_ledger", "rates"
"""Groups that come from no record stream of the pipeline."""

FRAMES, SUMS = "frames", "sums"
"""What streams count: those that count the same have the same length in the end."""

LEDGER_RECORD = np.dtype([("ledger_code", "u1"), ("receiver", "<i2"), ("timestamp", "<f8")])
SUM_RECORD = np.dtype([("sum_code", "u1"), ("sum_timestamp", "<f8")])
RATE_RECORD = np.dtype([("elapsed_time", "<f8"), ("frame_rate", "<f8"), ("saving_rate", "<f8")])
_UNITS = {
    "timestamp": "s",
    "sum_timestamp": "s",
    "elapsed_time": "s",
    "frame_rate": "Hz",
    "saving_rate": "Hz",
}
_FILLS = {"ledger_code": OPEN, "sum_code": OPEN, "receiver": -1}
_INDICES = ("frame_idx", "recv_idx")
_STATISTICS, _PROFILES = "roi_statistics", "roi_profiles"
_MAIN_SOURCE = "frame"


@dataclass(frozen=True, slots=True)
class Column:
    """One numeric stream."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    take: Callable[[NDArray[Any]], NDArray[Any]]
    """Its values out of records.

    Shapes: (frames, rows) of the records -> (frames, *shape).
    """
    fill: float = np.nan
    unit: str = ""

    @property
    def entry_bytes(self) -> int:
        """Bytes of one entry."""
        return max(1, int(np.prod(self.shape, dtype=np.int64))) * self.dtype.itemsize

    def values(self, records: NDArray[Any]) -> NDArray[Any]:
        """Entries, as they are sent."""
        return np.ascontiguousarray(self.take(records), self.dtype)

    def fills(self, count: int) -> NDArray[Any]:
        """Entries of which nothing is known any more."""
        return np.full((count, *self.shape), self.fill, self.dtype)


@dataclass(frozen=True, slots=True)
class Group:
    """Numeric streams that come from the same records, and so grow together."""

    name: str
    columns: tuple[Column, ...]
    spec: RecordSpec | None = None
    """Of the records of the pipeline; None for ledger and rates."""
    counts: str = FRAMES
    nb_entries: int = 0
    """Entries it will have; 0 if not known."""

    @property
    def entry_bytes(self) -> int:
        """Bytes of one entry in all columns."""
        return sum(column.entry_bytes for column in self.columns)


@dataclass(frozen=True, slots=True)
class Images:
    """One stream of images: one band of one source."""

    name: str
    source: str
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    server: str
    """Tango name of the device that serves them; empty if they are in files only."""
    segments: Segments | None
    """Files they are in; None if they are in memory only."""
    nb_frames: int
    """Images of the run; 0 if not known."""
    counts: str = FRAMES


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """Everything that is known of a scan before its first frame."""

    acq_id: str
    identity: Mapping[str, Any]
    """As blissdata wants it, without the number."""
    info: Mapping[str, Any]
    groups: tuple[Group, ...]
    images: tuple[Images, ...]


def is_tango_name(device: str) -> bool:
    """Whether images can be asked for at ``device``; it has three parts, or is a whole URL."""
    return device.count("/") >= 2


def images_of(run: RunView, settings: Mapping[str, str]) -> Iterator[Images]:
    """The streams of images.

    A device serves one band of one source; the others can be read from files, if there are any.
    """
    main = _MAIN_SOURCE if _MAIN_SOURCE in run.sources else next(iter(run.sources), "")
    for source, spec in run.sources.items():
        bands, rows, cols = spec.shape
        for band in range(bands):
            is_main = source == main and band == 0
            server = run.device if is_main and is_tango_name(run.device) else ""
            segments = segments_of(run, source, band, settings)
            if server or segments is not None:
                name = source if bands == 1 else f"{source}_band{band}"
                yield Images(
                    name,
                    source,
                    spec.dtype,
                    (rows, cols),
                    server,
                    segments,
                    run.expected_of(source) or 0,
                    _counted(run, source),
                )


def groups_of(run: RunView) -> Iterator[Group]:
    """The numeric streams."""
    for name, stream in run.streams.items():
        spec = stream.spec
        columns = tuple(_columns_of(spec, run.processing))
        if columns:
            yield Group(name, columns, spec, _counted(run, name), run.expected_of(name) or 0)
    yield Group(LEDGER, _fields_of(LEDGER_RECORD), nb_entries=run.ledger.expected or 0)
    if (source := summed_source(run)) is not None:
        expected = run.expected_of(source) or 0
        yield Group(SUM_LEDGER, _fields_of(SUM_RECORD), counts=SUMS, nb_entries=expected)
    yield Group(RATES, _fields_of(RATE_RECORD), counts=RATES)


def summed_source(run: RunView) -> str | None:
    """A saved source of sums; all sums of a run have the same indices. None if there is none."""
    return next((source for source in run.saved if run.depth_of(source) > 1), None)


def _counted(run: RunView, name: str) -> str:
    """What a source or a stream counts."""
    return FRAMES if run.depth_of(name) == 1 else SUMS


def _columns_of(spec: RecordSpec, processing: Mapping[str, Any]) -> Iterator[Column]:
    fields = [name for name in spec.dtype.names or () if name not in _INDICES]
    for prefix, first, length in _places(spec, processing):
        for name in fields:
            # Integers have no not-a-number for frames that are missing.
            kind = spec.dtype[name]
            dtype = kind if kind.kind == "f" else np.dtype(np.float64)
            rows = first if length is None else slice(first, first + length)
            shape = () if length is None else (length,)
            take = partial(_part, field=name, rows=rows)
            yield Column(f"{prefix}{name}", dtype, shape, take)


def _places(
    spec: RecordSpec, processing: Mapping[str, Any]
) -> Iterator[tuple[str, int, int | None]]:
    """Where the parts of the rows of a frame begin: prefix, first row, length (None: a number)."""
    rows = spec.rows_per_frame
    if spec.name == _STATISTICS:
        yield from ((f"roi{n}_", n, None) for n in range(rows))
    elif spec.name == _PROFILES and sum(lengths := _profile_lengths(processing)) == rows:
        first = 0
        for n, length in enumerate(lengths):
            yield f"profile{n}_", first, length
            first += length
    elif rows == 1:
        yield "", 0, None
    else:
        yield f"{spec.name}_", 0, rows


def _profile_lengths(processing: Mapping[str, Any]) -> list[int]:
    params = processing.get("profiles", {})
    return [
        int(roi["dimensions"]["x" if direction == "horizontal" else "y"])
        for roi, direction in zip(
            params.get("rois", ()), params.get("directions", ()), strict=False
        )
    ]


def _fields_of(dtype: np.dtype[Any]) -> tuple[Column, ...]:
    """Each field of records of which a frame has one."""
    return tuple(
        Column(
            name,
            dtype[name],
            (),
            partial(_field, field=name),
            _FILLS.get(name, np.nan),
            _UNITS.get(name, ""),
        )
        for name in dtype.names or ()
    )


def _field(records: NDArray[Any], field: str) -> NDArray[Any]:
    values: NDArray[Any] = records[field]
    return values


def _part(records: NDArray[Any], field: str, rows: int | slice) -> NDArray[Any]:
    values: NDArray[Any] = records[:, rows][field]
    return values
