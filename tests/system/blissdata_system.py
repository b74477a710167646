"""Two receivers and their coordinator in one process, with what it takes to publish their runs.

As a program it is a server of one Tango device, without a database, that gives the frames of the
run prepared last: ``python blissdata_system.py PORT SETTINGS``.
"""

import contextlib
import json
import sys

import tango
from tango.server import Device, attribute, command, run

from lima2_core import registry
from lima2_core.camera.api import CameraEnv
from lima2_core.camera.dispatch import Share
from lima2_core.data.encoding import DATA_ARRAY, encode_image2d
from lima2_core.service.control import ControlService
from lima2_core.service.link import FanOut
from lima2_core.service.receiver import ReceiverService, ReceiverSettings
from lima2_core.state.system import Phase
from lima2_core.system.coordinator import Coordinator
from lima2_core.system.images import frame_of
from lima2_core.system.local import LocalControl, LocalReceiver
from lima2_core.system.run import SystemOrder
from processing.outputs.blissdata_publisher import stop_publishers

SIDE = 64
ROI = {"topleft": {"x": 0, "y": 0}, "dimensions": {"x": SIDE, "y": SIDE}}
DEVICE = "test/run/1"
ENDED = (Phase.DONE, Phase.INCOMPLETE)


class PublishedSystem(contextlib.ExitStack):
    """A small simulated system whose runs have a master and are published.

    Each image is the same and different from zero; frame 3 is lost.
    """

    def __init__(self, settings, device_of=str, receivers=2):
        super().__init__()
        plugin = registry.load(registry.CAMERAS, "Simulator")
        env = CameraEnv({"rows": str(SIDE), "cols": str(SIDE)})
        self.receivers = [
            ReceiverService(
                f"receiver{n}",
                plugin,
                env,
                lambda n=n: Share(n, receivers),
                ReceiverSettings(2, 2**28),
            )
            for n in range(receivers)
        ]
        self.link = FanOut({r.name: r.deliver for r in self.receivers}, lambda *lost: None)
        self.control = ControlService("control", plugin, env, self.link, lambda: receivers)
        plugins = [registry.load(registry.OUTPUTS, name) for name in ("master", "blissdata")]
        self.coordinator = Coordinator(
            LocalControl(self.control),
            [LocalReceiver(receiver) for receiver in self.receivers],
            lambda: [made for one in plugins if (made := one.make(settings)) is not None],
            device_of,
        )
        plugins[1].make(settings)  # as servers do at their start
        self.callback(stop_publishers)
        self.callback(self.link.close)
        for receiver in self.receivers:
            self.callback(receiver.close)
        self.callback(self.control.close)
        self.callback(self.coordinator.close)

    def begin(
        self,
        *,
        nb_frames,
        expo_us,
        folder="",
        prefix="scan",
        profiles=False,
        mode="round_robin",
        sums_of=1,
        bands=1,
        burst=0,
        deferred=False,
    ):
        """Start an acquisition.

        With ``burst`` so many frames come at once, and the others only after `go_on`; if it is
        ``deferred``, none is processed before `process`.
        """
        triggers = {"trigger_mode": "software", "nb_frames_per_trigger": burst} if burst else {}
        acquisition = {
            "acq": {
                "nb_frames": nb_frames,
                "expo_time": expo_us,
                "latency_time": 0,
                **triggers,
            },
            "det": {
                "dispatch_mode": mode,
                "dropped_frame_idx": 3,
                "generator": {
                    "gauss": {"peaks": [{"x0": 9, "y0": 9, "fwhm": 9, "max": 100}]},
                    "nb_channels": bands,
                },
            },
        }
        processing = {
            "class_name": "LimaProcessingLegacy",
            "accumulation": {"enabled": sums_of > 1, "nb_frames": sums_of},
            "statistics": {"enabled": True, "rect_rois": [ROI]},
            "profiles": {
                "enabled": profiles,
                "rois": [ROI] if profiles else [],
                "directions": ["horizontal"] if profiles else [],
            },
            "saving": {
                "enabled": bool(folder),
                "base_path": str(folder),
                "filename_prefix": prefix,
                "nb_frames_per_file": 10,
            },
        }
        order = SystemOrder(acquisition, processing, deferred=deferred)
        system_run = self.coordinator.prepare(order)
        self.coordinator.start()
        if burst:
            self.go_on()
        return system_run

    def go_on(self):
        """Let the next burst of frames come."""
        self.coordinator.trigger()

    def process(self, system_run):
        """Begin to process a deferred run."""
        self.coordinator.process(system_run.acq_id)

    def trouble(self, system_run):
        """What the outputs of a run complain about."""
        outputs = self.coordinator.outputs(system_run.acq_id)
        return "; ".join(output.trouble for output in outputs if output.trouble)

    def image(self, system_run, idx):
        """A frame, or one of nothing where it is missing."""
        return frame_of(system_run, "frame", idx).data[0]


class RunDevice(Device):
    """Gives the frames of the run prepared last."""

    def init_device(self):
        super().init_device()
        self.system = PublishedSystem(json.loads(sys.argv[2]), lambda acq_id: own_name())
        self.run = None

    def delete_device(self):
        self.system.close()

    @command(dtype_in=str)
    def Begin(self, order):  # noqa: N802
        self.run = self.system.begin(**json.loads(order))

    @command
    def GoOn(self):  # noqa: N802
        self.system.go_on()

    @attribute(dtype=bool)
    def ended(self):
        return self.run.phase in ENDED

    @attribute(dtype=str)
    def acq_mode(self):
        return "SINGLE"

    @attribute(dtype=str)
    def acq_trigger_mode(self):
        return "EXTERNAL_TRIGGER"

    @command(dtype_in="DevLong", dtype_out="DevEncoded")
    def readImage(self, idx):  # noqa: N802  Lima's name
        if idx < 0:
            idx += self.run.view.accessible("frame")
        return DATA_ARRAY, encode_image2d(self.system.image(self.run, idx), idx)


def device_name(port):
    """Name of the device for readers, without a database."""
    return f"tango://127.0.0.1:{port}/{DEVICE}#dbase=no"


def own_name():
    return device_name(sys.argv[1])


def answers(port):
    """Whether the device is there."""
    try:
        tango.DeviceProxy(device_name(port)).ping()
    except tango.DevFailed:
        return False
    return True


if __name__ == "__main__":
    endpoint = ("-ORBendPoint", f"giop:tcp:127.0.0.1:{sys.argv[1]}")
    run((RunDevice,), ["RunDevice", "test", "-nodb", "-dlist", DEVICE, *endpoint])
