"""What to type for that which the reading list says runs."""

from inkwash import systems
from inkwash.reading import Runs

# What segmenters are compared with.
BASELINE = "unet"


def commands(run: Runs) -> list[str]:
    """The commands that run it; for a part of the library, the import.

    Words in capitals (RUN, DATA) stand for the user's own.
    """
    if run.kind == "system":
        return of_system(run.name)
    if run.kind == "sampler":
        return [f"inkwash sample RUN -n 16 --sampler {run.name} --out new"]
    if run.kind == "set":
        return [f"inkwash train ddpm DATA --out RUN --minutes 10 --set {run.name}"]
    if run.kind == "metric":
        return ["inkwash evaluate RUN DATA"]
    if run.kind == "code":
        module, _, name = run.name.partition(":")
        return [f"from {module} import {name.partition('.')[0]}"]
    return [run.name]


def of_system(name: str) -> list[str]:
    """How to train a system, use it, measure it, and set it beside its paper."""
    task = systems.get(name).task
    if task == "segmentation":
        other = "ensemdiff" if name == BASELINE else name
        return [
            f"inkwash train {name} DATA --out runs/{name} --minutes 10",
            f"inkwash evaluate runs/{name} DATA",
            f"inkwash compare DATA --systems {BASELINE},{other} --minutes 10 --out runs/compared",
            f"inkwash reproduce {name} --minutes 10",
        ]
    if task == "restoration":
        # noise2void removes noise alone, which is what restorers learn by default.
        return [
            f"inkwash train {name} DATA --out runs/{name} --minutes 10",
            f"inkwash predict runs/{name} NOISY --out restored",
            f"inkwash restore DATA --operators denoise:noise=25 --methods tv runs/{name} --out runs/restored",
            f"inkwash reproduce {name} --minutes 10",
        ]
    if task == "anomaly":
        return [
            f"inkwash train {name} DATA --out runs/{name} --minutes 10",
            f"inkwash anomaly runs/{name} DATA --out found",
            f"inkwash reproduce {name} --minutes 10",
        ]
    condition = "--condition DATA " if task == "synthesis" else ""
    return [
        f"inkwash train {name} DATA --out runs/{name} --minutes 10",
        f"inkwash sample runs/{name} -n 16 {condition}--out new",
        f"inkwash evaluate runs/{name} DATA",
        f"inkwash reproduce {name} --minutes 10",
    ]
