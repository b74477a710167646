"""Whole systems in one process: a coordinator with scripted parts, or with real services."""

import time
from contextlib import ExitStack

import numpy as np

from lima2_core import registry
from lima2_core.camera.api import CameraEnv
from lima2_core.camera.dispatch import Share
from lima2_core.data.frame import Validity
from lima2_core.ids import ReceiverIdx
from lima2_core.service.control import ControlService
from lima2_core.service.link import FanOut
from lima2_core.service.receiver import ReceiverService, ReceiverSettings
from lima2_core.state.device import AcqState
from lima2_core.state.system import Phase
from lima2_core.system.coordinator import Coordinator
from lima2_core.system.ledger import OPEN
from lima2_core.system.local import LocalControl, LocalReceiver
from lima2_core.system.run import SystemOrder
from lima2_core.testing.doubles import LIMIT_S, eventually
from lima2_core.testing.system_doubles import ScriptedControl, ScriptedReceiver
from lima2_core.testing.system_script import describe, order, rows

ENDED = (Phase.DONE, Phase.INCOMPLETE)
IDLE, PREPARED, RUNNING, FAULT = (
    AcqState.IDLE,
    AcqState.PREPARED,
    AcqState.RUNNING,
    AcqState.FAULT,
)


def codes(ledger, total):
    """The class of each frame; None where it is open."""
    listed = ledger.entries(0, total).code.tolist()
    return [None if code == OPEN else Validity(code).name for code in listed]


def counts(ledger):
    """How many frames each class has, by its name."""
    return {code.name: count for code, count in ledger.summary().counts.items()}


def comes_to(run, *phases, timeout_s=LIMIT_S):
    """Whether a run comes to one of these phases; its ledger adds up all the way."""

    def there():
        assert run.ledger.summary().adds_up
        return run.phase in phases

    return eventually(there, timeout_s)


def records(cursor, count):
    """What a cursor gives, once it is so much: books are settled before records are merged."""
    pieces = []

    def there():
        pieces.append(cursor.read())
        return sum(map(len, pieces)) >= count

    assert eventually(there)
    return np.concatenate(pieces)


class Timer:
    """How long something takes."""

    def __enter__(self):
        self._began_s = time.monotonic()
        return self

    def __exit__(self, *error):
        self.took_s = time.monotonic() - self._began_s


class Scripted:
    """A coordinator whose parts are in the hands of the test."""

    def __init__(self, n=2, *, outputs=(), ends_at_stop=True, strips=(), **description):
        self.control = ScriptedControl()
        strips = strips or [None] * n
        self.receivers = [
            ScriptedReceiver(f"r{k}", describe(strip=strip, **description), ends_at_stop)
            for k, strip in enumerate(strips)
        ]
        self.given = list(outputs)
        self.events = []
        """What the coordinator told."""
        self.coordinator = Coordinator(
            self.control, self.receivers, lambda: tuple(self.given), tell=self.events.append
        )

    @property
    def state(self):
        return self.coordinator.state

    def prepare(self, order):
        return self.coordinator.prepare(order)

    def begin(self, order):
        """Prepare and start; the run."""
        run = self.coordinator.prepare(order)
        self.coordinator.start()
        return run

    def expose(self, frames):
        """Let the detector say that it has exposed so many frames."""
        self.control.exposed = frames

    def finish(self, *receivers):
        """Let receivers end well; all if none is named."""
        for k in receivers or range(len(self.receivers)):
            self.receivers[k].run.finish()

    def let_go(self):
        """End all that hangs."""
        for part in (self.control, *self.receivers):
            part.manners.let_go()
            part.manners.silent = part.manners.dead = False
        for output in self.given:
            output.let_go()

    def close(self):
        self.let_go()
        if self.state is not AcqState.TERMINATE:
            self.coordinator.close()


class Simulated:
    """A coordinator of the simulated detector, with real services and no Tango."""

    def __init__(
        self, n=2, *, outputs=(), plugin=None, rows=8, cols=8, workers=2, memory_bytes=2**26
    ):
        plugin = plugin or registry.load(registry.CAMERAS, "Simulator")
        env = CameraEnv({"rows": str(rows), "cols": str(cols)})
        settings = ReceiverSettings(workers, memory_bytes)
        with ExitStack() as stack:
            self.receivers = []
            for k in range(n):
                share = Share(ReceiverIdx(k), n)
                service = ReceiverService(f"r{k}", plugin, env, lambda share=share: share, settings)
                stack.callback(self._close_receiver, service)
                self.receivers.append(service)
            link = FanOut({r.name: r.deliver for r in self.receivers}, lambda name, error: None)
            stack.callback(link.close)
            self.control = ControlService("control", plugin, env, link, lambda: n)
            stack.callback(self.control.close)
            self.given = list(outputs)
            self.coordinator = Coordinator(
                LocalControl(self.control),
                [LocalReceiver(service) for service in self.receivers],
                lambda: tuple(self.given),
            )
            stack.callback(self.coordinator.close)
            self._stack = stack.pop_all()

    @staticmethod
    def _close_receiver(service):
        service.close(LIMIT_S)

    def begin(self, order):
        """Prepare and start; the run."""
        run = self.coordinator.prepare(order)
        self.coordinator.start()
        return run

    def acquire(self, order):
        """A whole acquisition; the run, at its end."""
        run = self.begin(order)
        assert comes_to(run, *ENDED)
        return run

    def close(self):
        for output in self.given:
            output.let_go()
        self._stack.close()


def works(system, nb_frames=4):
    """Whether a whole acquisition succeeds."""
    run = system.begin(order(nb_frames))
    n = len(system.receivers)
    for k, receiver in enumerate(system.receivers):
        receiver.run.tell(rows(*range(k, nb_frames, n)))
    system.expose(nb_frames)
    system.finish()
    return comes_to(run, Phase.DONE) and run.verdict() == f"all {nb_frames} frames are valid"


def acquisition(nb_frames=20, expo_us=500, acq=None, det=None, policy=None, **processing):
    """An acquisition with the simulated detector and the classic pipeline."""
    tree = {"nb_frames": nb_frames, "expo_time": expo_us, "latency_time": 0, **(acq or {})}
    deferred = processing.pop("deferred", False)
    return SystemOrder(
        {"acq": tree, "det": det or {}},
        {"class_name": "LimaProcessingLegacy", **processing},
        **({"policy": policy} if policy is not None else {}),
        deferred=deferred,
    )


def regions(n=1):
    """Statistics of some regions."""
    rects = [
        {"topleft": {"x": k % 4, "y": 1}, "dimensions": {"x": 4, "y": 4 + k % 3}} for k in range(n)
    ]
    return {"enabled": True, "rect_rois": rects}


def saving(folder, **changed):
    """Where processed frames go."""
    return {
        "enabled": True,
        "base_path": str(folder),
        "nb_frames_per_file": 10,
        "file_exists_policy": "overwrite",
        **changed,
    }
