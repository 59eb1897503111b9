"""The command line of every benchmark."""

import argparse
from pathlib import Path

from support.record import ROOT


def parser(description: str | None, *, full: str = "") -> argparse.ArgumentParser:
    """`--quick`, `--out`, and `--full` where a benchmark says what it adds.

    Args:
        full: what `--full` measures beyond the rest.
    """
    made = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    made.add_argument("--quick", action="store_true", help="tiny shapes, few rounds: whether it runs, not how fast")
    made.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="where the JSON is written")
    if full:
        made.add_argument("--full", action="store_true", help=f"measure {full} too")
    return made


def parse(description: str | None, *, full: str = "") -> argparse.Namespace:
    """What `parser` makes of the words that were given."""
    return parser(description, full=full).parse_args()
