"""What attributes say about what they give, as panels and the reference show it."""

import numpy as np
import pytest

from lima2_core.camera.api import CameraEnv
from lima2_core.data.frame import FrameSpec
from lima2_core.service.control import ControlService
from lima2_core.system.wire import spec_to_tree
from lima2_core.testing.fake_camera import FakeCamera
from tango_servers.control_device import Lima2Control
from tango_servers.processing_device import Lima2Processing
from tango_servers.run_device import Lima2Run

SPEC = FrameSpec((1, 2, 3), np.dtype("u2"))


def doc_of(device, attribute):
    return device.TangoClassClass.attr_list[attribute]._kwargs["doc"]


@pytest.fixture
def control():
    service = ControlService("c", FakeCamera().plugin, CameraEnv(), None, lambda: 1)
    yield service
    service.close()


def test_every_value_about_the_detector_is_told_with_its_unit(control):
    info = doc_of(Lima2Control, "det_info")

    assert all(name in info for name in control.detector_info())
    assert "pixel_size (x = width, y = height, metres)" in info
    assert "dimensions (x = columns, y = rows, pixels)" in info


def test_everything_it_can_do_is_told_with_its_unit(control):
    able = doc_of(Lima2Control, "det_capabilities")

    assert all(name in able for name in control.detector_capabilities())
    assert "nanoseconds" in able


def test_what_frames_are_like_is_told_with_the_layout_of_the_matrix():
    sources = doc_of(Lima2Run, "sources")

    assert all(f"{name} (" in sources or f"{name}," in sources for name in spec_to_tree(SPEC))
    assert len(spec_to_tree(SPEC)["affine"]) == 3
    for text in (sources, doc_of(Lima2Processing, "processed_frame_affine")):
        assert "list of its three rows" in text
        assert "(row, col, 1)" in text
