"""What a camera may tell of every frame."""

import json

import numpy as np
import pytest

from lima2_core.data.fields import FrameField, fields_dtype


def test_a_record_has_one_value_of_each_field_in_their_order():
    mask = FrameField("packets", np.dtype("u1"), (16,))
    fields = (FrameField("bunch_id", np.dtype("u8")), mask)

    record = fields_dtype(fields)

    assert record.names == ("bunch_id", "packets")
    assert record["packets"].shape == (16,)
    assert record.itemsize == 24
    assert mask.nbytes == 16


@pytest.mark.parametrize(("dtype", "fill"), [("u1", 255), ("u8", 2**64 - 1), ("i4", -1)])
def test_where_there_is_no_frame_all_bits_are_set(dtype, fill):
    assert FrameField("value", np.dtype(dtype)).fill == fill
    assert np.isnan(FrameField("value", np.dtype("f8")).fill)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "words"),
    [
        ("a/b", "u1", (), "no name of a field"),
        ("", "u1", (), "no name of a field"),
        ("text", "U3", (), "an integer or a float"),
        ("none", "u1", (0,), "is empty"),
    ],
)
def test_what_cannot_stand_in_a_file_is_refused(name, dtype, shape, words):
    with pytest.raises(ValueError, match=words):
        FrameField(name, np.dtype(dtype), shape)


def test_two_fields_of_one_name_are_refused():
    field = FrameField("twice", np.dtype("u1"))

    with pytest.raises(ValueError, match="twice"):
        fields_dtype((field, field))


def test_a_field_can_be_taken_apart_and_put_together():
    field = FrameField("mask", np.dtype("<u2"), (2, 3), "bits", "which packets came")

    assert FrameField.from_tree("mask", json.loads(json.dumps(field.to_tree()))) == field
