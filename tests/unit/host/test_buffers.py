"""Where packets wait in the kernel, and what it counts of those it dropped."""

import pytest

from lima2_core.host import Verdict, buffers
from lima2_core.host.needs import HostNeeds
from tests.unit.host.tuned import ALL_CAPABILITIES

NEEDS = HostNeeds(receive_buffer_bytes=64 * 2**20, packet_bytes=8192)


def test_a_small_buffer_is_a_fault_that_says_how_long_it_lasts(computer):
    computer.write("proc/sys/net/core/rmem_max", str(4 * 2**20))

    answer = buffers.receive_buffer(computer.host, NEEDS)

    assert answer.verdict is Verdict.FAULT
    assert (answer.found, answer.wanted) == ("4 MiB", "at least 64 MiB")
    assert "full after 4.2 ms" in answer.cost
    assert answer.remedy.splitlines() == [
        "sysctl -w net.core.rmem_max=67108864",
        "echo 'net.core.rmem_max = 67108864' >> /etc/sysctl.d/90-lima2.conf",
    ]


def test_who_may_force_a_buffer_needs_no_larger_limit(computer):
    computer.write("proc/sys/net/core/rmem_max", "212992")
    computer.write("proc/self/status", ALL_CAPABILITIES)

    answer = buffers.receive_buffer(computer.host, NEEDS)

    assert answer.verdict is Verdict.OK
    assert answer.found == "208 KiB, but this process may take more"


def test_no_more_is_wanted_than_the_kernel_can_give(computer):
    answer = buffers.receive_buffer(computer.host, HostNeeds(receive_buffer_bytes=2**33))

    assert answer.verdict is Verdict.OK


@pytest.mark.parametrize(("found", "verdict"), [(9000, Verdict.OK), (8999, Verdict.WARNING)])
def test_the_backlog_holds_as_many_packets_as_a_socket(computer, found, verdict):
    computer.write("proc/sys/net/core/netdev_max_backlog", str(found))

    answer = buffers.backlog(computer.host, NEEDS)  # 8192 packets fit into the socket

    assert answer.verdict is verdict
    assert answer.wanted == "at least 9000"
    assert ("netdev_max_backlog=9000" in answer.remedy) is (verdict is Verdict.WARNING)


def test_drops_of_all_cores_are_added(computer):
    computer.write("proc/net/softnet_stat", "00ff 0000000a 00000001\n00ff 00000006 00000000")

    answer = buffers.softnet_drops(computer.host, NEEDS)

    assert answer.verdict is Verdict.WARNING
    assert answer.found == "16 since the start, cut short 1 time"
    assert "net.core.netdev_max_backlog=500000" in answer.remedy


def test_packets_lost_at_sockets_are_told_as_a_share(computer):
    computer.write(
        "proc/net/snmp",
        "Udp: InDatagrams InErrors RcvbufErrors\nUdp: 990 12 10\nUdpLite: RcvbufErrors\nUdpLite: 5",
    )

    answer = buffers.udp_errors(computer.host, NEEDS)

    assert answer.verdict is Verdict.WARNING
    assert answer.found == "10 since the start, 1 %"


@pytest.mark.parametrize("text", ["", "Ip: A\nIp: 1", "Udp: InDatagrams\nUdp: 1"])
def test_counters_that_are_not_there_are_unknown(computer, text):
    computer.write("proc/net/snmp", text)

    assert buffers.udp_errors(computer.host, NEEDS).verdict is Verdict.UNKNOWN


def test_counters_without_columns_are_unknown(computer):
    computer.write("proc/net/softnet_stat", "00ff")

    assert buffers.softnet_drops(computer.host, NEEDS).verdict is Verdict.UNKNOWN
