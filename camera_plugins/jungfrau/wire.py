"""The packets of a JUNGFRAU (slsDetectorPackage 9): 48 bytes of header, four rows of a module.

Contract 06 has the sources of what stands here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import ParamError
from lima2_core.net.layout import Check, Field, PacketLayout

MODULE_ROWS: Final = 512
MODULE_COLS: Final = 1024
ROWS_PER_PACKET: Final = 4
HEADER_BYTES: Final = 48
PAYLOAD_BYTES: Final = ROWS_PER_PACKET * MODULE_COLS * 2
PACKET_BYTES: Final = HEADER_BYTES + PAYLOAD_BYTES

DETECTOR_TYPE: Final = 3
HEADER_VERSION: Final = 2

GAIN_SHIFT: Final = 14
ADC_MASK: Final = 0x3FFF
SATURATED: Final = 0xC000
FILL: Final = 0x8000
"""For missing pixels: gain code 2, which the chip never sends, so it cannot pass for data."""

HEADER = np.dtype(
    [
        ("frame_number", "<u8"),
        ("exp_length_100ns", "<u4"),
        ("packet_number", "<u4"),
        ("bunch_id", "<u8"),
        ("timestamp_100ns", "<u8"),
        ("module_id", "<u2"),
        ("row", "<u2"),
        ("column", "<u2"),
        ("spec2", "<u2"),
        ("daq_info", "<u4"),
        ("spec4", "<u2"),
        ("detector_type", "u1"),
        ("version", "u1"),
    ]
)
"""The header of a packet; ``timestamp_100ns`` counts from the start of the measurement."""


class DaqInfo(enum.IntFlag):
    """Bits of ``daq_info``; see also `storage_cell` and `event_code`."""

    HIGH_GAIN = 1 << 0
    FIXED_STAGE_1 = 1 << 1
    FIXED_STAGE_2 = 1 << 2
    COMPARATOR_IN_RESET = 1 << 4
    """Dynamic switching is off."""
    CHIP_1_1 = 1 << 5
    FORCED_SWITCH_1 = 1 << 12
    FORCED_SWITCH_2 = 1 << 13
    EXTERNAL_INPUT = 1 << 31


def storage_cell(daq_info: int) -> int:
    """The storage cell that held the image."""
    return (daq_info >> 8) & 0xF


def chip_version(daq_info: int) -> int:
    """0 for chip 1.0, 1 for chip 1.1."""
    return (daq_info >> 5) & 0x7


def event_code(daq_info: int) -> int:
    """The event code that came over the network."""
    return (daq_info >> 16) & 0xFF


@dataclass(frozen=True, slots=True)
class PortShape:
    """What one UDP port of a module carries: all rows, or the outer or inner half.

    Args:
        interfaces: 1 or 2.
        rows: of the whole module that are read out, around its centre.
        port: 0, or 1 for the second interface.

    Raises:
        ParamError: there are no such ports or rows.
    """

    interfaces: int = 1
    rows: int = MODULE_ROWS
    port: int = 0

    def __post_init__(self) -> None:
        if self.interfaces not in (1, 2):
            raise ParamError("a module has one or two interfaces", path="interfaces")
        if not 0 <= self.port < self.interfaces:
            raise ParamError(f"there is no port {self.port}", path="port")
        if self.rows % 8 or not 8 <= self.rows <= MODULE_ROWS:
            raise ParamError(
                f"{self.rows} rows cannot be read out; choose a multiple of 8 up to {MODULE_ROWS}",
                path="rows",
            )

    @property
    def packets_per_image(self) -> int:
        """Packet numbers of the full image of the port."""
        return MODULE_ROWS // self.interfaces // ROWS_PER_PACKET

    @property
    def packets(self) -> int:
        """Packets that come for each frame."""
        return self.rows // self.interfaces // ROWS_PER_PACKET

    @property
    def first_packet(self) -> int:
        """Number of the first one: partial readout keeps the numbers of the full image."""
        if self.interfaces == 1:
            return (self.packets_per_image - self.packets) // 2
        return self.packets_per_image - self.packets if self.port == 0 else 0

    @property
    def first_row(self) -> int:
        """The module row with which the image of this port begins."""
        half = self.port * self.packets_per_image
        return (half + self.first_packet) * ROWS_PER_PACKET

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of what the port delivers."""
        return self.packets * ROWS_PER_PACKET, MODULE_COLS

    @property
    def offset_bytes(self) -> int:
        """Where its image lies in that of the module, as far as that is read out."""
        return self.port * self.packets * PAYLOAD_BYTES

    def part_of(self, module: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """The rows of a full module image that come over this port."""
        return module[self.first_row : self.first_row + self.image_shape[0]]

    def packet_layout(self) -> PacketLayout:
        """For the packet engine."""
        return PacketLayout(
            header_bytes=HEADER_BYTES,
            payload_bytes=PAYLOAD_BYTES,
            frame=wire_field("frame_number"),
            packet=wire_field("packet_number"),
            packets=self.packets,
            first_packet=self.first_packet,
            checks=(
                Check(wire_field("detector_type"), DETECTOR_TYPE, "detector type"),
                Check(wire_field("version"), HEADER_VERSION, "header version"),
            ),
            fill=FILL,
        )


def wire_field(name: str) -> Field:
    """A field of the header, for the packet engine."""
    known = HEADER.fields
    assert known is not None  # HEADER is a structure
    dtype, offset = known[name][:2]
    return Field(int(offset), dtype.str)


def port_place(module: int, port: int, interfaces: int, modules_per_column: int) -> tuple[int, int]:
    """``row`` and ``column`` of a port: modules are stacked in y first, then in columns."""
    row = (module % modules_per_column) * interfaces + port
    return row, module // modules_per_column


def frame_headers(shape: PortShape, **fields: int) -> NDArray[Any]:
    """The headers of all packets of a frame of one port; ``fields`` of `HEADER` by name.

    Shapes: (packets,) of `HEADER`.
    """
    headers: NDArray[Any] = np.zeros(shape.packets, HEADER)
    headers["detector_type"] = DETECTOR_TYPE
    headers["version"] = HEADER_VERSION
    headers["packet_number"] = shape.first_packet + np.arange(shape.packets)
    for name, value in fields.items():
        headers[name] = value
    return headers


def frame_packets(shape: PortShape, image: NDArray[np.uint16], **fields: int) -> list[bytes]:
    """The datagrams of a frame of one port.

    Shapes: ``image`` as `PortShape.image_shape`.
    """
    headers = frame_headers(shape, **fields)
    payload = np.ascontiguousarray(image, "<u2").reshape(shape.packets, -1)
    return [
        header.tobytes() + rows.tobytes() for header, rows in zip(headers, payload, strict=True)
    ]


def header_of(raw: NDArray[np.uint8]) -> np.void:
    """The fields of the 48 bytes that the packet engine keeps of a frame."""
    header: np.void = np.ascontiguousarray(raw).view(HEADER)[0]
    return header
