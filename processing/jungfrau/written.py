"""Which calibration file a run has written; the file itself tells."""

from __future__ import annotations

from collections.abc import Mapping

from processing.jungfrau.calibration import CONDITIONS, READ_ERRORS


def calibration_written(processing: Mapping[str, object], acq_id: str) -> tuple[str, ...]:
    """The file that dark frames of this run went into; nothing, if none did so far.

    Args:
        processing: parameters of the pipeline.
        acq_id: of the run.
    """
    group = processing.get("pedestal")
    if not isinstance(group, Mapping) or not group.get("enabled"):
        return ()
    import h5py

    path = str(group.get("path", ""))
    try:
        with h5py.File(path, "r") as file:
            runs = [file[name].attrs.get("acq_id") for name in CONDITIONS if name in file]
    except READ_ERRORS:
        return ()  # there is none yet, or it is of another kind
    return (path,) if acq_id in runs else ()
