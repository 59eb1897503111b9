"""Amounts of memory, as they are written and read."""

import pytest

from inkwash.errors import WrongUse
from inkwash.memory.amount import at_least, parse, words


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4_000_000_000),
        ("4 GB", 4_000_000_000),
        ("4gb", 4_000_000_000),
        ("3.5GiB", 3_758_096_384),
        ("500MB", 500_000_000),
        ("500MiB", 524_288_000),
        (".5TiB", 549_755_813_888),
        ("1.5TB", 1_500_000_000_000),
        ("64kB", 64_000),
        ("64KiB", 65_536),
    ],
)
def test_decimal_and_binary_units(text, size):
    assert parse(text) == (size, 0.0)


@pytest.mark.parametrize(("text", "share"), [("80%", 0.8), ("100 %", 1.0), ("0.5%", 0.005)])
def test_shares(text, share):
    assert parse(text) == (0, pytest.approx(share))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("4", "no amount of memory"),
        ("4G", "no amount of memory"),
        ("4Gb/s", "no amount of memory"),
        ("-4GB", "no amount of memory"),
        ("lots", "no amount of memory"),
        ("", "no amount of memory"),
        ("1,5GB", "no amount of memory"),
        ("0GB", "is no memory"),
        ("0%", "no share of the memory"),
        ("101%", "no share of the memory"),
    ],
)
def test_anything_else_is_one_line_that_says_what_would_be_right(text, says):
    with pytest.raises(WrongUse, match=says) as error:
        parse(text)
    assert repr(text) in str(error.value)
    assert "4GB" in str(error.value)
    assert "80%" in str(error.value)


def test_what_a_person_reads():
    assert words(int(1.62 * 2**30)) == "1.62 GiB"
    assert words(310 * 2**20) == "310 MiB"


@pytest.mark.parametrize("size", [1, 9_999_999, 10_000_000, 123_456_789, 999_999_999, 10**9, 1_700_000_001, 64 * 2**30])
def test_what_is_suggested_is_enough_and_not_much_more(size):
    suggested = parse(at_least(size))[0]
    assert size <= suggested <= size + 1.01e8
    assert suggested <= size + 1e7 or size >= 0.99e9
