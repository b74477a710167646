"""JUNGFRAU words through the classic pipeline, on real frames where they are there."""

import json

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest

from lima2_core.camera.dispatch import Share
from lima2_core.errors import ParamError
from lima2_core.ids import ReceiverIdx
from processing.jungfrau.calibration import Calibration, read_calibration
from processing.kernels.opencl.devices import search
from tests.integration.bench import Bench, rect, saving, spec_of
from tests.unit.processing.jungfrau import CODES, calibration, opencl_device, photons, saved, words

DATA = "entry_0000/instrument/detector/data"


def chain(path, **tree):
    return {"photons": {"enabled": True, "calibration_path": path, **tree}}


@pytest.fixture(scope="module")
def real(detector_frames, tmp_path_factory):
    """Raw frames 10 to 13, their photons, where their gain is known, and the calibration file."""
    with h5py.File(detector_frames) as file:
        raw, maps = (
            file["raw"][10:14],
            {name: file[name][()][None] for name in ("pedestal", "gain")},
        )
        rms = np.zeros_like(maps["pedestal"])
        rms[:, 0] = file["pedestal_rms_g0"][()]
        seen, expected = file["gain_observations"][()], file["photons"][()]
    mask = np.zeros((1, 512, 1024), np.uint32)
    made = Calibration((5,), maps["pedestal"], rms, maps["gain"], mask)
    stage = np.array([0, 1, 0, 2])[raw >> 14]
    known = np.take_along_axis(seen[None], stage[:, None], axis=1)[:, 0] > 0
    path = saved(tmp_path_factory.mktemp("real"), made)
    return raw, expected, known, path


@pytest.mark.parametrize("device", ["numpy", "cpu", "gpu"])
def test_real_frames_give_the_photons_of_the_reference(real, device):
    raw, expected, known, path = real
    if device != "numpy" and search().best(device) is None:
        pytest.skip(search().reason(device))
    tree = chain(path, output="float32", device=device)

    bench = Bench(tree, spec_of(raw[:, None])).run(raw[:, None])

    assert bench.failures == []
    for n, image in enumerate(expected):
        ours = bench.result(n).data[0]
        saturated = image == 32678
        assert np.array_equal(np.isinf(ours), saturated)
        there = known[n] & ~saturated
        error = np.abs(ours - image)[there]
        assert (error <= np.maximum(0.001, 2 * np.spacing(np.abs(image[there])))).all()


def test_16_bit_maps_stay_near_the_photons_of_real_frames(real):
    raw, expected, known, path = real
    tree = chain(path, output="float32", maps_16bit=True)

    bench = Bench(tree, spec_of(raw[:, None])).run(raw[:, None])

    for n, image in enumerate(expected):
        there = known[n] & (image != 32678)
        error = np.abs(bench.result(n).data[0] - image)
        for code, limit in ((0, 0.0005), (1, 0.01), (3, 0.09)):
            assert error[there & (raw[n] >> 14 == code)].max(initial=0) <= limit


def test_rounded_photons_of_real_frames_are_the_nearest(real):
    raw, expected, known, path = real

    bench = Bench(chain(path), spec_of(raw[:, None])).run(raw[:, None])

    for n, image in enumerate(expected):
        ours = bench.result(n).data[0]
        saturated = image == 32678
        assert (ours[saturated] == 32767).all()
        there = known[n] & ~saturated
        assert np.abs(ours - image)[there].max() <= 0.501


def test_raw_and_converted_frames_are_saved_and_the_raw_ones_give_the_same_again(tmp_path):
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"modules": [{"rotation": 180}]}))
    path = saved(tmp_path, calibration())
    raws = np.stack([words(seed=seed) for seed in range(4)])
    photon_steps = chain(path, layout_path=str(layout), double_pixels="split")
    tree = {
        **photon_steps,
        "saving": saving(tmp_path, filename_prefix="photons"),
        "saving_input": saving(tmp_path, filename_prefix="raw", compression="none"),
    }

    bench = Bench(tree, spec_of(raws), n_frames=4).run(raws)

    assert bench.failures == []
    with h5py.File(tmp_path / "photons_0_00000.h5") as file:
        data = file[DATA]
        converted = data[()].reshape(4, 1, 514, 1030)
        assert data.attrs["units"] == "photons"
    with h5py.File(tmp_path / "raw_0_00000.h5") as file:
        again = file[DATA][()].reshape(raws.shape)
    assert np.array_equal(again, raws)
    replayed = Bench(photon_steps, spec_of(again)).run(again)
    for n in range(4):
        assert np.array_equal(replayed.result(n).data, converted[n])


def test_statistics_leave_out_gaps_and_masked_pixels(tmp_path):
    mask = np.zeros((1, 512, 1024), np.uint32)
    mask[0, 3, 200:256] = 1
    made = calibration(mask=mask)
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"modules": [{}]}))
    raws = np.stack([words(seed=1, switched=0) % 16000 + 100])
    tree = {
        **chain(saved(tmp_path, made), layout_path=str(layout)),
        "statistics": {"enabled": True, "rect_rois": [rect(190, 2, 80, 4)]},
    }

    bench = Bench(tree, spec_of(raws)).run(raws)

    image = np.rint(photons(raws[0], made))[0, 2:6, 190:268]
    record = bench.records()[0]
    assert record["avg"] == pytest.approx(np.nanmean(image), rel=1e-3)


def test_conversion_comes_before_correction_and_geometry(tmp_path):
    path = saved(tmp_path, calibration())
    flatfield = tmp_path / "flat.npy"
    np.save(flatfield, np.full((512, 1024), 2, np.float32))
    raws = np.stack([words(switched=0) % 16000 + 100])
    tree = {
        **chain(path, output="float32"),
        "flatfield": {"enabled": True, "path": str(flatfield)},
        "geometry": {"flip": "left_right"},
    }

    bench = Bench(tree, spec_of(raws)).run(raws)

    expected = photons(raws[0], calibration())[0, :, ::-1] / 2
    assert np.allclose(bench.result(0).data[0], expected, rtol=1e-5, atol=1e-3)


def test_dark_runs_make_the_calibration_of_the_next_run(tmp_path):
    made = calibration()
    gains = saved(tmp_path, calibration(pedestal=made.pedestal * 0), "gains.h5")
    path = str(tmp_path / "new.h5")
    random = np.random.default_rng(2)
    for stage in range(3):
        adc = random.normal(made.pedestal[:, stage], 8, (12, 512, 1024)).astype(np.uint16)
        raws = (CODES[stage] << 14 | adc)[:, None]
        tree = {"pedestal": {"enabled": True, "path": path, "gain_path": gains}}
        assert Bench(tree, spec_of(raws)).run(raws).failures == []

    raw = words()[None]
    bench = Bench(chain(path, output="float32"), spec_of(raw)).run(raw)

    assert read_calibration(path, "p").pedestal_frames == (12, 12, 12)
    expected = photons(raw[0], made)
    ours = bench.result(0).data
    g0 = np.isfinite(expected) & (raw[0] < 0x4000) & np.isfinite(ours)
    assert g0.mean() > 0.95
    assert np.abs(ours[g0] - expected[g0]).max() < 8 * 6 / np.sqrt(12) / 450


def test_the_pedestal_follows_dark_frames_of_the_run(tmp_path):
    made = calibration()
    path = saved(tmp_path, made)
    random = np.random.default_rng(4)
    dark = random.normal(made.pedestal[:, 0] + 40, 4, (40, 512, 1024)).astype(np.uint16)[:, None]
    follow = {"enabled": True, "dark_every": 2, "window": 10}
    bench = Bench(chain(path, output="float32", follow=follow), spec_of(dark), workers=1)

    bench.run(dark)

    lane = next(lane for lane in bench.pipeline.lanes if lane.name == "follow_pedestal")
    assert bench.failures == []
    assert lane.sink.drift().dark_frames == 20
    # After 20 of 10 frames: 1 - 0.9**20 of the way; truncation of the ADC takes half an ADU.
    assert lane.sink.drift().median == pytest.approx(39.5 * (1 - 0.9**20), abs=0.5)


def test_what_several_receivers_cannot_do_is_refused(tmp_path):
    raws = words()[None]
    tree = {"pedestal": {"enabled": True, "path": str(tmp_path / "new.h5")}}

    with pytest.raises(ParamError) as caught:
        Bench(tree, spec_of(raws), share=Share(ReceiverIdx(0), 2))

    assert caught.value.path == "pedestal.enabled"


def test_receivers_with_parts_of_frames_take_their_modules(tmp_path):
    path = saved(tmp_path, calibration(2))
    raws = np.stack([words(2)])
    whole = Bench(chain(path), spec_of(raws)).run(raws)

    for n in range(2):
        part = np.ascontiguousarray(raws[:, :, n * 512 :][:, :, :512])
        share = Share(ReceiverIdx(n), 2)
        bench = Bench(chain(path), spec_of(part), share=share, parts=True)
        bench.start()
        bench.channel.send([bench.frame(0, part[0])])
        bench.finish()
        own = bench.result(bench.idx(0)).data
        assert np.array_equal(own[0], whole.result(0).data[0, n * 512 :][:512])


def test_many_workers_convert_on_a_device(tmp_path):
    device = opencl_device()
    path = saved(tmp_path, calibration())
    raws = np.stack([words(seed=seed) for seed in range(12)])

    fast = Bench(chain(path, device=device.kind), spec_of(raws), workers=4).run(raws)
    plain = Bench(chain(path, device="numpy"), spec_of(raws), workers=1).run(raws)

    assert fast.failures == []
    assert all(np.array_equal(fast.result(n).data, plain.result(n).data) for n in range(12))


def test_receivers_with_parts_say_that_their_records_are_of_their_parts(tmp_path):
    path = saved(tmp_path, calibration(2))
    raws = np.stack([words()])
    regions = {"statistics": {"enabled": True, "rect_rois": [rect(1, 2, 3, 4)]}}
    share = Share(ReceiverIdx(1), 2)

    told = Bench({**chain(path), **regions}, spec_of(raws), share=share, parts=True)
    without = Bench(chain(path), spec_of(raws), share=share, parts=True)

    assert told.pipeline.remarks[-1].startswith("roi_statistics of each receiver are of its part")
    assert len(without.pipeline.remarks) == 1
