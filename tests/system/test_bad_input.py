"""What cannot be done is refused at prepare, with its path, before anything has been changed."""

import os
import subprocess

import h5py
import numpy as np
import pytest
from lima2.common.exceptions import Lima2BackendError, Lima2ParamError

from tests.system.lab import LEGACY
from tests.tango.devices import FAULT, changed

OUTSIDE = {"topleft": {"x": 48, "y": 0}, "dimensions": {"x": 4, "y": 4}}
INSIDE = {"topleft": {"x": 1, "y": 1}, "dimensions": {"x": 4, "y": 4}}
ARC = {"center": {"x": 9.0, "y": 9.0}, "r1": 1.0, "r2": 5.0, "a1": 0.0, "a2": 90.0}
RIGHT_SHAPE, WRONG_SHAPE = (32, 48), (48, 32)


@pytest.fixture
def folder(lab, tmp_path):
    """A folder for files; nothing may appear in it, and the system stays usable."""
    target = tmp_path / "data"
    target.mkdir()
    yield target
    assert list(target.iterdir()) == []
    assert FAULT not in lab.system.states()
    lab.prepare(None, lab.saving(target))
    assert lab.state() == "PREPARED"
    assert list(target.iterdir()) == []


@pytest.fixture
def calibration(tmp_path):
    """Files that are no calibration of these frames."""
    np.save(tmp_path / "turned.npy", np.ones(WRONG_SHAPE, np.float32))
    np.save(tmp_path / "right.npy", np.ones(RIGHT_SHAPE, np.float32))
    (tmp_path / "text.h5").write_text("This is a list of what to buy.")
    (tmp_path / "text.npy").write_text("Nor is this an image.")
    with h5py.File(tmp_path / "curve.h5", "w") as file:
        file["curve"] = np.arange(9)
    with h5py.File(tmp_path / "image.h5", "w") as file:
        file["image"] = np.ones(RIGHT_SHAPE)
    return tmp_path


# -- refused by the schema, before it leaves the conductor ---------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("acq.nb_frames", -1),
        ("acq.expo_time", 0),
        ("acq.trigger_mode", "sometimes"),
        ("det.generator.pixel_type", "gray64"),
        ("det.nb_prefetch_frames", 0),
    ],
)
def test_acquisition_parameters_out_of_range_are_named(lab, folder, path, value):
    with pytest.raises(Lima2ParamError) as refusal:
        lab.prepare(lab.acquisition({path: value}), lab.saving(folder))

    assert refusal.value.path == f"$.{path}"
    assert path in str(refusal.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("saving.compression", "rar"),
        ("saving.nb_frames_per_file", 0),
        ("fifo.nb_fifo_frames", 0),
        ("accumulation.nb_frames", 0),
        ("profiles.directions", ["diagonal"]),
    ],
)
def test_processing_parameters_out_of_range_are_named(lab, folder, path, value):
    with pytest.raises(Lima2ParamError) as refusal:
        lab.prepare(None, lab.saving(folder, {path: value}))

    assert refusal.value.path.startswith(f"$.{path}")
    assert path in str(refusal.value)


@pytest.mark.parametrize("group", ["acq", "det.generator", "img.roi"])
def test_unknown_acquisition_parameters_are_named(lab, folder, group):
    tree = lab.acquisition()
    place = tree
    for name in group.split("."):
        place = place[name]
    place["nb_frmaes"] = 3

    with pytest.raises(Lima2ParamError, match="nb_frmaes") as refusal:
        lab.prepare(tree, lab.saving(folder))

    assert refusal.value.path == f"$.{group}"


def test_unknown_processing_parameters_are_named(lab, folder):
    tree = lab.saving(folder)
    tree["saving"]["base_pth"] = "/tmp"

    with pytest.raises(Lima2ParamError, match="base_pth") as refusal:
        lab.prepare(None, tree)

    assert refusal.value.path == "$.saving"


# -- refused by the servers ----------------------------------------------------------------------


def refused(lab, acquisition, processing, path, *words):
    """Prepare, and see that the message has the path of the parameter and these words."""
    with pytest.raises(Lima2BackendError) as refusal:
        lab.prepare(acquisition, processing)
    message = str(refusal.value)
    assert f"Reason: {path}: " in message, message
    for word in words:
        assert word in message
    assert "Failed to execute" not in message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("acq.trigger_mode", "gate", ("internal", "software")),
        ("acq.trigger_mode", "external", ("internal", "software")),
        ("acq.expo_time", 20_000_000, ("20 s is outside", "to 10 s")),
        ("acq.latency_time", 2_000_000, ("2 s is outside", "to 1 s")),
        ("acq.nb_frames_per_trigger", 2**33, ("4294967295",)),
        ("accu.nb_frames", 2, ("accumulation of the processing",)),
        ("xfer.slice.stride", 2, ("use 1",)),
    ],
)
def test_what_the_detector_cannot_do_is_refused(lab, folder, path, value, words):
    refused(lab, lab.acquisition({path: value}), lab.saving(folder), path, *words)


@pytest.mark.parametrize(
    ("where", "roi"),
    [
        ("img.roi", {"topleft": {"x": 2040, "y": 0}, "dimensions": {"x": 48, "y": 32}}),
        ("img.roi", {"topleft": {"x": 0, "y": 3000}, "dimensions": {"x": 48, "y": 32}}),
    ],
)
def test_a_region_of_the_detector_outside_of_it_is_refused(lab, folder, where, roi):
    with pytest.raises(Lima2BackendError, match=rf"Reason: {where}.*2048 x 2048"):
        lab.prepare(lab.acquisition({where: roi}), lab.saving(folder))


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        (
            {"statistics": {"enabled": True, "rect_rois": [INSIDE, OUTSIDE], "arc_rois": []}},
            "statistics.rect_rois.1",
        ),
        (
            {
                "statistics": {
                    "enabled": True,
                    "rect_rois": [],
                    "arc_rois": [ARC, ARC | {"r2": 0.5}],
                }
            },
            "statistics.arc_rois.1.r2",
        ),
        (
            {
                "statistics": {
                    "enabled": True,
                    "rect_rois": [],
                    "arc_rois": [ARC | {"a2": -90.0}],
                }
            },
            "statistics.arc_rois.0.a2",
        ),
        (
            {"profiles": {"enabled": True, "rois": [OUTSIDE], "directions": ["vertical"]}},
            "profiles.rois.0",
        ),
        (
            {"profiles": {"enabled": True, "rois": [INSIDE], "directions": []}},
            "profiles.directions",
        ),
        ({"geometry.roi": OUTSIDE}, "geometry.roi"),
        ({"geometry.binning": {"x": 49, "y": 1}}, "geometry.binning"),
    ],
)
def test_regions_outside_of_the_image_are_refused(lab, folder, changes, path):
    with pytest.raises(Lima2BackendError, match=f"Reason: {path}"):
        lab.prepare(None, lab.saving(folder, changes))


@pytest.mark.parametrize("group", ["mask", "flatfield", "background"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.h5", ("there is no file",)),
        ("turned.npy", ("(48, 32)", "(32, 48)")),
        ("text.h5", ()),
        ("text.npy", ()),
        ("curve.h5", ()),
        ("image.h5::/wrong", ("/wrong",)),
        ("", ("no file is given",)),
    ],
)
def test_a_missing_or_wrong_calibration_file_is_refused(
    lab, folder, calibration, group, name, words
):
    path = str(calibration / name) if name else ""
    processing = lab.saving(folder, {group: {"enabled": True, "path": path}})

    refused(lab, None, processing, f"{group}.path", *words, path.partition("::")[0])


def test_a_right_calibration_file_is_taken(lab, folder, calibration):
    for name in ("right.npy", "image.h5::/image", "image.h5"):
        flat = {"flatfield": {"enabled": True, "path": str(calibration / name)}}
        lab.acquire(lab.acquisition({"acq.nb_frames": 4}), lab.processing(LEGACY, flat))


@pytest.fixture
def read_only(tmp_path):
    """A folder where nobody may write, root neither."""
    target = tmp_path / "read-only"
    target.mkdir()
    if os.geteuid() != 0:
        target.chmod(0o555)
        yield target
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(target)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"root may write everywhere, and cannot mount: {done.stderr.strip()}")
    yield target
    subprocess.run(["umount", "--lazy", str(target)], check=True)


def test_an_unwritable_folder_is_refused(lab, folder, read_only):
    refused(lab, None, lab.saving(read_only), "saving.base_path", str(read_only), "may not write")


@pytest.mark.parametrize(
    ("base_path", "words"),
    [
        ("/nowhere/at/all", ("does not exist",)),
        ("/etc/passwd", ("is a file",)),
        ("relative/folder", ("absolute path",)),
    ],
)
def test_a_folder_that_is_none_is_refused(lab, folder, base_path, words):
    refused(lab, None, lab.saving(base_path), "saving.base_path", *words)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("filename_prefix", "../elsewhere"),
        ("filename_prefix", ""),
        ("start_number", 3),
        ("file_exists_policy", "append"),
        ("nx_entry_name", "a/b"),
        ("nx_detector_name", ""),
    ],
)
def test_names_that_readers_would_not_find_are_refused(lab, folder, name, value):
    refused(lab, None, lab.saving(folder, {f"saving.{name}": value}), f"saving.{name}")


def test_an_existing_file_is_not_overwritten_unasked(lab, folder, tmp_path):
    earlier = tmp_path / "lima2_1_00007.h5"
    earlier.write_bytes(b"precious")

    refused(lab, None, lab.saving(tmp_path), "saving.file_exists_policy", str(earlier), "overwrite")

    assert earlier.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "lima2_1_00007.h5"]


def test_input_and_processed_frames_cannot_share_files(lab, folder):
    same = {
        "saving_input.enabled": True,
        "saving_input.base_path": str(folder),
        "saving_input.filename_prefix": "lima2",
    }

    refused(lab, None, lab.saving(folder, same), "saving.filename_prefix", "saving_input")


def test_a_program_that_is_not_allowed_is_not_run(lab, folder, tmp_path):
    witness = tmp_path / "witness"
    protection = {
        "enabled": True,
        "command": "/usr/bin/touch",
        "args": [str(witness)],
        "max_countrate": 1,
    }
    processing = changed(
        lab.saving(folder),
        {f"max_countrate_protection.{key}": value for key, value in protection.items()},
    )

    refused(lab, None, processing, "max_countrate_protection.command", "allowed_commands")

    assert not witness.exists()


def test_more_frames_in_memory_than_there_is_are_refused(lab, folder):
    whole = {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": 0, "y": 0}}
    tree = lab.acquisition(
        {"img.roi": whole, "det.generator.pixel_type": "gray64f", "det.nb_prefetch_frames": 100_000}
    )

    # The buffers are found missing in the command itself, from where no text reaches the client.
    with pytest.raises(Lima2BackendError):
        lab.prepare(tree, lab.saving(folder))
