"""An emulated JUNGFRAU on this computer: database, control, receivers, each a server of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from client import Lima2
from tango_servers.deployment import Deployment, load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.processes import free_udp_addresses
from tango_servers.local.servers import ServerGroup

DET, PROC = "acquisition.det.", "processing."


def deployment(receivers: int) -> Deployment:
    """Control and receivers, each in a server of its own, on ports that are free."""
    whole = load_deployment("jungfrau_2")
    kept = tuple(
        server
        for server in whole.servers
        if not server.instance.startswith("jungfrau_rcv")
        or int(server.instance.removeprefix("jungfrau_rcv")) <= receivers
    )
    names = whole.receivers[:receivers]
    own = {"udp_addresses": (free_udp_addresses(receivers, 1),)}
    servers = []
    for server in kept:
        (device,) = server.devices
        extra = {"receivers": names} if device.is_control else {}
        changed = replace(device, properties={**device.properties, **own, **extra})
        servers.append(replace(server, devices=(changed,)))
    return Deployment("jungfrau", tuple(servers))


class Site:
    """A running system."""

    def __init__(self, host: str, made: Deployment, servers: ServerGroup) -> None:
        self.servers = servers
        self._control = f"tango://{host}/{made.control.name}"
        self._receivers = [f"tango://{host}/{name}" for name in made.receivers]

    def client(self, changes: Mapping[str, Any]) -> Lima2:
        lima = Lima2(self._control)
        lima.params.reset()
        lima.params.update({"acquisition.acq.latency_time": 0, **changes})
        return lima

    def counters(self) -> list[dict[str, Any]]:
        """Of all ports."""
        import tango

        return [
            port
            for name in self._receivers
            for port in json.loads(tango.DeviceProxy(name).camera_counters)["ports"]
        ]


@contextmanager
def site(folder: Path, receivers: int) -> Iterator[Site]:
    """Database and servers, for as long as they are needed."""
    made = deployment(receivers)
    with ExitStack() as stack:
        database = stack.enter_context(EmbeddedDatabase(folder / f"site{receivers}", made))
        servers = ServerGroup(folder / f"site{receivers}", database.tango_host, made)
        stack.enter_context(servers)
        yield Site(database.tango_host, made, servers)
