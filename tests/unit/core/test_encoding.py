"""Against contract 03, section 1, byte by byte; the clients' own decoders: tests/contract."""

import struct

import numpy as np
import pytest

from lima2_core.data.encoding import (
    DATA_ARRAY,
    STRUCTURED_ARRAY,
    decode_image,
    encode_image,
    encode_image2d,
    encode_records,
    encode_vector,
)
from lima2_core.data.record import FRAME_IDX_RECORD

HEADER = "<IHHIIHHHHHHHHIIIIIIQ"
CODES = {
    "uint8": 0,
    "uint16": 1,
    "uint32": 2,
    "uint64": 3,
    "int8": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "float32": 8,
    "float64": 9,
}


def test_the_formats_have_the_names_of_the_wire():
    assert (DATA_ARRAY, STRUCTURED_ARRAY) == ("DATA_ARRAY", "STRUCTURED_ARRAY")


def test_an_image_byte_by_byte():
    image = np.arange(1 * 2 * 3, dtype=np.uint16).reshape(1, 2, 3)

    encoded = encode_image(image, 0x0102030405060708)

    assert encoded[0:4] == b"YATD"  # magic: "DTAY" read as a big-endian number
    assert encoded[4:6] == b"\x03\x00"  # version
    assert encoded[6:8] == b"\x40\x00"  # size of the header
    assert encoded[8:12] == b"\x02\x00\x00\x00"  # category: image
    assert encoded[12:16] == b"\x01\x00\x00\x00"  # pixel type: uint16
    assert encoded[16:18] == b"\x00\x00"  # little endian
    assert encoded[18:20] == b"\x03\x00"  # dimensions
    assert encoded[20:26] == b"\x03\x00\x02\x00\x01\x00"  # width, height, channels
    assert encoded[26:32] == bytes(6)  # unused dimensions
    assert encoded[32:44] == struct.pack("<III", 1, 3, 6)  # steps
    assert encoded[44:56] == bytes(12)  # unused steps
    assert encoded[56:64] == bytes([8, 7, 6, 5, 4, 3, 2, 1])  # global frame index
    assert encoded[64:] == b"\0\0\1\0\2\0\3\0\4\0\5\0"


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_every_pixel_type_has_its_code(name, code):
    image = np.arange(12).reshape(2, 2, 3).astype(name)

    header = struct.unpack_from(HEADER, encoded := encode_image(image, 5))

    assert header[3:10] == (2, code, 0, 3, 3, 2, 2)
    assert header[-1] == 5
    assert np.array_equal(np.frombuffer(encoded, name, offset=64).reshape(2, 2, 3), image)


def test_a_pixel_type_without_a_code_is_refused():
    with pytest.raises(ValueError, match="complex64"):
        encode_image(np.zeros((1, 2, 2), np.complex64), 0)


@pytest.mark.parametrize("shape", [(2, 2), (1, 1, 2, 2), (1, 1, 65536)])
def test_a_shape_that_the_header_cannot_tell_is_refused(shape):
    with pytest.raises(ValueError, match="no form on the wire"):
        encode_image(np.zeros(shape, np.uint8), 0)


def test_the_largest_dimension_fits():
    encoded = encode_image(np.zeros((1, 1, 65535), np.uint8), 0)

    assert struct.unpack_from(HEADER, encoded)[7:10] == (65535, 1, 1)


def test_pixels_are_little_endian_and_contiguous_on_the_wire():
    image = np.arange(24, dtype=">u2").reshape(1, 4, 6)[:, ::2, ::-1]

    encoded = encode_image(image, 0)

    assert np.frombuffer(encoded, "<u2", offset=64).tolist() == image.ravel().tolist()


def test_a_vector_is_a_spectrum():
    encoded = encode_vector(np.array([1.0, 2.5], np.float32), 9)

    header = struct.unpack_from(HEADER, encoded)

    assert header[:7] == (0x44544159, 3, 64, 1, 8, 0, 1)
    assert header[7:13] == (2, 0, 0, 0, 0, 0)
    assert header[-1] == 9
    assert encoded[64:] == struct.pack("<2f", 1.0, 2.5)


@pytest.mark.parametrize("shape", [(2, 2), (65536,)])
def test_a_vector_that_the_header_cannot_tell_is_refused(shape):
    with pytest.raises(ValueError, match="no form on the wire"):
        encode_vector(np.zeros(shape, np.uint8), 0)


def test_records_are_packed_behind_the_header():
    records = np.array([(1, 10), (2, 20)], FRAME_IDX_RECORD)

    encoded = encode_records(records)

    header = struct.unpack_from(HEADER, encoded)
    assert header[:7] == (0x44544159, 3, 64, 0, 0, 0, 1)
    assert header[7] == 2
    assert encoded[64:] == struct.pack("<4i", 1, 10, 2, 20)


def test_no_records_are_a_header_alone():
    encoded = encode_records(np.empty(0, FRAME_IDX_RECORD))

    assert len(encoded) == 64
    assert struct.unpack_from(HEADER, encoded)[7] == 0


def test_more_records_than_the_header_can_tell_are_all_there():
    encoded = encode_records(np.zeros(70_000, FRAME_IDX_RECORD))

    assert struct.unpack_from(HEADER, encoded)[7] == 65535
    assert len(encoded) == 64 + 70_000 * 8


def test_an_image_has_two_dimensions_and_its_index():
    image = np.arange(6, dtype=np.uint16).reshape(2, 3)

    encoded = encode_image2d(image, 2**40)

    header = struct.unpack_from(HEADER, encoded)
    assert header[:7] == (0x44544159, 3, 64, 2, 1, 0, 2)
    assert header[7:13] == (3, 2, 0, 0, 0, 0)
    assert header[-1] == 2**40
    assert encoded[64:] == image.tobytes()


def test_blissdata_reads_an_image():
    image_utils = pytest.importorskip("blissdata.lima.image_utils")
    image = np.arange(6, dtype=np.float32).reshape(2, 3)

    decoded = image_utils.decode_devencoded_image(("DATA_ARRAY", encode_image2d(image, 7)))

    assert decoded.frame_id == 7
    assert decoded.array.tolist() == image.tolist()


def test_a_shape_that_is_no_image_is_refused():
    with pytest.raises(ValueError, match="no form on the wire"):
        encode_image2d(np.zeros((1, 2, 2), np.uint8), 0)


def test_a_frame_comes_back_as_it_was():
    image = np.arange(24, dtype=np.int32).reshape(2, 3, 4)

    idx, data = decode_image(encode_image(image, 11))

    assert idx == 11
    assert data.dtype == image.dtype
    assert data.tolist() == image.tolist()


@pytest.mark.parametrize(
    "block", [b"", bytes(64), encode_vector(np.zeros(2, np.uint8), 0), encode_records(np.zeros(1))]
)
def test_what_is_no_frame_is_not_decoded(block):
    with pytest.raises(ValueError, match="no frame"):
        decode_image(block)
