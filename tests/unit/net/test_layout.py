import json

import numpy as np
import pytest

from lima2_core.net.layout import Check, Field, PacketLayout


def layout_of(**changes):
    values = {
        "header_bytes": 20,
        "payload_bytes": 8,
        "frame": Field(0, "<u8"),
        "packet": Field(8, "<u4"),
        "packets": 3,
        "first_packet": 2,
        "checks": (Check(Field(16, "<u2"), 0x1234, "type"),),
        "fill": 0x8000,
    }
    return PacketLayout(**(values | changes))


def test_a_layout_crosses_to_another_process():
    layout = layout_of()

    assert PacketLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_headers_in_memory_are_whole_words_with_the_checks_in_place():
    headers = layout_of().headers(2)

    assert headers.itemsize == 24
    headers["frame"], headers["packet"] = 5, 7
    assert headers[1].tobytes() == bytes.fromhex(
        "0500000000000000 07000000 00000000 3412 0000 00000000"
    )


def test_known_bits_are_those_of_frame_packet_and_checks():
    known = layout_of().known_bits().tobytes()

    assert known == b"\xff" * 12 + b"\0" * 4 + b"\xff" * 2 + b"\0" * 6


def test_big_endian_headers_work_as_well():
    headers = layout_of(frame=Field(0, ">u8")).headers(1)
    headers["frame"] = 1

    assert headers.tobytes()[:8] == b"\0" * 7 + b"\1"


def test_missing_packets_get_the_fill_value_and_others_stay():
    layout = layout_of()
    image = np.arange(12, dtype="<u2").view(np.uint8)

    layout.fill_missing(image, np.array([True, False, True]))

    assert image.view("<u2").tolist() == [0, 1, 2, 3, *[0x8000] * 4, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"packets": 0}, "at least one packet"),
        ({"frame": Field(16, "<u8")}, "leaves the header"),
        ({"payload_bytes": 7}, "whole number of pixels"),
    ],
)
def test_layouts_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        layout_of(**changes)
