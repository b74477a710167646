"""What a run does about faults (G20)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lima2_core.schema import ParamsModel


class FaultPolicy(ParamsModel):
    """What a run does about a receiver that is lost, and about frames that are lost."""

    receiver_lost: Literal["abort", "continue", "mark"] = "mark"
    """abort: stop all, also if one fails. continue: the others go on, and the run may still end
    well. mark: the others go on, and the run ends as incomplete."""
    frame_lost: Literal["fail", "mark", "tolerate"] = "mark"
    """fail: stop at the first lost frame. mark: go on, and end as incomplete. tolerate: end well
    if no more than ``tolerated_fraction`` are lost."""
    tolerated_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of lost frames up to which a run counts as complete."""
    frame_partial: Literal["lost", "accept"] = "lost"
    """Frames that are there, but of which packets or parts are missing. lost: each counts as a lost
    frame for the two above. accept: they count as frames that are there."""
