"""The task: what it announces, what it refuses, where it computes."""

import json

import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec
from lima2_core.data.geometry import Affine, Placement
from lima2_core.data.memory import PoolSet
from lima2_core.errors import ParamError, PluginError
from lima2_core.testing.task_suite import TaskCase, TaskSuite
from processing.jungfrau.params import PhotonsParams
from processing.kernels.jungfrau import NumpyPhotons
from processing.kernels.opencl import devices
from processing.kernels.opencl import photons as device_photons
from processing.tasks.convert_photons import ConvertPhotons
from tests.unit.processing.jungfrau import calibration, opencl_device, photons, saved, words

ONE = FrameSpec((1, 512, 1024), np.dtype(np.uint16))
TWO = FrameSpec((1, 1024, 1024), np.dtype(np.uint16))
EIGHT_ROWS = FrameSpec((2, 8, 1024), np.dtype(np.uint16))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Calibrations of one and two modules, a layout of two."""
    folder = tmp_path_factory.mktemp("jungfrau")
    layout = folder / "layout.json"
    layout.write_text(json.dumps({"modules": [{}, {"row": 550, "rotation": 180}]}))
    (folder / "one.json").write_text(json.dumps({"modules": [{}]}))
    corners = [{}, {"row": 600, "col": 1100}, {"row": 600}, {"col": 1100}]
    (folder / "crossed.json").write_text(json.dumps({"modules": corners}))
    return {
        "one_of": str(folder / "one.json"),
        "crossed": str(folder / "crossed.json"),
        "four": saved(folder, calibration(4), "four.h5"),
        "one": saved(folder, calibration(1), "one.h5"),
        "two": saved(folder, calibration(2), "two.h5"),
        "layout": str(layout),
    }


def task(path, part=(0, 1), origin=(0, 0), **tree):
    params = PhotonsParams.from_tree({"enabled": True, "calibration_path": path, **tree})
    return ConvertPhotons(params, PoolSet(2**26), 2, part=part, origin=origin)


class TestConvertPhotons(TaskSuite):
    @pytest.fixture(params=["numpy", "auto", "split", "float32"])
    def case(self, request, files):
        changed = {
            "numpy": {"device": "numpy"},
            "auto": {"maps_16bit": True},
            "split": {"layout_path": files["layout"], "double_pixels": "split"},
            "float32": {"output": "float32", "no_value": "zero"},
        }[request.param]
        return TaskCase(
            lambda: task(files["two"], module_rows=8, **changed),
            EIGHT_ROWS,
            refused=[ONE, FrameSpec((1, 16, 1000), ONE.dtype), FrameSpec((1, 32, 1024), ONE.dtype)],
            draw=lambda idx, spec: words(2, 8, idx).reshape(spec.shape),
        )


def test_an_image_of_photons_is_announced_and_made(files):
    convert = task(files["two"], layout_path=files["layout"], output="int32")
    raw = words(2)

    spec = convert.resolve(TWO)
    out = convert.process(Frame(3, raw)).data

    assert (spec.shape, spec.dtype, spec.unit) == ((1, 1064, 1030), np.int32, "photons")
    expected = photons(raw, calibration(2))[0, 10, :256]
    known = np.isfinite(expected)
    assert np.abs(out[0, 10, :256][known] - expected[known]).max() <= 0.5 + 1e-3
    assert (out[0, 10, 256:258] == -(2**31)).all()
    assert convert.mask.shape == (1064, 1030)
    assert convert.mask.sum() == 1064 * 1030 - 2 * 512 * 1024


def test_without_a_layout_frames_keep_their_shape(files):
    spec = FrameSpec((2, 512, 1024), ONE.dtype)
    convert = task(files["two"], double_pixels="mask")

    assert convert.resolve(spec).shape == (2, 512, 1024)
    assert convert.mask.shape == (2, 512, 1024)
    assert convert.mask[:, 3, 250:260].sum() == 4


def test_modules_are_chosen_by_id(files):
    raw = words(1)
    first, second = (task(files["two"], modules=[n], output="float32") for n in (100, 101))
    both = task(files["two"], output="float32")
    for each, spec in ((first, ONE), (second, ONE), (both, TWO)):
        each.resolve(spec)

    stack = both.process(Frame(0, np.concatenate([raw, raw], axis=1))).data
    for number, each in enumerate((first, second)):
        image = each.process(Frame(0, raw)).data
        assert np.array_equal(image[0], stack[0, number * 512 :][:512], equal_nan=True)


def test_each_receiver_has_its_part_of_the_modules(files):
    own, named = task(files["two"], part=(1, 2)), task(files["two"], modules=[101])
    raw = words(1)

    own.resolve(ONE), named.resolve(ONE)

    assert np.array_equal(own.process(Frame(0, raw)).data, named.process(Frame(0, raw)).data)


def test_a_part_of_the_modules_gives_the_rectangle_around_them(files):
    raw = words(2)
    whole = task(files["two"], layout_path=files["layout"])
    image = (whole.resolve(TWO), whole.process(Frame(0, raw)).data)[1]
    assert whole.placement == Placement(0, 0, 1064, 1030)

    for number, row in enumerate((0, 550)):
        part = task(
            files["two"], (number, 2), origin=(512 * number, 0), layout_path=files["layout"]
        )
        came = ONE.changed(step=Affine.crop(512 * number, 0))
        spec = part.resolve(came)

        made = part.process(Frame(0, raw[:, 512 * number :][:, :512])).data
        assert part.placement == Placement(row, 0, 1064, 1030)
        assert part.marks.no_value == -(2**15)
        assert spec.affine == Affine.crop(row, 0)
        assert np.array_equal(made, image[:, row : row + 514])
        assert np.array_equal(part.mask, whole.mask[row : row + 514])


def test_rectangles_that_overlap_are_refused_with_the_modules(files):
    with pytest.raises(ParamError, match=r"those of modules 0 to 1 .* and 2 to 3 .*overlap"):
        task(files["four"], (0, 2), layout_path=files["crossed"]).resolve(TWO)


def test_energy_scales_the_photons(files):
    raw = words(1, switched=0)
    results = []
    for energy in (12.4, 6.2):
        convert = task(files["one"], energy_kev=energy, output="float32")
        convert.resolve(ONE)
        results.append(convert.process(Frame(0, raw)).data)

    known = np.isfinite(results[0])
    assert np.allclose(results[1][known], 2 * results[0][known], rtol=1e-6)


@pytest.mark.parametrize(
    ("tree", "spec", "part", "path"),
    [
        ({"calibration_path": "none.h5"}, ONE, (0, 1), "photons.calibration_path"),
        ({"calibration_path": "two"}, ONE, (0, 1), "photons.calibration_path"),
        ({"modules": [7]}, ONE, (0, 1), "photons.modules"),
        ({"modules": [100, 100]}, ONE, (0, 1), "photons.modules"),
        ({}, FrameSpec((1, 512, 1000), ONE.dtype), (0, 1), "photons.calibration_path"),
        ({}, FrameSpec((1, 12, 1024), ONE.dtype), (0, 1), "photons.calibration_path"),
        ({}, FrameSpec(ONE.shape, np.dtype(np.uint32)), (0, 1), "photons.enabled"),
        ({"double_pixels": "split"}, ONE, (0, 1), "photons.layout_path"),
        ({"layout_path": "layout"}, ONE, (0, 1), "photons.layout_path"),
        ({"calibration_path": "two", "layout_path": "one_of"}, ONE, (0, 2), "photons.layout_path"),
        (
            {"calibration_path": "four", "layout_path": "crossed"},
            TWO,
            (1, 2),
            "photons.layout_path",
        ),
        ({}, ONE, (0, 2), "photons.modules"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_the_path(files, tree, spec, part, path):
    tree = {
        key: files.get(value, value) if isinstance(value, str) else value
        for key, value in tree.items()
    }
    convert = task(tree.pop("calibration_path", files["one"]), part, **tree)

    with pytest.raises(ParamError) as caught:
        convert.resolve(spec)

    assert caught.value.path == path


def test_pixels_cannot_be_split_into_a_gap_of_another_width(files, tmp_path):
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"chip_gap": 4, "modules": [{}]}))

    with pytest.raises(ParamError, match="chip_gap of 4") as caught:
        task(files["one"], layout_path=str(layout), double_pixels="split").resolve(ONE)

    assert caught.value.path == "photons.double_pixels"


def test_where_no_device_builds_numpy_serves_unless_one_is_asked_for(files, monkeypatch):
    nothing = devices.Search((), ("Some CPU (old driver): unknown target",))
    monkeypatch.setattr(devices, "search", lambda: nothing)
    convert = task(files["one"])

    convert.resolve(ONE)

    assert convert.device == "numpy"
    assert isinstance(convert.kernel, NumpyPhotons)
    for kind in ("cpu", "gpu"):
        with pytest.raises(ParamError, match=r"Some CPU .*: unknown target") as caught:
            task(files["one"], device=kind).resolve(ONE)
        assert caught.value.path == "photons.device"


def test_a_device_that_fails_late_is_passed_over_or_named(files, monkeypatch):
    device = opencl_device()

    def fail(*args, **options):
        raise PluginError("no memory for the maps", name="device")

    monkeypatch.setattr(device_photons, "DevicePhotons", fail)
    convert = task(files["one"])
    convert.resolve(ONE)

    assert convert.device == "numpy"
    with pytest.raises(ParamError, match="no memory for the maps"):
        task(files["one"], device=device.kind).resolve(ONE)


def test_the_device_is_reported(files):
    device = opencl_device()
    convert = task(files["one"], device=device.kind)

    convert.resolve(ONE)

    assert convert.device == f"{device.name} ({device.driver})"


def told_by(ids, idx=7):
    dtype = np.dtype([("bunch_id", "<u8"), ("module_ids", "<u2", (len(ids),))])
    fields = np.zeros(1, dtype)[0]
    fields["module_ids"] = ids
    return Frame(idx, words(2), fields=fields)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([100, 101], ""),
        ([100, 100, 101, 101], ""),
        ([0xFFFF, 101], ""),
        ([0, 0], ""),
        ([100, 101, 102], ""),
        (
            [101, 100],
            "frame 7 comes from modules 101, 100, and the calibration of modules 100, 101",
        ),
        ([0xFFFF, 0xFFFF, 0xFFFF, 5], "modules ?, 5, and"),
    ],
)
def test_frames_of_other_modules_than_the_calibration_are_told_once(files, caplog, ids, words):
    made = task(files["two"], device="numpy")
    made.resolve(TWO)

    for _ in range(2):
        made.process(told_by(ids))

    told = [record.getMessage() for record in caplog.records if "comes from" in record.getMessage()]
    assert len(told) == (1 if words else 0)
    assert all(words in one for one in told)


def test_ids_that_were_never_given_are_not_compared(tmp_path, caplog):
    path = saved(tmp_path, calibration(2, module_ids=(0, 1)))
    made = task(path, device="numpy")
    made.resolve(TWO)

    made.process(told_by([101, 100]))

    assert not [record for record in caplog.records if "comes from" in record.getMessage()]
