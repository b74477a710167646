"""Sizes and lists of cores, read and written."""

import pytest

from lima2_core.host import text


@pytest.mark.parametrize(
    ("written", "nbytes"),
    [
        ("8240", 8240),
        ("1GB", 10**9),
        ("1 GiB", 2**30),
        ("64MiB", 64 * 2**20),
        ("1.5kB", 1500),
        ("2T", 2 * 10**12),
    ],
)
def test_sizes_are_read(written, nbytes):
    assert text.parse_size(written) == nbytes


@pytest.mark.parametrize("written", ["", "much", "-1", "1 PB", "1GBs", "1e9"])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(ValueError, match="is no size"):
        text.parse_size(written)


@pytest.mark.parametrize(
    ("nbytes", "written"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (212992, "208 KiB"),
        (2**30, "1 GiB"),
        (2**52, "4096 TiB"),
    ],
)
def test_sizes_are_written(nbytes, written):
    assert text.size(nbytes) == written


@pytest.mark.parametrize(
    ("written", "numbers", "mask"),
    [
        ("", (), "0"),
        ("0", (0,), "1"),
        ("0-3,8", (0, 1, 2, 3, 8), "10f"),
        ("1,32-33", (1, 32, 33), "3,00000002"),
    ],
)
def test_cores_are_read_and_written(written, numbers, mask):
    assert text.parse_cpus(written) == numbers
    assert text.cpus(numbers) == written
    assert text.cpu_mask(numbers) == mask
