"""What a prepared run will need against what is there: disk, memory, speed.

What may go wrong is told as warnings. Refused is only what cannot go well: files that would not fit
on the disk even if they were compressed a hundredfold, or, without compression, at all.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lima2_core.errors import ParamError, StorageError
from lima2_core.system.progress import frame_bytes
from lima2_core.system.run import SystemRun
from lima2_core.system.sentences import told_once

MOST_FRAMES = 50_000_000
"""The books on a run take some forty bytes for each of its frames."""
BEST_COMPRESSION = 100
"""More than that is not hoped for when a run is refused."""
_MEMORY_PERCENT = 80.0
_SLOWER = 1.05
_GIB = 2**30
_UNCOMPRESSED = "none"


@dataclass(frozen=True, slots=True)
class SavedDemand:
    """Files of one source."""

    folder: str
    frame_bytes: int
    compressed: bool


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run asks for."""

    frames: int | None
    """None: until it is stopped."""
    period_s: float
    frame_bytes: int
    receivers: int
    saved: tuple[SavedDemand, ...] = ()
    deferred: bool = False
    remarks: tuple[tuple[str, str], ...] = ()
    """What receivers have to say, by their names."""

    @property
    def saved_bytes(self) -> int:
        """Bytes of all files without compression; 0 if the number of frames is not known."""
        return (self.frames or 0) * sum(one.frame_bytes for one in self.saved)


@dataclass(frozen=True, slots=True)
class Experience:
    """What an earlier run showed."""

    frame_bytes: int
    rate_hz: float
    bottleneck: str
    """The queue that was full; empty if none was."""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory for frames of one receiver."""

    receiver: str
    used_bytes: int
    limit_bytes: int


FreeBytes = Callable[[str], tuple[int, int] | None]
"""File system (any number that tells it from others) and free bytes of a folder, if it is seen."""


def check_length(nb_frames: int) -> None:
    """Refuse a run that is too long for its books.

    Raises:
        ParamError: it is.
    """
    if nb_frames > MOST_FRAMES:
        raise ParamError(
            f"books are kept on every frame of a run, {MOST_FRAMES} at most, not {nb_frames}; "
            "take fewer, or 0 to go on until a stop",
            path="acq.nb_frames",
        )


def disk_of(folder: str) -> tuple[int, int] | None:
    """File system of a folder and free bytes there; None if it is not seen from here."""
    try:
        return os.stat(folder).st_dev, shutil.disk_usage(folder).free
    except OSError:
        return None


def demand_of(run: SystemRun) -> Demand:
    """What a run asks for."""
    acq = run.view.applied["acq"]
    return Demand(
        frames=run.expected,
        period_s=(int(acq["expo_time"]) + int(acq["latency_time"])) * 1e-6,
        frame_bytes=frame_bytes(run),
        receivers=len(run.members),
        saved=tuple(
            SavedDemand(
                saved.files[0].folder,
                saved.spec.nbytes // (run.layout.depth_of(name) * saved.files[0].sampling),
                _compressed(run.order.processing, saved.files[0].prefix),
            )
            for name, saved in run.view.saved.items()
            # How many hits frames have nobody knows.
            if not saved.files[0].hits
        ),
        deferred=run.order.deferred,
        remarks=tuple(
            (member.name, text)
            for member, description in zip(run.members, run.descriptions, strict=True)
            for text in description.remarks
        ),
    )


def preflight(
    demand: Demand,
    rooms: Sequence[Room] = (),
    experiences: Sequence[Experience] = (),
    disk: FreeBytes = disk_of,
) -> tuple[str, ...]:
    """Warnings for people; empty if nothing speaks against the run.

    Raises:
        StorageError: the disk cannot hold the files, however well they are compressed.
    """
    return (
        *_of_disk(demand, disk),
        *_of_memory(demand, rooms),
        *_of_speed(demand, experiences),
        *told_once(demand.remarks),
    )


def _of_disk(demand: Demand, disk: FreeBytes) -> list[str]:
    warnings = []
    needed: dict[int, tuple[str, int, int, int]] = {}
    for one in demand.saved:
        found = disk(one.folder)
        if found is None:
            warnings.append(f"{one.folder} is not seen from here: its free space is not known")
            continue
        device, free_bytes = found
        nbytes = (demand.frames or 0) * one.frame_bytes
        least = nbytes // BEST_COMPRESSION if one.compressed else nbytes
        _, before, before_least, _ = needed.get(device, ("", 0, 0, 0))
        needed[device] = (one.folder, before + nbytes, before_least + least, free_bytes)
    for folder, nbytes, least, free_bytes in needed.values():
        if least > free_bytes:
            raise StorageError(
                f"{folder} has {free_bytes / _GIB:.3g} GiB left, and the run needs "
                f"{nbytes / _GIB:.3g} GiB before compression: free some, take fewer frames, or "
                "choose another folder",
                file=folder,
            )
        if nbytes > free_bytes:
            warnings.append(
                f"{folder} has {free_bytes / _GIB:.3g} GiB left: it holds the "
                f"{nbytes / _GIB:.3g} GiB of this run only if they are compressed "
                f"{math.ceil(10 * nbytes / max(1, free_bytes)) / 10:g} times"
            )
    return warnings


def _of_memory(demand: Demand, rooms: Sequence[Room]) -> list[str]:
    warnings = []
    for room in rooms:
        if not room.limit_bytes:
            continue
        percent = 100 * room.used_bytes / room.limit_bytes
        if percent > _MEMORY_PERCENT:
            warnings.append((room.receiver, f"{percent:.0f} % of the buffers are in use already"))
        share = (demand.frames or 0) * demand.frame_bytes // max(1, demand.receivers)
        if demand.deferred and share > room.limit_bytes - room.used_bytes:
            sentence = (
                f"no room to collect all of the {share / _GIB:.3g} GiB of a receiver: processing "
                "will begin before it is asked for"
            )
            warnings.append((room.receiver, sentence))
    return told_once(warnings)


def _of_speed(demand: Demand, experiences: Sequence[Experience]) -> list[str]:
    asked_hz = 1 / demand.period_s if demand.period_s > 0 else math.inf
    alike = [
        one
        for one in experiences
        if one.bottleneck and 0.9 * one.frame_bytes <= demand.frame_bytes and one.rate_hz > 0
    ]
    if not alike:
        return []
    last = alike[-1]
    if asked_hz <= _SLOWER * last.rate_hz:
        return []
    return [
        f"an earlier run of such frames went at {last.rate_hz:.0f} frames/s, as queue "
        f"{last.bottleneck!r} was full; this one asks for {asked_hz:.0f}"
    ]


def _compressed(processing: Mapping[str, object], prefix: str) -> bool:
    """Whether the files of this prefix are compressed."""
    for group in processing.values():
        if isinstance(group, Mapping) and group.get("filename_prefix") == prefix:
            return str(group.get("compression", _UNCOMPRESSED)) != _UNCOMPRESSED
    return True
