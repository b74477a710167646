"""What is said about a scan: its identity, and the tree that blissdata calls scan_info."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from lima2_core.data.frame import Validity
from lima2_core.system.outputs import RunView
from processing.outputs.blissdata_plan import (
    LEDGER,
    SUM_LEDGER,
    Group,
    Images,
    ScanPlan,
    groups_of,
    images_of,
)
from processing.outputs.blissdata_writer_id import writer

POLICY_FIELDS = ("proposal", "collection", "dataset")
"""Parts of the identity that are taken from the metadata of the user."""

_LARGEST_TEXT = 2**19
"""Characters of all parameters together; blissdata refuses trees of more than 2**20."""
_MOST_CHANGES = 1000
_FAULTS = (
    Validity.OVERRUN,
    Validity.PROCESSING_FAULT,
    Validity.RECEIVER_LOST,
    Validity.CRASH,
)


def plan_of(run: RunView, settings: Mapping[str, str]) -> ScanPlan:
    """Decide what is published of a run."""
    groups = tuple(groups_of(run))
    images = tuple(images_of(run, settings))
    identity = {
        "name": _text(run.metadata, "scan_name") or settings.get("scan_name") or "acquisition",
        "data_policy": settings.get("data_policy") or "None",
        "session": _text(run.metadata, "session") or settings.get("scan_session") or "lima2",
        **{name: _text(run.metadata, name) or None for name in POLICY_FIELDS},
    }
    identity["path"] = _file_of(images) or None
    info = _info(run, identity, groups, images)
    return ScanPlan(str(run.acq_id), identity, info, groups, images)


def beginning(plan: ScanPlan, number: int, started_wall_s: float) -> dict[str, Any]:
    """The tree of a scan that begins."""
    title = f"{plan.identity['name']} {number}"
    return {
        **plan.info,
        "publisher": writer(),
        "scan_nb": number,
        "title": title,
        "start_time": iso(started_wall_s),
    }


def ending(run: RunView, corrected: Mapping[str, Sequence[tuple[int, int]]]) -> dict[str, Any]:
    """What is added to the tree at the end: how it ended.

    Args:
        run: the run, which is finished.
        corrected: by group of streams, index and class of frames, or sums, that were published
            with another class.
    """
    summary = run.ledger.summary()
    counts = {code.name.lower(): count for code, count in summary.counts.items() if count}
    cut_short = bool(summary.counts.get(Validity.NEVER_SENT))
    if any(summary.counts.get(code) for code in _FAULTS) or (cut_short and run.causes()):
        reason = "FAILURE"
    elif cut_short:
        reason = "USER_ABORT"
    else:
        reason = "SUCCESS"
    changes = {
        name: [list(change) for change in told[:_MOST_CHANGES]] for name, told in corrected.items()
    }
    ledger = {"counts": counts, "corrected": changes.get(LEDGER, [])}
    if SUM_LEDGER in changes:
        ledger["corrected_sums"] = changes[SUM_LEDGER]
    return {
        "end_reason": reason,
        "verdict": run.verdict(),
        "ledger": ledger,
    }


def iso(wall_s: float) -> str:
    """A time as scan_info has it."""
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(wall_s))
    zone = time.strftime("%z", time.localtime(wall_s))
    return f"{seconds}.{int(wall_s % 1 * 1e6):06d}{zone[:3]}:{zone[3:]}"


def _info(
    run: RunView, identity: Mapping[str, Any], groups: Sequence[Group], images: Sequence[Images]
) -> dict[str, Any]:
    acquisition = run.applied.get("acq", {})
    detector = str(run.detector.get("plugin") or "detector").lower()
    nb_frames = int(acquisition.get("nb_frames", 0))
    channels = _channels(groups, images)
    names: dict[str, list[str]] = {
        kind: [name for name, channel in channels.items() if channel["dim"] == dim]
        for dim, kind in enumerate(("scalars", "spectra", "images"))
    }
    return {
        "acq_id": str(run.acq_id),
        "type": "lima2",
        "npoints": nb_frames,
        "count_time": float(acquisition.get("expo_time", 0)) * 1e-6,
        "sleep_time": float(acquisition.get("latency_time", 0)) * 1e-6,
        "save": bool(run.saved),
        "filename": identity["path"] or "",
        "data_policy": identity["data_policy"],
        "data_writer": "lima2" if run.saved else "null",
        "publisher": "lima2-suite",
        "publisher_version": metadata.version("lima2-suite"),
        "session_name": identity["session"],
        "user_name": _user_name(),
        "acquisition_chain": {
            "lima2": {"top_master": detector, "devices": [detector], **names, "master": names}
        },
        "channels": channels,
        "devices": {
            detector: {
                "name": detector,
                "type": "lima",
                "channels": list(channels),
                "metadata": json_safe(run.detector),
            }
        },
        "lima2": _about(run),
    }


def _channels(groups: Sequence[Group], images: Sequence[Images]) -> dict[str, dict[str, Any]]:
    channels: dict[str, dict[str, Any]] = {}
    for image in images:
        channel = {"dim": 2, "group": image.counts, "display_name": image.name}
        if image.nb_frames:
            channel["points"] = image.nb_frames
        channels[image.name] = channel
    for group in groups:
        for column in group.columns:
            channel = {
                "dim": len(column.shape),
                "group": group.counts,
                "display_name": column.name,
            }
            if group.nb_entries:
                channel["points"] = group.nb_entries
            if column.unit:
                channel["unit"] = column.unit
            channels[column.name] = channel
    return channels


def _about(run: RunView) -> dict[str, Any]:
    """The parameters and who took part; without those parameters that are too large."""
    about: dict[str, Any] = {
        "device": run.device,
        "receivers": list(run.receivers),
        "topology": run.topology,
    }
    left = _LARGEST_TEXT
    for name in ("applied", "requested", "processing", "metadata"):
        tree = json_safe(getattr(run, name))
        left -= len(json.dumps(tree))
        if left < 0:
            about["too_large"] = f"{name} and what would follow it"
            break
        about[name] = tree
    return about


def json_safe(tree: Any) -> Any:
    """The same in what JSON knows; numbers that are none become null."""
    text = json.dumps(tree, default=_plain)
    return json.loads(text, parse_constant=lambda constant: None)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _file_of(images: Sequence[Images]) -> str:
    """The index of the master of the first stream that has one."""
    for image in images:
        if image.segments is not None:
            return image.segments.index
    return ""


def _text(tree: Mapping[str, Any], name: str) -> str:
    value = tree.get(name)
    return value if isinstance(value, str) else ""


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user on this machine, as in some containers
        return ""
