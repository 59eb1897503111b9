"""One table of everything in `benchmarks/results/*.json`: the middle of the runs that are kept, and their spread.

Each file holds up to three runs of the same code on the same machine. A figure here is the median of theirs, with the
least and the greatest behind it; a target is met where the median meets it. Written to `benchmarks/results/README.md`
and printed.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from support.record import number  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
HEAD = "| | Inkwash | best peer | ratio | target | |\n|---|--:|---|--:|--:|---|"


def main() -> None:
    """Write the table and print it."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    parts = [
        "# Benchmarks",
        "Written by `make bench`. Less is better in every column but the ratio, which is the best peer's figure over "
        "ours in the same run. Medians of the runs, and in brackets the least and the greatest of them.",
    ]
    rows = [combined(result) for result in found]
    targets = [row["met"] for part in rows for row in part]
    met, missed = targets.count(True), targets.count(False)
    parts.append(f"{met} of {met + missed} targets are met.")
    parts += [section(result, part) for result, part in zip(found, rows, strict=True)]
    text = "\n\n".join(parts) + "\n"
    (RESULTS / "README.md").write_text(text, encoding="utf-8")
    print(text)


def combined(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the newest run, with the figures of all: `ours`, `peers` and `ratio` become lists."""
    runs = [result["rows"], *(run["rows"] for run in result["earlier"])]
    rows = []
    for row in runs[0]:
        same = [other for run in runs for other in run if other["measure"] == row["measure"]]
        ratios = [other["ratio"]["median"] for other in same if other["ratio"] is not None]
        ours = [other["ours"] for other in same if other["ours"] is not None]
        peers = {
            name: [other["peers"][name] for other in same if other["peers"].get(name) is not None]
            for name in row["peers"]
        }
        rows.append({**row, "ours": ours, "ratio": ratios, "peers": peers, "met": verdict(row["target"], ours, ratios)})
    return rows


def verdict(target: str | None, ours: list[float], ratios: list[float]) -> bool | None:
    """Whether the medians meet a target, written as `benchmarks/support/record.py` writes it."""
    if target is None:
        return None
    limit = float(target.split()[-1])
    if target.startswith("ratio"):
        return bool(ratios) and statistics.median(ratios) >= limit
    return bool(ours) and statistics.median(ours) <= limit


def section(result: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """A heading, the conditions, what was measured, and the rows, as of `combined`."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    dates = [result["date"], *(run["date"] for run in result["earlier"])]
    loads = [result["load"], *(run["load"] for run in result["earlier"])]
    lines = [HEAD]
    for row in rows:
        named = {name: statistics.median(values) for name, values in row["peers"].items() if values}
        best = min(named, key=named.__getitem__) if named else None
        peer = "" if best is None else f"{number(named[best])} {best}"
        said = {None: "", True: "met", False: "**missed**"}[row["met"]]
        note = f"{said}; {row['note']}" if said and row["note"] else said or row["note"]
        ours = f"{spread(row['ours'])} {row['unit']}".strip()
        cells = [row["measure"], ours, peer, spread(row["ratio"]), row["target"] or "", note]
        lines.append(f"| {' | '.join(cells)} |")
    about = result["about"].strip()
    conditions = (
        f"{result['device']}, {result['threads']} threads; {len(dates)} run{'s' if len(dates) > 1 else ''} "
        f"({', '.join(dates)}), load before: {', '.join(map(str, loads))}. {versions}."
    )
    return "\n\n".join([f"## {result['title']}", about, conditions, "\n".join(lines)])


def spread(values: list[float]) -> str:
    """The median, with the least and the greatest where there are several."""
    if not values:
        return ""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


if __name__ == "__main__":
    main()
