"""What a benchmark leaves behind: rows on the screen, and the same rows in `benchmarks/results/<name>.json`."""

import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from support.timing import Spread

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torch",
    "inkwash",
    "diffusers",
    "monai",
    "denoising-diffusion-pytorch",
    "guided-diffusion-sdk",
    "onnxruntime",
    "scikit-learn",
)
_KEPT = 3


@dataclass(frozen=True)
class Target:
    """What a row is to reach: `on` is "ratio" or "ours", and `limit` the least ratio or the most of ours."""

    on: str
    limit: float

    def __post_init__(self) -> None:
        if self.on not in ("ratio", "ours"):
            raise ValueError(f"a target is on the ratio or on ours, not on {self.on!r}")

    def met(self, row: "Row") -> bool:
        if self.on == "ratio":
            return row.ratio is not None and row.ratio.median >= self.limit
        return row.ours <= self.limit

    def __str__(self) -> str:
        return f"ratio >= {self.limit:g}" if self.on == "ratio" else f"<= {self.limit:g}"


@dataclass(frozen=True)
class Row:
    """One thing measured. What is measured is less the better: seconds, bytes, errors.

    Attributes:
        measure: what it is, unique in its file.
        ours: our number.
        peers: the same of others, by name.
        ratio: the best peer's over ours, above 1 where we are better; None where nobody else can be measured.
        note: what a reader must know to judge the row.
        detail: anything else worth keeping in the JSON.
    """

    measure: str
    ours: float
    unit: str
    peers: dict[str, float] = field(default_factory=dict)
    ratio: Spread | None = None
    target: Target | None = None
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        content = asdict(self) | {"target": None if self.target is None else str(self.target)}
        content["met"] = None if self.target is None else self.target.met(self)
        return _finite(content)


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def conditions() -> dict[str, Any]:
    """Where and when."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now().isoformat(timespec="minutes"),
        "versions": versions,
        "device": f"CPU, {_processor()}",
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "source": source(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def source() -> str:
    """A hash of the library as it is: runs of different code are not runs of the same thing."""
    digest = hashlib.blake2b(digest_size=8)
    for folder in (ROOT / "src" / "inkwash", ROOT / "benchmarks"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def write(name: str, title: str, rows: list[Row], folder: Path, *, about: str = "") -> Path:
    """Write `<folder>/<name>.json` and print the rows as a Markdown table.

    Earlier runs of the same code, under the same conditions, stay in the file as `earlier`, the newest first.
    """
    now = {"name": name, "title": title, "about": about, **conditions(), "rows": [row.as_json() for row in rows]}
    path = folder / f"{name}.json"
    now["earlier"] = _earlier(path, now)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
    print("\n".join(["", f"### {title}", "", *table(now["rows"]), ""]), flush=True)
    return path


def _earlier(path: Path, now: dict[str, Any]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    before = json.loads(path.read_text(encoding="utf-8"))
    same = ("source", "versions", "device", "threads")
    if any(before.get(key) != now[key] for key in same):
        return []
    latest = {key: before[key] for key in ("date", "load", "rows")}
    return [latest, *before.get("earlier", [])][: _KEPT - 1]


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows, as they are in the JSON, as lines of Markdown; a middle value is followed by its quartiles."""
    lines = ["| | Inkwash | best peer | ratio | target | |", "|---|--:|---|--:|--:|---|"]
    for row in rows:
        found = {name: value for name, value in row["peers"].items() if value is not None}
        best = min(found, key=found.__getitem__) if found else None
        peer = "" if best is None else f"{number(found[best])} {best}"
        ratio = row["ratio"]
        factor = "" if ratio is None else f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        verdict = {None: "", True: "met", False: "**missed**"}[row["met"]]
        ours = f"{number(row['ours'])} {row['unit']}".strip()
        lines.append(f"| {row['measure']} | {ours} | {peer} | {factor} | {row['target'] or ''} | {verdict} |")
    return lines


def number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return "fails"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
