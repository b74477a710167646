"""Frames of the camera that may be held behind the pipeline instead of copies."""

from __future__ import annotations


class SpareFrames:
    """So many frames can be spared by the source; who asks first gets them."""

    def __init__(self, count: int) -> None:
        self._left = count

    def take(self, count: int) -> bool:
        """Whether ``count`` more may be held for as long as the run lives."""
        if count > self._left:
            return False
        self._left -= count
        return True
