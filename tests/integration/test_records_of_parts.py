"""Records of regions in whole frames, whose parts are with several receivers."""

import json

import numpy as np
import pytest

from lima2_core.camera.dispatch import Share
from lima2_core.data.frame import Validity
from lima2_core.data.geometry import Placement
from lima2_core.data.pooling import PART_RECORD, reached
from lima2_core.errors import ParamError
from lima2_core.ids import ReceiverIdx
from lima2_core.state.system import Phase
from processing.kernels.regions import ROI_RECORD
from tests.integration.bench import Bench, rect, spec_of
from tests.integration.coordinated import ENDED, Simulated, acquisition, comes_to
from tests.unit.processing.jungfrau import calibration, saved

pytestmark = pytest.mark.usefixtures("patient_commands")

SYSTEM = Simulated
SIZE = {"rows": 24, "cols": 20}
STREAMS = ("roi_statistics", "roi_profiles")
VALUES = ("min", "max", "avg", "std", "sum")
RECTS = [rect(0, 0, 20, 24), rect(3, 5, 6, 14), rect(2, 1, 4, 3), rect(11, 20, 90, 90)]
"""Over all parts; over some; in the first; in the last, and beyond the image."""
ARCS = [
    {"center": {"x": 9.3, "y": 11.7}, "r1": 2.0, "r2": 10.5, "a1": -280.5, "a2": -100.4},
    {"center": {"x": 0.0, "y": 2.0}, "r1": 0.0, "r2": 3.0, "a1": 0.0, "a2": 360.0},
]
PROFILES = {
    "enabled": True,
    "rois": [rect(3, 2, 9, 19), rect(3, 2, 9, 19), rect(1, 1, 5, 2)],
    "directions": ["horizontal", "vertical", "vertical"],
}
REGIONS = {
    "statistics": {"enabled": True, "rect_rois": RECTS, "arc_rois": ARCS},
    "profiles": PROFILES,
}


def pattern(mode="partial_frame", **det):
    gauss = {"peaks": [{"x0": 9, "y0": 11, "fwhm": 12, "max": 900}], "grow_factor": 1.0}
    generator = {"gauss": gauss, "pixel_type": "gray16"}
    return {"generator": generator, "nb_prefetch_frames": 8, "dispatch_mode": mode, **det}


def records_of(system, order):
    """Run and merged records of an acquisition: (frames, rows) of each stream."""
    run = system.coordinator.prepare(order)
    cursors = {name: stream.cursor() for name, stream in run.view.streams.items()}
    system.coordinator.start()
    assert comes_to(run, *ENDED)
    rows = {name: run.view.streams[name].spec.rows_per_frame for name in cursors}
    return run, {name: c.read().reshape(-1, rows[name]) for name, c in cursors.items()}


def assert_alike(made, wanted):
    for stream in STREAMS:
        assert made[stream].shape == wanted[stream].shape
        assert made[stream].dtype == ROI_RECORD
        for name in ("frame_idx", "min", "max", "sum"):
            np.testing.assert_array_equal(made[stream][name], wanted[stream][name])
        for name in ("avg", "std"):
            np.testing.assert_allclose(made[stream][name], wanted[stream][name], 3e-7, 1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_records_of_parts_are_those_of_whole_frames(make_system, save_map, rng, n):
    tree = {**REGIONS, "mask": save_map("mask", (rng.random((24, 20)) < 0.2).astype(np.uint8))}
    _, wanted = records_of(
        make_system(1, **SIZE), acquisition(12, det=pattern("round_robin"), **tree)
    )

    run, made = records_of(make_system(n, **SIZE), acquisition(12, det=pattern(), **tree))

    assert run.view.topology == "partial"
    assert run.phase is Phase.DONE
    assert_alike(made, wanted)
    statistics = made["roi_statistics"]
    assert statistics["frame_idx"][:, 0].tolist() == list(range(12))
    assert (statistics["sum"][:, :-1] > 0).all()
    assert (statistics["recv_idx"] == -1).all()
    assert [r for d in run.descriptions for r in d.remarks if "pixels of this part" in r] == []


def test_records_of_a_frame_that_is_lost_have_no_values(make_system):
    det = pattern(dropped_frame_idx=3)

    run, made = records_of(make_system(2, **SIZE), acquisition(8, det=det, **REGIONS))

    assert run.phase is Phase.INCOMPLETE
    for stream in STREAMS:
        assert made[stream]["frame_idx"][:, 0].tolist() == list(range(8))
        missing = np.isnan(made[stream]["sum"])
        assert missing.all(axis=1).tolist() == [idx == 3 for idx in range(8)]
        assert missing.any(axis=1).tolist() == [idx == 3 for idx in range(8)]


def test_records_of_sums_of_parts_are_those_of_sums_of_whole_frames(make_system):
    tree = {**REGIONS, "accumulation": {"enabled": True, "nb_frames": 4}}
    _, wanted = records_of(
        make_system(1, **SIZE), acquisition(10, det=pattern("round_robin"), **tree)
    )

    _, made = records_of(make_system(3, **SIZE), acquisition(10, det=pattern(), **tree))

    assert made["roi_statistics"]["frame_idx"][:, 0].tolist() == [0, 1, 2]
    assert_alike(made, wanted)


def test_a_region_outside_of_the_whole_image_is_refused(make_system):
    tree = {"statistics": {"enabled": True, "rect_rois": [rect(0, 24, 3, 3)]}}

    with pytest.raises(ParamError, match="outside the image of 20 x 24") as refused:
        make_system(2, **SIZE).coordinator.prepare(acquisition(4, det=pattern(), **tree))

    assert refused.value.path == "processing.statistics.rect_rois.0"


# With a layout


PLACES = ((0, 0, 0), (520, 0, 180), (10, 1100, 0), (560, 1100, 0))
"""Two columns of modules; 40 columns between them, and rows where no module is."""


@pytest.fixture
def photons(tmp_path):
    """Parameters of the conversion of four modules, one of them turned."""
    modules = [{"row": row, "col": col, "rotation": turn} for row, col, turn in PLACES]
    (tmp_path / "layout.json").write_text(json.dumps({"modules": modules}))
    return {
        "enabled": True,
        "device": "numpy",
        "calibration_path": saved(tmp_path, calibration(4)),
        "layout_path": str(tmp_path / "layout.json"),
    }


@pytest.mark.parametrize("output", ["int16", "float32"])
def test_regions_are_in_pixels_of_the_image_of_all_modules(make_system, photons, output):
    gauss = {"peaks": [{"x0": 700, "y0": 1000, "fwhm": 900, "max": 9000}], "grow_factor": 0.2}
    det = {"generator": {"gauss": gauss, "pixel_type": "gray16"}, "nb_prefetch_frames": 2}
    tree = {
        "photons": {**photons, "output": output},
        "statistics": {
            "enabled": True,
            "rect_rois": [
                rect(0, 0, 2130, 1074),
                rect(900, 400, 400, 300),
                rect(1060, 0, 30, 900),  # between the modules
                rect(40, 530, 100, 100),
            ],
            "arc_rois": [
                {"center": {"x": 1065.3, "y": 530.1}, "r1": 90, "r2": 400.5, "a1": 10, "a2": 300}
            ],
        },
        "profiles": {
            "enabled": True,
            "rois": [rect(1000, 300, 200, 400)] * 2,
            "directions": ["horizontal", "vertical"],
        },
    }
    results = []
    for n, mode in ((1, "round_robin"), (4, "partial_frame")):
        system = make_system(n, rows=2048, cols=1024, memory_bytes=2**29)
        order = acquisition(2, det={**det, "dispatch_mode": mode}, **tree)
        results.append(records_of(system, order)[1])

    whole, parts = results
    for stream in STREAMS:
        for name in ("min", "max"):
            np.testing.assert_array_equal(parts[stream][name], whole[stream][name])
        for name in ("avg", "std", "sum"):
            np.testing.assert_allclose(parts[stream][name], whole[stream][name], 1e-6, 1e-6)
    assert [parts["roi_statistics"][0][2][name] for name in VALUES] == [0] * 5
    assert np.isfinite(parts["roi_statistics"]["std"]).all()


# What each receiver has


def part_of(raw, first, end, tree=None, place=True, **changed):
    """A pipeline that got rows ``first`` to ``end`` of whole frames."""
    own = raw[:, :, first:end]
    where = Placement(first, 0, *raw.shape[2:]) if place else None
    bench = Bench(
        {**REGIONS, **(tree or {})},
        spec_of(own),
        parts=True,
        placement=where,
        share=Share(ReceiverIdx(1), 2),
        **changed,
    )
    return bench, own


def test_a_receiver_has_records_of_what_of_a_region_is_in_its_part(images):
    raw = images(3, (1, 24, 20))
    bench, own = part_of(raw, 8, 24)
    parts = {name: one.stream.cursor() for name, one in bench.pipeline.parts.items()}

    bench.run(own)

    records = bench.records().reshape(3, -1)
    assert records.dtype == ROI_RECORD
    assert (records["recv_idx"] == 1).all()
    for record, image in zip(records, raw, strict=True):
        assert record["sum"][1] == image[0, 8:19, 3:9].sum()
        assert [record[name][2] for name in VALUES] == [0] * 5  # wholly in the other part
    reach = reached([bench.pipeline.parts["roi_statistics"].reach], 6)
    assert reach.tolist() == [[True, True, False, True, True, False]]
    told = parts["roi_statistics"].read().reshape(3, -1)
    assert told.dtype == PART_RECORD
    assert told["pixels"][:, 1].tolist() == [6 * 11] * 3
    for name in ROI_RECORD.names:
        np.testing.assert_array_equal(told[name].astype(ROI_RECORD[name]), records[name])


def test_what_is_told_of_a_missing_part_is_not_a_number(images):
    raw = images(1, (1, 24, 20))
    bench, own = part_of(raw, 8, 24)
    parts = bench.pipeline.parts["roi_profiles"].stream.cursor()

    bench.run([own[0], Validity.PACKET_LOSS])

    whole, missing = parts.read().reshape(2, -1)
    assert np.isfinite(whole["pixels"]).all()
    for name in (*VALUES, "pixels"):
        assert np.isnan(missing[name]).all()
    assert np.isnan(bench.records("roi_profiles")["sum"]).sum() == len(missing)


@pytest.mark.parametrize(
    ("place", "tree"), [(False, None), (True, {"geometry": {"binning": {"x": 2, "y": 2}}})]
)
def test_regions_are_in_pixels_of_the_part_where_it_is_not_known_where_it_lies(images, place, tree):
    raw = images(1, (1, 24, 20))
    small = {"statistics": {"enabled": True, "rect_rois": [rect(1, 2, 3, 3)]}, "profiles": {}}
    bench, own = part_of(raw, 8, 24, {**small, **(tree or {})}, place)

    bench.run(own)

    assert bench.pipeline.parts == {}
    assert ["pixels of this part" in one for one in bench.pipeline.remarks] == [True]
    image = bench.result(1).data
    assert bench.records()["sum"].tolist() == [image[0, 2:5, 1:4].sum()]
