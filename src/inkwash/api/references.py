"""The papers behind a run: its system's, and those of the parts that it was put together from."""

from collections.abc import Iterable

from inkwash import systems
from inkwash.api.distillation import example, facts
from inkwash.api.plain import plain
from inkwash.reading import Entry, Shelf, shelf
from inkwash.training.run import Run

# An option counts as used where it is not at the value that switches it off.
OFF = {"drop_condition": 0.0, "guidance": 1.0, "shift": 1.0, "patch": 1, "dropout": 0.0, "ema": [], "snapshots": 0}


def references(run: Run, metrics: Iterable[str] = ()) -> list[Entry]:
    """The entries of the reading list to cite for a run, its system's paper first.

    Args:
        metrics: the names of the figures that were measured.
    """
    home = shelf()
    parts = [f"system:{run.system}"]
    for name, value in {**run.config, **run.options.model_dump(mode="json")}.items():
        parts += _options(home, name, value)
    parts += [f"sampler:{str(run.config.get('sampler', '')).partition('@')[0]}"]
    if run.student != "none":
        parts += [f"command:{example(facts(run).method)}"]
    parts += [f"metric:{name}" for name in metrics]
    own = systems.get(run.system).reads
    found = [home.entries[own]] if own in home.entries else []
    return list({entry.key: entry for entry in [*found, *(e for part in parts for e in home.papers(part))]}.values())


def _options(home: Shelf, name: str, value: object) -> list[str]:
    if name not in OFF:
        return [f"set:{name}={plain(value)}"]
    if value == OFF[name]:
        return []
    said = {str(run) for entry in home.entries.values() for run in entry.runs if run.kind == "set"}
    return [part for part in sorted(said) if part.startswith(f"set:{name}=")]
