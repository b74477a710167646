import os

import fabio
import h5py
import numpy as np
import pytest

from camera_plugins.reader._sdk import FileError
from camera_plugins.reader.files import find
from camera_plugins.reader.params import ReaderDetParams
from lima2_core.errors import ParamError

DATASET = "/entry_0000/measurement/data"


def frames(count, first=0, dtype=np.uint16, shape=(3, 4)):
    """Frame n holds n everywhere."""
    numbers = np.arange(first, first + count, dtype=dtype)
    return np.broadcast_to(numbers.reshape(-1, *(1,) * len(shape)), (count, *shape))


def write(path, data, dataset=DATASET):
    with h5py.File(path, "w") as file:
        file[dataset] = data
    return path


def write_series(folder, counts, **kwargs):
    first = 0
    for number, count in enumerate(counts):
        write(folder / f"lima2_0_{number:05d}.h5", frames(count, first, **kwargs))
        first += count


def found(data_root="", **det):
    return find(ReaderDetParams.from_tree(det), data_root)


def played(recording, count=None):
    """The number in each played frame."""
    numbers = []
    for frame in range(count or len(recording.chosen)):
        number, place = recording.place(frame)
        file = recording.open(number)
        image = np.empty(recording.shape, recording.dtype)
        file.read(place, image)
        file.close()
        assert (image == image.flat[0]).all()
        numbers.append(int(image.flat[0]))
    return numbers


def refused(**det):
    with pytest.raises(ParamError) as error:
        found(**det)
    return error.value


def test_a_single_file_is_found(tmp_path):
    path = write(tmp_path / "one.h5", frames(5))

    recording = found(file=str(path))

    assert recording.shape == (1, 3, 4)
    assert recording.dtype == np.uint16
    assert played(recording) == [0, 1, 2, 3, 4]


def test_a_dataset_may_be_named_with_the_file(tmp_path):
    path = write(tmp_path / "one.h5", frames(2), "/raw/images")

    assert played(found(file=f"{path}::/raw/images")) == [0, 1]
    assert played(found(file=str(path), dataset_path="raw/images")) == [0, 1]


def test_bands_are_kept(tmp_path):
    path = write(tmp_path / "one.h5", frames(2, shape=(5, 3, 4)))

    assert found(file=str(path)).shape == (5, 3, 4)


def test_the_byte_order_is_that_of_the_computer(tmp_path):
    path = write(tmp_path / "one.h5", frames(3, dtype=">i4"))

    recording = found(file=str(path))

    assert recording.dtype == np.int32
    assert recording.dtype.isnative
    assert played(recording) == [0, 1, 2]


def test_a_series_ends_with_the_first_missing_number(tmp_path):
    write_series(tmp_path, [3, 3, 2])
    write(tmp_path / "lima2_0_00007.h5", frames(3))

    recording = found(base_path=str(tmp_path), nb_frames_per_file=3)

    assert played(recording) == list(range(8))


def test_a_series_may_begin_at_another_number(tmp_path):
    write_series(tmp_path, [3, 3, 2])

    recording = found(base_path=str(tmp_path), nb_frames_per_file=3, start_number=1)

    assert played(recording) == [3, 4, 5, 6, 7]


def test_a_single_file_of_a_series_may_have_any_length(tmp_path):
    write_series(tmp_path, [4])

    assert played(found(base_path=str(tmp_path))) == [0, 1, 2, 3]


def test_a_name_without_a_number_is_a_single_file(tmp_path):
    write(tmp_path / "scan.h5", frames(2))

    recording = found(base_path=str(tmp_path), filename_format="scan{filename_suffix}")

    assert played(recording) == [0, 1]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"start": 2}, [2, 3, 4, 5, 6, 7]),
        ({"stride": 3}, [0, 3, 6]),
        ({"start": 1, "stride": 2, "count": 3}, [1, 3, 5]),
        ({"count": 8}, list(range(8))),
    ],
)
def test_a_slice_is_played(tmp_path, part, expected):
    write_series(tmp_path, [3, 3, 2])

    recording = found(base_path=str(tmp_path), nb_frames_per_file=3, frame_slice=part)

    assert played(recording) == expected
    assert played(recording, len(expected) + 2) == expected + expected[:2]


@pytest.mark.parametrize(
    ("kind", "suffix", "dtype"),
    [("edf", ".edf", np.uint16), ("cbf", ".cbf", np.int32), ("tiff", ".tif", np.uint16)],
)
def test_images_of_other_types_are_played(tmp_path, kind, suffix, dtype):
    image_class = {"edf": "edfimage", "cbf": "cbfimage", "tiff": "tifimage"}[kind]
    for number in range(3):
        data = np.full((3, 4), number, dtype)
        image = fabio.fabioformats.get_class_by_name(image_class)(data=data)
        image.write(str(tmp_path / f"lima2_0_{number:05d}{suffix}"))

    recording = found(base_path=str(tmp_path), file_type=kind, filename_suffix=suffix)

    assert (recording.shape, recording.dtype) == ((1, 3, 4), dtype)
    assert played(recording) == [0, 1, 2]


def test_an_edf_file_may_hold_several_images(tmp_path):
    image = fabio.edfimage.EdfImage(data=np.full((3, 4), 0, np.int32))
    for number in (1, 2):
        image.append_frame(data=np.full((3, 4), number, np.int32))
    path = tmp_path / "three.edf"
    image.write(str(path))

    assert played(found(file=str(path), file_type="edf")) == [0, 1, 2]


@pytest.mark.parametrize(
    ("det", "path"),
    [
        ({"file": "{folder}/none.h5"}, "det.file"),
        ({"file": "{folder}"}, "det.file"),
        ({"file": "{folder}/text.h5"}, "det.file"),
        ({"file": "{folder}/text.h5", "file_type": "edf"}, "det.file"),
        ({"file": "{folder}/text.h5", "file_type": "cbf"}, "det.file"),
        ({"file": "{folder}/text.h5", "file_type": "tiff"}, "det.file"),
        ({"file": "a\0b"}, "det.file"),
        ({"file": "/dev/zero"}, "det.file"),
        ({"file": "{folder}/good.h5", "dataset_path": "/none"}, "det.dataset_path"),
        ({"file": "{folder}/good.h5", "dataset_path": "/entry_0000"}, "det.dataset_path"),
        ({"file": "{folder}/good.h5", "dataset_path": ""}, "det.dataset_path"),
        ({"file": "{folder}/good.h5::/none"}, "det.file"),
        ({"file": "{folder}/flat.h5"}, "det.dataset_path"),
        ({"file": "{folder}/wide.h5"}, "det.dataset_path"),
        ({"file": "{folder}/thin.h5"}, "det.dataset_path"),
        ({"file": "{folder}/none_in_it.h5"}, "det.frame_slice.start"),
        ({"file": "{folder}/good.h5", "frame_slice": {"start": 3}}, "det.frame_slice.start"),
        ({"file": "{folder}/good.h5", "frame_slice": {"count": 4}}, "det.frame_slice.count"),
        ({"base_path": "{folder}/none"}, "det.base_path"),
        ({"base_path": "{folder}", "filename_prefix": "none"}, "det.filename_prefix"),
        ({"base_path": "{folder}", "filename_prefix": "../lima2"}, "det.filename_prefix"),
        ({"base_path": "{folder}", "filename_format": "{{x}}"}, "det.filename_format"),
        ({"base_path": "{folder}", "filename_format": "{{"}, "det.filename_format"),
        (
            {"base_path": "{folder}", "filename_format": "{{file_number.__class__}}"},
            "det.filename_format",
        ),
        (
            {"base_path": "{folder}", "filename_format": "{{file_number:0999999999d}}"},
            "det.filename_format",
        ),
        ({"base_path": "{folder}", "filename_format": "{{file_number!r}}"}, "det.filename_format"),
        (
            {"base_path": "{folder}", "filename_format": "{{filename_prefix:05d}}"},
            "det.filename_format",
        ),
    ],
)
def test_what_cannot_be_played_is_refused(tmp_path, det, path):
    write(tmp_path / "good.h5", frames(3))
    write(tmp_path / "flat.h5", np.zeros((3, 4)))
    write(tmp_path / "wide.h5", frames(3, dtype=np.int64))
    write(tmp_path / "thin.h5", np.zeros((3, 0, 4)))
    write(tmp_path / "none_in_it.h5", np.zeros((0, 3, 4)))
    (tmp_path / "text.h5").write_text("this is a text")
    det = {
        key: value.format(folder=tmp_path) if isinstance(value, str) else value
        for key, value in det.items()
    }

    assert refused(**det).path == path


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "one.h5", frames(2000))
    os.truncate(path, path.stat().st_size // 2)

    assert refused(file=str(path)).path == "det.file"


def test_a_wrong_number_of_frames_per_file_is_refused(tmp_path):
    write_series(tmp_path, [3, 3])

    error = refused(base_path=str(tmp_path), nb_frames_per_file=2)

    assert error.path == "det.nb_frames_per_file"
    assert "holds 3 frames, not 2" in str(error)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write_series(tmp_path, [3, 3])
    write(tmp_path / "lima2_0_00002.h5", frames(3, shape=(3, 5)))

    assert refused(base_path=str(tmp_path), nb_frames_per_file=3).path == "det.filename_prefix"


def test_a_different_file_in_the_middle_is_found_out_when_it_is_opened(tmp_path):
    write_series(tmp_path, [3, 3, 3])
    write(tmp_path / "lima2_0_00001.h5", frames(3, dtype=np.int8))
    recording = found(base_path=str(tmp_path), nb_frames_per_file=3)

    with pytest.raises(FileError, match="int8"):
        recording.open(1)


def test_only_files_below_the_root_are_played(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    inside, outside = write(root / "in.h5", frames(2)), write(tmp_path / "out.h5", frames(2))
    (root / "link.h5").symlink_to(outside)

    assert played(found(str(root), file=str(inside))) == [0, 1]
    for path in (outside, root / ".." / "out.h5", root / "link.h5"):
        with pytest.raises(ParamError, match="is not below"):
            found(str(root), file=str(path))


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["edf", "cbf", "tiff"])
def test_a_truncated_image_is_refused(tmp_path, kind, part):
    image_class = {"edf": "edfimage", "cbf": "cbfimage", "tiff": "tifimage"}[kind]
    path = tmp_path / "image"
    data = np.random.default_rng(1).integers(0, 1000, (64, 64)).astype(np.int32)
    fabio.fabioformats.get_class_by_name(image_class)(data=data).write(str(path))
    os.truncate(path, int(path.stat().st_size * part))

    assert refused(file=str(path), file_type=kind).path == "det.file"


def test_an_image_with_a_wrong_checksum_is_refused(tmp_path):
    path = tmp_path / "image.cbf"
    fabio.cbfimage.CbfImage(data=np.full((64, 64), 7, np.int32)).write(str(path))
    content = bytearray(path.read_bytes())
    content[content.index(b"\x0c\x1a\x04\xd5") + 100] ^= 1
    path.write_bytes(content)

    assert "checksum" in str(refused(file=str(path), file_type="cbf"))
