"""Where the modules of a site are, and where their packets come from (device properties)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from camera_plugins.jungfrau._sdk import Step
from camera_plugins.jungfrau.installation import Installation
from camera_plugins.jungfrau.wire import MODULE_COLS, MODULE_ROWS
from lima2_core.errors import ParamError

_CONTROL_PORT: Final = 1952
_HOST: Final = re.compile(r"([A-Za-z0-9][\w.-]*)(?::(\d{1,5}))?")
_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


@dataclass(frozen=True, slots=True)
class Way:
    """Where the packets of one port come from, and to which card they go."""

    source_ip: str
    source_mac: str
    macs: Mapping[str, str]
    """Of the cards of receivers, by their address; that of any other is under an empty one."""

    def mac_of(self, ip: str) -> str:
        """Of the card that has an address.

        Raises:
            ParamError: it was not given.
        """
        mac = self.macs.get(ip, self.macs.get("", ""))
        if not mac:
            raise _wrong("module_network", f"there is no destination_mac for receiver {ip}")
        return mac


@dataclass(frozen=True, slots=True)
class Site:
    """The device properties that this back-end reads.

    Raises:
        ParamError: one of them is wrong; the path is ``properties.<name>``.
    """

    detector_id: int
    hosts: tuple[str, ...]
    control_ports: tuple[int, ...]
    interfaces: int
    modules_per_column: int
    ways: tuple[Way, ...]
    """One for each port, the ports of a module next to each other."""

    @classmethod
    def of(cls, installation: Installation) -> Site:
        hosts, ports = _hosts(installation)
        number = installation.property("detector_id", "0").strip() or "0"
        if not number.isdecimal():
            raise _wrong("detector_id", f"{number!r} is no whole number from 0")
        return cls(
            detector_id=int(number),
            hosts=hosts,
            control_ports=ports,
            interfaces=installation.interfaces,
            modules_per_column=installation.modules_per_column,
            ways=_ways(installation),
        )

    @property
    def modules(self) -> int:
        return len(self.hosts)

    def connect_step(self) -> Step:
        """Make the modules known."""
        stack = self.modules_per_column
        columns = -(-self.modules // stack)
        return Step(
            "connect",
            value={
                "detector_id": self.detector_id,
                "hosts": list(self.hosts),
                "ports": list(self.control_ports),
                "size": [columns * MODULE_COLS, stack * MODULE_ROWS],
                "places": [[module % stack, module // stack] for module in range(self.modules)],
            },
        )


def _wrong(name: str, sentence: str) -> ParamError:
    return ParamError(sentence, path=f"properties.{name}")


def _hosts(installation: Installation) -> tuple[tuple[str, ...], tuple[int, ...]]:
    text = installation.property("hostnames")
    items = [item.strip() for item in text.split(",") if item.strip()]
    if len(items) != installation.modules:
        raise _wrong(
            "hostnames",
            f"there are {len(items)} host names for {installation.modules} modules; give one for "
            "each, as HOST or HOST:CONTROL_PORT, with commas",
        )
    found = [_HOST.fullmatch(item) for item in items]
    for item, match in zip(items, found, strict=True):
        if match is None:
            raise _wrong("hostnames", f"{item!r} is neither HOST nor HOST:CONTROL_PORT")
    matches = [match for match in found if match is not None]
    return tuple(match[1] for match in matches), tuple(
        int(match[2] or _CONTROL_PORT) for match in matches
    )


def _ways(installation: Installation) -> tuple[Way, ...]:
    text = installation.property("module_network")
    items = [item.split() for item in text.split(",") if item.strip()]
    ports = installation.modules * installation.interfaces
    if len(items) != ports:
        raise _wrong(
            "module_network",
            f"there are {len(items)} entries for {ports} ports; give 'source_ip source_mac "
            "destination_mac' for each, with commas",
        )
    return tuple(_way(item) for item in items)


def _way(words: list[str]) -> Way:
    if len(words) != 3:
        raise _wrong(
            "module_network",
            f"{' '.join(words)!r} is not 'source_ip source_mac destination_mac'",
        )
    source_ip, source_mac, destination = words
    macs = {}
    for part in destination.split("/"):
        ip, equals, mac = part.rpartition("=")
        macs[_ip(ip) if equals else ""] = _mac(mac)
    return Way(_ip(source_ip), _mac(source_mac), macs)


def _ip(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise _wrong("module_network", f"{text!r} is no IPv4 address") from error


def _mac(text: str) -> str:
    if not _MAC.fullmatch(text) or not int(text.replace(":", ""), 16):
        raise _wrong("module_network", f"{text!r} is no MAC address such as 00:1b:21:aa:bb:cc")
    return text.lower()
