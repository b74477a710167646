"""Words to photons: numpy against the definition, devices against numpy."""

import dataclasses
import importlib
import subprocess
import sys

import numpy as np
import pytest

from lima2_core.errors import PluginError
from lima2_core.worker import Worker
from processing.jungfrau.calibration import BadPixel
from processing.kernels.jungfrau import NumpyPhotons
from processing.kernels.marks import Marks
from processing.kernels.opencl import devices, programs
from processing.kernels.opencl.photons import DevicePhotons
from processing.kernels.photon_maps import photon_maps
from processing.kernels.placing import stacked
from tests.unit.processing.jungfrau import (
    calibration,
    flat,
    layout,
    opencl_device,
    photons,
    words,
)

MODULES = 2
OUTPUTS = ("int16", "int32", "float32")
PLACINGS = {
    "stack": lambda: stacked((1, 1024, 1024)),
    "image": lambda: layout((0, 0, 180), (520, 8, 0)).placing(),
    "turned and split": lambda: layout((0, 0, 90), (10, 600, 270)).placing(split=True),
}


def masked():
    """A calibration with hidden pixels of all kinds."""
    random = np.random.default_rng(5)
    mask = np.zeros((MODULES, 512, 1024), np.uint32)
    mask[random.random(mask.shape) < 0.01] = BadPixel.USER
    made = calibration(MODULES, mask=mask)
    made.gain[0, :, 5, 5] = np.nan
    mask[0, 5, 5] = BadPixel.NO_GAIN
    return made


def maps_of(made, marks, narrow=False):
    return photon_maps(
        flat(made.pedestal), flat(made.gain), flat(made.hidden()), marks, narrow=narrow
    )


def converted(kernel, raw, placing, marks):
    out = np.full(placing.shape, 77, marks.dtype)  # nothing of it may be left
    kernel.apply(raw, out)
    return out


@pytest.mark.parametrize("output", OUTPUTS)
def test_numpy_gives_what_the_maps_say(output):
    made, raw, marks = masked(), words(MODULES), Marks.of(output)
    placing = stacked((1, 1024, 1024))

    out = converted(NumpyPhotons(maps_of(made, marks), placing), raw, placing, marks)

    expected = photons(raw, made)
    known = np.isfinite(expected)
    assert (out[np.isnan(expected)] == marks.no_value).all() or output == "float32"
    assert (out[np.isinf(expected)] == marks.saturated).all()
    if output == "float32":
        assert np.isnan(out[np.isnan(expected)]).all()
        error = np.abs(out[known] - expected[known])
        # The difference of ADC and pedestal is rounded as well, to 2**-10 ADU at most.
        gain = np.where(raw[known] < 0x4000, 450, np.where(raw[known] < 0x8000, 16, 1.2))
        assert (error <= 2 * np.spacing(np.abs(out[known])) + 2.0**-10 / gain).all()
    else:
        clear = np.abs(expected[known] % 1 - 0.5) > 1e-3
        assert np.array_equal(out[known][clear], np.rint(expected[known][clear]))


def test_pixels_without_value_can_read_zero():
    made, raw = masked(), words(MODULES)
    placing = layout((0, 0, 0), (600, 0, 0)).placing()
    for output in OUTPUTS:
        marks = Marks.of(output, zero=True)
        for narrow in (False, True):
            out = converted(
                NumpyPhotons(maps_of(made, marks, narrow), placing), raw, placing, marks
            )
            empty = placing.put(np.isnan(photons(raw, made)), True)
            assert (out[empty] == 0).all()
            assert (out == marks.saturated).sum() == np.isinf(photons(raw, made)).sum()


def test_the_marks_of_each_type():
    assert Marks.of("int16") == Marks(np.dtype(np.int16), -32768, 32767)
    assert Marks.of("int32") == Marks(np.dtype(np.int32), -(2**31), 2**31 - 1)
    assert np.isnan(Marks.of("float32").no_value)
    assert Marks.of("float32").saturated == np.inf
    assert Marks.of("int16", zero=True).no_value == 0


def test_what_does_not_fit_counts_as_saturated():
    made = calibration(gain=np.full((1, 3, 512, 1024), 0.1, np.float32))
    marks, placing = Marks.of("int16"), stacked((1, 512, 1024))
    raw = np.full((1, 512, 1024), 16000, np.uint16)

    out = converted(NumpyPhotons(maps_of(made, marks), placing), raw, placing, marks)

    assert (out == 32767).all()


def test_16_bit_maps_stay_within_their_error():
    made, raw, marks = masked(), words(MODULES, switched=0.3), Marks.of("float32")
    placing = stacked((1, 1024, 1024))
    wide = converted(NumpyPhotons(maps_of(made, marks), placing), raw, placing, marks)
    narrow_maps = maps_of(made, marks, narrow=True)

    narrow = converted(NumpyPhotons(narrow_maps, placing), raw, placing, marks)

    assert np.array_equal(np.isnan(wide), np.isnan(narrow))
    known = np.isfinite(wide)
    code = raw[known] >> 14
    inverse = np.array([1 / 450, 1 / 16.2, 0, 1 / 1.26])[code]
    step = np.array([1, 1, 0, 1])[code] * 0.5 / 65535 * 1.25  # of a factor near the largest
    limit = inverse / 8 + np.abs(wide[known]) * step + 1e-4
    assert (np.abs(narrow[known] - wide[known]) <= limit).all()


def test_wild_pixels_do_not_take_the_resolution_of_16_bit_maps():
    made = calibration()
    made.gain[0, 0, 3, 3] = 1.0  # 500 times too small
    made.gain[0, 0, 3, 4] = -500.0

    maps = maps_of(made, Marks.of("float32"), narrow=True)

    assert not maps.valid[0, 3 * 1024 + 3 : 3 * 1024 + 5].any()
    assert maps.valid.sum() == 3 * 512 * 1024 - 2
    assert maps.factor[0].max() == 65535


@pytest.mark.parametrize("output", ["int16", "float32"])
def test_double_size_pixels_share_with_the_gap_and_keep_the_sum(output):
    made, marks = calibration(), Marks.of(output)
    whole, split = (layout((0, 0, 0)).placing(split=each) for each in (False, True))
    raw = words(switched=0)
    raw[raw >= 0x4000] = 5000
    maps = maps_of(made, marks)

    plain = converted(NumpyPhotons(maps, whole), raw, whole, marks)[0]
    shared = converted(NumpyPhotons(maps, split), raw, split, marks)[0]

    # An edge (row 3, columns 255, 256) and a corner of four.
    assert shared[3, 255] + shared[3, 256] == pytest.approx(plain[3, 255], rel=1e-6)
    corner = shared[255:257, 255:257]
    assert corner.sum() == pytest.approx(plain[255, 255], rel=1e-6)
    if output == "int16":
        assert corner[0, 1] == corner[1, 0] == corner[1, 1] == plain[255, 255] // 4
        assert shared[3, 256] == plain[3, 255] // 2
        assert shared.sum() == plain[plain != -32768].sum()
    else:
        assert np.allclose(corner, plain[255, 255] / 4)


def test_marks_are_not_shared_but_copied():
    made, marks = calibration(), Marks.of("int16")
    placing = layout((0, 0, 0)).placing(split=True)
    raw = np.full((1, 512, 1024), 5000, np.uint16)
    raw[0, 3, 255], raw[0, 255, 256] = 0xC000, 0x8000

    out = converted(NumpyPhotons(maps_of(made, marks), placing), raw, placing, marks)[0]

    assert out[3, 255] == out[3, 256] == 32767
    assert (out[255:257, 257:259] == -32768).all()


@pytest.mark.parametrize("by_pixel", [False, True], ids=["by row", "by pixel"])
@pytest.mark.parametrize("narrow", [False, True], ids=["float maps", "16-bit maps"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_device_gives_the_same_as_numpy(output, narrow, by_pixel):
    device = opencl_device()
    made, raw = masked(), words(MODULES)
    for zero in (False, True):
        marks = Marks.of(output, zero=zero)
        maps = maps_of(made, marks, narrow)
        for make in PLACINGS.values():
            placing = make()
            kernel = DevicePhotons(device, maps, placing, by_pixel=by_pixel)
            ours = converted(kernel, raw, placing, marks)
            numpys = converted(NumpyPhotons(maps, placing), raw, placing, marks)
            if output == "float32":
                # Other devices may round the last digits otherwise.
                np.testing.assert_array_max_ulp(ours, numpys, maxulp=2)
            else:
                assert np.array_equal(ours, numpys)


def test_parts_of_modules_are_converted():
    device = opencl_device()
    made, raw, marks = calibration(), words(rows=8), Marks.of("int16")
    cut = dataclasses.replace(
        made, pedestal=made.pedestal[:, :, 252:260], gain=made.gain[:, :, 252:260]
    )
    maps = photon_maps(flat(cut.pedestal), flat(cut.gain), None, marks)
    placing = layout((0, 0, 90)).placing(rows=8)

    ours = converted(DevicePhotons(device, maps, placing), raw, placing, marks)

    assert np.array_equal(ours, converted(NumpyPhotons(maps, placing), raw, placing, marks))
    whole = np.full((1, 512, 1024), 0x8000, np.uint16)
    whole[0, 252:260] = raw
    stack = stacked((1, 512, 1024))
    all_rows = converted(NumpyPhotons(maps_of(made, marks), stack), whole, stack, marks)
    assert np.array_equal(ours, layout((0, 0, 90)).placing().put(all_rows, -32768))


def test_threads_have_queues_of_their_own():
    device = opencl_device()
    made, marks, placing = masked(), Marks.of("int16"), PLACINGS["image"]()
    maps = maps_of(made, marks)
    raws = [words(MODULES, seed=seed) for seed in range(3)]
    expected = [converted(NumpyPhotons(maps, placing), raw, placing, marks) for raw in raws]
    kernel = DevicePhotons(device, maps, placing)
    wrong, errors = [], []

    def work(first):
        for n in range(9):
            at = (first + n) % 3
            if not np.array_equal(converted(kernel, raws[at], placing, marks), expected[at]):
                wrong.append(at)

    workers = [Worker(f"convert-{n}", lambda n=n: work(n), errors.append) for n in range(3)]

    assert all(worker.join(25) for worker in workers)
    assert (wrong, errors) == ([], [])


@pytest.mark.parametrize("narrow", [False, True])
def test_another_pedestal_is_taken_for_the_frames_to_come(narrow):
    made, marks, placing = masked(), Marks.of("int16"), stacked((1, 1024, 1024))
    raw = words(MODULES)
    moved = dataclasses.replace(made, pedestal=made.pedestal.copy())
    moved.pedestal[:, 0] += 300
    maps = maps_of(made, marks, narrow)
    kernels = [NumpyPhotons(maps, placing), DevicePhotons(opencl_device(), maps, placing)]

    expected = maps_of(moved, marks, narrow)
    for kernel in kernels:
        kernel.follow(maps.following(flat(moved.pedestal)[0]))
        out = converted(kernel, raw, placing, marks)
        fresh = converted(NumpyPhotons(expected, placing), raw, placing, marks)
        assert np.array_equal(out, fresh)


def test_read_only_frames_are_taken():
    made, marks, placing = calibration(), Marks.of("int16"), stacked((1, 512, 1024))
    raw = words()
    raw.setflags(write=False)
    maps = maps_of(made, marks)

    out = converted(DevicePhotons(opencl_device(), maps, placing), raw, placing, marks)

    assert np.array_equal(out, converted(NumpyPhotons(maps, placing), raw, placing, marks))


def test_a_device_is_tried_before_it_counts(monkeypatch):
    opencl_device()

    def refuse(cl, context):
        raise RuntimeError("unknown target CPU 'generic'\nand more")

    monkeypatch.setattr(devices, "_run_trial", refuse)
    found = devices._search()

    assert found.devices == ()
    assert found.best() is None
    assert "no CPU can build an OpenCL kernel" in found.reason("cpu")
    assert "unknown target CPU 'generic'" in found.reason("cpu")
    assert "and more" not in found.reason("cpu")


def test_without_pyopencl_the_reason_says_what_to_install(monkeypatch):
    def refuse(name):
        raise ImportError("No module named 'pyopencl'")

    monkeypatch.setattr(importlib, "import_module", refuse)

    assert "pip install 'lima2-suite[opencl]'" in devices._search().reason()


def test_a_program_is_built_once_and_a_wrong_one_refused():
    device = opencl_device()
    options = ("-DOUT_INT16", "-DROWS=1", "-DFIRST_ROW=0", "-DGAP=0")

    assert programs.program(device, "photons.cl", options) is programs.program(
        device, "photons.cl", options
    )
    with pytest.raises(PluginError, match=r"cannot build photons\.cl"):
        programs.program(device, "photons.cl", ())


_COMPILES = """
import sys
from pathlib import Path

import numpy as np

from processing.kernels.marks import Marks
from processing.kernels.opencl.devices import search
from processing.kernels.opencl.photons import DevicePhotons
from processing.kernels.photon_maps import photon_maps
from processing.kernels.placing import ModulePlace, Placing
from processing.pipelines.preload import preload_photons

device = search().best()
if sys.argv[1] == "ready":
    preload_photons()
cache = Path(sys.argv[2])
before = sum(1 for _ in cache.rglob("*.so"))
places = [ModulePlace(n * 520 * 1030, 1030, 1) for n in range(3)]
placing = Placing((1, 3 * 520, 1030), places, gap=2)
count = 3 * 512 * 1024
blank = np.zeros((3, count), np.float32)
maps = photon_maps(blank, blank + 1, blank > 0, Marks.of("int16"))
DevicePhotons(device, maps, placing)
print(sum(1 for _ in cache.rglob("*.so")) - before)
"""


def test_what_a_detector_of_any_size_needs_was_compiled_beforehand(tmp_path, monkeypatch):
    if "Portable" not in opencl_device().driver:
        pytest.skip("the cache of this driver cannot be looked into")
    compiled = {}
    for state in ("bare", "ready"):
        cache = tmp_path / state
        cache.mkdir()
        monkeypatch.setenv("POCL_CACHE_DIR", str(cache))
        command = [sys.executable, "-c", _COMPILES, state, str(cache)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        compiled[state] = int(done.stdout)

    assert compiled == {"bare": 2, "ready": 0}
