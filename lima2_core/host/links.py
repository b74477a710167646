"""Interfaces: are they there, do they take whole packets, have their cards room and queues."""

from __future__ import annotations

import ipaddress
from typing import Final

from lima2_core.host import remedies
from lima2_core.host.finding import Answer, Verdict, good, unknown
from lima2_core.host.needs import HostNeeds
from lima2_core.host.text import count, cpu_mask
from lima2_core.host.tree import Host

_HEADERS_BYTES: Final = 20 + 8  # IPv4 and UDP
_JUMBO_BYTES: Final = 9000
_RING: Final = 4096
"""More packets than that do not help: what does not fit in waits in the switch."""
_IN_USE: Final = ("up", "unknown")  # lo has no operational state


def address(host: Host, needs: HostNeeds, subject: str) -> Answer:
    """Whether the computer has an address that the detector sends to."""
    try:
        wanted = ipaddress.IPv4Address(subject)
    except ValueError:
        return unknown("no IPv4 address", "one of this computer")
    if wanted.is_unspecified:
        return unknown("stands for all interfaces; name the one of the detector")
    if wanted.is_loopback:
        return good("lo")
    interface = host.kernel.addresses().get(subject)
    if interface is not None:
        return good(interface)
    return Answer(
        Verdict.FAULT,
        "no interface has it",
        "one of this computer",
        "The sockets cannot be opened, and the detector sends to nobody.",
        f"ip address add {subject}/24 dev INTERFACE  # that of the detector",
    )


def link(host: Host, needs: HostNeeds, interface: str) -> Answer:
    """Whether an interface is there and connected."""
    if not host.has_interface(interface):
        known = ", ".join(host.names("sys/class/net")) or "none"
        return Answer(
            Verdict.FAULT,
            f"no such interface; there are {known}",
            "up",
            "The detector cannot reach this computer.",
            "ip -brief link  # shows the interfaces and their states",
        )
    state = host.text(f"sys/class/net/{interface}/operstate")
    if state not in _IN_USE:
        return Answer(
            Verdict.FAULT,
            state,
            "up",
            "No packet of the detector arrives.",
            f"ip link set dev {interface} up  # and look at cable and switch",
        )
    if not host.cards(interface):
        return good("no card behind it: packets stay on this computer")
    return good(f"up{_speed(host, interface)}")


def mtu(host: Host, needs: HostNeeds, interface: str) -> Answer:
    """Whether a packet of the detector arrives in one piece."""
    found = host.number(f"sys/class/net/{interface}/mtu")
    least = needs.packet_bytes + _HEADERS_BYTES
    wanted = f"at least {least}"
    if found >= least:
        return good(f"{found} bytes", wanted)
    value = max(_JUMBO_BYTES, least)
    return Answer(
        Verdict.FAULT,
        f"{found} bytes",
        wanted,
        f"Packets of {least} bytes are thrown away by the card, or come in pieces that cost the "
        "kernel several times the work.",
        f"ip link set dev {interface} mtu {value}  # the switch needs as much\n"
        + remedies.connection(interface, "802-3-ethernet.mtu", value),
    )


def rings(host: Host, needs: HostNeeds, card: str) -> Answer:
    """Whether the card keeps as many packets as it should until the kernel takes them."""
    found = host.kernel.rings(card)
    if not found.most:
        return unknown("the driver has no rings of a size that could be set")
    wanted = min(found.most, _RING)
    if found.now >= wanted:
        return good(f"{found.now} of {found.most}", f"at least {wanted}")
    return Answer(
        Verdict.WARNING,
        f"{found.now} of {found.most}",
        f"at least {wanted}",
        f"The card drops packets once {found.now} of them wait in a queue: "
        f"{1e3 * found.now * needs.packet_bytes / 1e9:.2g} ms at 1 GB/s.",
        f"ethtool -G {card} rx {wanted}\n" + remedies.connection(card, "ethtool.ring-rx", wanted),
    )


def queues(host: Host, needs: HostNeeds, card: str) -> Answer:
    """Whether more than one core can take packets from the card."""
    folder = f"sys/class/net/{card}/queues"
    names = [name for name in host.names(folder) if name.startswith("rx-")]
    if not names:
        return unknown("the driver does not show its queues")
    # The mask has commas; where the kernel was built without this, there is none.
    masks = [f"{folder}/{name}/rps_cpus" for name in names]
    spread = [mask for mask in masks if host.has(mask) and host.text(mask).strip("0,")]
    found = count(len(names), "queue") + (", spread by the kernel" if spread else "")
    if len(names) > 1 or spread or len(host.online()) == 1:
        return good(found, "2 or more")
    cores = [core for core in host.near(card) if core not in needs.cpus] or list(host.near(card))
    most = _most_queues(host, card)
    if most > 1:
        remedy = f"ethtool -L {card} combined {min(most, len(cores))}"
    else:
        remedy = f"echo {cpu_mask(cores)} > /{masks[0]}"
    return Answer(
        Verdict.WARNING,
        found,
        "2 or more",
        "A single core takes all packets of the card; what it cannot do in time is lost.",
        f"{remedy}  # again after each start of the computer",
    )


def _most_queues(host: Host, card: str) -> int:
    """How many queues the card can have; 0 if its driver does not tell."""
    try:
        return host.kernel.most_queues(card)
    except OSError:
        return 0


def _speed(host: Host, interface: str) -> str:
    """Speed of a link; empty where its driver does not tell."""
    try:
        mbit_s = host.number(f"sys/class/net/{interface}/speed")
    except OSError:
        return ""
    return f", {mbit_s / 1000:g} Gbit/s" if mbit_s > 0 else ""
