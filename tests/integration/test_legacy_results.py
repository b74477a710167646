"""Frames, sums and records of the classic pipeline, against references written differently."""

import numpy as np
import pytest

from lima2_core.camera.dispatch import Share
from lima2_core.data.frame import FrameSpec, Validity
from lima2_core.data.geometry import Affine, Roi
from lima2_core.errors import NotAvailableError
from lima2_core.ids import ReceiverIdx
from tests.integration.bench import Bench, rect, spec_of

VALUES = ("min", "max", "avg", "std", "sum")

# Correction


@pytest.mark.parametrize("bands", [1, 2])
@pytest.mark.parametrize(
    "names",
    [
        ("mask",),
        ("background",),
        ("flatfield",),
        ("mask", "background"),
        ("mask", "flatfield"),
        ("background", "flatfield"),
        ("mask", "background", "flatfield"),
    ],
)
def test_frames_are_corrected_by_each_map_alone_and_together(names, bands, images, rng, save_map):
    raw = images(5, (bands, 12, 15))
    maps = {
        "mask": (rng.random((12, 15)) < 0.1).astype(np.uint8) * 3,
        "background": rng.normal(10, 1, (12, 15)),
        "flatfield": rng.uniform(0.5, 2, (12, 15)).astype(np.float32),
    }
    tree = {name: save_map(name, maps[name]) for name in names}

    bench = Bench(tree, spec_of(raw)).run(raw)

    calibrated = {"background", "flatfield"} & set(names)
    assert bench.pipeline.output_spec.dtype == (np.float32 if calibrated else np.uint16)
    for n, image in enumerate(raw):
        wanted = image.astype(float)
        if "background" in names:
            wanted = wanted - maps["background"]
        if "flatfield" in names:
            wanted = wanted / maps["flatfield"]
        if "mask" in names:
            wanted = np.where(maps["mask"] != 0, 0.0, wanted)
        got = bench.result(n)
        assert got.data.dtype == bench.pipeline.output_spec.dtype
        np.testing.assert_allclose(got.data, wanted, rtol=1e-6, atol=1e-3)
        assert got.timestamp_s == 100.0 + n
        assert bench.pipeline.taps["input_frame"].get(n).data.tolist() == image.tolist()


def test_pixels_that_cannot_be_corrected_read_0_and_do_not_count(images, save_map):
    raw = images(2) + 1
    flatfield = np.ones((12, 15))
    flatfield[0, 0], flatfield[0, 1] = 0.0, np.inf
    background = np.zeros((12, 15))
    background[0, 2] = np.nan
    tree = {
        "flatfield": save_map("flatfield", flatfield),
        "background": save_map("background", background),
        "statistics": {"enabled": True, "rect_rois": [rect(0, 0, 15, 1)]},
    }

    bench = Bench(tree, spec_of(raw)).run(raw)

    assert bench.result(0).data[0, 0, :3].tolist() == [0, 0, 0]
    for record, image in zip(bench.records(), raw, strict=True):
        assert record["min"] == image[0, 0, 3:].min()
        assert record["sum"] == image[0, 0, 3:].sum()


def test_frames_are_not_changed_on_the_way(images, save_map):
    raw = images(3)
    raw.setflags(write=False)
    tree = {
        "mask": save_map("mask", np.ones((12, 15), bool)),
        "geometry": {"flip": "up_down", "rotation": "90"},
        "accumulation": {"enabled": True, "nb_frames": 2},
    }

    bench = Bench(tree, spec_of(raw)).run(raw)

    assert bench.failures == []


# Geometry


GEOMETRIES = [
    {"binning": binning, "roi": roi, "flip": flip, "rotation": rotation}
    for binning in ({"x": 1, "y": 1}, {"x": 2, "y": 3})
    for roi in (rect(0, 0, 0, 0), rect(1, 1, 5, 2))
    for flip in ("none", "left_right", "up_down")
    for rotation in ("none", "90", "180", "270")
]


def detector_pixels(spec, row, col):
    """The detector pixels in an image pixel, by the matrix of the frames."""
    return spec.affine.region(Roi(row, col, 1, 1)).slices


def test_every_pixel_is_the_sum_of_the_detector_pixels_that_its_matrix_leads_to(images):
    # The camera has cut its image out of a larger detector.
    detector = images(2, (2, 20, 20))
    raw = detector[:, :, 4:16, 3:18]
    spec = spec_of(raw, affine=Affine.crop(4, 3))
    for geometry in GEOMETRIES:
        bench = Bench({"geometry": geometry}, spec, workers=1).run(raw)

        out = bench.pipeline.output_spec
        for n in range(2):
            image = bench.result(n).data
            assert image.shape == out.shape
            assert image.dtype == out.dtype
            for row in range(out.shape[1]):
                for col in range(out.shape[2]):
                    covered = detector[n][:, *detector_pixels(out, row, col)]
                    binning = geometry["binning"]
                    assert covered[0].size == binning["x"] * binning["y"]
                    assert image[:, row, col].tolist() == covered.sum((1, 2)).tolist()


@pytest.mark.parametrize(
    ("geometry", "wanted"),
    [
        ({"flip": "left_right"}, lambda a: a[:, :, ::-1]),
        ({"flip": "up_down"}, lambda a: a[:, ::-1]),
        ({"rotation": "90"}, lambda a: np.rot90(a, 1, (1, 2))),
        ({"rotation": "180"}, lambda a: np.rot90(a, 2, (1, 2))),
        ({"rotation": "270"}, lambda a: np.rot90(a, 3, (1, 2))),
        (
            {"flip": "left_right", "rotation": "90"},
            lambda a: np.rot90(a[:, :, ::-1], 1, (1, 2)),
        ),
        ({"roi": rect(2, 3, 4, 5)}, lambda a: a[:, 3:8, 2:6]),
        (
            {"binning": {"x": 4, "y": 5}},
            lambda a: a[:, :10, :12].reshape(1, 2, 5, 3, 4).sum((2, 4)),
        ),
        (
            {"binning": {"x": 2, "y": 2}, "roi": rect(1, 2, 3, 2)},
            lambda a: a[:, 4:8, 2:8].reshape(1, 2, 2, 3, 2).sum((2, 4)),
        ),
    ],
)
def test_geometry_does_what_its_words_say(geometry, wanted, images):
    raw = images(2)

    bench = Bench({"geometry": geometry}, spec_of(raw)).run(raw)

    for n, image in enumerate(raw):
        assert bench.result(n).data.tolist() == wanted(image).tolist()


# Accumulation


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("depth", [2, 3, 7])
def test_frames_are_summed_in_groups_and_an_incomplete_one_is_partial(depth, dtype, images):
    raw = images(20, dtype=dtype)

    bench = Bench({"accumulation": {"enabled": True, "nb_frames": depth}}, spec_of(raw)).run(raw)

    groups = -(-20 // depth)
    assert bench.pipeline.progress()["nb_frames_source"] == 20
    assert bench.pipeline.progress()["nb_frames_processed"] == groups
    for k in range(groups):
        members = raw[k * depth : (k + 1) * depth]
        frame = bench.result(k)
        assert frame.data.dtype == bench.pipeline.output_spec.dtype
        assert frame.data.tolist() == members.sum(0, dtype=np.float64).tolist()
        assert frame.timestamp_s == 100.0 + k * depth
        whole = len(members) == depth
        assert frame.validity is (Validity.VALID if whole else Validity.PARTIAL)


def test_sums_of_two_receivers_are_numbered_in_turn_and_input_frames_keep_their_own(images):
    raw = images(9)
    tree = {
        "accumulation": {"enabled": True, "nb_frames": 2},
        "frame_idx_enabled": True,
        "statistics": {"enabled": True, "rect_rois": [rect(0, 0, 3, 3)]},
    }

    bench = Bench(tree, spec_of(raw), share=Share(ReceiverIdx(1), 2)).run(raw)

    assert bench.records("frame_idx")["frame_idx"].tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    records = bench.records()
    assert records["frame_idx"].tolist() == [1, 3, 5, 7, 9]
    assert set(records["recv_idx"]) == {1}
    for k, idx in enumerate(records["frame_idx"]):
        wanted = raw[2 * k : 2 * k + 2].sum(0, dtype=np.uint32)
        assert bench.result(idx).data.tolist() == wanted.tolist()
        assert records["sum"][k] == wanted[0, :3, :3].sum()
    assert bench.pipeline.taps["input_frame"].get(17).data.tolist() == raw[8].tolist()


def test_gaps_make_their_sum_partial_and_a_group_of_gaps_is_a_gap(images):
    raw = list(images(9))
    sent = list(raw)
    sent[1] = sent[3] = sent[4] = sent[5] = Validity.PACKET_LOSS
    tree = {
        "accumulation": {"enabled": True, "nb_frames": 3},
        "statistics": {"enabled": True, "rect_rois": [rect(0, 0, 15, 12)]},
    }

    bench = Bench(tree, spec_of(np.array(raw))).run(sent)

    first, last = bench.result(0), bench.result(2)
    assert first.validity is Validity.PARTIAL
    assert first.data.tolist() == (raw[0].astype(int) + raw[2]).tolist()
    assert last.validity is Validity.VALID
    with pytest.raises(NotAvailableError, match="frame 1 is not available"):
        bench.result(1)
    records = bench.records()
    assert records["frame_idx"].tolist() == [0, 1, 2]
    assert np.isnan(records["sum"]).tolist() == [False, True, False]
    assert bench.pipeline.progress()["nb_frames_processed"] == 3


def test_a_sum_of_partial_frames_is_partial(images):
    raw = images(4)
    bench = Bench({"accumulation": {"enabled": True, "nb_frames": 2}}, spec_of(raw))
    bench.start()
    for local, image in enumerate(raw):
        validity = Validity.PARTIAL if local == 3 else Validity.VALID
        bench.channel.send([bench.frame(local, image, validity=validity)])
    bench.finish()

    assert bench.result(0).validity is Validity.VALID
    assert bench.result(1).validity is Validity.PARTIAL


# Records


def statistics_of(values):
    values = np.asarray(values, np.float64)
    if values.size == 0:
        return (0.0,) * 5
    return values.min(), values.max(), values.mean(), values.std(), values.sum()


def assert_records(records, wanted):
    got = np.stack([records[name].astype(np.float64) for name in VALUES], axis=-1)
    np.testing.assert_allclose(got, np.array(wanted).reshape(got.shape), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("bands", [1, 2])
def test_records_are_those_of_the_processed_image_without_the_masked_pixels(
    bands, images, rng, save_map
):
    raw = images(6, (bands, 12, 15))
    mask = (rng.random((12, 15)) < 0.15).astype(np.uint8)
    geometry = {
        "binning": {"x": 2, "y": 1},
        "roi": rect(1, 2, 6, 9),
        "flip": "left_right",
        "rotation": "90",
    }
    rects = [(0, 0, 9, 6), (2, 1, 4, 3), (5, 4, 20, 20)]
    arc = {"center": {"x": 4.5, "y": 2.5}, "r1": 1.0, "r2": 3.2, "a1": -280.5, "a2": -100.4}
    tree = {
        "mask": save_map("mask", mask),
        "geometry": geometry,
        "statistics": {
            "enabled": True,
            "rect_rois": [rect(*one) for one in rects],
            "arc_rois": [arc],
        },
        "profiles": {
            "enabled": True,
            "rois": [rect(*one) for one in rects],
            "directions": ["horizontal", "vertical", "horizontal"],
        },
    }

    bench = Bench(tree, spec_of(raw)).run(raw)

    out = bench.pipeline.output_spec
    _, rows, cols = out.shape
    keeps = np.array(
        [
            [not mask[detector_pixels(out, row, col)].any() for col in range(cols)]
            for row in range(rows)
        ]
    )
    assert not keeps.all()
    down, across = np.mgrid[0:rows, 0:cols]
    radius = np.hypot(down - 2.5, across - 4.5)
    angle_deg = np.degrees(np.arctan2(down - 2.5, across - 4.5))
    turned = [
        (angle_deg + 360 * n >= -280.5) & (angle_deg + 360 * n <= -100.4) for n in range(-2, 2)
    ]
    in_arc = (radius >= 1.0) & (radius < 3.2) & np.any(turned, axis=0)
    statistics, profiles = [], []
    for n in range(6):
        # Masked before it was summed up, so a hidden pixel counts 0 in its bin.
        image = bench.result(n).data
        for x, y, width, height in rects:
            cut = np.s_[y : y + height, x : x + width]
            statistics.append(statistics_of(image[:, *cut][:, keeps[cut]]))
        statistics.append(statistics_of(image[:, in_arc & keeps]))
        for (x, y, width, height), horizontal in zip(rects, (True, False, True), strict=True):
            for k in range(width if horizontal else height):
                line = (
                    np.s_[y : y + height, x + k : x + k + 1]
                    if horizontal
                    else np.s_[y + k : y + k + 1, x : x + width]
                )
                profiles.append(statistics_of(image[:, *line][:, keeps[line]]))
    records = bench.records()
    assert records["frame_idx"].tolist() == np.repeat(range(6), 4).tolist()
    assert_records(records, statistics)
    records = bench.records("roi_profiles")
    assert records["frame_idx"].tolist() == np.repeat(range(6), 9 + 3 + 20).tolist()
    assert_records(records, profiles)


def test_records_come_in_local_order_whatever_the_workers_do_and_gaps_are_no_numbers(images):
    raw = list(images(200, (1, 4, 5)))
    for lost in (0, 7, 8, 199):
        raw[lost] = Validity.DROPPED
    tree = {
        "frame_idx_enabled": True,
        "statistics": {"enabled": True, "rect_rois": [rect(0, 0, 5, 4), rect(1, 1, 1, 1)]},
        "profiles": {"enabled": True, "rois": [rect(0, 0, 3, 2)], "directions": ["horizontal"]},
        "buffers": {"nb_roi_statistics_buffer": 1, "nb_roi_profiles_buffer": 1},
    }
    spec = FrameSpec((1, 4, 5), np.dtype(np.uint16))

    bench = Bench(tree, spec, workers=8, share=Share(ReceiverIdx(2), 3)).run(raw)

    idxs = [3 * local + 2 for local in range(200)]
    assert bench.records("frame_idx")["frame_idx"].tolist() == idxs
    for stream, per_frame in (("roi_statistics", 2), ("roi_profiles", 3)):
        records = bench.records(stream)
        assert records["frame_idx"].tolist() == np.repeat(idxs, per_frame).tolist()
        assert set(records["recv_idx"]) == {2}
        lost = np.isnan(records["avg"])
        assert set(records["frame_idx"][lost]) == {idxs[n] for n in (0, 7, 8, 199)}
        for name in VALUES:
            assert (np.isnan(records[name]) == lost).all()
        assert bench.records(stream).size == 0


def test_regions_without_a_list_make_no_stream(images):
    raw = images(2)
    tree = {"statistics": {"enabled": True}, "profiles": {"enabled": True}}

    bench = Bench(tree, spec_of(raw)).run(raw)

    assert bench.pipeline.streams == {}
