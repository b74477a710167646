"""What a front shows of its current run, and the device of a run of itself."""

from __future__ import annotations

import json
from abc import abstractmethod

from tango.server import Device, attribute

from tango_servers.base import wire_text
from tango_servers.formats import READING
from tango_servers.front_run import FrontRun


class RunReadings(Device):
    """How far a run is, how it goes, and what became of its frames."""

    @property
    @abstractmethod
    def shown(self) -> FrontRun:
        """The run that this is about; one that is not in place if there is none."""

    @attribute(dtype=str, label="Stuck", doc="What the run waits for; empty if it goes on")
    def stuck(self) -> str:
        return wire_text(self.shown.stuck)

    @attribute(
        dtype=(str,), max_dim_x=10_000, label="Results", doc="Master file and other results so far"
    )
    def files(self) -> list[str]:
        return [wire_text(name) for name in self.shown.results()]

    @attribute(
        dtype=(str,), max_dim_x=100, label="Troubles", doc="Outputs that do not work at present"
    )
    def troubles(self) -> list[str]:
        return [wire_text(text) for text in self.shown.troubles()]

    @attribute(dtype=str, label="Verdict", doc="What became of the frames, in a sentence")
    def verdict(self) -> str:
        shown = self.shown
        return wire_text(shown.run.verdict()) if shown.there else ""

    @attribute(dtype=str, label="Ledger", doc="Frames in each class, those still open too (JSON)")
    def ledger_counts(self) -> str:
        shown = self.shown
        if not shown.there:
            return "{}"
        summary = shown.run.ledger.summary()
        counts = {code.name.lower(): count for code, count in summary.counts.items()}
        return json.dumps({"expected": summary.expected, "open": summary.open, **counts})

    @attribute(
        dtype="DevLong64",
        label="Last image acquired",
        unit="index",
        doc="Index of the last frame that the detector exposed, as far as it was asked",
    )
    def last_image_acquired(self) -> int:
        return self.shown.progress.exposed - 1

    @attribute(
        dtype="DevLong64",
        label="Last image ready",
        unit="index",
        doc="All frames up to this index can be read, gaps counted; -1 if none",
    )
    def last_image_ready(self) -> int:
        return self.shown.last_image_ready

    @attribute(
        dtype="DevDouble",
        label="Rate",
        unit="frames/s",
        format=READING,
        doc="Frames taken in the last seconds",
    )
    def frame_rate(self) -> float:
        return self.shown.progress.rate_hz

    @attribute(
        dtype="DevDouble",
        label="Data rate",
        unit="MB/s",
        format=READING,
        doc="Bytes taken in the last seconds",
    )
    def data_rate(self) -> float:
        return self.shown.progress.rate_bytes_s / 1e6
