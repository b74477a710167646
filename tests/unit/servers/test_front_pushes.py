"""What the front tells of its parameters must not be taken for what a client is writing."""

from contextlib import contextmanager

import pytest
import tango

from tango_servers.front import Front


class Device:
    """As much of the front as pushes; notes what is done while it is held."""

    EVERYDAY = ("acq_nb_frames",)
    _push = Front._push
    _show_written = Front._show_written

    def __init__(self):
        self.value = 1
        self.held = False
        self.events = []
        self.written = []
        self._pushed = {}

    @contextmanager
    def hold(self):
        self.value += 1  # by a write that was under way
        self.held = True
        yield
        self.held = False

    def get_device_attr(self):
        return self

    def get_w_attr_by_name(self, name):
        return self

    def set_write_value(self, value):
        assert self.held
        self.written.append(value)

    def push_change_event(self, name, value):
        self.events.append((name, value))


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(tango, "AutoTangoMonitor", lambda device: device.hold())
    return Device()


def test_the_value_to_write_is_shown_as_it_is_once_no_write_is_under_way(device):
    device._push("acq_nb_frames", lambda: device.value)

    assert device.written == [2]
    assert device.events == [("acq_nb_frames", 2)]


def test_what_has_not_changed_is_neither_shown_nor_pushed(device):
    device._push("acq_nb_frames", lambda: 7)
    device._push("acq_nb_frames", lambda: 7)

    assert device.written == [7]
    assert device.events == [("acq_nb_frames", 7)]


def test_what_is_only_read_is_pushed_without_holding_the_device(device):
    device._push("frames_received", lambda: device.value)

    assert device.written == []
    assert device.events == [("frames_received", 1)]
