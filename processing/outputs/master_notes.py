"""What clients attached to a run while it was alive, in the index of its master."""

from __future__ import annotations

from collections.abc import Mapping

import h5py

from lima2_core.system.notes import NoteSeries
from processing.sinks.nexus import make_group

_EPOCH = "1970-01-01T00:00:00Z"


def write_notes(entry: h5py.Group, notes: Mapping[str, NoteSeries]) -> None:
    """The group ``notes``, with an NXlog for each name; nothing if there are none."""
    if not notes:
        return
    group = make_group(entry, "notes", "NXcollection")
    for name, series in notes.items():
        log = make_group(group, name, "NXlog")
        is_text = series.value.dtype == object
        value = log.create_dataset(
            "value", data=series.value, dtype=h5py.string_dtype() if is_text else None
        )
        if series.unit:
            value.attrs["units"] = series.unit
        time = log.create_dataset("time", data=series.time_s)
        time.attrs["units"] = "s"
        time.attrs["start"] = _EPOCH
