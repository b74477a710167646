"""The packet engine of one receiver, kept from one acquisition to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from camera_plugins.jungfrau.installation import Entry, Installation
from camera_plugins.jungfrau.params import JungfrauParams
from camera_plugins.jungfrau.wire import MODULE_COLS, PortShape, wire_field
from lima2_core.camera.dispatch import Share
from lima2_core.data.memory import BufferPool, PoolSet
from lima2_core.errors import CameraError, ParamError
from lima2_core.net import Check, FrameReceiver, ListenerStock, PortAddress, PortOptions

POOL = "jungfrau"
_LEAST_BUFFERS = 8
_COMFORTABLE_BUFFERS = 32
_MOST_REQUESTS = 128


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """All that the listeners depend on; as long as it is the same, they stay."""

    modules: range
    interfaces: int
    rows: int
    """Of each module."""
    places: tuple[tuple[int, int], ...]
    """``row`` and ``column`` in the headers of each port."""
    addresses: Entry
    options: PortOptions

    @classmethod
    def of(cls, installation: Installation, params: JungfrauParams, share: Share) -> EngineSetup:
        """What one receiver needs.

        Raises:
            ParamError: modules cannot be dealt out so, or there are too few addresses.
        """
        modules = installation.modules_of(share, partial=params.det.is_partial)
        interfaces = installation.interfaces
        return cls(
            modules=modules,
            interfaces=interfaces,
            rows=params.det.readout_rows,
            places=tuple(
                installation.place(module, port) for module in modules for port in range(interfaces)
            ),
            addresses=installation.addresses(share.receiver, len(modules) * interfaces),
            options=PortOptions(
                buffer_bytes=installation.socket_buffer_bytes,
                priority=installation.listener_priority,
                cpus=installation.listener_cpus,
                frame_timeout_s=params.det.frame_timeout_ms * 1e-3,
            ),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows and columns of a frame."""
        return 1, len(self.modules) * self.rows, MODULE_COLS

    @property
    def packets(self) -> int:
        """Of a frame, for each port."""
        return PortShape(self.interfaces, self.rows).packets

    @property
    def frame_bytes(self) -> int:
        return math.prod(self.shape) * 2

    def ports(self) -> list[PortAddress]:
        """For the packet engine."""
        module_bytes = self.frame_bytes // len(self.modules)
        ports = []
        for number, (address, place) in enumerate(zip(self.addresses, self.places, strict=True)):
            module, port = divmod(number, self.interfaces)
            shape = PortShape(self.interfaces, self.rows, port)
            layout = shape.packet_layout()
            # A packet of another module, which would show in the wrong place, is foreign.
            at_home = (
                Check(wire_field("row"), place[0], "row"),
                Check(wire_field("column"), place[1], "column"),
            )
            layout = replace(layout, checks=(*layout.checks, *at_home))
            offset = module * module_bytes + shape.offset_bytes
            ports.append(PortAddress(layout, *address, offset))
        return ports


def wanted_buffers(params: JungfrauParams, setup: EngineSetup, pools: PoolSet) -> int:
    """How many frames find room between network and processing; some memory is left for others."""
    quarter = pools.limit_bytes // 4 // setup.frame_bytes
    if params.det.nb_buffers:
        return max(_LEAST_BUFFERS, min(params.det.nb_buffers, 3 * quarter))
    a_second = math.ceil(1 / params.acq.period_s)
    return max(_COMFORTABLE_BUFFERS, min(a_second, quarter))


def spare_buffers(wanted: int, setup: EngineSetup, pools: PoolSet) -> int:
    """How many of ``wanted`` buffers may be held behind the pipeline: half of what there will be.

    Frames of other runs that are still held do not count among them.
    """
    held, most = pools.outlook(POOL, setup.frame_bytes)
    return max(0, min(wanted + held, most) - held) // 2


class Engine:
    """A `FrameReceiver` for the last setup asked for.

    Args:
        ports: for which listeners are started beforehand.

    Threads: one at a time.
    """

    def __init__(self, ports: int) -> None:
        self._stock = ListenerStock(ports)
        self._setup: EngineSetup | None = None
        self._pool: BufferPool | None = None
        self._slots = 0
        self.receiver: FrameReceiver | None = None

    def get(self, setup: EngineSetup, wanted: int, pools: PoolSet) -> FrameReceiver:
        """The listeners of ``setup``, which are new if it is, with at least ``wanted`` slots.

        Raises:
            ParamError: an address cannot be used, or there is no memory.
            CameraError: a listener does not start.
        """
        pool = pools.pool(POOL, setup.frame_bytes)
        there = pool.stats().slots
        # Frames of earlier runs that somebody still looks at are of no use to this one.
        wanted += pool.stats().in_use
        same = (self._setup, self._pool) == (setup, pool)
        if self.receiver is not None and same and self._slots >= wanted:
            return self.receiver
        self._let_go()
        if there < wanted:
            pool = _grown(pools, setup.frame_bytes, wanted)
        self._slots = max(wanted, pool.stats().slots)
        depth = max(4, min(_MOST_REQUESTS, pool.stats().slots * 3 // 4))
        try:
            self.receiver = FrameReceiver(
                setup.ports(), pool, depth=depth, options=setup.options, stock=self._stock
            )
        except CameraError as error:
            if "address" not in error.details:
                raise
            raise ParamError(error.message, path="properties.udp_addresses") from error
        self._setup, self._pool = setup, pool
        return self.receiver

    def close(self) -> None:
        """End the listeners; harmless at any time."""
        self._let_go()
        self._stock.close()

    def _let_go(self) -> None:
        if self.receiver is not None:
            self.receiver.close()
        self.receiver = self._setup = self._pool = None


def _grown(pools: PoolSet, nbytes: int, wanted: int) -> BufferPool:
    """The pool with ``wanted`` slots, or as many as there is room for.

    Raises:
        ParamError: there is no room at all.
    """
    pool = pools.pool(POOL, nbytes)
    missing = wanted - pool.stats().slots
    if pools.fitting(pool.slot_bytes, missing, 0) < missing:
        # Frames of earlier sizes may still be taking room.
        pools.trim()
        pool = pools.pool(POOL, nbytes)
    there = pool.stats().slots
    try:
        more = pools.fitting(pool.slot_bytes, wanted - there, max(0, _LEAST_BUFFERS - there))
        pool.grow(there + more)
    except MemoryError as error:
        raise ParamError(str(error), path="det.nb_buffers") from error
    return pool
