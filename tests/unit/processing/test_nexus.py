"""Trees of values in HDF5 files, and what is told about the values."""

import copy

import h5py
import pytest

from processing.sinks.nexus import with_units, write_tree


@pytest.fixture
def file():
    with h5py.File("lima2-nexus", "w", driver="core", backing_store=False) as file:
        yield file


def test_texts_about_a_value_are_its_attributes(file):
    write_tree(file, {"t": {"cold": 4.2, "cold@units": "K", "cold@description": "of the sample"}})

    assert list(file["t"]) == ["cold"]
    assert dict(file["t/cold"].attrs) == {"units": "K", "description": "of the sample"}


@pytest.mark.parametrize(
    "tree",
    [
        {"warm@units": "K"},
        {"warm": None, "warm@units": "K"},
        {"warm": 1, "warm@NX_class": "NXroot"},
        {"warm": 1, "warm@description": "so much to tell " * 100},
        {"warm": 1, "warm@units": 2},
        {"warm": 1, "mail@example.org": "x"},
    ],
    ids=["nothing", "none", "other", "long", "number", "address"],
)
def test_what_is_about_nothing_stands_for_itself(file, tree):
    write_tree(file, tree)

    assert set(file) == {name for name, value in tree.items() if value is not None}
    assert not any(dict(item.attrs) for item in file.values())


def test_a_text_about_a_text_about_a_value_stands_for_itself(file):
    write_tree(file, {"warm": 1, "warm@units": "K", "warm@units@description": "as ever"})

    assert set(file) == {"warm", "warm@units@description"}
    assert dict(file["warm"].attrs) == {"units": "K"}


@pytest.mark.parametrize(
    "tree",
    [
        {"a/b": 1, "a|b": 2},
        {"a/b": {}, "a|b": {}},
        {1: 1, "1": 2},
        {"": 1},
        {".": 1},
        {".": {}},
        {"a\0b": 1},
        {"a\0b": {"c": 1}},
        {"deep": [{"a": 1}, {"a\0b": 1}]},
    ],
)
def test_keys_that_cannot_be_names_are_refused_as_values_are(file, tree):
    with pytest.raises(ValueError, match=r"HDF5 files; (choose|rename)"):
        write_tree(file, tree)


def test_what_is_left_out_needs_no_name(file):
    write_tree(file, {"a/b": 1, "a|b": None, ".": None})

    assert list(file) == ["a|b"]


def test_groups_are_collections_and_none_is_left_out_or_stands_for_itself(file):
    tree = {"a": {"b": None, "c": [{"d": 1}]}, "e": None}
    for name, none in (("without", None), ("with", "")):
        write_tree(file.create_group(name), tree, none)

    assert set(file["without"]) == set(file["with"]) - {"e"} == {"a"}
    assert set(file["without/a"]) == {"c"}
    assert file["with/a/b"].asstr()[()] == file["with/e"].asstr()[()] == ""
    for name in ("a", "a/c", "a/c/0"):
        assert file["with"][name].attrs["NX_class"] == "NXcollection"


def test_a_camera_is_told_with_its_units_and_left_as_it_is(file):
    detector = {
        "model": "x",
        "pixel_size": {"x": 75e-6, "y": 50e-6},
        "dimensions": {"x": 2, "y": 1},
        "serial": {"x": 1},
    }
    before = copy.deepcopy(detector)

    write_tree(file, with_units(detector))

    told = {
        (name, axis): dict(file[name][axis].attrs)
        for name in ("pixel_size", "dimensions", "serial")
        for axis in file[name]
    }
    assert told == {
        ("pixel_size", "x"): {"units": "m", "description": "width of a pixel, along a row"},
        ("pixel_size", "y"): {"units": "m", "description": "height of a pixel, along a column"},
        ("dimensions", "x"): {"units": "pixels", "description": "columns of the detector"},
        ("dimensions", "y"): {"units": "pixels", "description": "rows of the detector"},
        ("serial", "x"): {},
    }
    assert detector == before


def test_a_size_of_another_form_is_written_as_it_is(file):
    write_tree(file, with_units({"pixel_size": 75e-6, "dimensions": [2, 1]}))

    assert file["pixel_size"][()] == 75e-6
    assert file["dimensions"][()].tolist() == [2, 1]
