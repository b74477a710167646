"""The demonstration as a reader of blissdata: the whole run out of Redis, with no server left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lima2_core.data.frame import Validity
from lima2_core.errors import NotAvailableError
from tango_servers.local.demo_outcome import SOURCE, Outcome
from tango_servers.local.demo_plan import Plan

_KEY = "esrf:scan:"
_SUM = "roi0_sum"
_CODE = "ledger_code"
_CHUNK = 10


@dataclass(slots=True)
class ScanFindings:
    """What blissdata shows of the run."""

    title: str
    streams: int = 0
    valid: int = 0
    """Frames that the ledger in the scan calls valid."""
    read: int = 0
    """Frames that were there and were compared."""
    different: list[int] = field(default_factory=list)
    wrong_statistics: list[int] = field(default_factory=list)
    """Frames whose sum over the region is another than that of their pixels."""

    @property
    def all_is_well(self) -> bool:
        """Whether every frame was there, and nothing was other than it should be."""
        return self.read == self.valid and not (self.different or self.wrong_statistics)


def read_scan(plan: Plan, outcome: Outcome, redis_url: str) -> ScanFindings:
    """Read the last scan as the documentation of blissdata shows, and compare every pixel.

    Raises:
        NotAvailableError: there is no scan of this run, or not the whole of it.
    """
    from blissdata import DataStore
    from blissdata.exceptions import ScanNotFoundError

    store: Any = DataStore(redis_url)  # type: ignore[no-untyped-call]
    key = next((name for name in outcome.results if name.startswith(_KEY)), "")
    try:
        scan = store.load_scan(key)
    except ScanNotFoundError as error:
        raise NotAvailableError("The run was not published: its scan is not in Redis") from error
    streams = scan.streams
    bands = [f"{SOURCE}_band{number}" for number in range(plan.shape[0])]
    images = [streams[name] for name in (bands if bands[0] in streams else [SOURCE])]
    codes, sums = streams[_CODE][:], streams[_SUM][:]
    findings = ScanFindings(str(scan.info["title"]), len(streams), int(np.sum(codes == 0)))
    rows, cols = plan.roi
    for first in range(0, len(codes), _CHUNK):
        block = [np.asarray(stream[first : first + _CHUNK]) for stream in images]
        for idx, frame in enumerate(np.stack(block, axis=1), first):
            if codes[idx] != Validity.VALID:
                continue
            findings.read += 1
            if not plan.reference.agrees(idx, frame):
                findings.different.append(idx)
            region = frame[:, rows, cols]
            total = region[plan.reference.measured(region)].sum(dtype=np.float64)
            if not np.isclose(sums[idx], total, rtol=1e-5):
                findings.wrong_statistics.append(idx)
    return findings
