"""All checks, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from lima2_core.host import buffers, cores, folders, links, memory, nodes
from lima2_core.host.finding import WRONG, Answer, Finding, unknown
from lima2_core.host.kernel import Kernel, NoKernel, interface_of
from lima2_core.host.needs import HostNeeds
from lima2_core.host.tree import Host

HostCheck = Callable[[Host, HostNeeds], Answer]
SubjectCheck = Callable[[Host, HostNeeds, str], Answer]

HOST: Final = "host"
"""Subject of what is the same for all interfaces and folders."""

OF_HOST: Final[dict[str, HostCheck]] = {
    "receive-buffer": buffers.receive_buffer,
    "backlog": buffers.backlog,
    "softnet-drops": buffers.softnet_drops,
    "udp-errors": buffers.udp_errors,
    "governor": cores.governor,
    "real-time": cores.real_time,
    "cores": cores.listener_cores,
    "huge-pages": memory.huge_pages,
    "transparent-huge-pages": memory.transparent_huge_pages,
    "locked-memory": memory.locked_memory,
    "shared-memory": memory.shared_memory,
}
OF_ADDRESS: Final[dict[str, SubjectCheck]] = {"address": links.address}
OF_NAME: Final[dict[str, SubjectCheck]] = {"link": links.link}
OF_INTERFACE: Final[dict[str, SubjectCheck]] = {"mtu": links.mtu}
OF_CARD: Final[dict[str, SubjectCheck]] = {
    "rings": links.rings,
    "queues": links.queues,
    "interrupts": cores.interrupts,
    "numa": nodes.placement,
}
OF_FOLDER: Final[dict[str, SubjectCheck]] = {
    "free-space": folders.free_space,
    "write-rate": folders.write_rate,
}
CHECKS: Final = (*OF_HOST, *OF_ADDRESS, *OF_NAME, *OF_INTERFACE, *OF_CARD, *OF_FOLDER)

# At each prepare nobody wants to hear of losses of last week, of the place of a card, or of what
# is merely slower; and nothing that takes long is done.
NOT_AT_PREPARE: Final = frozenset(
    {"softnet-drops", "udp-errors", "numa", "transparent-huge-pages", "write-rate"}
)


def examine(
    needs: HostNeeds,
    root: Path = Path("/"),
    kernel: Kernel | None = None,
    leave_out: frozenset[str] = frozenset(),
) -> tuple[Finding, ...]:
    """Hold the computer against what is needed of it.

    Args:
        needs: of the acquisition; folders among them are real ones, whatever the root.
        root: above proc, sys and dev; another one for a copy.
        kernel: to be asked for what is in no file; none for a copy, unless it is given.
        leave_out: names of checks.

    Returns:
        A finding for each check and subject; one that could not be made is UNKNOWN.
    """
    host = Host(root, kernel or (Kernel() if root == Path("/") else NoKernel()))
    needs = replace(needs, interfaces=_interfaces(host, needs))
    return tuple(
        Finding.of(name, subject, _answer(check))
        for name, subject, check in _rounds(host, needs)
        if name not in leave_out
    )


def warnings(
    needs: HostNeeds, root: Path = Path("/"), kernel: Kernel | None = None
) -> tuple[str, ...]:
    """A line for each thing that speaks against an acquisition; quick, nothing is written."""
    findings = examine(needs, root, kernel, NOT_AT_PREPARE)
    return tuple(_line(finding) for finding in findings if finding.verdict in WRONG)


def _line(finding: Finding) -> str:
    subject = "" if finding.subject == HOST else f" of {finding.subject}"
    wanted = f", wanted {finding.wanted}" if finding.wanted else ""
    command = finding.remedy.partition("\n")[0]
    return f"{finding.check}{subject}: {finding.found}{wanted}. {finding.cost} Remedy: {command}"


def _rounds(host: Host, needs: HostNeeds) -> Iterator[tuple[str, str, Callable[[], Answer]]]:
    """Each check with its name and its subject."""
    for name, of_host in OF_HOST.items():
        yield name, HOST, partial(of_host, host, needs)
    there = [name for name in needs.interfaces if host.has_interface(name)]
    cards = dict.fromkeys(card for name in there for card in host.cards(name))
    for subjects, checks in (
        (needs.addresses, OF_ADDRESS),
        (needs.interfaces, OF_NAME),
        (there, OF_INTERFACE),
        (cards, OF_CARD),
        (needs.folders, OF_FOLDER),
    ):
        for subject in subjects:
            for name, of_subject in checks.items():
                yield name, subject, partial(of_subject, host, needs, subject)


def _answer(check: Callable[[], Answer]) -> Answer:
    try:
        return check()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return unknown(f"{where}{error.strerror or error}")
    except (ValueError, LookupError) as error:  # a kernel that writes otherwise than expected
        return unknown(f"not understood: {error}")


def _interfaces(host: Host, needs: HostNeeds) -> tuple[str, ...]:
    """The interfaces that were named, and those of the addresses, each once."""
    return tuple(dict.fromkeys((*needs.interfaces, *_owners(host, needs))))


def _owners(host: Host, needs: HostNeeds) -> Iterator[str]:
    for address in needs.addresses:
        try:
            owner = interface_of(address, host.kernel)
        except (OSError, ValueError):  # the check of the address tells
            continue
        if owner is not None:
            yield owner
