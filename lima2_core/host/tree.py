"""Reading /proc and /sys, of this computer or of a copy under another root."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lima2_core.host.kernel import Kernel
from lima2_core.host.text import parse_cpus

_NET = "sys/class/net"
_NODES = "sys/devices/system/node"


@dataclass(frozen=True, slots=True)
class Host:
    """One computer, seen through its files; paths are relative to the root.

    All methods raise OSError where a file is missing or not to be read.
    """

    root: Path = Path("/")
    kernel: Kernel = field(default_factory=Kernel)

    def text(self, path: str) -> str:
        """What a file says."""
        return (self.root / path).read_text().strip()

    def number(self, path: str) -> int:
        """The number that a file holds; OSError if it holds none."""
        text = self.text(path)
        try:
            return int(text)
        except ValueError as error:
            raise OSError(f"/{path} holds {text!r}, no number") from error

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted; nothing if there is no such folder."""
        try:
            return sorted(os.listdir(self.root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def has(self, path: str) -> bool:
        return (self.root / path).exists()

    def has_interface(self, name: str) -> bool:
        return bool(name) and "/" not in name and self.has(f"{_NET}/{name}")

    def cards(self, interface: str) -> tuple[str, ...]:
        """The cards behind an interface: itself, those of a bond or a VLAN, or none."""
        if self.has(f"{_NET}/{interface}/device"):
            return (interface,)
        lower = [
            name.removeprefix("lower_")
            for name in self.names(f"{_NET}/{interface}")
            if name.startswith("lower_")
        ]
        return tuple(dict.fromkeys(card for name in lower for card in self.cards(name)))

    def above(self, device: str, name: str) -> Path | None:
        """The file ``name`` of a device, or of the bus it hangs on; None if neither has it."""
        folder = (self.root / device).resolve()
        top = self.root.resolve()
        while folder != top and top in folder.parents:
            if (folder / name).exists():
                return folder / name
            folder = folder.parent
        return None

    def node_of(self, device: str) -> int | None:
        """NUMA node of a device; None if the firmware does not tell."""
        found = self.above(device, "numa_node")
        node = -1 if found is None else int(found.read_text())
        return None if node < 0 else node

    def node_of_card(self, card: str) -> int | None:
        return self.node_of(f"{_NET}/{card}/device")

    def nodes(self) -> dict[int, tuple[int, ...]]:
        """Cores of each NUMA node that has any."""
        names = [name for name in self.names(_NODES) if name[4:].isdigit() and name[:4] == "node"]
        cores = {int(name[4:]): parse_cpus(self.text(f"{_NODES}/{name}/cpulist")) for name in names}
        return {node: found for node, found in sorted(cores.items()) if found}

    def online(self) -> tuple[int, ...]:
        """Cores that run."""
        return parse_cpus(self.text("sys/devices/system/cpu/online"))

    def near(self, card: str) -> tuple[int, ...]:
        """Cores on the node of a card; all where there is no other node, or it is not known."""
        node = self.node_of_card(card)
        cores = () if node is None else self.nodes().get(node, ())
        return cores or self.online()

    def capable(self, capability: int) -> bool:
        """Whether this process has a capability, by its number."""
        status = self.text("proc/self/status")
        for line in status.splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> capability & 1)
        raise OSError("/proc/self/status has no line CapEff")

    def limit(self, name: str) -> int | None:
        """A soft limit of this process, such as ``Max locked memory``; None: without limit."""
        for line in self.text("proc/self/limits").splitlines():
            if line.startswith(name):
                soft = line[len(name) :].split()[0]
                return None if soft == "unlimited" else int(soft)
        raise OSError(f"/proc/self/limits has no line {name!r}")
