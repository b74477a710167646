import numpy as np
import pytest

from camera_plugins.jungfrau.wire import (
    ADC_MASK,
    FILL,
    GAIN_SHIFT,
    HEADER,
    HEADER_BYTES,
    PACKET_BYTES,
    DaqInfo,
    PortShape,
    chip_version,
    event_code,
    frame_headers,
    frame_packets,
    header_of,
    port_place,
    storage_cell,
)
from lima2_core.errors import ParamError

# Frame 3, packet 127, as captured from the virtual server.
CAPTURED = bytes.fromhex(
    "0300000000000000 00000000 7f000000 0000000000000000 0000000000000000"
    "d204 0000 0000 0000 00000000 0000 03 02"
)


def test_a_packet_has_8240_bytes_of_which_48_are_header():
    assert (HEADER.itemsize, HEADER_BYTES, PACKET_BYTES) == (48, 48, 8240)


def test_our_header_is_byte_for_byte_the_captured_one():
    headers = frame_headers(PortShape(), frame_number=3, module_id=1234)

    assert headers[127].tobytes() == CAPTURED


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("frame_number", 0),
        ("exp_length_100ns", 8),
        ("packet_number", 12),
        ("bunch_id", 16),
        ("timestamp_100ns", 24),
        ("module_id", 32),
        ("row", 34),
        ("column", 36),
        ("daq_info", 40),
        ("detector_type", 46),
        ("version", 47),
    ],
)
def test_fields_lie_where_the_contract_says(name, offset):
    assert HEADER.fields[name][1] == offset


@pytest.mark.parametrize(
    ("interfaces", "rows", "port", "numbers"),
    [
        (1, 512, 0, range(128)),
        (2, 512, 0, range(64)),
        (2, 512, 1, range(64)),
        (1, 256, 0, range(32, 96)),
        (2, 256, 0, range(32, 64)),
        (2, 256, 1, range(32)),
        (1, 8, 0, range(63, 65)),
        (2, 8, 0, range(63, 64)),
        (2, 8, 1, range(1)),
    ],
)
def test_packet_numbers_of_partial_readout(interfaces, rows, port, numbers):
    shape = PortShape(interfaces, rows, port)

    assert frame_headers(shape)["packet_number"].tolist() == list(numbers)


@pytest.mark.parametrize("interfaces", [1, 2])
@pytest.mark.parametrize("rows", [512, 256, 8])
def test_the_ports_together_carry_the_rows_around_the_centre(interfaces, rows):
    module = np.arange(512, dtype=np.uint16)[:, np.newaxis].repeat(1024, axis=1)
    shapes = [PortShape(interfaces, rows, port) for port in range(interfaces)]

    image = np.concatenate([shape.part_of(module) for shape in shapes])

    assert image[:, 0].tolist() == list(range(256 - rows // 2, 256 + rows // 2))
    assert [shape.offset_bytes for shape in shapes] == [
        port * rows // interfaces * 2048 for port in range(interfaces)
    ]


def test_packets_hold_four_rows_each():
    shape = PortShape(rows=16)
    image = np.arange(16 * 1024, dtype=np.uint16).reshape(16, 1024)

    packets = frame_packets(shape, image, frame_number=7)

    assert [len(packet) for packet in packets] == [PACKET_BYTES] * 4
    assert packets[2][HEADER_BYTES:] == image[8:12].tobytes()
    header = header_of(np.frombuffer(packets[2][:HEADER_BYTES], np.uint8))
    assert (header["frame_number"], header["packet_number"]) == (7, 64)


@pytest.mark.parametrize(
    ("interfaces", "rows", "port", "path"),
    [(3, 512, 0, "interfaces"), (1, 512, 1, "port"), (1, 12, 0, "rows"), (1, 520, 0, "rows")],
)
def test_ports_that_do_not_exist_are_refused(interfaces, rows, port, path):
    with pytest.raises(ParamError) as caught:
        PortShape(interfaces, rows, port)

    assert caught.value.path == path


@pytest.mark.parametrize(
    ("interfaces", "per_column", "places"),
    [
        (1, 4, [(0, 0), (1, 0), (2, 0), (3, 0)]),
        (2, 2, [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 1), (3, 1)]),
    ],
)
def test_ports_are_numbered_down_the_columns(interfaces, per_column, places):
    found = [
        port_place(module, port, interfaces, per_column)
        for module in range(4)
        for port in range(interfaces)
    ]

    assert found == places


def test_the_fill_value_has_a_gain_code_that_no_pixel_has():
    assert FILL >> GAIN_SHIFT == 2
    assert FILL & ADC_MASK == 0


def test_daq_info_tells_gain_chip_cell_and_event():
    bits = 0x00A5_2B20 | DaqInfo.EXTERNAL_INPUT | DaqInfo.HIGH_GAIN

    assert DaqInfo.FORCED_SWITCH_2 in DaqInfo(bits)
    assert DaqInfo.FORCED_SWITCH_1 not in DaqInfo(bits)
    assert (storage_cell(bits), chip_version(bits), event_code(bits)) == (11, 1, 0xA5)


def test_the_layout_for_the_engine_says_the_same():
    layout = PortShape(2, 256, 0).packet_layout()

    assert (layout.packet_bytes, layout.packets, layout.first_packet) == (8240, 32, 32)
    assert [(check.field.offset, check.value) for check in layout.checks] == [(46, 3), (47, 2)]
    assert layout.fill == FILL
