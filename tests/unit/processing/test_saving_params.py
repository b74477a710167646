import os
import shutil
from types import SimpleNamespace

import h5py
import pytest

from lima2_core.errors import ParamError
from lima2_core.schema import ParamsModel, json_schema
from processing.saving import DEFAULT_FORMAT, SavingParams

# Contract 02, section 9.
DEFAULTS = {
    "enabled": False,
    "base_path": "/tmp",
    "filename_format": DEFAULT_FORMAT,
    "filename_prefix": "lima2",
    "filename_rank": 0,
    "filename_suffix": ".h5",
    "start_number": 0,
    "file_exists_policy": "abort",
    "nb_frames_per_file": 50,
    "compression": "bshuf_lz4",
    "nx_entry_name": "entry_0000",
    "nx_instrument_name": "instrument",
    "nx_detector_name": "detector",
    "nb_dimensions": "dim_3d_or_4d",
    "include_frame_idx": False,
}
OURS = {"sampling": 1}
CONTROL = "line breaks or other control characters"


class Tree(ParamsModel):
    """A pipeline with one saving block."""

    saving: SavingParams = SavingParams()


def params(**changed):
    return SavingParams(enabled=True, **changed)


def test_keys_and_defaults_are_those_of_the_contract():
    assert SavingParams().to_tree() == DEFAULTS | OURS
    properties = json_schema(SavingParams)["properties"]
    assert {key: value["default"] for key, value in properties.items()} == DEFAULTS | OURS


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("base_path", "data/run", "absolute"),
        ("filename_prefix", "a/b", "without '/'"),
        ("base_path", "/data/a\nb", CONTROL),
        ("base_path", "/data/a\tb", CONTROL),
        ("filename_prefix", "..", "without '/'"),
        ("filename_prefix", "a\nb", CONTROL),
        ("filename_prefix", "a\0b", CONTROL),
        ("filename_suffix", "\x7f.h5", CONTROL),
        ("filename_prefix", "", "empty"),
        ("filename_suffix", "/../x.h5", "without '/'"),
        ("filename_rank", -1, "greater than or equal to 0"),
        ("start_number", 1, "must be 0"),
        ("file_exists_policy", "append", "another filename_prefix"),
        ("file_exists_policy", "replace", "'overwrite'"),
        ("sampling", 0, "greater than or equal to 1"),
        ("nb_frames_per_file", 0, "greater than or equal to 1"),
        ("compression", "jpeg", "'bshuf_lz4'"),
        ("nx_entry_name", "", "not empty"),
        ("nx_instrument_name", "a/b", "without '/'"),
        ("nx_detector_name", "..", "name of one HDF5 group"),
        ("nb_dimensions", "dim_2d", "'dim_4d'"),
    ],
)
def test_a_bad_value_is_refused_by_its_path(key, value, told):
    with pytest.raises(ParamError) as refused:
        Tree.from_tree({"saving": {"enabled": True, key: value}})

    assert refused.value.path == f"saving.{key}"
    assert told in str(refused.value)


def test_who_does_not_save_may_leave_anything_in_the_block():
    tree = Tree.from_tree({"saving": {"enabled": False, "base_path": "", "start_number": 3}})

    tree.saving.check("saving")


def test_integers_may_come_as_whole_floats():
    assert params(nb_frames_per_file=20.0, filename_rank=1.0).path(0).name == "lima2_1_00000.h5"


@pytest.mark.parametrize(
    ("name_format", "followed"),
    [
        (DEFAULT_FORMAT, True),
        ("lima2_{filename_rank}_{file_number:05d}.h5", True),
        ("{filename_prefix}_{filename_rank}_{file_number:04d}.h5", False),
        ("scan_{filename_rank}_{file_number:05d}.h5", False),
        ("lima2_0_00000.h5", False),
        ("{unknown}", False),
        ("{", False),
        ("{filename_prefix.missing}", False),
    ],
)
def test_a_name_format_is_followed_if_it_yields_the_names_that_readers_know(name_format, followed):
    assert params(filename_format=name_format).format_is_followed is followed


def test_another_suffix_is_not_followed():
    saving = params(filename_suffix=".nxs")

    assert not saving.format_is_followed
    assert saving.path(7).name == "lima2_0_00007.h5"


def test_existing_files_are_those_of_this_prefix_and_rank_in_order(tmp_path):
    for name in (
        "lima2_0_00010.h5",
        "lima2_0_00002.h5",
        "lima2_0_100000.h5",
        "lima2_1_00000.h5",
        "lima2_0_0_00000.h5",
        "lima2_0_00000.h5.bak",
        "lima2_master.h5",
    ):
        (tmp_path / name).touch()

    found = params(base_path=str(tmp_path)).existing_files()

    names = [path.name for path in found]
    assert names == ["lima2_0_00002.h5", "lima2_0_00010.h5", "lima2_0_100000.h5"]


def refusal(saving, where="saving"):
    with pytest.raises(ParamError) as refused:
        saving.check(where)
    return refused.value


def test_a_missing_folder_is_refused(tmp_path):
    error = refusal(params(base_path=str(tmp_path / "absent")), "saving_dense")

    assert error.path == "saving_dense.base_path"
    assert "make it" in str(error)


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()

    error = refusal(params(base_path=str(tmp_path / "file")))

    assert error.path == "saving.base_path"
    assert "name a folder" in str(error)


def test_a_folder_that_must_not_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere

    error = refusal(params(base_path=str(tmp_path)))

    assert error.path == "saving.base_path"
    assert f"id {os.geteuid()}" in str(error)


def test_a_full_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))

    error = refusal(params(base_path=str(tmp_path)))

    assert error.path == "saving.base_path"
    assert "no space" in str(error)


def test_files_of_an_earlier_run_are_refused_by_the_policy_abort(tmp_path):
    old = tmp_path / "lima2_0_00000.h5"
    old.touch()

    error = refusal(params(base_path=str(tmp_path)))

    assert error.path == "saving.file_exists_policy"
    assert error.details["file"] == str(old)
    assert old.exists()


def test_files_of_an_earlier_run_are_accepted_and_left_alone_by_the_check_with_overwrite(tmp_path):
    old = tmp_path / "lima2_0_00000.h5"
    old.touch()

    params(base_path=str(tmp_path), file_exists_policy="overwrite").check("saving")

    assert old.exists()


@pytest.mark.parametrize("policy", ["abort", "overwrite"])
def test_files_that_are_being_written_are_nobody_elses(tmp_path, policy):
    saving = params(base_path=str(tmp_path), file_exists_policy=policy)
    with h5py.File(saving.path(0), "w"):
        assert refusal(saving).path == "saving.filename_prefix"
        with pytest.raises(ParamError, match=r"is being written; wait for the end of that run"):
            saving.check("saving")

    # Once it is complete the policy decides.
    if policy == "overwrite":
        saving.check("saving")
