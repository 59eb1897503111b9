"""Runs `tests/laws` and writes what every law declares and measures to `docs/laws.json` and `docs/laws.md`.

    python scripts/laws.py [pytest options]
"""

import datetime
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PITFALLS = range(1, 29)
PEERS = ("diffusers", "monai", "azula", "torchmetrics")

Row = dict[str, Any]


class Ledger:
    """A pytest plugin that collects the rows of the laws that hold, and of those that a fault put back breaks."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.faults: list[Row] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.rows += [{**row, "test": report.nodeid} for name, row in report.user_properties if name == "law"]
            self.faults += [{**row, "test": report.nodeid} for name, row in report.user_properties if name == "fault"]


def conditions() -> dict[str, str]:
    """Where and when the numbers were made."""
    versions = {"python": platform.python_version(), "torch": importlib.metadata.version("torch")}
    for peer in PEERS:
        try:
            versions[peer] = importlib.metadata.version(peer)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": "make laws",
        "date": datetime.date.today().isoformat(),
        "device": f"CPU, {platform.machine()}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def ordered(rows: Iterable[Row]) -> list[Row]:
    """By pitfall, those without one last, then by the words of the law."""
    return sorted(rows, key=lambda row: (row["pitfall"] or len(PITFALLS) + 1, row["law"], row["test"]))


def page(rows: list[Row], faults: list[Row], made: dict[str, str]) -> str:
    """The tables as Markdown."""
    lines = [
        "# The laws",
        "",
        "Every mathematical promise of Inkwash is declared and then measured. Each row is a test that fails when the",
        "promise is broken; a number under *declared* is an upper limit. Pitfalls are faults found in other libraries.",
        "",
        f"Made by `{made['command']}` on {made['date']}, {made['device']}, {made['versions']}.",
        "",
        "| pitfall | law | declared | measured | peers |",
        "|--:|---|---|---|---|",
    ]
    for row in rows:
        peers = "; ".join(f"{name}: {value}" for name, value in sorted(row["peers"].items()))
        lines.append(_line(row["pitfall"], row["law"], row["declared"], row["measured"], peers))
    missing = [str(number) for number in PITFALLS if number not in {row["pitfall"] for row in rows}]
    lines += ["", f"{len(rows)} laws. Pitfalls without a law yet: {', '.join(missing) or 'none'}.", ""]
    lines += [
        "## Faults put back",
        "",
        "A check proves something only if it can fail. Here faults of published code, or of their kind, are put into",
        "the library one by one, and the same checks measure again; each then breaks its bound.",
        "",
        "| pitfall | fault put back | law | declared | measured with the fault |",
        "|--:|---|---|---|---|",
    ]
    lines += [_line(r["pitfall"], r["fault"], r["law"], r["declared"], r["measured"]) for r in faults]
    return "\n".join([*lines, ""])


def _line(*cells: Any) -> str:
    """One row of a table; an empty cell is None."""
    texts = ["" if cell is None else str(cell) for cell in cells]
    return "| " + " | ".join(text.replace("|", r"\|").replace("\n", " ") for text in texts) + " |"


def main(options: list[str]) -> int:
    ledger = Ledger()
    status = pytest.main([str(ROOT / "tests" / "laws"), "-m", "law", *options], plugins=[ledger])
    if status != pytest.ExitCode.OK:
        print("laws: not every law holds, so the page is left as it was", file=sys.stderr)
        return int(status)
    made, rows, faults = conditions(), ordered(ledger.rows), ordered(ledger.faults)
    document = {**made, "laws": rows, "faults": faults}
    (ROOT / "docs" / "laws.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (ROOT / "docs" / "laws.md").write_text(page(rows, faults, made))
    print(f"{len(rows)} laws written to docs/laws.md and docs/laws.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
