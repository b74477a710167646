"""An emulated JUNGFRAU with real servers and sockets, driven by the client."""

import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np

from camera_plugins.jungfrau.emulator import numbered_image
from client import Lima2
from tango_servers.deployment import Deployment, DeviceEntry, ServerEntry, load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.processes import free_udp_addresses
from tango_servers.local.servers import ServerGroup

CONTROL = "id00/limacontrol/jungfrau"
PATIENT = {"acquisition.det.frame_timeout_ms": 10_000, "acquisition.det.silence_ms": 10_000}
"""No pause of the emulator is taken for the end of a frame, or of a run. What is lost is known once
the frame after the next one comes, so those of the end must not be."""


def deployment(receivers, *, modules=1, interfaces=1, **properties):
    """One server for the control and one for each receiver."""
    common = {
        "modules": (str(modules),),
        "interfaces": (str(interfaces),),
        "udp_addresses": (free_udp_addresses(receivers, modules * interfaces),),
        **{name: (value,) for name, value in properties.items() if name != "announce_as"},
    }
    names = [f"id00/limareceiver/jungfrau{number + 1}" for number in range(receivers)]
    control = {**common, "receivers": tuple(names)}
    if "announce_as" in properties:
        control["announce_as"] = (properties["announce_as"],)
    entries = [(CONTROL, "LimaJungfrauControl", control, "jungfrau_ctl")]
    entries += [
        (name, "LimaJungfrauReceiver", common, f"jungfrau_rcv{number + 1}")
        for number, name in enumerate(names)
    ]
    return Deployment(
        "jungfrau",
        tuple(
            ServerEntry("lima2_tango", instance, (DeviceEntry(name, class_name, values),))
            for name, class_name, values, instance in entries
        ),
    )


class Played:
    """What is left of a run whose servers have ended."""

    def __init__(self, run):
        self.ledger = run.ledger
        self._frames = list(run.frames())

    def frames(self):
        return self._frames


class JungfrauSite:
    """Database and servers of one detector."""

    def __init__(self, folder: Path, receivers=2, **options):
        self.folder = folder
        self.deployment = deployment(receivers, **options)
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with self._stack as stack:
            self.database = stack.enter_context(EmbeddedDatabase(self.folder, self.deployment))
            self.servers = stack.enter_context(
                ServerGroup(self.folder / "logs", self.database.tango_host, self.deployment)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        self._stack.close()

    @property
    def device(self):
        return f"tango://{self.database.tango_host}/{CONTROL}"

    def kill_emulator(self):
        """End the emulated detector as a crash does."""
        server = self.servers.pid("jungfrau_ctl")
        children = Path(f"/proc/{server}/task").glob("*/children")
        for pid in " ".join(path.read_text() for path in children).split():
            if b"jungfrau.emulator.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
                return
        raise LookupError("there is no emulated detector")

    def play(self, file, changes, nb_frames):
        """Play a file through a system with the camera Reader; the run when it has ended."""
        folder = self.folder / "reader"
        deployment = load_deployment("reader_2")
        servers = tuple(server for server in deployment.servers if "rcv2" not in server.instance)
        control = servers[0].devices[0]
        receivers = {"receivers": ("id00/limareceiver/reader1",)}
        alone = DeviceEntry(control.name, control.class_name, receivers)
        servers = (replace(servers[0], devices=(alone,)), *servers[1:])
        deployment = replace(deployment, servers=servers)
        with contextlib.ExitStack() as stack:
            database = stack.enter_context(EmbeddedDatabase(folder, deployment))
            stack.enter_context(ServerGroup(folder / "logs", database.tango_host, deployment))
            lima = Lima2(f"tango://{database.tango_host}/{control.name}")
            source = {"acquisition.det.file": f"{file}::/entry_0000/instrument/detector/data"}
            return Played(lima.acquire({**source, **changes}, nb_frames=nb_frames))

    def client(self, changes=None):
        lima = Lima2(self.device)
        lima.params.reset()
        lima.params.update({"acquisition.acq.latency_time": 0, **PATIENT, **(changes or {})})
        return lima


def numbered(idx, modules, rows=512):
    """The stack of all modules of a numbered frame.

    Shapes: (modules * rows, 1024).
    """
    first = (512 - rows) // 2
    return np.concatenate(
        [numbered_image(idx, module)[first : first + rows] for module in range(modules)]
    )
