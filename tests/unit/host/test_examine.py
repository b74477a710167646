"""All checks together: on a computer that is as it should be, and on one that is not."""

import dataclasses
import shutil

import pytest

from lima2_core.host import HostNeeds, Verdict, examine, warnings, worst
from lima2_core.host.examine import CHECKS, NOT_AT_PREPARE
from tests.unit.host.tuned import CARD, NEEDS


def told(findings):
    return {(finding.check, finding.subject): finding for finding in findings}


def test_a_tuned_computer_passes_every_check(computer, tmp_path):
    needs = dataclasses.replace(NEEDS, folders=(str(tmp_path),))

    findings = examine(needs, computer.root, computer.kernel, frozenset({"write-rate"}))

    assert [finding for finding in findings if finding.verdict is not Verdict.OK] == []
    assert {finding.check for finding in findings} == set(CHECKS) - {"write-rate"}
    assert all(not (finding.cost or finding.remedy) for finding in findings)
    assert worst(findings) is Verdict.OK


def test_cards_are_found_through_addresses_and_vlans_and_told_once(computer):
    findings = told(examine(NEEDS, computer.root, computer.kernel))

    assert findings["mtu", "eth2.7"].found == findings["mtu", "eth2"].found == "9000 bytes"
    assert [subject for check, subject in findings if check == "rings"] == ["eth2"]


def test_of_an_interface_that_is_not_there_nothing_else_is_told(computer):
    findings = examine(HostNeeds(interfaces=("eth9",)), computer.root)

    assert [f.check for f in findings if f.subject == "eth9"] == ["link"]


def test_what_cannot_be_read_is_unknown_with_the_reason(computer):
    shutil.rmtree(computer.root / "proc")
    shutil.rmtree(computer.root / "sys/kernel")

    findings = examine(NEEDS, computer.root, computer.kernel)

    lost = {f.check: f.found for f in findings if f.verdict is Verdict.UNKNOWN}
    assert set(lost) == {
        "receive-buffer",
        "backlog",
        "softnet-drops",
        "udp-errors",
        "real-time",
        "huge-pages",
        "transparent-huge-pages",
        "locked-memory",
        "interrupts",
    }
    assert lost["backlog"].endswith("netdev_max_backlog: No such file or directory")
    assert worst(findings) is Verdict.OK


@pytest.mark.parametrize(
    ("check", "path", "text"),
    [
        ("receive-buffer", "proc/sys/net/core/rmem_max", "much"),
        ("softnet-drops", "proc/net/softnet_stat", "a b z"),
        ("huge-pages", "proc/meminfo", "HugePages_Free: 1"),
        ("interrupts", f"{CARD}/msi_irqs/none", ""),
    ],
)
def test_what_the_kernel_writes_otherwise_than_expected_is_unknown(computer, check, path, text):
    computer.write(path, text)

    findings = {f.check: f.verdict for f in examine(NEEDS, computer.root, computer.kernel)}

    assert findings[check] is Verdict.UNKNOWN


def test_of_a_copy_the_running_kernel_is_not_asked(computer):
    findings = told(examine(dataclasses.replace(NEEDS, interfaces=("eth2",)), computer.root))

    assert findings["rings", "eth2"].verdict is Verdict.UNKNOWN
    assert findings["address", "10.1.1.2"].verdict is Verdict.UNKNOWN


def test_warnings_are_lines_with_a_command_and_nothing_of_the_past(computer):
    computer.write("proc/net/softnet_stat", "00ff 0000000a 00000001")
    computer.write("sys/devices/pci0000:40/0000:41:00.0/numa_node", "0")
    computer.write("proc/sys/net/core/netdev_max_backlog", "1000")
    computer.write(f"{CARD}/net/eth2/mtu", "1500")

    lines = warnings(NEEDS, computer.root, computer.kernel)

    assert lines == (
        "backlog: 1000 packets, wanted at least 9000. Where the kernel spreads packets over cores, "
        "or sends them to itself, it drops what does not fit into this queue, before any socket "
        "sees it. Remedy: sysctl -w net.core.netdev_max_backlog=9000",
        "mtu of eth2: 1500 bytes, wanted at least 8268. Packets of 8268 bytes are thrown away by "
        "the card, or come in pieces that cost the kernel several times the work. Remedy: ip link "
        "set dev eth2 mtu 9000  # the switch needs as much",
    )


def test_what_is_left_out_at_prepare_exists():
    assert set(CHECKS) >= NOT_AT_PREPARE


def test_nothing_is_written_at_prepare(computer, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    before = folder.stat().st_mtime_ns

    warnings(dataclasses.replace(NEEDS, folders=(str(folder),)), computer.root, computer.kernel)

    assert folder.stat().st_mtime_ns == before
