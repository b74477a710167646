import os

import fabio.edfimage
import fabio.tifimage
import h5py
import numpy as np
import pytest

from lima2_core.data.frame import FrameSpec
from lima2_core.data.geometry import Placement
from lima2_core.errors import ParamError
from processing.calibration_files import load_map
from processing.params import CalibrationFileParams

SPEC = FrameSpec((1, 4, 6), np.dtype(np.uint16))
IMAGE = np.arange(24, dtype=np.float32).reshape(4, 6)


def load(path, spec=SPEC, where="background"):
    return load_map(CalibrationFileParams(enabled=True, path=str(path)), spec, where)


def hdf5(path, datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


@pytest.mark.parametrize("axes", [2, 3])
def test_of_an_image_of_whole_frames_a_receiver_takes_its_part(axes, tmp_path):
    whole = np.arange(80.0).reshape(8, 10)
    np.save(tmp_path / "map.npy", whole if axes == 2 else whole[None])
    params = CalibrationFileParams(enabled=True, path=str(tmp_path / "map.npy"))

    part = load_map(params, SPEC, "mask", Placement(3, 2, 8, 10))

    assert part.shape[-2:] == (4, 6)
    assert np.array_equal(part.reshape(4, 6), whole[3:7, 2:8])
    assert part.flags.c_contiguous


def test_an_image_of_one_part_is_not_taken_for_all(tmp_path):
    np.save(tmp_path / "map.npy", IMAGE)
    params = CalibrationFileParams(enabled=True, path=str(tmp_path / "map.npy"))

    with pytest.raises(ParamError, match=r"has the shape \(4, 6\), .* have \(8, 6\)"):
        load_map(params, SPEC, "mask", Placement(4, 0, 8, 6))


def test_what_is_off_is_not_looked_for():
    assert load_map(CalibrationFileParams(path="/no/such/file.h5"), SPEC, "mask") is None


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8", ">f4", "?"])
def test_an_image_is_read_from_hdf5_by_the_name_of_its_dataset(dtype, tmp_path):
    path = hdf5(tmp_path / "maps.h5", {"a": IMAGE + 1, "entry/map": IMAGE.astype(dtype)})

    for name in ("entry/map", "/entry/map"):
        assert load(f"{path}::{name}").tolist() == IMAGE.astype(dtype).tolist()


def test_without_a_name_it_is_the_first_dataset_that_fits(tmp_path):
    path = hdf5(
        tmp_path / "maps.nxs",
        {"a": np.eye(3), "b": 5, "c": "text", "d/map": IMAGE, "e": IMAGE + 1, "f": np.zeros(4)},
    )

    assert load(path).tolist() == IMAGE.tolist()


def test_a_file_of_one_saved_frame_serves_as_it_is(tmp_path):
    path = hdf5(
        tmp_path / "dark_0_00000.h5",
        {"e/i/d/data": IMAGE[np.newaxis], "e/i/d/image_to_detector": np.eye(3)},
    )

    assert load(path).tolist() == [IMAGE.tolist()]


def test_edf_tiff_and_npy_are_read(tmp_path):
    fabio.edfimage.EdfImage(IMAGE).write(str(tmp_path / "map.edf"))
    fabio.tifimage.TifImage(IMAGE).write(str(tmp_path / "map.tif"))
    np.save(tmp_path / "map.npy", IMAGE)

    for suffix in ("edf", "tif", "npy"):
        assert load(tmp_path / f"map.{suffix}").tolist() == IMAGE.tolist(), suffix


def test_maps_may_have_a_plane_for_each_band(tmp_path):
    planes = np.stack([IMAGE, IMAGE + 1])
    np.save(tmp_path / "map.npy", planes)
    spec = FrameSpec((2, 4, 6), np.dtype(np.uint16))

    assert load(tmp_path / "map.npy", spec).tolist() == planes.tolist()


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path):
    path = tmp_path / "map.npy"
    np.save(path, IMAGE)
    first = load(path)

    assert load(path, where="mask") is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1
    np.save(path, IMAGE + 1)
    os.utime(path, ns=(1, 1))
    assert load(path).tolist() == (IMAGE + 1).tolist()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", r"no file is given; give file\.h5::/dataset, or an EDF"),
        ("maps.h5", r"'maps\.h5' must be an absolute path"),
        ("/no/such/file.h5", r"there is no file /no/such/file\.h5 on this computer"),
        ("/tmp", r"there is no file /tmp on this computer"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name, sentence):
    with pytest.raises(ParamError, match=r"^flatfield\.path: " + sentence) as refusal:
        load(name, where="flatfield")
    assert refusal.value.path == "flatfield.path"


@pytest.mark.parametrize(
    ("datasets", "dataset", "sentence"),
    [
        ({"a": 1, "b": np.zeros(3)}, "", "it has no 2D dataset; give file.h5::/dataset"),
        ({"a": IMAGE}, "::/b", "it has no dataset /b"),
        ({"a/b": IMAGE}, "::/a", "it has no dataset /a"),
        ({"a": IMAGE.T}, "", r"the image in .*maps.h5 has the shape \(6, 4\), camera frames have"),
        ({"a": IMAGE[np.newaxis, np.newaxis]}, "::a", r"the shape \(1, 1, 4, 6\), camera frames"),
        ({"a": IMAGE.astype(complex)}, "", "is of type complex128; integers or floats are needed"),
        ({"a": np.full((4, 6), b"text")}, "", r"is of type \|S4; integers or floats are needed"),
    ],
)
def test_a_file_without_a_usable_image_is_refused(datasets, dataset, sentence, tmp_path):
    path = hdf5(tmp_path / "maps.h5", datasets)

    with pytest.raises(ParamError, match=sentence) as refusal:
        load(f"{path}{dataset}", where="mask")
    assert refusal.value.path == "mask.path"
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("name", ["map.h5", "map.npy", "map.edf", "map.tif", "map.cbf", "map"])
@pytest.mark.parametrize("content", [b"", b"no image at all, whatever its name says", b"II*\0\x99"])
def test_a_file_that_is_something_else_is_refused(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(ParamError, match=r"cannot be read: .*give file\.h5::/dataset") as refusal:
        load(path)
    assert refusal.value.path == "background.path"


def test_objects_in_a_npy_file_are_not_unpacked(tmp_path):
    np.save(tmp_path / "map.npy", np.array([[object()]]), allow_pickle=True)

    with pytest.raises(ParamError, match="cannot be read"):
        load(tmp_path / "map.npy")
