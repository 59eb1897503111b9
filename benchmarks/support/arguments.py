"""The command line of every benchmark."""

import argparse
from pathlib import Path

from support.record import ROOT


def parse(description: str | None, *, full: str = "") -> argparse.Namespace:
    """`--quick`, `--out`, and `--full` where a benchmark says what it adds.

    Args:
        full: what `--full` measures beyond the rest.
    """
    parser = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="tiny shapes, few rounds: whether it runs, not how fast")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="where the JSON is written")
    if full:
        parser.add_argument("--full", action="store_true", help=f"measure {full} too")
    return parser.parse_args()
