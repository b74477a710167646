"""What a site has: modules, interfaces, and where each receiver listens (device properties)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from camera_plugins.jungfrau.wire import MODULE_COLS, MODULE_ROWS, port_place
from lima2_core.camera.dispatch import Share
from lima2_core.errors import ParamError
from lima2_core.host import cpus
from lima2_core.ids import ReceiverIdx

Address = tuple[str, int]
Entry = tuple[Address, ...]
"""One address for every port: the ports of a module next to each other, module after module."""

PROPERTIES: Mapping[str, str] = {
    "backend": "What the control drives: emulator (the default), or slsdet for a real detector.",
    "modules": "Modules of the detector, in the order of their host names; 1 if not given.",
    "interfaces": "UDP interfaces of each module that are used, 1 or 2; 1 if not given.",
    "modules_per_column": "Modules on top of each other before the next column begins; all of "
    "them if not given.",
    "udp_addresses": (
        "Where the receivers listen, the same text for control and receivers: for each receiver "
        "HOST:PORT or HOST:FIRST-LAST, several with commas, one port for each interface of each "
        "module; receivers separated by semicolons. Host is an IPv4 address. If not given: "
        "127.0.0.1, from 50001 on."
    ),
    "socket_buffer_mib": "MiB of socket buffer to ask for, for each port; 64 if not given.",
    "listener_priority": "Real-time priority of the listeners, 1 to 99; 0 = none; 50 if not "
    "given. It is granted to root, or with the right to it.",
    "listener_cpus": "Cores for the listeners, such as 2-5,8; any if not given.",
    "hostnames": "slsdet: host names of the modules, HOST[:CONTROL_PORT], with commas.",
    "detector_id": "slsdet: number of the detector on this computer; 0 if not given.",
    "module_network": (
        "slsdet: source and destination of each port, as 'source_ip source_mac destination_mac', "
        "several with commas, in the order of the ports of all modules."
    ),
}

_DEFAULT_HOST, _DEFAULT_PORT, _DEFAULT_STEP = "127.0.0.1", 50001, 64
_MAX_MODULES = 64
_LAST_CORE = 8191
_CORES = re.compile(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", re.ASCII)
_RANGE = re.compile(r"([0-9.]+):(\d+)(?:-(\d+))?")
_ONE_FOR_EACH = "give one for each interface of each module that it takes"


@dataclass(frozen=True, slots=True)
class Installation:
    """The device properties, read and checked.

    Raises:
        ParamError: one of them is wrong; the path is ``properties.<name>``.
    """

    backend: str = "emulator"
    modules: int = 1
    interfaces: int = 1
    modules_per_column: int = 1
    receivers: tuple[Entry, ...] = ()
    """Addresses of each receiver; empty = defaults."""
    socket_buffer_bytes: int = 64 * 2**20
    listener_priority: int = 50
    listener_cpus: tuple[int, ...] = ()
    other: Mapping[str, str] | None = None
    """Properties that only one of the back-ends reads."""

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> Installation:
        backend = properties.get("backend", "emulator").strip()
        if backend not in ("emulator", "slsdet"):
            raise _wrong("backend", f"{backend!r} is unknown; choose emulator or slsdet")
        modules = _number(properties, "modules", 1, 1, _MAX_MODULES)
        interfaces = _number(properties, "interfaces", 1, 1, 2)
        receivers = _entries(properties.get("udp_addresses", ""))
        _check_addresses(receivers, modules, interfaces)
        return cls(
            backend=backend,
            modules=modules,
            interfaces=interfaces,
            modules_per_column=_number(properties, "modules_per_column", modules, 1, modules),
            receivers=receivers,
            socket_buffer_bytes=_number(properties, "socket_buffer_mib", 64, 1, 2047) * 2**20,
            listener_priority=_number(properties, "listener_priority", 50, 0, 99),
            listener_cpus=_cores(properties.get("listener_cpus", "")),
            other=dict(properties),
        )

    def check_cores(self, present: Sequence[int]) -> None:
        """Refuse listeners on cores that the computer of a receiver does not have.

        Raises:
            ParamError: there are such.
        """
        missing = sorted(set(self.listener_cpus) - set(present))
        if missing:
            raise _wrong(
                "listener_cpus",
                f"this computer has no core {', '.join(map(str, missing))}; choose out of "
                f"{cpus(present)}",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the stack of all modules."""
        return self.modules * MODULE_ROWS, MODULE_COLS

    def property(self, name: str, default: str = "") -> str:
        """A property as text."""
        return (self.other or {}).get(name, default)

    def place(self, module: int, port: int) -> tuple[int, int]:
        """``row`` and ``column`` in the headers of a port."""
        return port_place(module, port, self.interfaces, self.modules_per_column)

    def addresses(self, receiver: int, ports: int) -> Entry:
        """The first ``ports`` addresses of a receiver.

        Raises:
            ParamError: it has fewer.
        """
        if not self.receivers:
            first = _DEFAULT_PORT + _DEFAULT_STEP * receiver
            return tuple((_DEFAULT_HOST, first + port) for port in range(ports))
        if receiver >= len(self.receivers):
            raise _wrong(
                "udp_addresses",
                f"receiver {receiver} has no addresses; there are those of "
                f"{_count(len(self.receivers), 'receiver')} only: add the others after semicolons",
            )
        entry = self.receivers[receiver]
        if len(entry) < ports:
            raise _wrong(
                "udp_addresses",
                f"receiver {receiver} has {len(entry)} of {_count(ports, 'address')}; "
                f"{_ONE_FOR_EACH}",
            )
        return entry[:ports]

    def modules_of(self, share: Share, *, partial: bool) -> range:
        """The modules that come to a receiver.

        Raises:
            ParamError: they cannot be dealt out evenly.
        """
        if not partial:
            return range(self.modules)
        each, rest = divmod(self.modules, share.n_receivers)
        if rest:
            raise ParamError(
                f"{_count(self.modules, 'module')} cannot be dealt out evenly to "
                f"{_count(share.n_receivers, 'receiver')}; use round_robin, or another number of "
                "receivers",
                path="det.dispatch_mode",
            )
        return range(share.receiver * each, (share.receiver + 1) * each)

    def destinations(self, n_receivers: int, *, partial: bool) -> tuple[Entry, ...]:
        """The entries of the round robin, each with an address for every port of all modules.

        Raises:
            ParamError: modules or addresses do not go with so many receivers.
        """
        parts = []
        for receiver in range(n_receivers):
            modules = self.modules_of(share_of(receiver, n_receivers), partial=partial)
            parts.append(self.addresses(receiver, len(modules) * self.interfaces))
        if partial:
            return (tuple(address for part in parts for address in part),)
        return tuple(parts)


def share_of(receiver: int, n_receivers: int) -> Share:
    """The share of a receiver by its number."""
    return Share(ReceiverIdx(receiver), n_receivers)


def _count(count: int, one: str) -> str:
    if count == 1:
        return f"1 {one}"
    return f"{count} {one}{'es' if one.endswith('s') else 's'}"


def _wrong(name: str, sentence: str) -> ParamError:
    return ParamError(sentence, path=f"properties.{name}")


def _number(properties: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = properties.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not low <= int(text) <= high:
        raise _wrong(name, f"{text!r} is no whole number from {low} to {high}")
    return int(text)


def _cores(text: str) -> tuple[int, ...]:
    """Cores of a list such as ``2-5,8``; none of an empty one."""
    cores: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        found = _CORES.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last <= _LAST_CORE:
            raise _wrong(
                "listener_cpus",
                f"{text!r} is no list of cores; give numbers from 0 to {_LAST_CORE} and ranges, "
                "with commas, such as 2-5,8",
            )
        cores.update(range(first, last + 1))
    return tuple(sorted(cores))


def _check_addresses(receivers: tuple[Entry, ...], modules: int, interfaces: int) -> None:
    """Refuse what no run could use: an address twice, or too few however modules are dealt out."""
    every = [address for entry in receivers for address in entry]
    twice = [
        f"{host}:{port}" for host, port in dict.fromkeys(every) if every.count((host, port)) > 1
    ]
    if twice:
        verb = "is" if len(twice) == 1 else "are"
        raise _wrong(
            "udp_addresses", f"{', '.join(twice)} {verb} given more than once; give each port once"
        )
    least = -(-modules // max(1, len(receivers))) * interfaces
    for number, entry in enumerate(receivers):
        if len(entry) < least:
            raise _wrong(
                "udp_addresses",
                f"receiver {number} has {len(entry)} of at least {_count(least, 'address')}; "
                f"{_ONE_FOR_EACH} ({_count(modules, 'module')}, "
                f"{_count(interfaces, 'interface')} per module, "
                f"{_count(len(receivers), 'receiver')})",
            )


def _entries(text: str) -> tuple[Entry, ...]:
    if not text.strip():
        return ()
    return tuple(
        tuple(address for item in entry.split(",") for address in _addresses(item.strip()))
        for entry in text.split(";")
    )


def _addresses(text: str) -> list[Address]:
    """``HOST:PORT`` or ``HOST:FIRST-LAST``."""
    found = _RANGE.fullmatch(text)
    if found is None:
        raise _wrong("udp_addresses", f"{text!r} is neither HOST:PORT nor HOST:FIRST-LAST")
    host, first, last = found[1], int(found[2]), int(found[3] or found[2])
    try:
        ipaddress.IPv4Address(host)
    except ValueError as error:
        raise _wrong("udp_addresses", f"{host!r} is no IPv4 address") from error
    if not 1 <= first <= last <= 65535:
        raise _wrong("udp_addresses", f"{text!r} has ports outside 1 to 65535, or none")
    return [(host, port) for port in range(first, last + 1)]
