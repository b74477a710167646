"""Where packets wait in the kernel, and how many it has dropped."""

from __future__ import annotations

from typing import Final

from lima2_core.host.finding import Answer, Verdict, good, unknown
from lima2_core.host.needs import HostNeeds
from lima2_core.host.remedies import sysctl
from lima2_core.host.text import count, size
from lima2_core.host.tree import Host

# The kernel keeps twice the size in a signed number of 32 bits.
_MOST_BUFFER_BYTES: Final = 2**30 - 1
_PORT_BYTES_S: Final = 1e9
"""What one module sends at most over a link of 10 Gbit/s, rounded."""
_CAP_NET_ADMIN: Final = 12
_ROUND: Final = 1000


def receive_buffer(host: Host, needs: HostNeeds) -> Answer:
    """How large a socket buffer this process gets."""
    asked = min(needs.receive_buffer_bytes, _MOST_BUFFER_BYTES)
    limit = host.number("proc/sys/net/core/rmem_max")
    wanted = f"at least {size(asked)}"
    if limit >= asked:
        return good(size(limit), wanted)
    if host.capable(_CAP_NET_ADMIN):
        return good(f"{size(limit)}, but this process may take more", wanted)
    return Answer(
        Verdict.FAULT,
        size(limit),
        wanted,
        f"At 1 GB/s {size(limit)} are full after {1e3 * limit / _PORT_BYTES_S:.2g} ms; when the "
        "listener loses its core for longer than that, packets are lost.",
        sysctl("net.core.rmem_max", asked),
    )


def backlog(host: Host, needs: HostNeeds) -> Answer:
    """Whether as many packets as a socket holds can wait for their socket."""
    found = host.number("proc/sys/net/core/netdev_max_backlog")
    wanted = _backlog_wanted(needs)
    if found >= wanted:
        return good(count(found, "packet"), f"at least {wanted}")
    return Answer(
        Verdict.WARNING,
        count(found, "packet"),
        f"at least {wanted}",
        "Where the kernel spreads packets over cores, or sends them to itself, it drops what does "
        "not fit into this queue, before any socket sees it.",
        sysctl("net.core.netdev_max_backlog", wanted),
    )


def softnet_drops(host: Host, needs: HostNeeds) -> Answer:
    """Packets dropped in front of the sockets since the computer was started."""
    lines = host.text("proc/net/softnet_stat").splitlines()
    columns = [[int(word, 16) for word in line.split()] for line in lines]
    if not columns or min(map(len, columns)) < 3:
        return unknown("/proc/net/softnet_stat has another form than expected")
    dropped = sum(line[1] for line in columns)
    squeezed = sum(line[2] for line in columns)
    found = f"{dropped} since the start, cut short {count(squeezed, 'time')}"
    if not dropped:
        return good(found, "0")
    now = host.number("proc/sys/net/core/netdev_max_backlog")
    return Answer(
        Verdict.WARNING,
        found,
        "0",
        f"{count(dropped, 'packet')} found their queue full and are lost; if the number grows "
        "while frames come, those are of the detector.",
        sysctl("net.core.netdev_max_backlog", max(2 * now, _backlog_wanted(needs))),
    )


def udp_errors(host: Host, needs: HostNeeds) -> Answer:
    """Packets dropped at full sockets since the computer was started."""
    lines = host.text("proc/net/snmp").splitlines()
    names, values = ([line.split()[1:] for line in lines if line.startswith("Udp:")] + [[], []])[:2]
    counters = dict(zip(names, map(int, values), strict=False))
    lost = counters.get("RcvbufErrors")
    if lost is None:
        return unknown("/proc/net/snmp does not count RcvbufErrors")
    if not lost:
        return good("0 since the start", "0")
    percent = 100 * lost / (lost + counters.get("InDatagrams", 0))
    return Answer(
        Verdict.WARNING,
        f"{lost} since the start, {percent:.2g} %",
        "0",
        "These packets came when the buffer of their socket was full, and are lost; if the number "
        "grows while frames come, mend receive-buffer and real-time first.",
        "watch -n 1 'grep Udp: /proc/net/snmp'  # while frames come",
    )


def _backlog_wanted(needs: HostNeeds) -> int:
    """As many packets as fit into a socket, rounded up."""
    packets = needs.receive_buffer_bytes / max(1, needs.packet_bytes)
    return -(-round(packets) // _ROUND) * _ROUND
