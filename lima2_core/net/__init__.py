"""The packet engine: UDP datagrams of a detector into frames in shared memory.

One process per socket (`lima2_core.net.listener`) with nothing else in it: a thread of a busy
server waits longer for the interpreter than a socket buffer lasts. `FrameReceiver` puts the frames
of several sockets together; `Port` is the near side of one listener.
"""

from lima2_core.net.layout import Check, Field, PacketLayout
from lima2_core.net.options import PortOptions
from lima2_core.net.port import Port
from lima2_core.net.received import Lost, PortAddress, Received
from lima2_core.net.receiver import FrameReceiver
from lima2_core.net.stats import PortStats
from lima2_core.net.stock import ListenerStock

__all__ = [
    "Check",
    "Field",
    "FrameReceiver",
    "ListenerStock",
    "Lost",
    "PacketLayout",
    "Port",
    "PortAddress",
    "PortOptions",
    "PortStats",
    "Received",
]
