"""How the classic pipeline runs: files, what is kept, progress, failures, memory."""

import logging
import threading
import time
import tracemalloc
from dataclasses import replace

import h5py
import hdf5plugin  # noqa: F401  registers the filters
import numpy as np
import pytest

from lima2_core.camera.api import CameraReceiver, FrameSource
from lima2_core.camera.dispatch import Share
from lima2_core.camera.params import AcquisitionParams
from lima2_core.data.frame import Frame, Validity
from lima2_core.data.geometry import Affine
from lima2_core.data.memory import PoolSet
from lima2_core.errors import EndOfFrames, PipelineError
from lima2_core.ids import AcqId, ReceiverIdx
from lima2_core.service.request import PrepareRequest
from lima2_core.service.run import Run, RunHooks, plan_run
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.worker import Worker
from processing.pipelines import failing, legacy
from processing.tasks.correct_pixels import CorrectPixels
from processing.tasks.reshape_image import ReshapeImage
from tests.integration.bench import Bench, is_kept, rect, saving, spec_of

DATA = "entry_0000/instrument/detector/data"
VALIDITY = "entry_0000/instrument/detector/validity"
FRAME_IDX = "entry_0000/instrument/detector/frame_idx"

# Saving


def test_processed_and_input_frames_are_saved_independently(images, tmp_path):
    raw = list(images(10))
    sent = list(raw)
    sent[5] = Validity.OVERRUN
    tree = {
        "geometry": {"flip": "up_down"},
        "max_countrate_protection": {"enabled": True},
        "statistics": {"enabled": True, "rect_rois": [rect(0, 0, 3, 3)]},
        "saving": saving(tmp_path, compression="bshuf_lz4", nb_dimensions="dim_4d"),
        "saving_input": saving(
            tmp_path,
            filename_prefix="raw",
            compression="zip",
            nb_frames_per_file=6,
            include_frame_idx=True,
        ),
    }
    share = Share(ReceiverIdx(1), 2)

    bench = Bench(tree, spec_of(np.array(raw)), share=share, n_frames=10).run(sent)

    processed = [tmp_path / f"lima2_1_{n:05d}.h5" for n in range(3)]
    inputs = [tmp_path / f"raw_1_{n:05d}.h5" for n in range(2)]
    assert sorted(tmp_path.glob("*.h5")) == processed + inputs
    assert set(bench.pipeline.files()) == {str(path) for path in processed + inputs}
    assert bench.failures == []
    wanted = [np.zeros((1, 12, 15)) if n == 5 else image for n, image in enumerate(raw)]
    read, codes = [], []
    for path in processed:
        with h5py.File(path) as file:
            assert file[DATA].chunks == (1, 1, 12, 15)
            read += list(file[DATA][()])
            codes += list(file[VALIDITY][()])
    assert np.array(read).tolist() == [image[:, ::-1].tolist() for image in wanted]
    assert codes == [Validity.OVERRUN if n == 5 else Validity.VALID for n in range(10)]
    read, idxs = [], []
    for path in inputs:
        with h5py.File(path) as file:
            assert file[DATA].compression == "gzip"
            read += list(file[DATA][()])
            idxs += list(file[FRAME_IDX][()])
    assert np.array(read).tolist() == [image[0].tolist() for image in wanted]
    assert idxs == list(range(1, 20, 2))
    progress = bench.pipeline.progress()
    assert progress["nb_frames_saved"] == 9
    assert progress["nb_frames_input_saved"] == 9


def test_one_of_so_many_frames_is_saved_at_its_place_and_the_others_take_no_space(images, tmp_path):
    raw = images(10)
    tree = {
        "saving": saving(tmp_path, compression="none"),
        "saving_input": saving(tmp_path, compression="none", filename_prefix="raw", sampling=3),
    }
    share = Share(ReceiverIdx(1), 2)

    bench = Bench(tree, spec_of(raw), share=share, n_frames=10).run(raw)

    read, codes, chunks = [], [], 0
    for n in range(3):
        with h5py.File(tmp_path / f"raw_1_{n:05d}.h5") as file:
            read += list(file[DATA][()])
            codes += list(file[VALIDITY][()])
            chunks += file[DATA].id.get_num_chunks()
    # Their numbers in the acquisition are 1, 3, 5 ...
    kept = [1, 4, 7]
    assert codes == [Validity.VALID if n in kept else Validity.VETO for n in range(10)]
    assert chunks == len(kept)
    wanted = [image[0] if n in kept else np.zeros((12, 15)) for n, image in enumerate(raw)]
    assert np.array_equal(read, wanted)
    progress = bench.pipeline.progress()
    assert (progress["nb_frames_saved"], progress["nb_frames_input_saved"]) == (10, 3)


def test_sums_are_saved_in_their_own_order_with_what_they_are_worth(images, tmp_path):
    raw = images(11)
    tree = {
        "accumulation": {"enabled": True, "nb_frames": 2},
        "saving": saving(tmp_path, compression="none", include_frame_idx=True),
        "saving_input": saving(tmp_path, filename_prefix="raw", compression="none"),
    }

    Bench(tree, spec_of(raw), n_frames=11).run(raw)

    read, codes, idxs = [], [], []
    for n in range(2):
        with h5py.File(tmp_path / f"lima2_0_{n:05d}.h5") as file:
            read += list(file[DATA][()])
            codes += list(file[VALIDITY][()])
            idxs += list(file[FRAME_IDX][()])
    sums = [raw[k : k + 2].sum(0, dtype=np.uint32)[0].tolist() for k in range(0, 11, 2)]
    assert np.array(read).tolist() == sums
    assert codes == [Validity.VALID] * 5 + [Validity.PARTIAL]
    assert idxs == list(range(6))
    with h5py.File(tmp_path / "raw_0_00002.h5") as file:
        assert file[DATA][()].tolist() == raw[8:, 0].tolist()


def test_where_rows_are_not_fixed_files_tell_which_frame_is_which(images, tmp_path):
    raw = images(3)
    tree = {"saving": saving(tmp_path), "saving_input": saving(tmp_path, filename_prefix="raw")}

    Bench(tree, spec_of(raw), keeps_rows=False).run(raw)

    for prefix in ("lima2", "raw"):
        with h5py.File(tmp_path / f"{prefix}_0_00000.h5") as file:
            assert file[FRAME_IDX][()].tolist() == [0, 1, 2]


def test_files_have_the_way_back_to_the_detector(images, tmp_path):
    raw = images(1)
    tree = {"geometry": {"rotation": "90"}, "saving": saving(tmp_path)}

    bench = Bench(tree, spec_of(raw, affine=Affine.crop(7, 9))).run(raw)

    with h5py.File(tmp_path / "lima2_0_00000.h5") as file:
        matrix = file["entry_0000/instrument/detector/image_to_detector"][()]
    assert Affine(matrix) == bench.pipeline.output_spec.affine
    row, col = bench.pipeline.output_spec.affine.apply(0, 0)
    assert bench.result(0).data[0, 0, 0] == raw[0, 0, int(row) - 7, int(col) - 9]


# What is kept to be looked at


@pytest.mark.parametrize("changes", [{}, {"geometry": {"flip": "up_down"}}])
def test_taps_keep_the_newest_frames_as_deep_and_as_often_as_asked(changes, images):
    raw = images(30)
    tree = {
        "buffers": {"nb_frames_buffer": 3, "nb_input_frames_buffer": 4},
        "taps": {"input_sampling": 2, "processed_sampling": 5},
        **changes,
    }

    bench = Bench(tree, spec_of(raw)).run(raw)

    for name, depth, sampling in (("input_frame", 4, 2), ("frame", 3, 5)):
        tap = bench.pipeline.taps[name]
        kept = [n for n in range(30) if is_kept(tap, n)]
        assert kept == list(range(0, 30, sampling))[-depth:]
        assert tap.get(-1).idx == tap.last_idx == kept[-1]


def test_unchanged_frames_are_looked_at_in_one_place(images):
    raw = images(10)
    tree = {"buffers": {"nb_frames_buffer": 3, "nb_input_frames_buffer": 2}}

    bench = Bench(tree, spec_of(raw)).run(raw)

    taps = bench.pipeline.taps
    assert taps["frame"] is taps["input_frame"]
    assert [n for n in range(10) if is_kept(taps["frame"], n)] == [7, 8, 9]


@pytest.mark.parametrize("tree", [{}, {"geometry": {"flip": "up_down"}}])
def test_buffers_of_the_camera_come_back_if_they_may_not_be_kept(tree, images, tmp_path):
    raw = images(20)
    tree = tree | {"saving_input": saving(tmp_path, compression="none")}
    bench = Bench(tree, spec_of(raw))
    camera = bench.pools.pool("camera", raw[0].nbytes)
    camera.grow(2)
    bench.start()

    for local, image in enumerate(raw):
        lease = camera.lease(LIMIT_S)
        assert lease is not None
        data = lease.array(image.shape, image.dtype)
        data[...] = image
        bench.channel.send([bench.frame(local, data, lease=lease, keepable=False)])
        del lease, data
    bench.finish()

    assert camera.stats().in_use == 0
    for n in (0, 19):
        assert bench.pipeline.taps["input_frame"].get(n).data.tolist() == raw[n].tolist()
        assert bench.pipeline.taps["input_frame"].get(n).lease is not None


# Progress


def test_counters_only_grow_and_are_never_ahead_of_what_can_be_fetched(images, tmp_path):
    raw = images(150, (1, 8, 9))
    tree = {
        "geometry": {"flip": "up_down"},
        "frame_idx_enabled": True,
        "statistics": {"enabled": True, "rect_rois": [rect(0, 0, 9, 8)]},
        "buffers": {"nb_frames_buffer": 200, "nb_input_frames_buffer": 200},
        "saving": saving(tmp_path, nb_frames_per_file=3),
        "saving_input": saving(tmp_path, filename_prefix="raw", nb_frames_per_file=2),
        "saving_sparse": saving(tmp_path, filename_prefix="hits", nb_frames_per_file=4),
    }
    bench = Bench(tree, spec_of(raw))
    pipeline = bench.pipeline
    bench.start()
    before = pipeline.progress()
    assert list(before) == [
        "nb_frames_source",
        "nb_frames_input",
        "nb_frames_processed",
        "nb_frames_saved",
        "nb_frames_input_saved",
        "nb_frames_sparse_saved",
    ]

    def send():
        for local, image in enumerate(raw):
            bench.channel.send([bench.frame(local, image)])
        bench.channel.close()

    sender = Worker("sender", send)
    records = 0
    while not bench.done.wait(0.001):  # without a pause the others would hardly run
        now = pipeline.progress()
        records += len(bench.records())
        assert all(now[name] >= before[name] for name in now)
        assert now["nb_frames_source"] >= now["nb_frames_input"] >= now["nb_frames_processed"]
        assert now["nb_frames_processed"] >= now["nb_frames_saved"]
        assert now["nb_frames_input"] >= now["nb_frames_input_saved"]
        assert records >= now["nb_frames_processed"]
        if now["nb_frames_processed"]:
            assert is_kept(pipeline.taps["input_frame"], now["nb_frames_input"] - 1)
            assert is_kept(pipeline.taps["frame"], now["nb_frames_processed"] - 1)
        before = now
    sender.join()
    bench.executor.join()

    assert set(pipeline.progress().values()) == {150}


def test_the_last_sum_completes_its_file_before_the_run_has_ended(images, tmp_path):
    raw = images(9)
    tree = {"accumulation": {"enabled": True, "nb_frames": 3}, "saving": saving(tmp_path)}
    bench = Bench(tree, spec_of(raw), n_frames=9)
    bench.start()

    for local, image in enumerate(raw):
        bench.channel.send([bench.frame(local, image)])

    assert eventually(lambda: bench.pipeline.progress()["nb_frames_saved"] == 3)
    with h5py.File(tmp_path / "lima2_0_00000.h5") as file:
        assert file[DATA].shape == (3, 12, 15)
    bench.finish()


# Protection and failures


def test_a_pixel_above_the_limit_ends_the_processing_and_what_came_before_is_saved(
    images, tmp_path, caplog
):
    raw = images(10)
    raw[6, 0, 3, 4] = 20_000
    tree = {
        # 100 ms at 100 kHz: 10000 counts.
        "max_countrate_protection": {"enabled": True},
        "saving": saving(tmp_path),
        "statistics": {"enabled": True, "rect_rois": [rect(0, 0, 15, 12)]},
    }
    bench = Bench(tree, spec_of(raw), workers=1)

    with caplog.at_level(logging.WARNING):
        bench.run(raw)

    (failure,) = bench.failures
    assert isinstance(failure, PipelineError)
    assert "frame 6" in str(failure)
    assert "a pixel counted 20000, more than the 10000 allowed" in str(failure)
    codes = []
    for n in range(3):
        with h5py.File(tmp_path / f"lima2_0_{n:05d}.h5") as file:
            codes += list(file[VALIDITY][()])
    assert codes == [Validity.VALID] * 6 + [Validity.PROCESSING_FAULT] * 4
    assert np.isnan(bench.records()["sum"]).tolist() == [False] * 6 + [True] * 4
    assert bench.pipeline.progress()["nb_frames_source"] == 10


def test_without_abort_the_protection_only_tells_once(images, caplog):
    raw = images(10) + 20_000
    tree = {"max_countrate_protection": {"enabled": True, "abort_on_protection": False}}

    with caplog.at_level(logging.WARNING):
        bench = Bench(tree, spec_of(raw)).run(raw)

    assert bench.failures == []
    assert len([r for r in caplog.records if "allowed in an exposure" in r.message]) == 1


def test_the_failing_pipeline_fails_on_its_frame_and_not_before(images):
    raw = images(8)

    bench = Bench({"failed_frame_idx": 5}, spec_of(raw), plugin=failing.PLUGIN, workers=1).run(raw)

    (failure,) = bench.failures
    assert failure.details["frame_idx"] == 5
    assert bench.pipeline.progress() == {"nb_frames_source": 8}


# Memory


def test_nothing_is_lent_after_a_run_is_released(images, rng, save_map, tmp_path):
    raw = images(50)
    tree = {
        "mask": save_map("mask", np.eye(12, 15)),
        "background": save_map("background", rng.normal(size=(12, 15))),
        "geometry": {"rotation": "90"},
        "accumulation": {"enabled": True, "nb_frames": 4},
        "statistics": {"enabled": True, "rect_rois": [rect(0, 0, 5, 5)]},
        "saving": saving(tmp_path, compression="none"),
        "saving_input": saving(tmp_path, compression="none", filename_prefix="raw"),
    }
    bench = Bench(tree, spec_of(raw)).run(raw)
    assert any(stats.in_use for stats in bench.pools.stats().values())

    bench.pipeline.release()

    assert {name: s.in_use for name, s in bench.pools.stats().items() if s.in_use} == {}


def test_a_run_that_failed_lends_nothing_once_released(images, save_map):
    raw = images(30)
    raw[20] = 30_000
    tree = {
        "mask": save_map("mask", np.eye(12, 15)),
        "accumulation": {"enabled": True, "nb_frames": 4},
        "max_countrate_protection": {"enabled": True},
    }
    bench = Bench(tree, spec_of(raw)).run(raw)
    assert len(bench.failures) == 1

    bench.pipeline.release()

    assert not any(stats.in_use for stats in bench.pools.stats().values())


def test_large_corrected_frames_allocate_nothing_once_warm(rng, save_map, monkeypatch):
    raw = rng.integers(0, 1000, (2, 1, 2048, 2048), np.uint16)
    tree = {
        "background": save_map("background", np.full((2048, 2048), 3, np.float32)),
        "buffers": {"nb_frames_buffer": 3, "nb_input_frames_buffer": 3},
    }
    pools = PoolSet(2**30)
    bench = Bench(tree, spec_of(raw), pools=pools, workers=2).run(raw[[0, 1] * 6])
    bench.pipeline.release()
    slots = {name: stats.slots for name, stats in pools.stats().items()}

    bench = Bench(tree, spec_of(raw), pools=pools, workers=2)
    process = CorrectPixels.process

    def one_takes_long(task, frame):
        if frame.idx == 3:
            # Until as many went ahead as may: all that they made is alive.
            assert eventually(lambda: bench.executor.stats().out_of_order >= 4)
            time.sleep(0.1)
        return process(task, frame)

    monkeypatch.setattr(CorrectPixels, "process", one_takes_long)
    bench.start()
    tracemalloc.start()
    try:
        for local in range(12):
            bench.channel.send([bench.frame(local, raw[local % 2])])
        bench.finish()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 2**22  # a corrected frame is four times that
    assert {name: stats.slots for name, stats in pools.stats().items()} == slots
    assert all(bench.result(n).lease is not None for n in (9, 10, 11))


def test_where_memory_is_short_fewer_frames_are_kept_but_none_is_lost(images):
    raw = images(60, (1, 64, 64))
    tree = {"geometry": {"flip": "up_down"}, "buffers": {"nb_frames_buffer": 50}}
    # Half of it for the processed frames: 16 slots of 8 kB.
    pools = PoolSet(32 * raw[0].nbytes)

    bench = Bench(tree, spec_of(raw), pools=pools, workers=1).run(raw)

    tap = bench.pipeline.taps["frame"]
    kept = [n for n in range(60) if is_kept(tap, n)]
    assert bench.pipeline.progress()["nb_frames_processed"] == 60
    assert kept[-1] == 59
    assert kept == list(range(kept[0], 60))
    assert 1 <= len(kept) < 50
    assert sum(stats.total_bytes for stats in pools.stats().values()) <= pools.limit_bytes


# The same as a run of a receiver


class ListSource(FrameSource):
    """Frames from a list."""

    def __init__(self, spec, items):
        self._spec = spec
        self._items = list(items)
        self._interrupted = False

    def resolve(self):
        return self._spec

    def open(self, pools):
        pass

    def next_frames(self, timeout_s):
        if not self._items or self._interrupted:
            raise EndOfFrames
        taken, self._items = self._items[:3], self._items[3:]
        return taken

    def interrupt(self):
        self._interrupted = True

    def deliver(self, message):
        pass

    @property
    def keeps_rows(self):
        return True

    def expected_frames(self):
        return len(self._items)

    def close(self):
        self._items = []


class ListCamera(CameraReceiver):
    def __init__(self, spec, items):
        self._source = ListSource(spec, items)

    def source(self, request):
        return self._source

    def close(self):
        pass


def test_a_run_takes_frames_from_a_source_through_the_pipeline_to_files(images, tmp_path):
    raw = images(10)
    spec = spec_of(raw)
    tree = {"saving": saving(tmp_path), "accumulation": {"enabled": True, "nb_frames": 3}}
    request = PrepareRequest(
        AcqId("0b3e"),
        AcquisitionParams(),
        legacy.PLUGIN,
        legacy.LegacyParams.from_tree(tree),
        Share(),
    )
    pools = PoolSet(2**28)
    camera = ListCamera(spec, [Frame(n, image) for n, image in enumerate(raw)])
    plan = plan_run(request, camera, pools, workers=2)
    ended, done = threading.Event(), threading.Event()
    failures = []
    run = Run(
        plan,
        pools,
        RunHooks(
            acquired=lambda run, error: ended.set(),
            failed=lambda run, error: failures.append(error),
            processed=lambda run: done.set(),
        ),
    )

    run.start()

    assert done.wait(LIMIT_S)
    assert ended.wait(LIMIT_S)
    assert run.join(LIMIT_S)
    assert failures == []
    assert run.received == 10
    assert run.progress()["nb_frames_processed"] == 4
    assert run.params.output_spec == replace(spec, dtype=np.dtype(np.uint32))
    with h5py.File(tmp_path / "lima2_0_00000.h5") as file:
        assert file[DATA].shape == (4, 12, 15)
        assert file[DATA][3].tolist() == raw[9, 0].tolist()
    run.release()
    assert eventually(lambda: not any(s.in_use for s in pools.stats().values()))


def test_a_failure_is_told_before_it_ends_the_acquisition_which_might_seem_to_end_well(
    images, monkeypatch
):
    raw = images(10)
    request = PrepareRequest(
        AcqId("0b3e"),
        AcquisitionParams(),
        failing.PLUGIN,
        failing.PLUGIN.params.from_tree({"failed_frame_idx": 2}),
        Share(),
    )
    pools = PoolSet(2**28)
    camera = ListCamera(spec_of(raw), [Frame(n, image) for n, image in enumerate(raw)])
    seen, done = [], threading.Event()
    monkeypatch.setattr(ListSource, "interrupt", lambda self: seen.append("interrupted"))
    run = Run(
        plan_run(request, camera, pools, workers=1),
        pools,
        RunHooks(
            acquired=lambda run, error: None,
            failed=lambda run, error: seen.append("told"),
            processed=lambda run: done.set(),
        ),
    )

    run.start()

    assert done.wait(LIMIT_S)
    assert run.join(LIMIT_S)
    assert seen == ["told", "interrupted"]
    run.release()


def test_a_transform_that_breaks_its_promise_is_found_before_the_file(
    images, tmp_path, monkeypatch
):
    raw = images(3)
    bench = Bench({"geometry": {"rotation": "90"}, "saving": saving(tmp_path)}, spec_of(raw))
    monkeypatch.setattr(ReshapeImage, "process", lambda self, frame: frame)

    bench.run(raw)

    (failure,) = bench.failures
    assert "not what was announced" in str(failure)
