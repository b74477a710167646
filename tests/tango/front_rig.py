"""Drive a whole system through its front, as a panel or a script would."""

import json

import numpy as np
import tango
from lima2.common.devencoded import data_array

from lima2_core.data.news import unpack
from tests.tango.devices import PATIENCE_S, wait_until

SMALL = [1000, 1010, 48, 32]
RESTING = ("idle", "fault")
ENDED = ("done", "incomplete", "discarded")


class FrontRun:
    """One run of the system by its device."""

    def __init__(self, device):
        self.device = device

    @property
    def phase(self):
        return self.device.phase.name

    def wait(self, *phases, timeout_s=PATIENCE_S):
        """Wait until the run is in one of ``phases``, and give it."""
        return wait_until(
            lambda: self.phase in phases and self.phase, f"one of {phases}", timeout_s
        )

    def wait_ended(self, timeout_s=PATIENCE_S):
        return self.wait(*ENDED, timeout_s=timeout_s)

    def image(self, idx):
        """A frame as readers of Lima's images get it: two dimensions."""
        format_name, block = self.device.readImage(idx)
        assert format_name == "DATA_ARRAY"
        assert int.from_bytes(block[18:20], "little") == 2
        cols, rows = np.frombuffer(block, "<u2", 2, 20)
        assert idx in (-1, int.from_bytes(block[56:64], "little"))
        return np.frombuffer(block, np.uint8, offset=64).reshape(rows, cols)

    def frame(self, asked):
        return data_array.decode(self.device.getFrame(asked))

    def counts(self):
        """Frames by class."""
        return json.loads(self.device.ledger_counts)

    def ledger(self, first=0, last=-1):
        _, block = self.device.readLedger([first, last])
        return unpack(block)

    def read(self, cursor):
        """New records of a cursor, and what is told about them."""
        _, block = self.device.readCursor(cursor)
        tree, arrays = unpack(block)
        return tree, arrays["records"]


class FrontRig:
    """The front of a system, with small images that come fast."""

    def __init__(self, tango_host, control):
        self.tango_host = tango_host
        self.control = self.proxy(control)

    def proxy(self, name):
        return tango.DeviceProxy(f"tango://{self.tango_host}/{name}")

    def set(self, **values):
        """Write attributes."""
        for name, value in values.items():
            setattr(self.control, name, value)

    def defaults(self, nb_frames=10, **values):
        """Default parameters but for small, fast and growing images."""
        self.set(front_params="{}")
        self.change({"acquisition.det.generator.gauss.grow_factor": 0.1})
        self.set(
            acq_nb_frames=nb_frames,
            acq_expo_time=0.001,
            latency_time=0.0,
            image_roi=SMALL,
            image_max_size=512,
            image_band=0,
            **values,
        )

    def params(self):
        return json.loads(self.control.front_params)

    def change(self, values):
        """Change leaves of the parameters that have no attribute of their own."""
        tree = self.params()
        for path, value in values.items():
            *groups, leaf = path.split(".")
            place = tree
            for group in groups:
                place = place[group]
            place[leaf] = value
        self.set(front_params=json.dumps(tree))

    def run(self, acq_id):
        domain = self.control.dev_name().split("/")[0]
        return FrontRun(self.proxy(f"{domain}/limarun/{acq_id}"))

    def prepare(self):
        return self.run(self.control.prepareAcq())

    def acquire(self, timeout_s=PATIENCE_S):
        """A whole acquisition, to its end."""
        run = self.run(self.control.acquire())
        run.wait_ended(timeout_s)
        return run

    @property
    def state(self):
        return self.control.front_state.name

    def wait_state(self, *states, timeout_s=PATIENCE_S):
        wait_until(lambda: self.state in states, f"one of {states}", timeout_s)

    def clear(self):
        """Bring everything to rest, and forget all runs."""
        self.control.resetAcq()
        for acq_id in self.control.runs or ():
            self.run(acq_id).wait_ended()
            self.control.eraseRun(acq_id)
