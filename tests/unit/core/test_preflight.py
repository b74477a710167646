"""What speaks against a run before it begins."""

import pytest

from lima2_core.errors import ParamError, StorageError
from lima2_core.system.preflight import (
    MOST_FRAMES,
    Demand,
    Experience,
    Room,
    SavedDemand,
    check_length,
    disk_of,
    preflight,
)

MIB = 2**20
SAVED = SavedDemand("/data", MIB, compressed=True)
DEMAND = Demand(frames=1000, period_s=0.01, frame_bytes=MIB, receivers=2, saved=(SAVED,))


def disk_with(free_bytes):
    return lambda folder: (1, free_bytes)


def changed(**changes):
    return Demand(**{**{name: getattr(DEMAND, name) for name in DEMAND.__slots__}, **changes})


def test_nothing_speaks_against_a_run_that_fits():
    assert preflight(DEMAND, disk=disk_with(2000 * MIB)) == ()
    assert DEMAND.saved_bytes == 1000 * MIB


def test_a_run_that_fits_only_if_compressed_is_warned_of():
    (warning,) = preflight(DEMAND, disk=disk_with(250 * MIB))

    assert warning == (
        "/data has 0.244 GiB left: it holds the 0.977 GiB of this run only if they are compressed "
        "4 times"
    )


def test_a_run_that_cannot_fit_is_refused():
    with pytest.raises(StorageError, match="free some, take fewer frames"):
        preflight(DEMAND, disk=disk_with(9 * MIB))
    with pytest.raises(StorageError):
        preflight(
            changed(saved=(SavedDemand("/data", MIB, compressed=False),)),
            disk=disk_with(999 * MIB),
        )


def test_files_of_all_sources_share_a_disk():
    with pytest.raises(StorageError):
        preflight(changed(saved=(SAVED, SAVED)), disk=disk_with(19 * MIB))


def test_a_folder_that_is_not_seen_is_told(tmp_path):
    (warning,) = preflight(DEMAND, disk=lambda folder: None)

    assert "not seen from here" in warning
    assert disk_of(str(tmp_path / "none")) is None
    assert disk_of(str(tmp_path))[1] > 0


def test_a_run_without_end_is_not_judged_by_its_size():
    assert preflight(changed(frames=None), disk=disk_with(0)) == ()


def test_memory_is_judged_for_collected_runs_and_for_what_is_in_use():
    rooms = (Room("r0", 100 * MIB, 1000 * MIB), Room("r1", 900 * MIB, 1000 * MIB))

    warnings = preflight(changed(deferred=True, saved=()), rooms)

    assert warnings == (
        "r1: 90 % of the buffers are in use already",
        "r1: no room to collect all of the 0.488 GiB of a receiver: processing will begin before "
        "it is asked for",
    )


def test_what_is_true_of_several_receivers_is_said_once():
    rooms = tuple(Room(f"r{number}", 900 * MIB, 1000 * MIB) for number in range(3))

    warnings = preflight(changed(saved=()), rooms)

    assert warnings == ("r0, r1, r2: 90 % of the buffers are in use already",)


def test_a_remark_of_several_receivers_is_told_once_with_their_names():
    remarks = (
        ("r0", "mtu of eth0: 1500, wanted 9000"),
        ("r0", "the clock is late"),
        ("r1", "mtu of eth0: 1500, wanted 9000"),
    )

    warnings = preflight(changed(saved=(), remarks=remarks))

    assert warnings == ("r0, r1: mtu of eth0: 1500, wanted 9000", "r0: the clock is late")


def test_an_earlier_run_tells_what_is_too_fast():
    slow = Experience(MIB, 60.0, "saving")

    (warning,) = preflight(changed(saved=()), experiences=(slow,))

    assert warning == (
        "an earlier run of such frames went at 60 frames/s, as queue 'saving' was full; this one "
        "asks for 100"
    )
    assert preflight(changed(saved=(), period_s=0.02), experiences=(slow,)) == ()
    assert preflight(changed(saved=()), experiences=(Experience(MIB, 60.0, ""),)) == ()
    assert preflight(changed(saved=()), experiences=(Experience(9 * MIB, 60.0, "saving"),)) == ()


def test_a_run_that_is_too_long_for_its_books_is_refused():
    check_length(MOST_FRAMES)
    with pytest.raises(ParamError, match="0 to go on until a stop"):
        check_length(MOST_FRAMES + 1)
