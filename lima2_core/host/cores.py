"""Cores: who serves the interrupts of a card, how fast they run, who may rule over them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lima2_core.host import remedies
from lima2_core.host.finding import Answer, Verdict, good, unknown
from lima2_core.host.needs import HostNeeds
from lima2_core.host.text import count, cpus, parse_cpus
from lima2_core.host.tree import Host

_POLICIES: Final = "sys/devices/system/cpu/cpufreq"
_CAP_SYS_NICE: Final = 23
# Interrupts of a card that bring no packets, by what drivers call them.
_NO_QUEUE: Final = re.compile(
    r"async|config|misc|mgm|output|ctrl|cmd|pages|fdir|-tx-\d+$", re.IGNORECASE
)


def interrupts(host: Host, needs: HostNeeds, card: str) -> Answer:
    """Whether the interrupts of a card go to several cores, near to it."""
    served = queue_interrupts(host, card)
    if not served:
        return unknown("the interrupts of its queues are not found")
    near = host.near(card)
    used = sorted({core for cores in served.values() for core in cores})
    found = f"{count(len(served), 'interrupt')} on {_cores(used)}"
    # Cores of listeners are left alone if there are others.
    spread = [core for core in near if core not in needs.cpus] or list(near)
    far = sum(not set(cores) <= set(near) for cores in served.values())
    if far:
        return Answer(
            Verdict.WARNING,
            f"{found}; {far} of them away from the card",
            f"on {_cores(near)}",
            "Packets cross from one processor to the other, which costs time for each of them and "
            "bursts of loss at high rates.",
            _placement(list(served), spread),
        )
    if len(served) > 1 and len(used) == 1 and len(near) > 1:
        return Answer(
            Verdict.WARNING,
            found,
            f"spread over {_cores(spread)}",
            "A single core takes the packets of all queues; what it cannot do in time is lost.",
            _placement(list(served), spread),
        )
    return good(found)


def queue_interrupts(host: Host, card: str) -> dict[int, tuple[int, ...]]:
    """Cores that serve each interrupt of the receive queues of a card."""
    folder = host.above(f"sys/class/net/{card}/device", "msi_irqs")
    if folder is not None:
        # An interrupt that is in use has a folder with the name its driver gave it.
        numbers = [int(entry.name) for entry in folder.iterdir()]
        names = {n: " ".join(_folders(host, f"proc/irq/{n}")) for n in sorted(numbers)}
    else:
        names = _listed_interrupts(host, card)
    queues = [number for number, name in names.items() if name and not _NO_QUEUE.search(name)]
    return {number: _served_by(host, number) for number in queues}


def _folders(host: Host, folder: str) -> list[str]:
    return [name for name in host.names(folder) if (host.root / folder / name).is_dir()]


def _listed_interrupts(host: Host, card: str) -> dict[int, str]:
    """Number and name of the interrupts whose name has that of the card, as a word."""
    word = re.compile(rf"(?<!\w){re.escape(card)}(?!\w)")
    found = {}
    for line in host.text("proc/interrupts").splitlines()[1:]:
        number, _, rest = line.strip().partition(":")
        if number.isdigit() and word.search(rest):
            found[int(number)] = rest.split()[-1]
    return found


def _served_by(host: Host, number: int) -> tuple[int, ...]:
    """The cores that an interrupt really goes to, or those that it may go to."""
    for name in ("effective_affinity_list", "smp_affinity_list"):
        path = f"proc/irq/{number}/{name}"
        if host.has(path) and (cores := parse_cpus(host.text(path))):
            return cores
    raise OSError(f"/proc/irq/{number} does not tell which cores it goes to")


def _placement(numbers: Sequence[int], cores: Sequence[int]) -> str:
    """Give each interrupt a core of its own, as far as there are enough."""
    ours = " ".join(map(str, cores))
    irqs = " ".join(map(str, numbers))
    return (
        "systemctl disable --now irqbalance\n"
        f"c=({ours}); i=0; for irq in {irqs}; do "
        f"echo ${{c[i++ % {len(cores)}]}} > /proc/irq/$irq/smp_affinity_list; done"
        "  # again after each start of the computer"
    )


def listener_cores(host: Host, needs: HostNeeds) -> Answer:
    """Whether the cores of the listeners are there, and near to the cards."""
    if not needs.cpus:
        return good("not asked for")
    online = host.online()
    missing = sorted(set(needs.cpus) - set(online))
    if missing:
        return Answer(
            Verdict.FAULT,
            f"{_cores(missing)} missing; there are {cpus(online)}",
            cpus(needs.cpus),
            "The listeners run where the scheduler puts them, together with all else.",
            f"lscpu --extended  # then give the listeners cores out of {cpus(online)}",
        )
    named = [name for name in needs.interfaces if host.has_interface(name)]
    cards = [card for name in named for card in host.cards(name)]
    near = {core for card in cards for core in host.near(card)}
    far = sorted(set(needs.cpus) - near) if near else []
    if far:
        return Answer(
            Verdict.WARNING,
            f"{_cores(far)} away from {', '.join(cards)}",
            f"out of {cpus(near)}",
            "Every packet crosses from one processor to the other before it is sorted in.",
            f"lscpu --extended  # then give the listeners cores out of {cpus(near)}",
        )
    return good(cpus(needs.cpus))


def governor(host: Host, needs: HostNeeds) -> Answer:
    """Whether the cores run at full speed all the time."""
    policies = [name for name in host.names(_POLICIES) if name.startswith("policy")]
    if not policies:
        return unknown("the clock of the cores is not ruled from here: virtual machine or firmware")
    rules = {host.text(f"{_POLICIES}/{name}/scaling_governor") for name in policies}
    found = ", ".join(sorted(rules))
    if rules == {"performance"}:
        return good(found, "performance")
    return Answer(
        Verdict.WARNING,
        found,
        "performance",
        "Cores that had nothing to do begin slowly: the first packets of a burst may be lost.",
        remedies.write_all("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor", "performance"),
    )


def real_time(host: Host, needs: HostNeeds) -> Answer:
    """Whether the listeners get the priority that they ask for."""
    most = 99 if host.capable(_CAP_SYS_NICE) else host.limit("Max realtime priority")
    found = "any priority" if most is None or most >= 99 else f"up to {most}" if most else "none"
    if not needs.realtime:
        return good(f"{found} allowed, none asked for")
    if most is None or most >= needs.realtime:
        return good(f"{found} allowed", str(needs.realtime))
    return Answer(
        Verdict.WARNING,
        f"{found} allowed",
        str(needs.realtime),
        "Other programs may take the cores of the listeners for some ms, and packets are lost "
        "meanwhile.",
        remedies.limit("rtprio", needs.realtime, ""),
    )


def _cores(numbers: Sequence[int]) -> str:
    return f"{'core' if len(numbers) == 1 else 'cores'} {cpus(numbers)}"
