"""Addresses that a child will use: nobody else gets them by chance before it does."""

from pathlib import Path

import pytest

from tango_servers.local.processes import free_port, free_udp_addresses


@pytest.fixture
def lowest():
    """The first port that the system gives by itself."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def test_a_port_is_none_that_the_system_gives_by_itself(lowest):
    assert 10_000 < free_port() < lowest


def test_udp_addresses_are_different_and_none_that_the_system_gives_by_itself(lowest):
    receivers = [entry.split(",") for entry in free_udp_addresses(3, 40).split(";")]

    assert [len(entry) for entry in receivers] == [40] * 3
    addresses = {address for entry in receivers for address in entry}
    assert len(addresses) == 120
    assert {host for host, _ in (address.split(":") for address in addresses)} == {"127.0.0.1"}
    assert all(10_000 < int(address.split(":")[1]) < lowest for address in addresses)
