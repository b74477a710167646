"""Memory of the computer, and folders that frames are written to."""

import os
import resource

import pytest

from lima2_core.host import HostNeeds, Verdict, folders, memory
from tests.unit.host.tuned import ALL_CAPABILITIES

MIB = 2**20


@pytest.mark.parametrize(
    ("nbytes", "verdict", "remedy"),
    [
        (0, Verdict.OK, ""),
        (8 * MIB, Verdict.OK, ""),
        (9 * MIB, Verdict.FAULT, "sysctl -w vm.nr_hugepages=5"),
    ],
)
def test_huge_pages_are_counted(computer, nbytes, verdict, remedy):
    answer = memory.huge_pages(computer.host, HostNeeds(huge_bytes=nbytes))

    assert (answer.verdict, answer.remedy.partition("\n")[0]) == (verdict, remedy)


def test_a_kernel_without_huge_pages_says_nothing_of_them(computer):
    computer.write("proc/meminfo", "MemTotal: 999 kB")

    assert memory.huge_pages(computer.host, HostNeeds()).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("chosen", ["never", "advise", "deny"])
def test_buffers_of_small_pages_are_warned_of(computer, chosen):
    path = "sys/kernel/mm/transparent_hugepage/shmem_enabled"
    computer.write(path, f"always within_size [{chosen}]")

    answer = memory.transparent_huge_pages(computer.host, HostNeeds())

    assert (answer.verdict, answer.found) == (Verdict.WARNING, chosen)
    assert answer.remedy.startswith(f"echo within_size | tee /{path}\n")


@pytest.mark.parametrize(
    ("limit", "nbytes", "verdict"),
    [
        (8 * MIB, 0, Verdict.OK),
        (8 * MIB, 8 * MIB, Verdict.OK),
        (8 * MIB, 9 * MIB, Verdict.WARNING),
        ("unlimited", 9 * MIB, Verdict.OK),
    ],
)
def test_locked_memory_is_limited(computer, limit, nbytes, verdict):
    computer.forbid(Max_locked_memory=limit)

    answer = memory.locked_memory(computer.host, HostNeeds(locked_bytes=nbytes))

    assert answer.verdict is verdict
    assert ("LimitMEMLOCK=9216K" in answer.remedy) is (verdict is Verdict.WARNING)


def test_a_capability_locks_any_amount(computer):
    computer.forbid(ALL_CAPABILITIES, Max_locked_memory=0)

    assert memory.locked_memory(computer.host, HostNeeds(locked_bytes=1)).verdict is Verdict.OK


@pytest.mark.parametrize(("nbytes", "verdict"), [(1, Verdict.OK), (2**60, Verdict.WARNING)])
def test_shared_memory_has_room(computer, nbytes, verdict):
    answer = memory.shared_memory(computer.host, HostNeeds(shared_bytes=nbytes))

    assert answer.verdict is verdict
    assert ("mount -o remount" in answer.remedy) is (verdict is Verdict.WARNING)


@pytest.mark.parametrize(("nbytes", "verdict"), [(1, Verdict.OK), (2**60, Verdict.FAULT)])
def test_a_folder_has_room(computer, tmp_path, nbytes, verdict):
    needs = HostNeeds(free_bytes=nbytes)

    assert folders.free_space(computer.host, needs, str(tmp_path)).verdict is verdict


def test_a_folder_that_is_not_there_is_a_fault(computer, tmp_path):
    answer = folders.free_space(computer.host, HostNeeds(), str(tmp_path / "no one"))

    assert (answer.verdict, answer.found) == (Verdict.FAULT, "no such folder")
    assert answer.remedy.startswith(f"mkdir -p '{tmp_path}/no one'")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_a_fault(computer, tmp_path):
    tmp_path.chmod(0o500)

    answer = folders.free_space(computer.host, HostNeeds(), str(tmp_path))

    tmp_path.chmod(0o700)
    assert (answer.verdict, answer.found) == (Verdict.FAULT, "not to be written to")


@pytest.mark.parametrize(("limit_bytes", "limit_s", "nbytes"), [(9 * MIB, 60, 9), (99 * MIB, 0, 0)])
def test_the_measurement_ends_at_its_limits_and_leaves_nothing(
    tmp_path, limit_bytes, limit_s, nbytes
):
    measured = folders.measure(str(tmp_path), limit_bytes, limit_s)

    assert measured.nbytes == nbytes * MIB
    assert measured.cache_bytes_s >= measured.disk_bytes_s
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def short_files():
    """Writing fails behind the first 6 MiB of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 * MIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("short_files")
def test_the_file_is_gone_after_an_error(tmp_path):
    with pytest.raises(OSError, match="File too large"):
        folders.measure(str(tmp_path), 20 * MIB)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bytes_s", "verdict", "cost"),
    [
        (0.0, Verdict.OK, ""),
        (1e9, Verdict.OK, ""),
        (2e9, Verdict.WARNING, "The memory takes up what the disk does not"),
        (4e9, Verdict.FAULT, "Frames come faster than they can be written"),
    ],
)
def test_a_folder_is_fast_enough_for_ever_for_some_time_or_not(bytes_s, verdict, cost):
    measured = folders.WriteRate(MIB, cache_bytes_s=3e9, disk_bytes_s=1e9)

    answer = folders.judge(measured, HostNeeds(write_bytes_s=bytes_s), "/data")

    assert answer.verdict is verdict
    assert answer.found == "1 GB/s, into the page cache 3 GB/s"
    assert answer.cost.startswith(cost)
    assert answer.remedy.startswith("findmnt -T /data") is bool(cost)
