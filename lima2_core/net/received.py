"""What a receiver is made of, and what comes out of it: ports, and frames or the lack of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.data.frame import Validity
from lima2_core.data.memory import Lease
from lima2_core.net.layout import PacketLayout


@dataclass(frozen=True, slots=True)
class PortAddress:
    """What comes to one port, where it listens, and where its image lies in a frame."""

    layout: PacketLayout
    address: str
    port: int = 0
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Received:
    """A frame of which something came; what did not holds the fill value.

    Shapes: ``ports`` (ports,) of `lima2_core.net.table.row_dtype`.
    """

    number: int
    lease: Lease
    ports: NDArray[Any]

    @property
    def packets(self) -> int:
        """How many are there, of all ports."""
        return int(self.ports["packets"].sum())

    @property
    def complete(self) -> bool:
        return self.packets == self.mask.size

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which packets are there.

        Shapes: (ports, packets) bool.
        """
        mask: NDArray[np.bool_] = self.ports["mask"]
        return mask

    @property
    def overrun(self) -> bool:
        """Whether packets are missing because there was no slot for frames before."""
        return bool(self.ports["overrun"].any())

    @property
    def first_ns(self) -> int:
        """When the first packet came, since 1970."""
        times: NDArray[np.int64] = self.ports["first_ns"]
        return int(times[times > 0].min())


@dataclass(frozen=True, slots=True)
class Lost:
    """Frames of which nothing came, or for which there was no slot."""

    number: int
    """Of the first one."""
    count: int
    cause: Validity
    """PACKET_LOSS or OVERRUN."""
