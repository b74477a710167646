"""Pedestals from dark frames: statistics, bad pixels, drift, the command."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.errors import ParamError, StorageError
from lima2_core.flow.sink import Row
from processing.jungfrau.calibration import BadPixel, blank, read_calibration
from processing.jungfrau.conditions import Conditions
from processing.jungfrau.params import FollowParams, PedestalParams
from processing.jungfrau.pedestal import PedestalFollower, PedestalRun, Rules, modules_of
from processing.jungfrau.sinks import FollowSink, PedestalSink
from tests.unit.processing.jungfrau import CODES, calibration, saved

SPEC = FrameSpec((1, 512, 1024), np.dtype(np.uint16))


def dark(made, stage, count, seed=0, rms=12.0):
    """Dark frames of one module around its pedestal."""
    random = np.random.default_rng(seed)
    level = made.pedestal[0, stage]
    for _ in range(count):
        adc = np.rint(random.normal(level, rms, level.shape)).clip(0, 16383).astype(np.uint16)
        yield CODES[stage] << 14 | adc


def rows(frames, first=0):
    return [Row(n, n, Frame(n, raw[None])) for n, raw in enumerate(frames, first)]


def test_mean_and_rms_are_those_of_the_readings():
    made = calibration()
    frames = [list(dark(made, stage, 20, stage)) for stage in range(3)]
    run = PedestalRun(1)

    for stage in frames:
        for raw in stage:
            run.add(raw)
    result = run.calibrate(made, Rules())

    assert run.frames == result.pedestal_frames == (20, 20, 20)
    for stage, raws in enumerate(frames):
        adc = np.stack(raws).astype(np.float64) % 16384
        assert np.allclose(result.pedestal[0, stage], adc.mean(axis=0), rtol=1e-6)
        assert np.allclose(result.pedestal_rms[0, stage], adc.std(axis=0), rtol=1e-4, atol=1e-3)
        # Known maps come out within their statistics.
        deviation = (result.pedestal[0, stage] - made.pedestal[0, stage]) * np.sqrt(20) / 12
        assert abs(deviation.mean()) < 0.02
        assert 0.95 < deviation.std() < 1.05
    assert result.mask.mean() < 1e-4
    assert result.date


def test_bad_pixels_are_told_by_rule_and_stage():
    made = calibration()
    gain = made.gain.copy()
    gain[0, 0, 0, 0] = np.nan
    old_mask = made.mask.copy()
    old_mask[0, 9, 9] = BadPixel.USER | BadPixel.NOISY
    old_mask[0, 9, 8] = 4 << 16
    run = PedestalRun(1)
    random = np.random.default_rng(3)
    for n, raw in enumerate(dark(made, 0, 20)):
        raw[0, 1] = 2500  # always the same
        raw[0, 2] = 2500 + random.integers(-900, 900)
        if n < 12:
            raw[0, 3] = 0xC000
        if n == 5:
            raw[0, 4] |= 0x4000
        run.add(raw)

    mask = run.calibrate(replace(made, gain=gain, mask=old_mask), Rules()).mask[0]

    assert mask[0, 0] == BadPixel.NO_GAIN
    assert mask[0, 1] == BadPixel.FROZEN
    assert mask[0, 2] == BadPixel.NOISY
    assert mask[0, 3] == BadPixel.UNSEEN | BadPixel.WRONG_STAGE
    assert mask[0, 4] == BadPixel.WRONG_STAGE
    assert mask[9, 9] == BadPixel.USER  # measured again: what it was in G0 is forgotten
    assert mask[9, 8] == 4 << 16  # G2 was not measured


def test_stages_that_were_not_measured_stay():
    made = calibration(pedestal_frames=(3, 4, 5))
    run = PedestalRun(1)
    for raw in dark(made, 1, 12):
        run.add(raw)

    result = run.calibrate(made, Rules())

    assert result.pedestal_frames == (3, 12, 5)
    assert np.array_equal(result.pedestal[:, ::2], made.pedestal[:, ::2])
    assert not np.array_equal(result.pedestal[:, 1], made.pedestal[:, 1])


def test_a_stage_can_be_named():
    run = PedestalRun(1)

    run.add(next(dark(calibration(), 0, 1)), stage=1)

    assert run.frames == (0, 1, 0)
    assert (run.calibrate(calibration(), Rules()).mask >> 8 & BadPixel.UNSEEN).all()
    with pytest.raises(ValueError, match="pixels, not"):
        run.add(np.zeros((4, 4), np.uint16))


def test_the_sink_writes_the_file_that_the_next_run_uses(tmp_path):
    made = calibration()
    gains = saved(tmp_path, replace(made, pedestal=made.pedestal * 0), "gains.h5")
    path = tmp_path / "new.h5"
    params = PedestalParams(enabled=True, path=str(path), gain_path=gains)

    for stage in range(3):  # a run for each stage
        sink = PedestalSink(params, SPEC)
        sink.open()
        sink.write(rows(dark(made, stage, 10)))
        sink.write([Row(10, 10, Gap(10, Validity.PACKET_LOSS))])
        lost = Frame(11, np.full(SPEC.shape, 0x8000, np.uint16), validity=Validity.PARTIAL)
        sink.write([Row(11, 11, lost)])
        sink.close()

    result = read_calibration(str(path), "p")
    assert result.module_ids == (100,)
    assert result.pedestal_frames == (10, 10, 10)
    assert np.array_equal(result.gain, made.gain)
    assert np.abs(result.pedestal - made.pedestal).mean() < 12
    assert result.mask.mean() < 1e-3


def sink_of(params, *frames, conditions=None, **changed):
    sink = PedestalSink(params, SPEC, conditions=conditions, **changed)
    sink.open()
    for number, raw in enumerate(frames):
        sink.write([Row(number, number, Frame(number, raw[None], timestamp_s=1.7e9 + number))])
    return sink


def test_each_stage_keeps_how_its_own_run_was_taken(tmp_path):
    made = calibration()
    params = PedestalParams(enabled=True, path=str(tmp_path / "new.h5"))

    for stage in (0, 2):
        taken = Conditions((1e-5, 0, 3e-5)[stage], 120.0, acq_id=f"run-{stage}")
        sink_of(params, *dark(made, stage, 3), conditions=taken).close()

    g0, g1, g2 = read_calibration(params.path, "p").conditions
    first = "2023-11-14T22:13:20+00:00"
    assert g0 == Conditions(1e-5, 120.0, date=first, acq_id="run-0")
    assert g1 == Conditions()
    assert g2 == Conditions(3e-5, 120.0, date=first, acq_id="run-2")


def test_frames_of_a_stage_have_to_be_taken_alike(tmp_path):
    made = calibration()
    params = PedestalParams(enabled=True, path=str(tmp_path / "new.h5"))
    sink = sink_of(params, *dark(made, 0, 2), conditions=Conditions(1e-5))

    sink.conditions = Conditions(2e-5)
    sink.write(rows(dark(made, 1, 1), 2))  # the first of its stage

    with pytest.raises(ValueError, match=r"exposure time of 20 us, others of its stage .* 10 us"):
        sink.write(rows(dark(made, 0, 1), 3))


def test_modules_are_looked_for_by_id_in_the_files_that_are_there(tmp_path):
    made = calibration(2)
    gains = saved(tmp_path, made, "gains.h5")
    path = str(tmp_path / "new.h5")
    params = PedestalParams(enabled=True, path=path, gain_path=gains)

    sink_of(params, *dark(made, 0, 2), module_ids=(101,)).close()

    result = read_calibration(path, "p")
    assert result.module_ids == (101,)
    assert np.array_equal(result.gain, made.gain[1:])
    cases = [
        ({"path": path}, (100,), "frames are of modules 100, .* of 101", "pedestal.path"),
        ({"path": gains}, (101,), "of 100, 101", "pedestal.path"),
        ({"gain_path": gains}, (9,), "module 9 has no calibration", "photons.modules"),
        ({"gain_path": gains}, (), "hold 1 module, the calibration 2 mod", "pedestal.gain_path"),
        ({"gain_path": gains}, (100, 101), "1 module; name each once", "photons.modules"),
    ]
    for tree, ids, words, where in cases:
        with pytest.raises(ParamError, match=words) as caught:
            PedestalSink(
                PedestalParams(**{"enabled": True, "path": str(tmp_path / "other.h5"), **tree}),
                SPEC,
                ids,
            )
        assert caught.value.path == where


def test_modules_of_a_file_go_into_the_order_of_the_frames(tmp_path):
    made = calibration(2)
    path = saved(tmp_path, made)
    spec = FrameSpec((2, 512, 1024), SPEC.dtype)
    sink = PedestalSink(PedestalParams(enabled=True, path=path), spec, (101, 100))
    raw = np.stack([np.full((512, 1024), level, np.uint16) for level in (111, 222)])

    sink.write([Row(0, 0, Frame(0, raw))])
    sink.close()

    result = read_calibration(path, "p")
    assert result.module_ids == (101, 100)
    assert [result.pedestal[n, 0].mean() for n in range(2)] == [111, 222]
    assert np.array_equal(result.gain, made.gain[::-1])


def test_without_dark_frames_the_file_stays_as_it_is(tmp_path):
    path = saved(tmp_path, calibration())
    before = Path(path).read_bytes()

    sink = PedestalSink(PedestalParams(enabled=True, path=path), SPEC)
    sink.open()
    sink.close()

    assert Path(path).read_bytes() == before


def test_a_pedestal_that_cannot_be_made_is_refused(tmp_path):
    two = saved(tmp_path, calibration(2))
    good = str(tmp_path / "new.h5")
    cases = [
        ({"path": "new.h5"}, SPEC, "pedestal.path"),
        ({"path": two}, SPEC, "pedestal.path"),
        ({"path": good, "gain_path": str(tmp_path / "none")}, SPEC, "pedestal.gain_path"),
        ({"path": good}, FrameSpec((1, 256, 1024), SPEC.dtype), "pedestal.enabled"),
        ({"path": good}, FrameSpec(SPEC.shape, np.dtype(np.uint32)), "pedestal.enabled"),
    ]
    for tree, spec, where in cases:
        with pytest.raises(ParamError) as caught:
            PedestalSink(PedestalParams(enabled=True, **tree), spec)
        assert caught.value.path == where
    sink = PedestalSink(PedestalParams(path=str(tmp_path / "no" / "new.h5")), SPEC)
    with pytest.raises(StorageError):
        sink.open()


def test_modules_are_counted():
    assert modules_of((1, 4096, 1024)) == 8
    assert modules_of((8, 512, 1024)) == 8
    assert modules_of((1, 500, 1024)) is None
    assert modules_of((1, 512, 1000)) is None


def test_the_pedestal_follows_a_drift_and_nothing_else():
    start, rms = np.full(8, 2000, np.float32), np.full(8, 10, np.float32)
    follower = PedestalFollower(start, rms, window=5)

    for _ in range(60):
        raw = np.full(8, 2020, np.uint16)
        raw[0] |= 0x4000  # another stage
        raw[1] = 9000  # a photon
        raw[2] = 2000
        follower.add(raw)

    assert follower.pedestal[:4] == pytest.approx([2000, 2000, 2000, 2020], abs=0.01)
    drift = follower.drift()
    assert drift.dark_frames == 60
    assert drift.median == pytest.approx(20, abs=0.01)
    assert drift.largest == pytest.approx(20, abs=0.01)


def test_dark_frames_of_a_run_are_picked_by_index_and_handed_on():
    given = []
    params = FollowParams(enabled=True, dark_every=10, dark_first=3, window=10)
    sink = FollowSink(
        params,
        np.full(4, 100, np.float32),
        np.full(4, 50, np.float32),
        lambda p: given.append(p[0]),
    )

    levels = [110 if n % 10 == 3 and n >= 3 else 3000 for n in range(24)]
    sink.write(rows([np.full(4, level, np.uint16) for level in levels[:13]]))
    sink.write(rows([np.full(4, level, np.uint16) for level in levels[13:]], 13))
    sink.close()

    assert given == pytest.approx([101, 102.71])
    assert sink.drift().dark_frames == 3


def test_a_blank_calibration_begins_without_gains():
    run = PedestalRun(1)
    for raw in dark(calibration(), 0, 10):
        run.add(raw)

    assert (run.calibrate(blank((7,)), Rules()).mask & BadPixel.NO_GAIN).all()
