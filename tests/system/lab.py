"""A whole system of child processes: database, servers and conductor, driven as a user would."""

import contextlib
import json
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  the filters of the frames
import numpy as np
from lima2.client import services
from lima2.common.exceptions import Lima2LookupError

from tango_servers.deployment import load_deployment
from tango_servers.local.conductor import Conductor
from tango_servers.local.processes import LOOPBACK
from tango_servers.local.servers import ServerGroup
from tests.tango.devices import System, changed, wait_until

SMALL = {"topleft": {"x": 1000, "y": 1010}, "dimensions": {"x": 48, "y": 32}}
LEGACY, FAILING = "LimaProcessingLegacy", "LimaProcessingFailing"
GUARD_S = 20.0
"""For what has no limit of its own; it costs nothing where all is well."""


class Lab:
    """The servers of a deployment with a conductor; `System` is the way around the conductor.

    With ``servers`` that run already, it brings a conductor of its own only.
    """

    def __init__(
        self,
        folder,
        tango_host,
        deployment="round_robin_2",
        *,
        topology="",
        mpi=False,
        servers=None,
    ):
        self.folder = folder
        self.tango_host = tango_host
        self.deployment = load_deployment(deployment)
        self.own = servers is None
        self.servers = servers or ServerGroup(
            folder / "servers", tango_host, self.deployment, mpi=mpi
        )
        self.conductor = Conductor(
            folder,
            tango_host,
            topology=topology or self.deployment.topology,
            control=self.deployment.control.name,
            receivers=self.deployment.receivers,
        )
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with self._stack:
            if self.own:
                self._stack.enter_context(self.servers)
            self._stack.enter_context(self.conductor)
            self.client = services.init(LOOPBACK, self.conductor.port)
            self.system = System(
                self.tango_host, self.deployment.control.name, self.deployment.receivers
            )
            self.wait_operational()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error):
        self.client.session.session.close()
        self._stack.close()

    def renew_conductor(self):
        """Start the conductor afresh.

        After a crash during a run with saving, its master file waits for the dead receiver for
        ever, and it may lose events at the time when it gives that run up.
        """
        self.conductor.start()
        self.wait_operational()

    def wait_operational(self):
        wait_until(self.client.operational, "all devices known to the conductor", GUARD_S)

    # Parameters

    def acquisition(self, changes=None):
        """Default acquisition parameters of the conductor with changes; a small image."""
        _, tree = self.client.acquisition.default_params()
        fast = {"acq.expo_time": 1000, "acq.latency_time": 0}
        if "generator" in tree["det"]:
            fast |= {"img.roi": SMALL, "det.generator.gauss.grow_factor": 0.1}
        return changed(tree, fast | (changes or {}))

    def processing(self, class_name=LEGACY, changes=None):
        """Default processing parameters of the conductor with changes."""
        return changed(self.client.pipeline.default_params(class_name), changes or {})

    def saving(self, folder, changes=None):
        """Parameters of the classic pipeline that save into ``folder``."""
        on = {"saving.enabled": True, "saving.base_path": str(folder)}
        return self.processing(LEGACY, on | (changes or {}))

    # Acquisitions

    def prepare(self, acquisition=None, processing=None):
        """Prepare, with the same acquisition parameters for control and receivers."""
        tree = self.acquisition() if acquisition is None else acquisition
        proc = self.processing() if processing is None else processing
        return self.client.acquisition.prepare(control=tree, receiver=tree, processing=proc)

    def start(self):
        self.client.acquisition.start()

    def acquire(self, acquisition=None, processing=None, timeout_s=GUARD_S):
        """A whole acquisition, to its end; it must be a success without a warning."""
        acq_id = self.prepare(acquisition, processing)
        self.start()
        self.wait_end(timeout_s)
        result = self.client.acquisition.result()
        assert isinstance(result, services.AcquisitionSuccess), result
        assert result.warnings == []
        return acq_id

    def running(self):
        return self.client.session.get("/acquisition/running").json()

    def wait_end(self, timeout_s=GUARD_S):
        """Wait until the conductor has done with the acquisition, well or not."""
        wait_until(lambda: not self.running(), "the end of the acquisition", timeout_s)

    def wait_known(self, idx, timeout_s=GUARD_S):
        """Wait until the conductor knows where frame ``idx`` is."""

        def known():
            with contextlib.suppress(Lima2LookupError):
                return self.client.session.get(f"/pipeline/current/lookup/frame/{idx}").json()

        return wait_until(known, f"frame {idx}", timeout_s)

    def wait_failed(self, timeout_s=GUARD_S):
        wait_until(self.client.acquisition.failed, "a failure", timeout_s)

    def failure(self):
        """The failure that the conductor reports."""
        result = self.client.acquisition.result()
        assert isinstance(result, services.AcquisitionFailure), result
        return result

    def state(self):
        """The state of the whole system by its devices."""
        return self.client.system_state()["state"]

    def recover(self):
        """Bring the system to rest, whatever a test has left."""
        if self.running():
            self.system.stop()
        wait_until(lambda: self.state() != "RUNNING", "the end of all frames", GUARD_S)
        self.client.acquisition.reset()
        assert self.state() == "IDLE"

    # Data

    def frame(self, idx, source="frame"):
        """A frame by its index in the acquisition, from file or memory."""
        frame = self.client.pipeline.get_frame(idx, source)
        assert frame.idx == idx or idx == -1
        return frame.data

    def reduced(self, name, channel):
        """All records of a channel, to the end of the acquisition."""
        return np.concatenate(list(self.client.pipeline.reduced_data(name, channel)))

    def counters(self, acq_id):
        """Counters of all receivers."""
        names = [self.system.processing_name(acq_id, n) for n in range(len(self.system.receivers))]
        return [json.loads(self.system.proxy(name).progress_counters) for name in names]


def expected(idx, prefetch=16):
    """Maximum of a frame of the growing peak."""
    return round(100 * (1 + 0.1 * (idx % prefetch)))


def saved_frames(folder, receiver, prefix="lima2"):
    """All rows of a receiver, with the validity of each, from its files."""
    frames, validity = [], []
    for path in sorted(Path(folder).glob(f"{prefix}_{receiver}_*.h5")):
        with h5py.File(path, "r") as file:
            detector = file["entry_0000/instrument/detector"]
            frames += list(detector["data"][()])
            validity += detector["validity"][()].tolist()
    return frames, validity
