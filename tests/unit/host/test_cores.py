"""Interrupts, cores of the listeners, their clock and their priority; nodes of cards."""

import shutil

import pytest

from lima2_core.host import HostNeeds, Verdict, cores, nodes
from tests.unit.host.tuned import ALL_CAPABILITIES, CARD

NEEDS = HostNeeds()
GPU = "sys/devices/pci0000:40/0000:41:00.0"


def test_only_interrupts_of_receive_queues_in_use_count(computer):
    assert cores.queue_interrupts(computer.host, "eth2") == {101: (4,), 102: (5,)}


def test_interrupts_on_the_other_processor_are_warned_of(computer):
    computer.write("proc/irq/102/effective_affinity_list", "1")

    answer = cores.interrupts(computer.host, HostNeeds(cpus=(6, 7)), "eth2")

    assert answer.verdict is Verdict.WARNING
    assert answer.found == "2 interrupts on cores 1,4; 1 of them away from the card"
    assert answer.wanted == "on cores 4-7"
    assert "c=(4 5); i=0; for irq in 101 102; do" in answer.remedy


def test_all_interrupts_on_one_core_are_warned_of(computer):
    computer.write("proc/irq/102/effective_affinity_list", "4")

    answer = cores.interrupts(computer.host, NEEDS, "eth2")

    assert (answer.verdict, answer.found) == (Verdict.WARNING, "2 interrupts on core 4")


def test_an_interrupt_that_never_came_goes_where_it_may(computer):
    computer.write("proc/irq/102/effective_affinity_list", "")

    assert cores.queue_interrupts(computer.host, "eth2")[102] == (4, 5, 6, 7)


def test_a_card_without_a_list_of_interrupts_is_found_by_its_name(computer):
    shutil.rmtree(computer.root / CARD / "msi_irqs")
    computer.write(
        "proc/interrupts",
        "            CPU0       CPU1\n"
        "   9:          1          0  IO-APIC   9-edge      acpi\n"
        " 101:          1          0  PCI-MSI 524288-edge      i40e-eth2-TxRx-0\n"
        " 102:          1          0  PCI-MSI 524289-edge      i40e-eth20-TxRx-0\n"
        " NMI:          0          0  Non-maskable interrupts eth2",
    )

    assert cores.queue_interrupts(computer.host, "eth2") == {101: (4,)}


def test_interrupts_that_are_not_found_are_unknown(computer):
    shutil.rmtree(computer.root / CARD / "msi_irqs")
    computer.write("proc/interrupts", "   CPU0")

    assert cores.interrupts(computer.host, NEEDS, "eth2").verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("wanted", "verdict", "found"),
    [
        ((), Verdict.OK, "not asked for"),
        ((5, 6), Verdict.OK, "5-6"),
        ((3, 4), Verdict.WARNING, "core 3 away from eth2"),
        ((7, 8, 9), Verdict.FAULT, "cores 8-9 missing; there are 0-7"),
    ],
)
def test_listeners_have_cores_near_to_the_card(computer, wanted, verdict, found):
    needs = HostNeeds(interfaces=("eth2", "lo", "eth9"), cpus=wanted)

    answer = cores.listener_cores(computer.host, needs)

    assert (answer.verdict, answer.found) == (verdict, found)


def test_one_slow_core_is_enough_for_a_warning(computer):
    computer.write("sys/devices/system/cpu/cpufreq/policy3/scaling_governor", "powersave")

    answer = cores.governor(computer.host, NEEDS)

    assert (answer.verdict, answer.found) == (Verdict.WARNING, "performance, powersave")
    assert answer.remedy.startswith("echo performance | tee /sys/devices/system/cpu/cpu*/")


def test_without_control_over_the_clock_it_is_unknown(computer):
    shutil.rmtree(computer.root / "sys/devices/system/cpu/cpufreq")

    assert cores.governor(computer.host, NEEDS).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("limit", "asked", "verdict", "found"),
    [
        ("unlimited", 90, Verdict.OK, "any priority allowed"),
        (90, 90, Verdict.OK, "up to 90 allowed"),
        (10, 90, Verdict.WARNING, "up to 10 allowed"),
        (0, 90, Verdict.WARNING, "none allowed"),
        (0, 0, Verdict.OK, "none allowed, none asked for"),
    ],
)
def test_priority_is_limited(computer, limit, asked, verdict, found):
    computer.forbid(Max_realtime_priority=limit)

    answer = cores.real_time(computer.host, HostNeeds(realtime=asked))

    assert (answer.verdict, answer.found) == (verdict, found)
    assert ("LimitRTPRIO=90" in answer.remedy) is (verdict is Verdict.WARNING)


def test_a_capability_stands_above_the_limit(computer):
    computer.forbid(ALL_CAPABILITIES, Max_realtime_priority=0)

    assert cores.real_time(computer.host, HostNeeds(realtime=90)).verdict is Verdict.OK


def test_only_gpus_count_not_every_screen(computer):
    assert nodes.gpus(computer.host) == {"0000:41:00.0": 1}


def test_a_gpu_on_the_other_processor_is_warned_of(computer):
    computer.write(f"{GPU}/numa_node", "0")

    answer = nodes.placement(computer.host, NEEDS, "eth2")

    assert answer.verdict is Verdict.WARNING
    assert answer.found == "node 1; GPU 0000:41:00.0 on 0"
    assert "CPUAffinity=4-7" in answer.remedy


@pytest.mark.parametrize(
    ("files", "verdict", "found"),
    [
        ({f"{GPU}/class": "0x010802"}, Verdict.OK, "node 1, no GPU"),
        ({f"{GPU}/numa_node": "-1"}, Verdict.OK, "node 1; GPU 0000:41:00.0 on an unknown one"),
        ({f"{CARD}/numa_node": "-1"}, Verdict.UNKNOWN, None),
        ({"sys/devices/system/node/node1/cpulist": ""}, Verdict.OK, "one node for all"),
    ],
)
def test_where_nothing_crosses_nothing_is_wrong(computer, files, verdict, found):
    for path, text in files.items():
        computer.write(path, text)

    answer = nodes.placement(computer.host, NEEDS, "eth2")

    assert answer.verdict is verdict
    assert found is None or answer.found == found
