"""Do the mappings of a master lead every frame to the row that has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.frames import THERE
from client.validate_places import Axes, Led, Mappings, Table
from client.validate_sources import Anomaly, Sources, ranges


def mapped_images(
    where: str,
    detector: Any,
    table: Table,
    sources: Sources,
    path: str,
    *,
    follow: bool = False,
) -> Iterator[Anomaly]:
    """The images, and those of single bands if there are any.

    Args:
        where: what anomalies of the images name.
        detector: group of the master that has them.
        table: where frames are.
        sources: files of receivers.
        path: of the images, in files of receivers too.
        follow: whether the rows in these files are to be looked at, too.
    """
    name = path.rpartition("/")[2]
    # Images that were copied into the index are to be compared, not to be followed.
    if follow or detector[name].is_virtual:
        yield from _mapped(where, detector[name], table, sources, path, follow=follow)
    for other in detector:
        _, found, band = other.partition(f"{name}_band")
        if found and band.isdecimal():
            one = f"{where.partition(',')[0]}, {other}"
            yield from _mapped(one, detector[other], table, sources, path, band=int(band))


def mapped_fields(
    where: str, detector: Any, table: Table, sources: Sources, path: str
) -> Iterator[Anomaly]:
    """What the camera told of every frame, if it is shown; else as `mapped_images`."""
    for name, data in detector.get("frame_metadata", {}).items():
        at = f"frame_metadata/{name}"
        field = f"{path.rpartition('/')[0]}/{at}"
        yield from _mapped(f"{where}, {at}", data, table, sources, path, field=field)


def told_by_receivers(
    where: str, table: Table, sources: Sources, dataset: str
) -> Iterator[Anomaly]:
    """The table against the indices of rows in the files of receivers, where these have them."""
    for path, frame, _, row in table.by_file(sources, dataset):
        found = sources.look(path, dataset)
        if isinstance(found, str):
            continue
        here = row < len(found.frame_idx)
        idx, at = frame[here] + table.first, row[here]
        others = idx[(found.frame_idx[at] != idx) & np.isin(found.codes[at], THERE)]
        if len(others):
            yield Anomaly(
                where, f"the rows of frames {ranges(others)} are of others in {path.name}"
            )


def _mapped(
    where: str,
    data: Any,
    table: Table,
    sources: Sources,
    path: str,
    *,
    band: int | None = None,
    field: str = "",
    follow: bool = False,
) -> Iterator[Anomaly]:
    """Do mappings lead to the rows that the table tells, and to the right place in them.

    Args:
        where: what anomalies name.
        data: the virtual dataset.
        table: where frames are.
        sources: files of receivers.
        path: where files of receivers have the images.
        band: which one is shown, if each has a dataset of its own.
        field: where these files have what is shown, if it is no image; it has an axis for the
            receiver where frames have parts.
        follow: whether the rows in these files are to be looked at, too.
    """
    if len(data) != len(table.row):
        yield Anomaly(where, f"it has {len(data)} frames of {len(table.row)}")
        return
    mappings = Mappings.of(data)
    if follow:
        yield from _followed(where, mappings, table, sources)
    led = mappings.led(table)
    wrong = table.elsewhere(led, sources, path)
    shown = np.zeros(table.row.shape, np.int64)
    np.add.at(shown, (led.frame[~wrong], table.place(led)[~wrong]), 1)
    others = np.flatnonzero((shown != (table.row >= 0)).any(axis=1))
    found = _told(np.union1d(led.frame[wrong], others), table)
    if found:
        example = _example(mappings, led, table, np.flatnonzero(wrong))
        yield Anomaly(where, f"{found} lead to other rows than they have{example}")
    source = field or path
    wanted = [name == source for _, name in mappings.files]
    found = _told(mappings.frame[~np.array(wanted, bool)[mappings.file]], table)
    if found:
        yield Anomaly(where, f"{found} do not lead to {source}")
    found = _told(mappings.frame[_misplaced(data, mappings, led, table, band, field)], table)
    if found:
        yield Anomaly(where, f"{found} are not in their place")


def _followed(where: str, mappings: Mappings, table: Table, sources: Sources) -> Iterator[Anomaly]:
    """The rows that frames are read from: are they there, and good."""
    wrong: dict[str, list[int]] = {}
    for n, (name, dataset) in enumerate(mappings.files):
        here = mappings.file == n
        frames, rows = mappings.frame[here], mappings.row[here]
        path = table.folder / name
        found = sources.look(path, dataset)
        if isinstance(found, str):
            wrong.setdefault(f"need {path.name}: {found}", []).extend(frames)
            continue
        there = rows < len(found.codes)
        wrong.setdefault(f"need rows that {path.name} does not have", []).extend(frames[~there])
        frames, rows = frames[there], rows[there]
        good = np.isin(found.codes[rows], THERE)
        wrong.setdefault(f"are not valid in {path.name}", []).extend(frames[~good])
        lost = good & ~found.written[rows]
        wrong.setdefault(f"were never written to {path.name}", []).extend(frames[lost])
    for what, bad in wrong.items():
        if bad:
            yield Anomaly(where, f"frames {ranges(np.unique(bad) + table.first)} {what}")


def _misplaced(
    data: Any, mappings: Mappings, led: Led, table: Table, band: int | None, field: str
) -> NDArray[np.bool_]:
    """Which mappings show something else than a whole row, or show it in another place.

    Where frames have parts, the place is that of most parts of the same receiver.

    Shapes: -> (mappings,).
    """
    wrong = np.zeros(len(led.frame), np.bool_)
    whole = None if table.parts > 1 or field else data.shape[1:]
    anywhere = table.parts > 1 and not field
    for receiver in np.unique(led.receiver).tolist():
        here = led.receiver == receiver
        usual = Counter(mappings.place[here].tolist()).most_common(1)[0][0]
        target, source = mappings.places[usual]
        fits = True
        if band is not None:
            fits, source = source[:1] == ((band, 1, 1),), source[1:]
        elif field and table.parts > 1:
            fits, target = target[:1] == ((receiver, 1, 1),), target[1:]
        fits = fits and _fit(target, source, whole, anywhere=anywhere)
        wrong[here] = mappings.place[here] != usual if fits else True
    return wrong


def _told(frames: NDArray[Any], table: Table) -> str:
    """Frames for people; empty if there are none."""
    return f"frames {ranges(np.unique(frames) + table.first)}" if len(frames) else ""


def _fit(target: Axes, source: Axes, whole: tuple[int, ...] | None, *, anywhere: bool) -> bool:
    """Whether all of a row is shown, all over ``whole`` if it is given."""
    sizes = tuple(size for _, size, _ in target)
    return (
        sizes == tuple(size for _, size, _ in source)
        and not any(start for start, _, _ in source)
        and (anywhere or not any(start for start, _, _ in target))
        and all(step == 1 for _, _, step in (*target, *source))
        and (whole is None or sizes == whole)
    )


def _example(mappings: Mappings, led: Led, table: Table, wrong: NDArray[Any]) -> str:
    """Where the first of the mappings leads to, and where it should."""
    if not len(wrong):
        return ""
    n = int(wrong[mappings.frame[wrong].argmin()])
    frame, receiver = int(led.frame[n]), int(led.receiver[n])
    name = Path(mappings.files[int(mappings.file[n])][0]).name
    text = f" (frame {frame + table.first}: row {led.row[n]} of {name}"
    at = receiver if table.parts > 1 else 0
    if not 0 <= at < table.parts or table.row[frame, at] < 0:
        return f"{text})"
    return f"{text}, not row {table.row[frame, at]} of receiver {table.owners()[frame, at]})"
