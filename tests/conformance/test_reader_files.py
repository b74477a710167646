"""The suite over the camera that plays files, with files of this suite: they tell more."""

from pathlib import Path

import numpy as np
import pytest

from lima2_core import registry
from lima2_core.data.frame import FrameSpec, Gap, Validity
from lima2_core.flow.sink import Row
from lima2_core.ids import AcqId, FrameIdx, LocalIdx
from lima2_core.testing.camera_suite import CameraCase, CameraSuite
from lima2_core.testing.fake_camera import FIELDS, told_of
from processing.codecs import EncodedChunk
from processing.saving import FileMetadata, SavingParams
from processing.sinks.hdf5 import Hdf5Sink

QUICK = {"acq": {"expo_time": 2000, "latency_time": 0}}


def recorded(folder: Path, name: str, gaps: tuple[int, ...] = ()) -> str:
    """A file of this suite, with what a camera told of each frame."""
    params = SavingParams(
        enabled=True, base_path=str(folder), filename_prefix=name, compression="none"
    )
    images = np.arange(10 * 24 * 32, dtype=np.uint16).reshape(10, 1, 24, 32)
    spec = FrameSpec(images.shape[1:], images.dtype)
    sink = Hdf5Sink(params, spec, FileMetadata(AcqId("made")), fields=FIELDS)
    sink.open()
    for n, image in enumerate(images):
        chunk = EncodedChunk(image, fields=told_of(n))
        gap = Gap(FrameIdx(n), Validity.PACKET_LOSS)
        sink.write([Row(LocalIdx(n), FrameIdx(n), gap if n in gaps else chunk)])
    sink.close()
    return str(params.path(0))


class TestReaderOfOurFiles(CameraSuite):
    @pytest.fixture
    def case(self, tmp_path: Path) -> CameraCase:
        whole, lossy = recorded(tmp_path, "whole"), recorded(tmp_path, "lossy", gaps=(2, 5))
        return CameraCase(
            registry.load(registry.CAMERAS, "Reader"),
            tree={**QUICK, "det": {"file": whole, "loop": True}},
            lossy={**QUICK, "det": {"file": lossy}},
        )
