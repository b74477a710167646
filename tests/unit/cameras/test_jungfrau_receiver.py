"""What a JUNGFRAU receiver says before a run begins."""

import pytest

from camera_plugins.jungfrau import receiver as receiver_module
from camera_plugins.jungfrau.engine import EngineSetup
from camera_plugins.jungfrau.installation import Installation, share_of
from camera_plugins.jungfrau.params import JungfrauParams
from camera_plugins.jungfrau.receiver import JungfrauReceiver
from lima2_core.camera.api import CameraEnv

REFUSED = "normal (fifo 50 refused: Operation not permitted)"


@pytest.fixture
def receiver(monkeypatch):
    """On a computer where nothing else is wrong."""
    monkeypatch.setattr(receiver_module, "warnings", lambda needs: ())
    receiver = JungfrauReceiver(CameraEnv({"modules": "3"}))
    yield receiver
    receiver.close()


def test_what_listeners_did_not_get_is_told_once_with_their_names(receiver, monkeypatch):
    got = (REFUSED, "fifo 50", REFUSED)
    ports = [
        {"name": f"10.1.1.1:{n}", "priority": text, "failed_before": ""}
        for n, text in enumerate(got)
    ]
    monkeypatch.setattr(receiver, "counters", lambda: {"ports": ports})
    setup = EngineSetup.of(Installation.of({"modules": "3"}), JungfrauParams(), share_of(0, 1))

    assert receiver.remarks(setup) == (f"priority of listener 10.1.1.1:0, 10.1.1.1:2: {REFUSED}",)
