"""Files of this suite are played as they were taken: gaps, marks, and what the camera told."""

import h5py
import numpy as np
import pytest

from camera_plugins.reader.plugin import PLUGIN
from lima2_core.camera.api import CameraEnv, SourceRequest
from lima2_core.camera.dispatch import Share
from lima2_core.data.fields import fields_dtype
from lima2_core.data.frame import Frame, FrameSpec, Gap, Validity
from lima2_core.data.memory import PoolSet
from lima2_core.errors import CameraError, EndOfFrames, ParamError
from lima2_core.flow.sink import Row
from lima2_core.ids import AcqId, ReceiverIdx
from lima2_core.testing.fake_camera import FIELDS, told_of
from lima2_core.testing.fakes import DirectLink
from processing.codecs import EncodedChunk
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5 import Hdf5Sink

DETECTOR = "entry_0000/instrument/detector"
SPEC = FrameSpec((1, 3, 4), np.dtype("u2"))
VALID, PARTIAL, DROPPED = Validity.VALID, Validity.PARTIAL, Validity.DROPPED


def record(folder, *codes, fields=FIELDS, per_file=50, prefix="raw"):
    """Files of this suite, with a row for each code; row n holds n everywhere."""
    params = SavingParams(
        enabled=True,
        base_path=str(folder),
        filename_prefix=prefix,
        compression="none",
        nb_frames_per_file=per_file,
    )
    sink = Hdf5Sink(params, SPEC, FileMetadata(AcqId("made")), fields=fields)
    sink.open()
    for n, code in enumerate(codes):
        data = np.full(SPEC.shape, n, SPEC.dtype)
        chunk = EncodedChunk(data, code, fields=told_of(n) if fields else None)
        there = code in (VALID, PARTIAL)
        sink.write([Row(n, n, chunk if there else Gap(n, code))])
    sink.close()
    return params.path(0)


def play(n_receivers=1, nb_frames=0, **det):
    """The sources of a run and all that each gave."""
    tree = {"acq": {"nb_frames": nb_frames}, "det": {"as_fast_as_possible": True, **det}}
    params = PLUGIN.params.from_tree(tree)
    link, pools = DirectLink(), PoolSet(2**24)
    control = PLUGIN.make_control(CameraEnv(), link)
    for number in range(n_receivers):
        request = SourceRequest(AcqId("again"), params, Share(ReceiverIdx(number), n_receivers))
        source = PLUGIN.make_receiver(CameraEnv()).source(request)
        source.resolve()
        source.open(pools)
        link.sources.append(source)
    control.prepare(AcqId("again"), params, n_receivers)
    control.start()
    played = []
    for source in link.sources:
        items = []
        try:
            while True:
                items += source.next_frames(1.0)
        except EndOfFrames:
            source.close()
        finally:
            source.close()
        played.append((source, items))
    return played


def classes(items):
    return [item.cause if isinstance(item, Gap) else item.validity for item in items]


@pytest.mark.parametrize(
    "dataset", ["entry_0000/measurement/data", f"{DETECTOR}/data", f"{DETECTOR}/plot/data"]
)
def test_rows_come_again_as_they_were(tmp_path, dataset):
    codes = [VALID, DROPPED, PARTIAL, Validity.OVERRUN, VALID]
    path = record(tmp_path, *codes)

    ((source, items),) = play(file=f"{path}::{dataset}")

    assert classes(items) == codes
    assert [item.idx for item in items] == [0, 1, 2, 3, 4]
    assert source.frame_fields == FIELDS
    for n, item in enumerate(items):
        if isinstance(item, Frame):
            assert item.data.max() == n
            assert item.fields.dtype == fields_dtype(FIELDS)
            assert item.fields == told_of(n)
    assert isinstance(items[1], Gap)
    assert "missing in the file" in items[1].detail


def test_each_receiver_plays_its_share_of_a_series(tmp_path):
    codes = [VALID, DROPPED, VALID, VALID, PARTIAL, DROPPED, VALID]
    record(tmp_path, *codes, per_file=3)

    played = play(2, base_path=str(tmp_path), filename_prefix="raw", nb_frames_per_file=3)

    (_, even), (_, odd) = played
    assert classes(even) == codes[::2]
    assert classes(odd) == codes[1::2]
    assert even[2].fields["bunch_id"] == 1004
    assert odd[1].fields["bunch_id"] == 1003


def test_missing_frames_are_played_again_by_a_loop(tmp_path):
    path = record(tmp_path, VALID, DROPPED)

    ((_, items),) = play(nb_frames=5, file=str(path), loop=True)

    assert classes(items) == [VALID, DROPPED, VALID, DROPPED, VALID]


def test_what_is_behind_the_last_flush_before_a_crash_is_missing(tmp_path):
    path = record(tmp_path, VALID, VALID, VALID, fields=())
    with h5py.File(path, "r+") as file:
        file[f"{DETECTOR}/validity"][2] = Validity.CRASH

    ((source, items),) = play(file=str(path))

    assert classes(items) == [VALID, VALID, Validity.CRASH]
    assert source.frame_fields == ()
    assert items[0].fields is None


def test_codes_of_somebody_else_are_not_taken_for_ours(tmp_path):
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((2, 3, 4), "u2")
        file["validity"] = np.array([5, 5], "u1")

    ((_, items),) = play(file=f"{path}::data")

    assert classes(items) == [VALID, VALID]


def test_what_others_added_to_the_group_is_left_alone(tmp_path):
    path = record(tmp_path, VALID, VALID)
    with h5py.File(path, "r+") as file:
        file[f"{DETECTOR}/frame_metadata/note"] = "by hand"
        file[f"{DETECTOR}/frame_metadata/names"] = ["a", "b"]

    ((source, _),) = play(file=str(path))

    assert source.frame_fields == FIELDS


def test_files_that_tell_other_things_are_no_series(tmp_path):
    record(tmp_path, VALID, VALID, VALID, per_file=1)
    (tmp_path / "raw_0_00001.h5").unlink()
    other = record(tmp_path, VALID, fields=(), prefix="other")
    other.rename(tmp_path / "raw_0_00001.h5")

    with pytest.raises((CameraError, ParamError), match="tells of its frames what the first"):
        play(base_path=str(tmp_path), filename_prefix="raw", nb_frames_per_file=1)
