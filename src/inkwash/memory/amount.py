"""Amounts of memory as people write and read them."""

import math
import re

from inkwash.errors import WrongUse

FORMS = "write 4GB (10^9 bytes), 3.5GiB (2^30), 500MB, or 80% of what this process can have"

_UNITS = {f"{prefix}{suffix}b": base**power for suffix, base in (("", 1000), ("i", 1024))
          for power, prefix in enumerate("kmgt", start=1)}  # fmt: skip
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+|%)\s*", re.IGNORECASE)


def parse(text: str) -> tuple[int, float]:
    """What a limit says: bytes and 0, or 0 and a share in (0, 1].

    Raises:
        WrongUse: it is no amount, or one of nothing.
    """
    found = _AMOUNT.fullmatch(text)
    unit = found[2].lower() if found else ""
    if found is None or (unit != "%" and unit not in _UNITS):
        raise WrongUse(f"{text!r} is no amount of memory: {FORMS}")
    number = float(found[1])
    if number <= 0 or (unit == "%" and number > 100):
        raise WrongUse(f"{text!r} is {'no share of the memory' if unit == '%' else 'no memory'}: {FORMS}")
    return (0, number / 100) if unit == "%" else (max(1, round(number * _UNITS[unit])), 0.0)


def words(size: int) -> str:
    """Bytes as a person reads them: `1.62 GiB`, `310 MiB`."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def at_least(size: int) -> str:
    """The next amount that is no less, in the form in which a limit is written: `1.7GB`, `310MB`."""
    unit, step = ("GB", 1e8) if size >= 1e9 else ("MB", 1e7)
    steps = math.ceil(size / step)
    return f"{steps / 10:g}GB" if unit == "GB" else f"{steps * 10}MB"
