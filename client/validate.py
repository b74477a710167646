"""Is a master file what it says: the checks of ``lima2 validate``.

HDF5 reads what it cannot find as fill value without a word. So every frame is followed to the file
of the receiver that has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.files import HDF5_ERRORS, MasterFile, Segment
from client.frames import NOT_LOST, THERE, Validity
from client.validate_hits import followed_hits, read_hits, whole_hits
from client.validate_mapped import mapped_fields, mapped_images, told_by_receivers
from client.validate_places import Table
from client.validate_sources import Anomaly, Sources, ranges, text_of

_TABLES = ("frame_idx", "validity", "receiver", "row")


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    path: Path
    frames: int
    valid: int
    gaps: int
    verdict: str
    """Of the run, as the file tells it."""
    anomalies: Sequence[Anomaly]


def validate(path: Path, *, pixels: bool = True) -> Report:
    """Check a master file against its ledger and its data.

    Args:
        path: of the index file.
        pixels: whether to read every frame too; else only where it is.

    Raises:
        StorageError: it cannot be opened, or is no master file.
        ClientError: h5py is not installed.
    """
    with MasterFile(path) as master:
        codes = np.empty(0, np.uint8)
        anomalies: list[Anomaly] = []
        try:
            codes = master.codes
            anomalies += _index(master, codes)
        except HDF5_ERRORS as error:
            anomalies.append(Anomaly(path.name, f"it cannot be read: {error}"))
        uuid = text_of(master.entry, "entry_identifier_uuid")
        sources = Sources(uuid)
        for segment in master.segments:
            anomalies += _segment(master, segment, sources, uuid, pixels=pixels)
        if master.final:
            anomalies += _whole(master, sources, pixels=pixels)
        verdict = str(master.entry["ledger"].attrs.get("verdict", ""))
        there = int(np.count_nonzero(np.isin(codes, THERE)))
        return Report(
            path,
            frames=len(codes),
            valid=int(np.count_nonzero(codes == Validity.VALID)),
            gaps=len(codes) - there,
            verdict=verdict,
            anomalies=anomalies,
        )


# The index


def _index(master: MasterFile, codes: NDArray[np.uint8]) -> Iterator[Anomaly]:
    where = master.path.name
    if not master.final:
        yield Anomaly(where, "it is not final: the run goes on, or nobody wrote its end")
    else:
        yield from _tables(where, master.detector, 0, len(codes))
        yield from _counts(where, master.entry, codes)
    following = 0
    for n, segment in enumerate(master.segments):
        if segment.number != n:
            yield Anomaly(where, f"segment {n} is missing")
            return
        if segment.first != following:
            yield Anomaly(where, f"segment {n} begins with frame {segment.first}, not {following}")
        following = segment.first + segment.length
    if following != len(codes):
        yield Anomaly(where, f"the segments have {following} frames, the index {len(codes)}")


def _tables(where: str, detector: Any, first: int, length: int) -> Iterator[Anomaly]:
    for name in _TABLES:
        if name not in detector:
            yield Anomaly(where, f"there is no {name}")
        elif len(detector[name]) != length:
            yield Anomaly(where, f"{name} has {len(detector[name])} entries for {length} frames")
        elif name == "frame_idx":
            wrong = np.flatnonzero(detector[name][()] != np.arange(first, first + length))
            if len(wrong):
                yield Anomaly(where, f"frame_idx is wrong for frames {ranges(wrong + first)}")


def _counts(where: str, entry: Any, codes: NDArray[np.uint8]) -> Iterator[Anomaly]:
    """The books against the codes: frames that were never sent are not listed at the end."""
    told = dict(entry["ledger"].attrs)
    if "verdict" not in told:
        yield Anomaly(where, "the ledger has no verdict")
        return
    found = np.bincount(codes, minlength=256)
    counts = {code: int(told.get(code.name, 0)) for code in Validity}
    for code, count in counts.items():
        listed = int(found[code])
        if listed != count and not (code is Validity.NEVER_SENT and listed < count):
            yield Anomaly(
                where, f"the ledger counts {count} frames {code.words}, the index lists {listed}"
            )
    expected = int(told.get("nb_frames_expected", -1))
    if expected >= 0 and sum(counts.values()) != expected:
        yield Anomaly(
            where,
            f"the classes of the ledger add up to {sum(counts.values())} of {expected} frames",
        )
    lost = sum(count for code, count in counts.items() if code not in NOT_LOST)
    if lost != int(told.get("nb_frames_lost", lost)):
        yield Anomaly(where, f"{told['nb_frames_lost']} frames are lost by the ledger, not {lost}")
    unknown = sorted(set(np.unique(codes).tolist()) - {int(code) for code in Validity})
    if unknown:
        yield Anomaly(where, f"there are frames with codes that mean nothing: {unknown}")


def _whole(master: MasterFile, sources: Sources, *, pixels: bool) -> Iterator[Anomaly]:
    """What the index shows of all frames, if it does: the same as the segments."""
    first = master.segments[0] if master.segments else None
    if first is None or first.name not in master.detector:
        return
    where = f"{master.path.name}, {first.dataset}"
    whole = master.detector[first.name]
    try:
        table = Table.of(master.detector, 0, master.path, first.path.name)
        if master.has_hits:
            yield from followed_hits(where, whole, table, sources, first.dataset)
        else:
            if len(whole) != len(master):
                yield Anomaly(where, f"it has {len(whole)} frames of {len(master)}")
                return
            yield from mapped_images(where, master.detector, table, sources, first.dataset)
        yield from mapped_fields(master.path.name, master.detector, table, sources, first.dataset)
        if not pixels:
            return
        if master.has_hits:
            yield from whole_hits(where, master, whole)
        else:
            yield from _same_images(where, master, whole)
    except HDF5_ERRORS as error:
        yield Anomaly(where, f"it cannot be read: {error}")


def _same_images(where: str, master: MasterFile, whole: Any) -> Iterator[Anomaly]:
    wrong: list[int] = []
    for segment in master.segments:
        try:
            data = master.segment(segment)[segment.name]
            for n in range(segment.length):
                if not np.array_equal(whole[segment.first + n], data[n], equal_nan=_floats(data)):
                    wrong.append(segment.first + n)
        except HDF5_ERRORS:
            continue  # told of the segment
    if wrong:
        yield Anomaly(where, f"frames {ranges(wrong)} differ from those in the segments")


# The segments


def _segment(
    master: MasterFile,
    segment: Segment,
    sources: Sources,
    uuid: str,
    *,
    pixels: bool,
) -> Iterator[Anomaly]:
    where = segment.path.name
    try:
        detector = master.segment(segment)
        if text_of(detector.file[detector.file.attrs["default"]], "entry_identifier_uuid") != uuid:
            yield Anomaly(where, "it belongs to another run")
            return
        anomalies = list(_tables(where, detector, segment.first, segment.length))
        yield from anomalies
        if anomalies:
            return
        here = np.asarray(detector["validity"][()], np.uint8)
        shown = (np.asarray(detector["row"][()]).reshape(len(here), -1) >= 0).any(axis=1)
        if (shown != np.isin(here, THERE)).any():
            wrong = np.flatnonzero(shown != np.isin(here, THERE)) + segment.first
            yield Anomaly(where, f"frames {ranges(wrong)} have a row and are gaps, or have none")
        if master.final:
            yield from _same_tables(where, master.detector, detector, segment)
        data = detector[segment.name]
        table = Table.of(detector, segment.first, segment.path, segment.path.name)
        if master.has_hits:
            yield from followed_hits(where, data, table, sources, segment.dataset)
            yield from told_by_receivers(where, table, sources, f"{segment.dataset}/intensity")
        else:
            if len(data) != segment.length:
                yield Anomaly(where, f"it shows {len(data)} frames of {segment.length}")
                return
            yield from mapped_images(where, detector, table, sources, segment.dataset, follow=True)
            yield from told_by_receivers(where, table, sources, segment.dataset)
            yield from _fields(where, detector, here, segment.first)
        yield from mapped_fields(where, detector, table, sources, segment.dataset)
        if pixels and master.has_hits:
            yield from read_hits(where, data, segment.first)
        elif pixels:
            yield from _pixels(where, data, here, segment.first)
    except HDF5_ERRORS as error:
        yield Anomaly(where, f"it cannot be read: {error}")


def _same_tables(where: str, index: Any, detector: Any, segment: Segment) -> Iterator[Anomaly]:
    """What the segment tells of its frames, and what the index tells of them."""
    for name in _TABLES[1:]:
        whole = index[name][segment.first : segment.first + segment.length]
        part = detector[name][()]
        same = np.asarray(whole == part).reshape(len(part), -1).all(axis=1)
        if not same.all():
            wrong = np.flatnonzero(~same) + segment.first
            yield Anomaly(where, f"{name} of frames {ranges(wrong)} is not that of the index")


def _pixels(where: str, data: Any, codes: NDArray[np.uint8], first: int) -> Iterator[Anomaly]:
    unreadable: list[int] = []
    filled: list[int] = []
    reason = ""
    for n, code in enumerate(codes):
        try:
            image = data[n]
        except HDF5_ERRORS as error:
            unreadable.append(n)
            reason = reason or str(error)
            continue
        if code not in THERE and _is_set(image, data.fillvalue).any():
            filled.append(n)
    if unreadable:
        yield Anomaly(
            where, f"frames {ranges(np.array(unreadable) + first)} cannot be read: {reason}"
        )
    if filled:
        yield Anomaly(where, f"gaps {ranges(np.array(filled) + first)} have pixels that are set")


def _fields(where: str, detector: Any, codes: NDArray[np.uint8], first: int) -> Iterator[Anomaly]:
    """What the camera told of the frames, if the file shows it: of gaps, nothing."""
    gaps = np.flatnonzero(~np.isin(codes, THERE))
    for name, values in detector.get("frame_metadata", {}).items():
        if len(values) != len(codes):
            yield Anomaly(where, f"{name} has {len(values)} entries for {len(codes)} frames")
            continue
        if not len(gaps):
            continue
        told = _is_set(values[()][gaps], values.fillvalue).reshape(len(gaps), -1).any(axis=1)
        if told.any():
            yield Anomaly(where, f"{name} is told of gaps {ranges(gaps[told] + first)}")


def _is_set(values: Any, fill: Any) -> NDArray[np.bool_]:
    """Where values are not those that stand for nothing, which may be NaN."""
    found: NDArray[np.bool_] = ~np.isnan(values) if fill != fill else values != fill
    return found


def _floats(data: Any) -> bool:
    return bool(data.dtype.kind == "f")
