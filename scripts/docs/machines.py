"""What the page on several machines shows of the repository: the files of scripts/cluster, and what was measured."""

import json
from pathlib import Path

from markdown import block, escaped, folded, table
from words import label

from inkwash.reading.language import Language

_KINDS = {"slurm": "bash", "yaml": "yaml"}


def files(root: Path) -> dict[str, str]:
    """Each file, folded, by its name with underscores: `train_slurm`, `train_kubernetes`."""
    found = {}
    for path in sorted((root / "scripts" / "cluster").iterdir()):
        name = path.relative_to(root).as_posix()
        shown = block(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), _KINDS[path.suffix[1:]])
        found["_".join(path.name.removesuffix(".yaml").split("."))] = folded(name, shown)
    return found


def scaling(path: Path, language: Language) -> str:
    """The rows of `benchmarks/results/scaling.json`, and how they were measured."""
    measured = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    *timed, memory = measured["rows"]
    for row in timed:
        what, _, way = row["measure"].partition(", ")
        detail, ratio = row["detail"], row["ratio"]
        faster = "1" if ratio is None else f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"
        efficiency = "" if detail["cores"] == 1 else f"{100 * detail['efficiency']:.0f} %"
        pace, worked = f"{detail['images a second']:.2f}", f"{detail['processor ms']:.0f} ms"
        rows.append((label(what, language), _way(way, language), pace, faster, efficiency, worked))
    loads = measured["rows"][0]["detail"]["load before each round"]
    how = label(
        "scaling how",
        language,
        device=escaped(measured["device"]),
        torch=measured["versions"]["torch"],
        date=measured["date"][:10],
        rounds=len(loads),
        least=f"{min(loads):.1f}",
        most=f"{max(loads):.1f}",
    )
    weighed = label(
        "scaling memory",
        language,
        weights=f"{memory['detail']['weights'] / 1e6:.0f}",
        ten_thousands=f"{memory['detail']['weights'] / 1e6:.0f}00",
        whole=f"{memory['peers']['shard=false']:.0f}",
        shared=f"{memory['ours']:.0f}",
    )
    head = [label(name, language) for name in ("work", "way", "pace", "faster", "efficiency", "worked")]
    return "\n\n".join([label("scaling lead", language), table(head, rows), how, weighed])


def _way(way: str, language: Language) -> str:
    """`2 processes x 1 thread, shard=true` in the words of a language."""
    if language == "en":
        return escaped(way.replace(" x ", " × "))
    counts, _, rest = way.partition(", ")
    processes, threads = (part.split()[0] for part in counts.split(" x "))
    return escaped(f"{processes}个进程 × {threads}个线程" + (f"，{rest}" if rest else ""))
