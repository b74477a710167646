from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from processing.kernels.accumulate import accumulated_dtype, choose_add, deliver, total_dtype

DELIVERED = {"u": np.uint32, "i": np.int32, "f": np.float32}


def test_a_total_is_the_sum_of_the_frames(draw: Any, dtype: np.dtype[Any], accelerate: bool):
    images = [draw(2, 5, 9) for _ in range(20)]
    for image in images:
        image.flags.writeable = False
    total = np.zeros((2, 5, 9), total_dtype(dtype))
    add = choose_add(dtype, total.dtype, accelerate=accelerate)

    for image in images:
        add(total, image)

    for place, value in np.ndenumerate(total):
        assert value == pytest.approx(sum(image[place].item() for image in images), rel=1e-12)


def test_a_total_of_another_type_is_added_too(draw: Any, dtype: np.dtype[Any], accelerate: bool):
    wide = total_dtype(dtype, nb_frames=1 << 40)
    total = np.zeros((1, 2, 2), wide)
    image = draw(1, 2, 2)

    choose_add(dtype, wide, accelerate=accelerate)(total, image)

    assert (total == image).all()


def test_many_extreme_frames_do_not_wrap():
    for name, nb_frames in [("uint8", 1 << 24), ("uint16", 65537), ("uint16", 65538)]:
        dtype = np.dtype(name)
        total = total_dtype(dtype, nb_frames)

        assert int(np.iinfo(dtype).max) * nb_frames <= np.iinfo(total).max


def test_few_frames_of_small_pixels_are_added_in_32_bits():
    assert total_dtype(np.dtype(np.uint16), 65537) == np.uint32
    assert total_dtype(np.dtype(np.int8), 1000) == np.int32
    assert total_dtype(np.dtype(np.uint32), 2) == np.uint64


def test_a_sum_is_delivered_in_32_bits(dtype: np.dtype[Any]):
    assert accumulated_dtype(dtype) == DELIVERED[dtype.kind]

    total = np.array([[[1, 2, 100]]], total_dtype(dtype))
    out = np.empty((1, 1, 3), accumulated_dtype(dtype))
    deliver(total, out)

    assert out.tolist() == [[[1, 2, 100]]]


def test_what_does_not_fit_is_delivered_as_the_largest_value():
    unsigned, signed = np.empty((1, 1, 2), np.uint32), np.empty((1, 1, 2), np.int32)
    single = np.empty((1, 1, 2), np.float32)

    deliver(np.array([[[2**32, 7]]], np.uint64), unsigned)
    deliver(np.array([[[-(2**40), 2**40]]], np.int64), signed)
    deliver(np.array([[[1e300, 0.5]]]), single)

    assert unsigned.tolist() == [[[2**32 - 1, 7]]]
    assert signed.tolist() == [[[-(2**31), 2**31 - 1]]]
    assert single.tolist() == [[[np.inf, 0.5]]]
