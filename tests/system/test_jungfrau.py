"""A whole JUNGFRAU system: emulator, UDP, receivers, files, front; round robin and parts."""

import socket
import time
from dataclasses import replace

import h5py
import hdf5plugin  # noqa: F401  the filters of the frames
import numpy as np
import pytest

from client import Lima2, MasterFile, ParamError, Validity
from lima2_core.data.frame import Validity as Code
from processing.jungfrau.calibration import read_calibration
from tango_servers.local.processes import ChildError
from tests.system.jungfrau_site import PATIENT, JungfrauSite, numbered
from tests.system.lab import Lab
from tests.tango.devices import wait_until
from tests.unit.processing.jungfrau import calibration, photons, saved, words

DET, PROC = "acquisition.det.", "processing."
ROWS = 64
NODE = "entry_0000/instrument/detector"
FILL = 0x8000
LOSSY = 16
"""Frames of a run of which 3 and 5 are lost: each receiver of four gets two more behind these."""
ENDS_S = 5.0
"""A run has ended so long after its detector."""


@pytest.fixture(scope="module")
def quad(tmp_path_factory):
    """Four modules, four receivers."""
    with JungfrauSite(tmp_path_factory.mktemp("quad"), 4, modules=4) as site:
        yield site


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One module with two interfaces, one receiver."""
    with JungfrauSite(tmp_path_factory.mktemp("single"), 1, interfaces=2) as site:
        yield site


def lima_of(site, changes=None, **det):
    """A client with small frames; ``det`` are parameters of the detector."""
    small = {"readout_rows": ROWS, "nb_buffers": 64}
    return site.client(
        {DET + name: value for name, value in {**small, **det}.items()} | (changes or {})
    )


def test_round_robin_and_parts_over_four_receivers_give_the_same_master_file(quad, tmp_path):
    contents = {}
    for mode in ("round_robin", "partial_frame"):
        lima = lima_of(quad, dispatch_mode=mode)
        run = lima.acquire(nb_frames=21, exposure_s=0.01, save_to=tmp_path, prefix=mode)

        assert run.check().verdict == "all 21 frames are valid"
        with MasterFile(run.master_file) as master:
            contents[mode] = [np.squeeze(frame.data) for frame in master]
    for idx, images in enumerate(zip(*contents.values(), strict=True)):
        whole = numbered(idx, 4, ROWS)
        assert [np.array_equal(image, whole) for image in images] == [True, True]


def test_packets_that_are_lost_are_in_ledger_counters_and_files(single, tmp_path):
    # Port 0 has packets 0 to 7 of these rows, port 1 as well.
    faults = ["drop:frame=3,packet=2,port=1", "drop:frame=6", "double:frame=8,packet=0,port=0"]
    lima = lima_of(
        single, {PROC + "saving.file_exists_policy": "overwrite"}, **{"emulator.faults": faults}
    )
    run = lima.acquire(nb_frames=10, exposure_s=0.01, save_to=tmp_path, prefix="lossy")

    codes = run.ledger.code.tolist()
    assert codes == [0, 0, 0, Validity.PARTIAL, 0, 0, Validity.PACKET_LOSS, 0, 0, 0]
    frames = {frame.idx: frame for frame in run.frames()}
    expected = numbered(3, 1, ROWS)
    expected[32 + 8 : 32 + 12] = FILL
    assert np.array_equal(np.squeeze(frames[3].data), expected)
    assert np.array_equal(np.squeeze(frames[5].data), numbered(5, 1, ROWS))
    (file,) = tmp_path.glob("lossy_0_*.h5")
    with h5py.File(file) as saved_file:
        detector = saved_file[NODE]
        assert detector["validity"][()].tolist() == codes
        mask = detector["frame_metadata/packet_mask"]
        assert mask.shape == (10, 2, 1)
        assert mask[:, 0, 0].tolist() == [255] * 6 + [255] + [255] * 3
        assert mask[3].tolist() == [[255], [255 & ~(1 << 2)]]
        packets = detector["frame_metadata/packets"][()].tolist()
        assert packets[:6] == [16, 16, 16, 15, 16, 16]
        numbers = detector["frame_metadata/frame_number"][()]
        assert np.array_equal(np.delete(numbers - numbers[0], 6), [0, 1, 2, 3, 4, 5, 7, 8, 9])


@pytest.mark.parametrize("mode", ["round_robin", "partial_frame"])
@pytest.mark.parametrize("photons", [False, True])
def test_what_never_came_reads_alike_however_frames_are_dealt_out(quad, tmp_path, mode, photons):
    faults = ["drop:frame=3,module=1", "drop:frame=5"]
    group = {"enabled": photons}
    if photons:
        group["calibration_path"] = saved(tmp_path, calibration(4))
        # Not that four servers compile the same kernel on two cores while Prepare waits.
        group["device"] = "numpy"
    lima = lima_of(
        quad, {PROC + "photons": group}, dispatch_mode=mode, **{"emulator.faults": faults}
    )

    run = lima.acquire(nb_frames=LOSSY, exposure_s=0.02, save_to=tmp_path, prefix="lossy")

    lost = {3: Validity.PARTIAL, 5: Validity.PACKET_LOSS}
    assert run.ledger.code.tolist() == [lost.get(idx, Validity.VALID) for idx in range(LOSSY)]
    nothing = -32768 if photons else FILL
    with h5py.File(run.master_file) as file:
        data = file[f"{NODE}/data"]
        partial, missing = np.squeeze(data[3]), np.squeeze(data[5])
    assert (partial[ROWS : 2 * ROWS] == nothing).all()
    assert (partial[2 * ROWS :] != nothing).any()
    assert (missing == nothing).all()
    if not photons:
        assert np.array_equal(partial[2 * ROWS :], numbered(3, 4, ROWS)[2 * ROWS :])


@pytest.mark.parametrize("converts", [False, True])
def test_regions_over_several_modules_have_the_same_records_in_parts(quad, tmp_path, converts):
    def rect(x, y, width, height):
        return {"topleft": {"x": x, "y": y}, "dimensions": {"x": width, "y": height}}

    group = {"enabled": converts}
    if converts:
        group["calibration_path"] = saved(tmp_path, calibration(4))
        group["device"] = "numpy"
    statistics = {
        "enabled": True,
        "rect_rois": [rect(0, 0, 1024, 4 * ROWS), rect(250, 50, 300, 30), rect(9, 200, 99, 50)],
        "arc_rois": [{"center": {"x": 500.3, "y": 127.6}, "r1": 20, "r2": 110.5}],
    }
    across = rect(100, 60, 300, 140)
    profiles = {"enabled": True, "rois": [across] * 2, "directions": ["horizontal", "vertical"]}
    changes = {"photons": group, "statistics": statistics, "profiles": profiles}
    faults = ["drop:frame=3,module=1", "drop:frame=5"]

    results = []
    for mode in ("round_robin", "partial_frame"):
        lima = lima_of(
            quad,
            {PROC + name: tree for name, tree in changes.items()},
            dispatch_mode=mode,
            **{"emulator.faults": faults},
        )
        run = lima.acquire(nb_frames=LOSSY, exposure_s=0.02)
        assert np.flatnonzero(run.ledger.code).tolist() == [3, 5]
        results.append([run.results(name).all(timeout_s=30) for name in ("roi", "profiles")])

    there = [idx for idx in range(LOSSY) if idx not in (3, 5)]
    for whole, parts in zip(*results, strict=True):
        for name in ("min", "max"):
            assert np.array_equal(parts[name][there], whole[name][there])
        for name in ("avg", "std", "sum"):
            made, wanted = parts[name][there], whole[name][there]
            assert np.allclose(made, wanted, rtol=1e-6, equal_nan=True)
        assert np.isnan(parts["sum"][5]).all()
    rois, lines = results[1]
    # What would be incomplete without the lost module is marked; the rest is not.
    assert np.isnan(rois["sum"][3]).tolist() == [True, True, False, True]
    assert rois["sum"][3, 2] == results[0][0]["sum"][3, 2]
    rows = np.isnan(lines["sum"][3, 300:])
    assert rows.tolist() == [ROWS <= row < 2 * ROWS for row in range(60, 200)]


@pytest.mark.parametrize(
    ("policy", "code"), [("keep", Validity.PARTIAL), ("discard", Validity.PACKET_LOSS)]
)
def test_incomplete_frames_are_kept_or_discarded(single, policy, code):
    lima = lima_of(
        single, **{"emulator.faults": ["drop:frame=4,packet=1,port=0"], "partial_frames": policy}
    )

    run = lima.acquire(nb_frames=8, exposure_s=0.01)

    assert run.ledger.code.tolist() == [0, 0, 0, 0, code, 0, 0, 0]
    assert run.phase == "incomplete"


def test_the_first_incomplete_frame_can_be_the_end_for_all(single):
    faults = {"emulator.faults": ["drop:frame=4,packet=1,port=0"], "partial_frames": "fail"}
    lima = lima_of(single, **faults)

    run = lima.acquire(nb_frames=1000, exposure_s=0.01)

    codes = run.ledger.code
    assert codes[:5].tolist() == [0, 0, 0, 0, Validity.PACKET_LOSS]
    assert set(codes[5:].tolist()) == {Validity.RECEIVER_LOST, Validity.NEVER_SENT}
    assert (run.phase, lima.state) == ("incomplete", "fault")
    assert "frame 4 is incomplete" in run.verdict


def test_a_pedestal_of_emulated_dark_runs_is_used_by_the_next_run(single, tmp_path):
    known = calibration()
    path, made = saved(tmp_path, known, "known.h5"), tmp_path / "made.h5"
    frames = 40
    for mode in ("dynamic", "forceswitchg1", "forceswitchg2"):
        dark = {
            "readout_rows": 512,
            "gain_mode": mode,
            "emulator.images": "dark",
            "emulator.calibration_path": path,
        }
        pedestal = {"enabled": True, "path": str(made), "gain_path": path}
        lima = lima_of(single, {PROC + "pedestal": pedestal}, **dark)
        run = lima.acquire(nb_frames=frames, exposure_s=0.02)
        assert run.check().verdict == f"all {frames} frames are valid"

    measured = read_calibration(str(made), "made")
    assert measured.pedestal_frames == (frames, frames, frames)
    assert measured.module_ids == known.module_ids
    error = (measured.pedestal - known.pedestal) * np.sqrt(frames) / known.pedestal_rms
    # Rounding to whole ADU adds 1/12 to a variance of 144: nothing to be seen.
    assert abs(float(error.mean())) < 0.02
    assert 0.97 < float(error.std()) < 1.03
    assert float(np.abs(error).max()) < 7
    assert 0.97 < float(measured.pedestal_rms.mean() / known.pedestal_rms.mean()) < 1.03
    assert np.count_nonzero(measured.mask) < 0.001 * measured.mask.size

    raw = words()
    np.save(tmp_path / "raw.npy", raw)
    lima = lima_of(
        single,
        {PROC + "photons": {"enabled": True, "calibration_path": str(made), "output": "float32"}},
        **{"readout_rows": 512, "emulator.images": str(tmp_path / "raw.npy")},
    )
    run = lima.acquire(nb_frames=2, exposure_s=0.02)
    (first, _) = run.frames()
    expected = photons(raw, measured)
    there = np.isfinite(expected)
    assert np.allclose(
        np.squeeze(first.data)[np.squeeze(there)], expected[there], rtol=1e-5, atol=1e-3
    )


def test_the_drift_of_a_followed_pedestal_is_told(single, tmp_path):
    known = calibration()
    path = saved(tmp_path, known, "known.h5")
    moved = saved(tmp_path, replace(known, pedestal=known.pedestal + np.float32(3)), "moved.h5")
    follow = {"enabled": True, "dark_every": 2, "window": 10}
    lima = lima_of(
        single,
        {PROC + "photons": {"enabled": True, "calibration_path": path, "follow": follow}},
        **{
            "readout_rows": 512,
            "emulator.images": "dark",
            "emulator.calibration_path": moved,
        },
    )
    run = lima.acquire(nb_frames=60, exposure_s=0.02)

    (told,) = run.readings.values()
    assert told["dark_frames"] == 30
    assert told["pedestal_drift_median_adu"] == pytest.approx(3 * (1 - 0.9**30), abs=0.1)


def test_raw_words_saved_beside_photons_give_the_same_photons_when_played(single, tmp_path):
    path = saved(tmp_path, calibration())
    np.save(tmp_path / "raw.npy", np.stack([words(seed=seed)[0] for seed in range(3)]))
    photon_params = {"enabled": True, "calibration_path": path}
    lima = lima_of(
        single,
        {
            PROC + "photons": photon_params,
            PROC + "saving_input": {
                "enabled": True,
                "base_path": str(tmp_path),
                "filename_prefix": "raw",
                "compression": "none",
            },
        },
        **{
            "readout_rows": 512,
            "emulator.images": str(tmp_path / "raw.npy"),
            "emulator.faults": ["drop:frame=2,packet=7,port=0"],
        },
    )
    run = lima.acquire(nb_frames=6, exposure_s=0.03, save_to=tmp_path, prefix="photons")

    (raw_file,), (photon_file,) = tmp_path.glob("raw_0_*.h5"), tmp_path.glob("photons_0_*.h5")
    with h5py.File(raw_file) as raw, h5py.File(photon_file) as converted:
        assert raw[f"{NODE}/data"].dtype == np.uint16
        assert converted[f"{NODE}/data"].dtype == np.int16
        once = converted[f"{NODE}/data"][()]
        assert raw[f"{NODE}/validity"][()].tolist() == [0, 0, Code.PARTIAL, 0, 0, 0]
    again = single.play(raw_file, {PROC + "photons": photon_params}, nb_frames=6)
    assert again.ledger.code.tolist() == run.ledger.code.tolist()
    for frame in again.frames():
        assert np.array_equal(np.squeeze(frame.data), np.squeeze(once[frame.idx]))


@pytest.mark.parametrize("mode", ["round_robin", "partial_frame"])
def test_a_detector_that_dies_ends_the_run_with_its_cause(quad, tmp_path, mode):
    lima = lima_of(
        quad, dispatch_mode=mode, **{"emulator.faults": ["drop:frame=6", "drop:frame=7"]}
    )
    run = lima.acquire(
        nb_frames=2000, exposure_s=0.01, save_to=tmp_path, prefix=f"died_{mode}", wait=False
    )
    wait_until(lambda: run.progress.received > 30, "some frames", 20)

    quad.kill_emulator()
    died_s = time.monotonic()
    run.wait(ENDS_S)

    assert time.monotonic() - died_s < ENDS_S
    assert lima.state == "fault"
    codes = run.ledger.code
    sent = int(np.argmax(codes == Validity.NEVER_SENT))
    assert 30 < sent < 1000
    assert set(codes[sent:].tolist()) == {Validity.NEVER_SENT}
    assert codes[sent - 1] in (Validity.VALID, Validity.PARTIAL)
    # What is missing before was lost on its way; of the last frame a part may have been sent.
    assert np.flatnonzero(codes[: sent - 1]).tolist() == [6, 7]
    assert set(codes[[6, 7]].tolist()) == {Validity.PACKET_LOSS}
    assert f", {2000 - sent} never sent (" in run.verdict
    cause = "the emulated detector died after"
    assert cause in run.verdict
    assert "of 2000 frames: killed by SIGKILL" in run.verdict
    assert cause in lima.error
    with h5py.File(run.master_file) as file:
        told = file["entry_0000/ledger"].attrs
        assert told["verdict"] == run.verdict
        assert told["NEVER_SENT"] == 2000 - sent
        assert told["PACKET_LOSS"] == 2
    no_faults = {DET + "emulator.faults": []}
    assert lima.acquire(no_faults, nb_frames=8, exposure_s=0.01).check().complete


@pytest.mark.parametrize("mode", ["round_robin", "partial_frame"])
def test_frames_after_a_stop_were_never_sent(quad, mode):
    lima = lima_of(quad, dispatch_mode=mode)
    run = lima.acquire(nb_frames=2000, exposure_s=0.01, wait=False)
    wait_until(lambda: run.progress.received > 30, "some frames", 20)

    lima.stop()
    run.wait(ENDS_S)

    codes = run.ledger.code
    sent = int(np.count_nonzero(codes == Validity.VALID))
    assert 30 < sent < 1000
    assert codes.tolist() == [Validity.VALID] * sent + [Validity.NEVER_SENT] * (2000 - sent)
    assert run.verdict == f"{sent} of 2000 frames are valid; {2000 - sent} never sent"
    assert run.complete


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({DET + "readout_rows": 100}, "det.readout_rows"),
        ({DET + "readout_speed": "full"}, "det.readout_speed"),
        ({DET + "high_voltage": 30}, "det.high_voltage"),
        ({DET + "emulator.images": "/nowhere.h5"}, "det.emulator.images"),
        ({DET + "emulator.faults": ["vanish:frame=1"]}, "det.emulator.faults.0"),
        ({DET + "emulator.mix": "drop=2"}, "det.emulator.mix"),
        ({"acquisition.img.flip": "up_down"}, "img.flip"),
        ({"acquisition.acq.trigger_mode": "external"}, "acq.trigger_mode"),
        ({PROC + "photons.enabled": True}, "photons.calibration_path"),
    ],
)
def test_what_cannot_be_is_refused_at_prepare_with_its_path(quad, changes, path):
    lima = lima_of(quad)

    with pytest.raises(ParamError, match=path):
        lima.acquire(changes, nb_frames=2)

    assert lima.state == "idle"
    assert lima_of(quad).acquire(nb_frames=4, exposure_s=0.01).check().complete


def test_parameters_that_are_refused_are_not_kept(quad):
    lima = lima_of(quad)
    lima.acquire(nb_frames=2, exposure_s=0.01).check()

    with pytest.raises(ParamError):
        lima.acquire({DET + "readout_speed": "full"}, nb_frames=2)

    assert Lima2(quad.device).params.acquisition.det.readout_speed == "half"


def test_pedestals_of_parts_of_modules_are_refused(single, tmp_path):
    pedestal = {"enabled": True, "path": str(tmp_path / "made.h5")}
    lima = lima_of(single, {PROC + "pedestal": pedestal}, readout_rows=256)

    with pytest.raises(ParamError, match=r"pedestal.enabled.*all 512 rows"):
        lima.acquire(nb_frames=2)


def test_a_server_with_a_wrong_property_says_so_and_fails(tmp_path):
    site = JungfrauSite(tmp_path, 1, backend="fpga")

    with pytest.raises(ChildError, match=r"status 1") as failed, site:
        pass

    assert "properties.backend" in str(failed.value)


def test_modules_that_cannot_be_dealt_out_are_refused(tmp_path):
    with JungfrauSite(tmp_path, 2, modules=3) as site:
        lima = lima_of(site, dispatch_mode="partial_frame")
        with pytest.raises(ParamError, match=r"det.dispatch_mode.*3 modules"):
            lima.acquire(nb_frames=2)


def test_a_port_in_use_is_refused_with_the_property(tmp_path):
    with JungfrauSite(tmp_path, 1) as site, socket.socket(type=socket.SOCK_DGRAM) as taken:
        address = site.deployment.control.properties["udp_addresses"][0]
        host, port = address.split(":")
        taken.bind((host, int(port)))
        with pytest.raises(ParamError, match=r"properties\.udp_addresses"):
            lima_of(site).acquire(nb_frames=2)
        taken.close()
        assert lima_of(site).acquire(nb_frames=2, exposure_s=0.01).check().complete


def test_a_conductor_drives_it_when_it_is_announced_as_what_it_knows(tmp_path):
    with JungfrauSite(tmp_path / "site", 2, announce_as="Simulator") as site:
        site.deployment.write(tmp_path / "deployment")
        host = site.database.tango_host
        # The first time there is much to start, and only our client asks again.
        lima_of(site).acquire(nb_frames=2, exposure_s=0.01).check()
        with Lab(tmp_path, host, tmp_path / "deployment", servers=site.servers) as lab:
            patient = {name.removeprefix("acquisition."): value for name, value in PATIENT.items()}
            changes = {"acq.nb_frames": 12, "det.readout_rows": ROWS, **patient}
            tree = lab.acquisition(changes)
            lab.acquire(tree, lab.saving(tmp_path, {"saving.filename_prefix": "conducted"}))

            master = tmp_path / "conducted_frame_master.h5"
            with h5py.File(next(iter(tmp_path.glob("conducted*master.h5")), master)) as file:
                data = file[f"{NODE}/data"][()]
    assert data.shape[0] == 12
    assert all(np.array_equal(np.squeeze(data[idx]), numbered(idx, 1, ROWS)) for idx in range(12))
