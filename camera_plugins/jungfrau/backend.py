"""What drives a detector, real or emulated: the port behind the control part."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from camera_plugins.jungfrau.installation import Entry
from camera_plugins.jungfrau.params import JungfrauParams
from lima2_core.camera.api import Failure, Scalar
from lima2_core.ids import AcqId

_RANGE_BITS = 24
_NUMBERS = 1 << 22


def first_number(acq_id: AcqId) -> int:
    """The detector's number of the first frame of an acquisition.

    Each acquisition has a range of numbers of its own, so that packets of another one cannot be
    taken for its own. Control and receivers compute it, neither has to tell the other.
    """
    digest = hashlib.blake2b(acq_id.encode(), digest_size=8).digest()
    return 1 + ((int.from_bytes(digest, "little") % _NUMBERS) << _RANGE_BITS)


@dataclass(frozen=True, slots=True)
class Setup:
    """One acquisition, as the detector has to be configured for it."""

    params: JungfrauParams
    first_number: int
    """For the first frame."""
    destinations: tuple[Entry, ...]
    """Frame k of the acquisition goes to entry k modulo their number."""


class Backend(ABC):
    """A detector.

    Threads: one call at a time, except `readings` and `nb_exposed`, from any thread.
    """

    trigger_modes: tuple[str, ...]

    @property
    @abstractmethod
    def model(self) -> str:
        """What it is, for metadata."""

    @property
    @abstractmethod
    def serial(self) -> str:
        """Serial number or numbers of the modules."""

    @abstractmethod
    def readings(self) -> Mapping[str, Scalar]:
        """Temperature (degC), state, faults; does not wait for the detector for long."""

    @abstractmethod
    def check(self, params: JungfrauParams) -> None:
        """Refuse what this detector cannot do, without changing anything.

        Raises:
            ParamError: the path names the parameter.
        """

    @abstractmethod
    def prepare(self, setup: Setup) -> JungfrauParams:
        """Configure the detector; it sends nothing yet.

        Returns:
            The parameters as the hardware took them.

        Raises:
            CameraError: it refuses, does not answer, or is busy; what is wrong and what to do.
        """

    @abstractmethod
    def start(self) -> None:
        """Begin, or wait for triggers; returns at once.

        Raises:
            CameraError: it does not start.
        """

    @abstractmethod
    def trigger(self) -> None:
        """Give one software trigger.

        Raises:
            CameraError: it is not possible.
        """

    @abstractmethod
    def stop(self) -> int | None:
        """End early and wait until nothing is sent any more; harmless at any time.

        Returns:
            Frames exposed to their end; None if that is not known.

        Raises:
            CameraError: the detector does not stop.
        """

    @abstractmethod
    def nb_exposed(self) -> int:
        """Frames exposed in the present or last acquisition, as far as is known."""

    @abstractmethod
    def failure(self) -> Failure | None:
        """Why frames that are due after a start will not come; None if nothing is wrong."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the detector; harmless at any time."""
