"""What the suite encodes is decoded by lima2-client's own code."""

import numpy as np
import pytest
from lima2.common.devencoded import data_array, structured_array

from lima2_core.data.encoding import (
    DATA_ARRAY,
    STRUCTURED_ARRAY,
    encode_image,
    encode_records,
    encode_vector,
)
from lima2_core.data.frame import PIXEL_TYPES
from lima2_core.data.record import FRAME_IDX_RECORD


@pytest.mark.parametrize("pixel_type", PIXEL_TYPES)
def test_the_client_decodes_a_frame_of_every_pixel_type(pixel_type):
    image = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(PIXEL_TYPES[pixel_type])

    frame = data_array.decode((DATA_ARRAY, encode_image(image, 123_456_789_012)))

    assert isinstance(frame, data_array.Frame)
    assert frame.idx == 123_456_789_012
    assert frame.data.dtype == image.dtype
    assert np.array_equal(frame.data, image)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint64])
def test_the_client_decodes_a_vector(dtype):
    curve = np.arange(5).astype(dtype)

    vector = data_array.decode((DATA_ARRAY, encode_vector(curve, 7)))

    assert isinstance(vector, data_array.Vector)
    assert vector.idx == 7
    assert vector.data.dtype == curve.dtype
    assert vector.data.tolist() == curve.tolist()


@pytest.mark.parametrize("count", [0, 1, 70_000])
def test_the_client_decodes_records(count):
    records = np.zeros(count, FRAME_IDX_RECORD)
    records["frame_idx"] = np.arange(count)

    decoded = structured_array.decode((STRUCTURED_ARRAY, encode_records(records)), FRAME_IDX_RECORD)

    assert np.array_equal(decoded, records)
