"""One receiver in one run of the system."""

from __future__ import annotations

from dataclasses import dataclass

from lima2_core.system.ports import RunPort, RunStatus

_ACQUIRING = ("prepared", "running")


@dataclass(slots=True)
class Member:
    """One receiver in one run."""

    name: str
    port: RunPort
    status: RunStatus | None = None
    lost: str = ""
    """Why it is lost; empty if it is not."""
    asked_s: float = 0.0
    """When it was heard last."""

    @property
    def ended(self) -> bool:
        """Nothing more will come from it."""
        return bool(self.lost) or (self.status is not None and self.status.finished)

    @property
    def acquiring(self) -> bool:
        """Whether it may still take frames."""
        return not self.lost and (self.status is None or self.status.state in _ACQUIRING)

    @property
    def error(self) -> str:
        """Why it failed; empty if it did not."""
        return self.status.error if self.status is not None else ""

    @property
    def error_code(self) -> str:
        """The code of this error."""
        return self.status.error_code if self.status is not None else ""

    def flushed(self, source: str) -> int:
        """Rows of a saved source that are safe in its files."""
        return self.status.flushed.get(source, 0) if self.status is not None else 0

    def counter(self, name: str) -> int:
        """A counter of its pipeline."""
        return self.status.counters.get(name, 0) if self.status is not None else 0
