"""What a packet of a detector looks like and where it belongs: data of a camera plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = 8


@dataclass(frozen=True, slots=True)
class Field:
    """A number in the header of a packet."""

    offset: int
    dtype: str
    """As numpy writes it, with its byte order: ``<u4``."""

    @property
    def end(self) -> int:
        return self.offset + np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Check:
    """A field that has one value in all packets of the detector; others are foreign."""

    field: Field
    value: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class PacketLayout:
    """Packets of equal size that make a frame of one port.

    A frame has packets ``first_packet`` to ``first_packet + packets - 1`` (all of them, or those
    of a partial readout), one after the other in memory.

    Raises:
        ValueError: the numbers contradict each other.
    """

    header_bytes: int
    payload_bytes: int
    frame: Field
    packet: Field
    packets: int
    """Expected for each frame."""
    first_packet: int = 0
    checks: tuple[Check, ...] = ()
    fill: int = 0
    """Put in place of every missing pixel; should be no value of a real one."""
    fill_dtype: str = "<u2"

    def __post_init__(self) -> None:
        fields = [self.frame, self.packet, *(check.field for check in self.checks)]
        if self.packets < 1 or self.payload_bytes < 1 or self.first_packet < 0:
            raise ValueError("a frame needs at least one packet, and a packet some payload")
        if any(field.offset < 0 or field.end > self.header_bytes for field in fields):
            raise ValueError(f"a field leaves the header of {self.header_bytes} bytes")
        if self.payload_bytes % np.dtype(self.fill_dtype).itemsize:
            raise ValueError("the payload of a packet is not a whole number of pixels")

    @property
    def packet_bytes(self) -> int:
        return self.header_bytes + self.payload_bytes

    @property
    def frame_bytes(self) -> int:
        """Bytes of the image of one port."""
        return self.packets * self.payload_bytes

    @property
    def header_dtype(self) -> np.dtype[Any]:
        """The header in memory, padded to whole words; fields ``frame``, ``packet``, ``check0``...

        The field ``words`` lies over all of them.
        """
        words = -(-self.header_bytes // _WORD)
        names = ["words", "bytes", "frame", "packet"]
        formats: list[Any] = [
            (np.uint64, (words,)),
            (np.uint8, (self.header_bytes,)),
            self.frame.dtype,
            self.packet.dtype,
        ]
        offsets = [0, 0, self.frame.offset, self.packet.offset]
        for number, check in enumerate(self.checks):
            names.append(f"check{number}")
            formats.append(check.field.dtype)
            offsets.append(check.field.offset)
        return np.dtype(
            {"names": names, "formats": formats, "offsets": offsets, "itemsize": words * _WORD}
        )

    def known_bits(self) -> NDArray[np.uint64]:
        """The bits of a header that can be told before it comes.

        Shapes: (words,) uint64.
        """
        mask: NDArray[Any] = np.zeros(1, self.header_dtype)
        raw = mask.view(np.uint8)
        for field in (self.frame, self.packet, *(check.field for check in self.checks)):
            raw[field.offset : field.end] = 0xFF
        return np.array(mask["words"][0])

    def headers(self, count: int) -> NDArray[Any]:
        """Room for ``count`` headers, with the values of the checks in them."""
        headers: NDArray[Any] = np.zeros(count, self.header_dtype)
        for number, check in enumerate(self.checks):
            headers[f"check{number}"] = check.value
        return headers

    def fill_missing(self, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
        """Write the fill value into the places of packets that are not in ``mask``.

        Shapes: ``image`` (frame_bytes,) uint8, changed; ``mask`` (packets,) bool.
        """
        image.view(self.fill_dtype).reshape(self.packets, -1)[~mask] = self.fill

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the listener process."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PacketLayout:
        plain = dict(values)
        plain["frame"] = Field(**plain["frame"])
        plain["packet"] = Field(**plain["packet"])
        plain["checks"] = tuple(
            Check(Field(**check["field"]), check["value"], check["name"])
            for check in plain["checks"]
        )
        return cls(**plain)
