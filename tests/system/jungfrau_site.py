"""An emulated JUNGFRAU with real servers and sockets, driven by the client."""

import contextlib
from pathlib import Path

import numpy as np

from camera_plugins.jungfrau.emulator import numbered_image
from client import Lima2
from tango_servers.deployment import Deployment, DeviceEntry, ServerEntry
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.servers import ServerGroup
from tests.ports import free_udp_addresses

CONTROL = "id00/limacontrol/jungfrau"


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

    def client(self, changes=None):
        lima = Lima2(self.device)
        lima.params.reset()
        lima.params.update({"acquisition.acq.latency_time": 0, **(changes or {})})
        return lima


def numbered(idx, modules, rows=512):
    """The stack of all modules of a numbered frame.

    Shapes: (modules * rows, 1024).
    """
    first = (512 - rows) // 2
    return np.concatenate(
        [numbered_image(idx, module)[first : first + rows] for module in range(modules)]
    )
