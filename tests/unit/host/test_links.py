"""Addresses, interfaces, and the cards behind them."""

import pytest

from lima2_core.host import HostNeeds, Verdict, interface_of, links
from lima2_core.host.kernel import Kernel, Rings
from tests.unit.host.tuned import CARD, StillKernel, tuned_kernel

NEEDS = HostNeeds()


@pytest.mark.parametrize(
    ("subject", "verdict", "found"),
    [
        ("10.1.1.2", Verdict.OK, "eth2"),
        ("127.0.0.9", Verdict.OK, "lo"),
        ("10.1.1.3", Verdict.FAULT, "no interface has it"),
        ("0.0.0.0", Verdict.UNKNOWN, "stands for all interfaces; name the one of the detector"),
        ("detector", Verdict.UNKNOWN, "no IPv4 address"),
    ],
)
def test_an_address_belongs_to_an_interface(computer, subject, verdict, found):
    answer = links.address(computer.host, NEEDS, subject)

    assert (answer.verdict, answer.found) == (verdict, found)
    assert bool(answer.remedy) is (verdict is Verdict.FAULT)


@pytest.mark.parametrize(
    ("address", "name"), [("10.1.1.2", "eth2"), ("127.0.0.9", "lo"), ("10.1.1.3", None)]
)
def test_the_interface_of_an_address_is_found(address, name):
    assert interface_of(address, tuned_kernel()) == name


def test_the_running_kernel_knows_its_own_address():
    assert Kernel().addresses()["127.0.0.1"] == "lo"


@pytest.mark.parametrize("name", ["lo", "no-such-card", "a-name-that-is-too-long"])
def test_the_running_kernel_refuses_to_tell_of_what_is_no_card(name):
    with pytest.raises(OSError, match=r"."):
        Kernel().rings(name)


def test_a_link_tells_its_speed(computer):
    assert links.link(computer.host, NEEDS, "eth2").found == "up, 100 Gbit/s"


def test_loopback_has_no_card(computer):
    answer = links.link(computer.host, NEEDS, "lo")

    assert (answer.verdict, computer.host.cards("lo")) == (Verdict.OK, ())


def test_an_interface_that_is_down_is_a_fault(computer):
    computer.write(f"{CARD}/net/eth2/operstate", "down")

    answer = links.link(computer.host, NEEDS, "eth2")

    assert (answer.verdict, answer.found) == (Verdict.FAULT, "down")
    assert answer.remedy.startswith("ip link set dev eth2 up")


@pytest.mark.parametrize("name", ["eth9", "../../../proc", ""])
def test_an_interface_that_is_not_there_is_a_fault_that_names_the_others(computer, name):
    answer = links.link(computer.host, NEEDS, name)

    assert answer.verdict is Verdict.FAULT
    assert answer.found == "no such interface; there are eth2, eth2.7, lo"


@pytest.mark.parametrize(("mtu", "verdict"), [(8268, Verdict.OK), (8267, Verdict.FAULT)])
def test_a_packet_and_its_headers_fit_into_the_mtu(computer, mtu, verdict):
    computer.write(f"{CARD}/net/eth2/mtu", str(mtu))

    answer = links.mtu(computer.host, NEEDS, "eth2")  # 8192 + 48 + 28 bytes

    assert answer.verdict is verdict
    assert ("ip link set dev eth2 mtu 9000" in answer.remedy) is (verdict is Verdict.FAULT)


@pytest.mark.parametrize(
    ("rings", "verdict", "remedy"),
    [
        (Rings(1024, 8192), Verdict.WARNING, "ethtool -G eth2 rx 4096"),
        (Rings(256, 512), Verdict.WARNING, "ethtool -G eth2 rx 512"),
        (Rings(512, 512), Verdict.OK, ""),
        (Rings(0, 0), Verdict.UNKNOWN, ""),
    ],
)
def test_rings_are_as_large_as_they_can_be(computer, rings, verdict, remedy):
    computer.kernel = StillKernel(rings=rings)

    answer = links.rings(computer.host, NEEDS, "eth2")

    assert (answer.verdict, answer.remedy.partition("\n")[0]) == (verdict, remedy)


@pytest.fixture
def single_queue(computer):
    (computer.root / CARD / "net/eth2/queues/rx-1/rps_cpus").unlink()
    (computer.root / CARD / "net/eth2/queues/rx-1").rmdir()
    return computer


@pytest.mark.parametrize(
    ("most", "remedy"),
    [
        (63, "ethtool -L eth2 combined 3"),
        (1, "echo 70 > /sys/class/net/eth2/queues/rx-0/rps_cpus"),
        (None, "echo 70 > /sys/class/net/eth2/queues/rx-0/rps_cpus"),
    ],
)
def test_a_single_queue_is_spread_over_near_cores_without_listeners(single_queue, most, remedy):
    single_queue.kernel = StillKernel(queues=most)

    answer = links.queues(single_queue.host, HostNeeds(cpus=(7,)), "eth2")

    assert answer.verdict is Verdict.WARNING
    assert answer.remedy.startswith(remedy)


def test_a_single_queue_that_the_kernel_spreads_is_well(single_queue):
    single_queue.write(f"{CARD}/net/eth2/queues/rx-0/rps_cpus", "00000000,000000f0")

    assert links.queues(single_queue.host, NEEDS, "eth2").verdict is Verdict.OK


def test_queues_that_are_not_shown_are_unknown(computer):
    assert links.queues(computer.host, NEEDS, "lo").verdict is Verdict.UNKNOWN
