"""What the servers encode is decoded by our client, and nothing else is."""

import struct

import numpy as np
import pytest

from client import ClientError, DecodeError, decode_frame, decode_records, decode_vector, wire
from lima2_core.data import encoding
from lima2_core.data.encoding import encode_image, encode_records, encode_vector
from lima2_core.data.frame import PIXEL_TYPES
from lima2_core.data.record import FRAME_IDX_RECORD
from processing.kernels.regions import ROI_RECORD

FRAME = encode_image(np.arange(24, dtype=np.uint16).reshape(2, 3, 4), 5)
VECTOR = encode_vector(np.arange(5, dtype=np.float64), 5)
RECORDS = encode_records(np.zeros(3, FRAME_IDX_RECORD))


def changed(content, offset, layout, value):
    """The same bytes with another value in the header."""
    content = bytearray(content)
    struct.pack_into(layout, content, offset, value)
    return bytes(content)


@pytest.mark.parametrize("name", PIXEL_TYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (1, 5, 65535), (1, 0, 4)])
def test_a_frame_of_every_pixel_type_comes_back(name, shape):
    dtype = PIXEL_TYPES[name]
    values = np.random.default_rng(0).integers(-(2**31), 2**31, shape)
    image = values.astype(dtype)

    frame = decode_frame((encoding.DATA_ARRAY, encode_image(image, 2**40)))

    assert frame.idx == 2**40
    assert frame.data.dtype == dtype
    assert frame.data.shape == shape
    assert np.array_equal(frame.data, image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0])
def test_special_values_come_back_bit_by_bit(value):
    image = np.full((1, 2, 2), value, np.float32)

    frame = decode_frame((encoding.DATA_ARRAY, encode_image(image, 0)))

    assert frame.data.tobytes() == image.tobytes()


def test_a_frame_that_is_not_contiguous_and_big_endian_comes_back():
    image = np.arange(48, dtype=">i4").reshape(2, 4, 6)[:, ::2, ::-1]

    frame = decode_frame((encoding.DATA_ARRAY, encode_image(image, 0)))

    assert frame.data.tolist() == image.tolist()


@pytest.mark.parametrize("dtype", wire.PIXEL_TYPES, ids=str)
@pytest.mark.parametrize("length", [0, 1, 1000])
def test_a_vector_of_every_type_comes_back(dtype, length):
    curve = np.arange(length).astype(dtype)

    vector = decode_vector((encoding.DATA_ARRAY, encode_vector(curve, 7)))

    assert vector.idx == 7
    assert vector.data.dtype == dtype
    assert vector.data.tolist() == curve.tolist()


@pytest.mark.parametrize(
    "dtype", [wire.FRAME_IDX, wire.STATISTICS], ids=["frame_idx", "statistics"]
)
@pytest.mark.parametrize("count", [0, 1, 70_000])
def test_records_come_back(dtype, count):
    records = np.zeros(count, dtype)
    for name in dtype.names:
        records[name] = np.random.default_rng(1).integers(0, 2**24, count)

    decoded = decode_records((encoding.STRUCTURED_ARRAY, encode_records(records)), dtype)

    assert np.array_equal(decoded, records)


def test_names_and_layouts_are_those_of_the_servers():
    assert wire.DATA_ARRAY == encoding.DATA_ARRAY
    assert wire.STRUCTURED_ARRAY == encoding.STRUCTURED_ARRAY
    assert wire.FRAME_IDX == FRAME_IDX_RECORD
    assert wire.STATISTICS == ROI_RECORD
    assert set(PIXEL_TYPES.values()) <= set(wire.PIXEL_TYPES)


def test_nothing_is_copied_and_nothing_can_be_written():
    frame = decode_frame((wire.DATA_ARRAY, FRAME))

    assert not frame.data.flags.writeable
    assert not frame.data.flags.owndata


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (("DENSE_FRAME", FRAME), "format is 'DENSE_FRAME', 'DATA_ARRAY' was expected"),
        ((wire.DATA_ARRAY, b""), "There are 0 bytes, the header alone has 64"),
        ((wire.DATA_ARRAY, FRAME[:63]), "There are 63 bytes"),
        (
            (wire.DATA_ARRAY, FRAME[:-1]),
            "47 bytes follow .* shape .2, 3, 4. and type uint16 has 48",
        ),
        ((wire.DATA_ARRAY, FRAME + b"\0"), "49 bytes follow the header"),
        ((wire.DATA_ARRAY, changed(FRAME, 0, "<I", 1)), "begins with 0x00000001 instead of"),
        (
            (wire.DATA_ARRAY, changed(FRAME, 4, "<H", 2)),
            "version is 2; upgrade the server .* 3 or newer",
        ),
        ((wire.DATA_ARRAY, changed(FRAME, 6, "<H", 63)), "says that it has 63 bytes"),
        ((wire.DATA_ARRAY, changed(FRAME, 6, "<H", 999)), "says that it has 999 bytes"),
        ((wire.DATA_ARRAY, changed(FRAME, 8, "<I", 4)), "no frame: category 4"),
        ((wire.DATA_ARRAY, changed(FRAME, 12, "<I", 10)), "type that is not known, code 10"),
        ((wire.DATA_ARRAY, changed(FRAME, 16, "<H", 1)), "big endian"),
        ((wire.DATA_ARRAY, changed(FRAME, 18, "<H", 2)), "no frame: category 2 with 2 dimensions"),
        ((wire.DATA_ARRAY, changed(FRAME, 18, "<H", 7)), "there are 7 dimensions"),
        ((wire.DATA_ARRAY, VECTOR), "no frame: category 1 with 1 dimensions"),
    ],
)
def test_what_is_no_frame_is_refused_with_the_reason(encoded, reason):
    with pytest.raises(DecodeError, match=reason) as refused:
        decode_frame(encoded)

    assert isinstance(refused.value, ClientError)


def test_what_is_no_vector_is_refused():
    with pytest.raises(DecodeError, match="no vector: category 2 with 3 dimensions"):
        decode_vector((wire.DATA_ARRAY, FRAME))


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        ((wire.DATA_ARRAY, RECORDS), "'STRUCTURED_ARRAY' was expected"),
        ((wire.STRUCTURED_ARRAY, RECORDS[:-1]), "23 bytes .* 8 bytes .recv_idx, frame_idx"),
    ],
)
def test_what_are_no_records_is_refused(encoded, reason):
    with pytest.raises(DecodeError, match=reason):
        decode_records(encoded, wire.FRAME_IDX)


def test_a_longer_header_of_a_later_version_is_skipped():
    longer = changed(changed(RECORDS[:64] + b"new!" + RECORDS[64:], 4, "<H", 4), 6, "<H", 68)

    assert len(decode_records((wire.STRUCTURED_ARRAY, longer), wire.FRAME_IDX)) == 3
