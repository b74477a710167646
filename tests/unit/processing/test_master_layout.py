"""What stands beside the frames of a master, and how readers find it."""

import errno
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import silx.io
from silx.io.nxdata import get_default

from client.validate import validate
from lima2_core import registry
from lima2_core.data.frame import Validity
from lima2_core.errors import ParamError, StorageError
from processing.outputs import master, master_writer
from processing.outputs.master_plan import MasterFiles
from tests.unit.processing.master_parts import DATA, DETECTOR, Parts, read


@pytest.fixture
def parts(tmp_path):
    parts = Parts(
        tmp_path,
        expected=4,
        segment_frames=2,
        metadata={"sample": {"name": "lysozyme"}, "nothing": None},
    )
    parts.output.open(parts.run)
    parts.deliver(0, 0, 2)
    parts.deliver(1, 1)
    parts.deliver(1, 3, gap=Validity.DROPPED)
    parts.finish()
    return parts


def test_silx_opens_the_plot_of_the_index_and_of_a_segment(parts):
    for path, count in ((parts.index, 4), (parts.segment(1), 2)):
        with silx.io.open(str(path)) as file:
            plot = get_default(file)

            assert plot.signal.shape == (count, 4, 6)
            assert plot.interpretation == "image"


def test_silx_opens_a_segment_as_the_plot_of_a_long_run(tmp_path):
    parts = Parts(tmp_path, 1, expected=10_001, shape=(1, 1, 2), nb_frames_per_file=6000)
    parts.output.open(parts.run)
    parts.deliver(0, *range(10_001))
    parts.finish()

    with silx.io.open(str(parts.index)) as file:
        assert get_default(file).signal.shape == (1000, 1, 2)


def test_the_frames_are_where_readers_of_the_conductors_master_look_for_them(parts):
    with h5py.File(parts.index) as file:
        assert file.attrs["NX_class"] == "NXroot"
        entry = file[file.attrs["default"]]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry["measurement"].attrs["NX_class"] == "NXcollection"
        assert entry["measurement/data"] == file[DATA]
        assert entry["instrument"].attrs["NX_class"] == "NXinstrument"
        assert file[DETECTOR].attrs["NX_class"] == "NXdetector"
        assert file[DETECTOR]["plot"].attrs["NX_class"] == "NXdata"
        assert file[DATA].attrs["interpretation"] == "image"
        assert file[DATA].attrs["units"] == "counts"
        assert file[DATA].is_virtual
        assert len(file[DATA].virtual_sources()) == 3


def test_the_three_parameter_sets_and_the_metadata_are_in_every_file(parts):
    for path in (parts.index, parts.segment(0)):
        with h5py.File(path) as file:
            params = file[f"{DETECTOR}/params"]
            assert params["requested/acq/expo_time"][()] == 1.5
            assert params["acquisition/acq/expo_time"][()] == 2.0
            assert params["processing/saving/nb_frames_per_file"][()] == 4
            assert file[f"{DETECTOR}/detector_information/plugin"].asstr()[()] == "Simulator"
            told = file[f"{DETECTOR}/detector_information/pixel_size"]
            assert [told[axis].attrs["units"] for axis in "xy"] == ["m", "m"]
            sizes = [file[f"{DETECTOR}/{axis}_pixel_size"] for axis in "xy"]
            assert [(size[()], size.attrs["units"]) for size in sizes] == [
                (75e-6, "m"),
                (50e-6, "m"),
            ]
            count_time = file[f"{DETECTOR}/count_time"]
            assert (count_time[()], count_time.attrs["units"]) == (pytest.approx(2e-6), "s")
            entry = file["entry_0000"]
            assert entry["metadata/sample/name"].asstr()[()] == "lysozyme"
            assert entry["entry_identifier_uuid"].asstr()[()] == "0b3e"
            assert entry["acquisition/receivers"].asstr()[()].tolist() == ["r0", "r1"]
            assert entry["acquisition/topology"].asstr()[()] == "round_robin"
            assert entry["start_time"].asstr()[()].startswith("2023-11-1")


def test_the_ledger_is_beside_the_frames(parts):
    with h5py.File(parts.index) as file:
        codes = file[f"{DETECTOR}/validity"]
        names = h5py.check_enum_dtype(codes.dtype)
        told = dict(file["entry_0000/ledger"].attrs)
        timestamps = file[f"{DETECTOR}/timestamp"]

        assert codes[3] == names["DROPPED"]
        assert told["verdict"].endswith("1 dropped (as it was told)")
        assert (told["VALID"], told["DROPPED"], told["nb_frames_lost"]) == (3, 1, 1)
        assert timestamps[:3].tolist() == [100, 101, 102]
        assert timestamps.attrs["units"] == "s"
        assert file["entry_0000/end_time"].asstr()[()]


def test_metadata_are_all_there_in_collections_and_none_is_an_empty_text(tmp_path):
    metadata = {
        "proposal": None,
        "sample": {"name": None, "cell": [79.1, 79.1, 37.9], "steps": [{"ph": 7}, None, "dried"]},
    }
    parts = Parts(tmp_path, 1, expected=1, metadata=metadata)
    parts.output.open(parts.run)
    parts.deliver(0, 0)
    parts.finish()

    for path in (parts.index, parts.segment(0)):
        with h5py.File(path) as file:
            told = file["entry_0000/metadata"]
            for name in ("proposal", "sample/name", "sample/steps/1"):
                assert told[name].asstr()[()] == ""
            assert told["sample/cell"][:].tolist() == [79.1, 79.1, 37.9]
            assert told["sample/steps/0/ph"][()] == 7
            assert told["sample/steps/2"].asstr()[()] == "dried"
            for name in ("sample", "sample/steps", "sample/steps/0"):
                assert told[name].attrs["NX_class"] == "NXcollection"


@pytest.mark.parametrize(
    "metadata",
    [
        {".": 3},
        {"sample": {"a/b": 1, "a|b": 2}},
        {"a\0b": 1, "a": 2},
        {"mass": 1, "mass@units": "kg", "mass@units@units": "x", "": None},
        {"count": 2**70},
        {"text": "a\0b"},
    ],
)
def test_metadata_that_hdf5_cannot_take_is_all_there_as_json(tmp_path, metadata):
    parts = Parts(tmp_path, expected=1, metadata=metadata)
    parts.output.open(parts.run)

    parts.finish(1)

    assert json.loads(read(parts.index, "entry_0000/metadata/json")) == metadata


def test_what_json_cannot_take_either_does_not_cost_the_master(tmp_path):
    parts = Parts(tmp_path, expected=1, metadata={"value": object(), ".": 3})
    parts.output.open(parts.run)

    parts.finish(1)

    assert '".": 3' in read(parts.index, "entry_0000/metadata/json").decode()


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_whatever_hdf5_says_of_a_tree_does_not_cost_the_master(tmp_path, monkeypatch, error):
    def refuse(*_args):
        raise error("no room for this in an object header")

    monkeypatch.setattr(master_writer, "write_tree", refuse)
    parts = Parts(tmp_path, expected=1, metadata={"sample": 3})
    parts.output.open(parts.run)

    parts.finish(1)

    assert read(parts.index, "entry_0000/metadata/json") == b'{"sample": 3}'


def test_a_full_disk_is_told_though_metadata_cannot_be_written_either(tmp_path, monkeypatch):
    def full_disk(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    parts = Parts(tmp_path, expected=1, metadata={".": 3})
    parts.output.open(parts.run)
    monkeypatch.setattr(Path, "write_bytes", full_disk)

    with pytest.raises(StorageError, match=r"could not be completed: .* No space left"):
        parts.finish(1)


def test_notes_are_logs_in_the_index_with_their_times_and_units(tmp_path):
    parts = Parts(tmp_path, 1, expected=1)
    parts.output.open(parts.run)
    before_s = parts.notes.add("temperature", 293.2, "K")
    parts.notes.add("shutter", "open")
    parts.notes.add("slits", [1, 2], "mm")
    parts.notes.add("beam", True)
    parts.deliver(0, 0)
    after_s = parts.notes.add("temperature", 294)
    parts.finish()

    with h5py.File(parts.index) as file:
        group = file["entry_0000/notes"]
        assert group.attrs["NX_class"] == "NXcollection"
        assert sorted(group) == ["beam", "shutter", "slits", "temperature"]
        assert {one.attrs["NX_class"] for one in group.values()} == {"NXlog"}
        log = group["temperature"]
        assert log["value"][:].tolist() == [293.2, 294.0]
        assert log["value"].attrs["units"] == "K"
        assert log["time"][:].tolist() == [before_s, after_s]
        assert log["time"].attrs["units"] == "s"
        assert group["shutter/value"].asstr()[:].tolist() == ["open"]
        assert "units" not in group["shutter/value"].attrs
        assert group["slits/value"][:].tolist() == [[1, 2]]
        assert group["beam/value"][:].tolist() == [True]
    assert validate(parts.index).anomalies == []


def test_notes_are_in_the_index_while_the_run_goes_on(tmp_path):
    parts = Parts(tmp_path, 1, expected=8, segment_frames=4)
    parts.output.open(parts.run)
    parts.notes.add("temperature", 293.2)
    parts.deliver(0, *range(5))
    parts.flush()
    parts.output.update()

    with h5py.File(parts.index) as file:
        assert file["entry_0000/notes/temperature/value"][:].tolist() == [293.2]
    parts.finish()


def test_without_notes_there_is_no_group_for_them(parts):
    with h5py.File(parts.index) as file:
        assert "notes" not in file["entry_0000"]


def test_the_pattern_of_the_segments_leads_to_them(tmp_path):
    parts = Parts(tmp_path, filename_prefix="50%")

    files = MasterFiles.of(parts.run.saved["frame"])

    assert files.pattern % 3 == str(files.segment(3)) == str(tmp_path / "50%_master_00003.h5")


def test_a_run_that_saves_nothing_has_no_master():
    output = master.make({})
    output.open(type("Run", (), {"saved": {}, "processing": {}, "acq_id": "0b3e"}))

    output.update()
    output.finish()

    assert output.results() == []


def test_the_installation_may_switch_it_off_and_choose_the_size_of_segments(tmp_path):
    assert registry.load(registry.OUTPUTS, "master") is master.PLUGIN
    assert master.make({"master": "off"}) is None
    output = master.make({"master": "on", "master_segment_frames": "2"})
    parts = Parts(tmp_path, 1, expected=3)
    parts.output = output
    output.open(parts.run)
    parts.deliver(0, 0, 1, 2)
    parts.finish()
    assert len(read(parts.segment(0))) == 2
    assert np.array_equal(read(parts.segment(1))[0], parts.image(2)[0])


@pytest.mark.parametrize(
    "settings",
    [
        {"master": "perhaps"},
        {"master_segment_frames": "0"},
        {"master_segment_frames": "10001"},
        {"master_segment_frames": "many"},
    ],
)
def test_wrong_settings_are_refused_by_name(settings):
    with pytest.raises(ParamError) as error:
        master.make(settings)
    assert error.value.path in settings
