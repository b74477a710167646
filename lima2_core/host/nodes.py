"""Which processor cards and GPUs hang on."""

from __future__ import annotations

from typing import Final

from lima2_core.host.finding import Answer, Verdict, good, unknown
from lima2_core.host.needs import HostNeeds
from lima2_core.host.text import cpus
from lima2_core.host.tree import Host

_DEVICES: Final = "sys/bus/pci/devices"
_CLASSES: Final = ("0x03", "0x12")  # displays, and accelerators without one
# NVIDIA, AMD, Intel: the screen of a server's remote console is a display, too.
_VENDORS: Final = ("0x10de", "0x1002", "0x8086")


def gpus(host: Host) -> dict[str, int | None]:
    """NUMA node of each GPU, by its address on the PCI bus; None if it is not known."""
    found = {}
    for name in host.names(_DEVICES):
        folder = f"{_DEVICES}/{name}"
        if (
            host.text(f"{folder}/class")[:4] in _CLASSES
            and host.text(f"{folder}/vendor") in _VENDORS
        ):
            found[name] = host.node_of(folder)
    return found


def placement(host: Host, needs: HostNeeds, card: str) -> Answer:
    """Whether a card and a GPU hang on the same processor."""
    nodes = host.nodes()
    if len(nodes) < 2:
        return good("one node for all")
    node = host.node_of_card(card)
    if node is None:
        return unknown("the firmware does not tell the node of the card")
    places = gpus(host)
    found = f"node {node}"
    if not places:
        return good(f"{found}, no GPU")
    told = ", ".join(
        f"GPU {name} on {'an unknown one' if at is None else at}" for name, at in places.items()
    )
    if node in places.values() or None in places.values():
        return good(f"{found}; {told}")
    cores = cpus(nodes.get(node, ()))
    return Answer(
        Verdict.WARNING,
        f"{found}; {told}",
        f"a GPU on node {node}",
        "Every frame crosses from one processor to the other on its way to the GPU, which takes "
        "bandwidth from its memory.",
        "lspci -vv | grep -E 'controller|NUMA'  # put the cards next to each other; meanwhile:\n"
        f"systemctl edit lima2@  # and there: [Service] CPUAffinity={cores}",
    )
