"""`inkwash.field_map`: the reading list as one picture in one HTML file."""

from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args, get_origin

from inkwash import systems
from inkwash.api.runnable import commands, of_system
from inkwash.atomic import write_bytes
from inkwash.errors import WrongUse
from inkwash.reading import Runs, Shelf, shelf
from inkwash.reading.language import choose
from inkwash.reading.map import build, page
from inkwash.reading.map_schema import Trainable
from inkwash.systems.base import Generator, System
from inkwash.training.options import TrainOptions


def field_map(out: str | Path, *, lang: str | None = None) -> Path:
    """Write the map of the field: surveys, families, papers, parts and systems, and what of them runs today.

    The page asks nothing of the network and holds both languages.

    Args:
        out: the file to write, .html; one that is there is replaced.
        lang: the language in which it opens, "en" or "zh"; that of `LANG` by default.

    Returns:
        The path of the file.

    Raises:
        WrongUse: no such language, or `out` can't be an HTML file; nothing was written.
    """
    path, language = _checked(Path(out)), choose(lang)
    home = shelf()
    field = build(home, trainable(home), commands)
    return write_bytes(path, page(field, language, version("inkwash")).encode())


def trainable(home: Shelf) -> list[Trainable]:
    """The installed systems, and what of the list each can be put together with."""
    said = list(dict.fromkeys(run for entry in home.entries.values() for run in home.runs(entry)))
    return [
        Trainable(
            name=name,
            title=system.title,
            task=system.task,
            commands=of_system(name),
            takes=frozenset(str(run) for run in said if _takes(system, run)),
        )
        for name, system in ((name, systems.get(name)) for name in systems.names())
    ]


def _takes(system: type[System], run: Runs) -> bool:
    options = {**system.Config.model_fields, **TrainOptions.model_fields}
    if run.kind in ("sampler", "set"):
        option, _, value = run.name.partition("=") if run.kind == "set" else ("sampler", "=", run.name)
        if option not in options:
            return False
        kind = options[option].annotation
        # A type that lists its values takes these alone, the others every name of the recipes.
        return get_origin(kind) is not Literal or value in get_args(kind)
    if run.kind == "metric":
        return issubclass(system, Generator)
    return run.kind == "command" and system.name in run.name.split()


def _checked(path: Path) -> Path:
    if path.is_dir():
        raise WrongUse(f"{path} is a folder: give a file, such as {path / 'map.html'}")
    if path.suffix.lower() not in (".html", ".htm"):
        raise WrongUse(f"{path} is not the name of an HTML file: give one that ends in .html")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise WrongUse(f"{path} cannot be written: {above} is a file")
    return path
