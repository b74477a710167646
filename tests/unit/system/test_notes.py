"""What clients attach to a run: what is taken, what is refused, and with which sentence."""

import math

import numpy as np
import pytest

from lima2_core.errors import NotAvailableError, ParamError
from lima2_core.ids import AcqId
from lima2_core.system import notes as notes_module
from lima2_core.system.notes import Notes, add_from_tree


@pytest.fixture
def notes():
    return Notes(AcqId("0b3e"))


def test_every_note_has_its_time_and_the_unit_of_its_name(notes):
    times_s = [notes.add("temperature", 293.2, "K"), notes.add("temperature", 294, "K")]
    times_s.append(notes.add("temperature", math.nan))

    series = notes.series()["temperature"]

    assert series.unit == "K"
    np.testing.assert_array_equal(series.value, [293.2, 294.0, math.nan])
    assert series.time_s.tolist() == times_s == sorted(times_s)
    assert series.time_s.dtype == np.float64
    assert notes.last()["temperature"] | {"value": 0} == {
        "value": 0,
        "unit": "K",
        "time": times_s[-1],
        "count": 3,
    }


@pytest.mark.parametrize(
    ("values", "expected", "kind"),
    [
        ([True, False], [True, False], "b"),
        ([1, -(2**63)], [1, -(2**63)], "i"),
        (["in", "ä"], ["in", "ä"], "O"),
        ([[1, 2.5], [3, 4]], [[1.0, 2.5], [3.0, 4.0]], "f"),
    ],
)
def test_values_of_one_kind_are_an_array(notes, values, expected, kind):
    for value in values:
        notes.add("x", value)

    found = notes.series()["x"].value

    assert found.tolist() == expected
    assert found.dtype.kind == kind


@pytest.mark.parametrize("name", ["", "a/b", "a b", ".a", "a.", "ä", "x" * 64, "a\n", 3])
def test_names_that_files_cannot_have_are_refused(notes, name):
    with pytest.raises(ParamError, match="is no name") as caught:
        notes.add(name, 1)

    assert caught.value.path == "name"
    assert notes.series() == {}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "flat list"),
        ({}, "flat list"),
        ([], "flat list"),
        ([0] * 1001, "flat list"),
        ([1, [2]], "no number"),
        ([1, True], "no number"),
        (2**63, "too large"),
        ("a\0b", "NUL"),
        ("x" * 5000, "4096"),
        ("\ud800", "letters that are none"),
    ],
)
def test_values_that_files_cannot_have_are_refused(notes, value, sentence):
    with pytest.raises(ParamError, match=sentence):
        notes.add("x", value)

    assert notes.series() == {}


def test_one_name_is_for_one_kind_and_one_unit(notes):
    notes.add("x", 1.0, "mm")

    for value in (True, "1", [1.0]):
        with pytest.raises(ParamError, match="are each a number"):
            notes.add("x", value)
    with pytest.raises(ParamError, match="are in mm"):
        notes.add("x", 2.0, "m")

    assert notes.series()["x"].value.tolist() == [1.0]


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [("MOST_NOTES", "2 notes at most"), ("MOST_NAMES", "2 names"), ("MOST_BYTES", "MiB in all")],
)
def test_there_is_room_for_so_many(notes, monkeypatch, limit, sentence):
    monkeypatch.setattr(notes_module, limit, 16 if limit == "MOST_BYTES" else 2)
    notes.add("a", 1)
    notes.add("b", 1)

    with pytest.raises(ParamError, match=sentence):
        notes.add("c", 1)

    assert sorted(notes.series()) == ["a", "b"]


def test_a_run_that_has_closed_takes_none_and_says_why(notes):
    notes.add("a", 1)
    notes.close("all is saved")
    notes.close("another reason")

    with pytest.raises(NotAvailableError, match="0b3e takes no more notes: all is saved"):
        notes.add("a", 2)

    assert notes.series()["a"].value.tolist() == [1]


@pytest.mark.parametrize(
    ("tree", "path"),
    [({"name": "a"}, "note"), ({"value": 1}, "note"), ({"name": "a", "value": 1, "at": 2}, "at")],
)
def test_a_note_as_it_is_sent_has_name_value_and_unit(notes, tree, path):
    assert add_from_tree(notes, {"name": "a", "value": 1, "unit": "K"})

    with pytest.raises(ParamError, match="nothing else") as caught:
        add_from_tree(notes, tree)

    assert caught.value.path == path
