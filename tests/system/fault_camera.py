"""The simulated detector with a link that repeats frames and changes their order."""

from collections.abc import Sequence
from dataclasses import replace

from camera_plugins.simulator.params import SimulatorDetParams, SimulatorParams
from camera_plugins.simulator.plugin import PLUGIN as SIMULATOR
from camera_plugins.simulator.source import SimulatorReceiver, SimulatorSource
from lima2_core.camera.api import SourceRequest
from lima2_core.data.frame import Frame, Gap


class FaultyDetParams(SimulatorDetParams):
    """What the link does to the frames."""

    repeated_every: int = 0
    """Each frame with a number that this divides comes twice; 0 = none."""
    turned_every: int = 0
    """So many frames of a receiver at a time come in the reverse order; 0 = never."""


class FaultyParams(SimulatorParams):
    """Acquisition parameters of the detector."""

    det: FaultyDetParams = FaultyDetParams()


class FaultySource(SimulatorSource):
    """What comes twice or late has no row that its index would tell."""

    def __init__(self, receiver: SimulatorReceiver, request: SourceRequest, env: object) -> None:
        super().__init__(receiver, request, env)
        self._det = request.params.det
        self._held: list[Frame | Gap] = []

    @property
    def keeps_rows(self) -> bool:
        det = self._det
        return super().keeps_rows and not (det.repeated_every or det.turned_every)

    def next_frames(self, timeout_s: float) -> Sequence[Frame | Gap]:
        det = self._det
        items = list(super().next_frames(timeout_s))
        if det.repeated_every:
            items = [
                same
                for item in items
                for same in [item] * (1 + (item.idx % det.repeated_every == 0))
            ]
        if not det.turned_every:
            return items
        self._held += items
        whole = len(self._held) // det.turned_every * det.turned_every
        if self._next >= self._nb_frames:  # the last of all
            whole = len(self._held)
        given, self._held = self._held[:whole], self._held[whole:]
        return [
            item
            for first in range(0, len(given), det.turned_every)
            for item in reversed(given[first : first + det.turned_every])
        ]


class FaultyReceiver(SimulatorReceiver):
    """Makes such sources."""

    def source(self, request: SourceRequest) -> FaultySource:
        return FaultySource(self, request, self._env)


PLUGIN = replace(SIMULATOR, name="Faulty", params=FaultyParams, make_receiver=FaultyReceiver)
