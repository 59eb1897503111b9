"""`inkwash.catalogue` and `inkwash.show`: which systems there are, and what one of them is."""

import inspect
import sys
from typing import Any

from pydantic import BaseModel

from inkwash import systems


class Option(BaseModel):
    """One option of a system, settable with `--set name=value`."""

    name: str
    kind: str
    default: Any
    about: str


class Entry(BaseModel):
    """A system in a list."""

    name: str
    title: str
    task: str
    paper: str


class Card(Entry):
    """A system in full.

    Attributes:
        reads: the key of its paper in the reading list.
        about: what the paper is and where the system departs from it.
        options: every option with its default.
        presets: by name, the options that a preset changes.
        commands: how to train it and draw from it.
    """

    reads: str
    about: str
    options: list[Option]
    presets: dict[str, dict[str, Any]]
    commands: list[str]

    def __str__(self) -> str:
        width = max(len(option.name) for option in self.options) if self.options else 0
        lines = [f"{self.name}: {self.title} ({self.task})", self.paper, "", self.about, ""]
        lines.append("Options (--set name=value):")
        for option in self.options:
            lines.append(f"  {option.name:<{width}}  {option.about} [{option.kind}, default {_plain(option.default)}]")
        for preset, changes in self.presets.items():
            lines.append("")
            lines.append(f"--set preset={preset} means:")
            lines.append("  " + ", ".join(f"{name}={_plain(value)}" for name, value in changes.items()))
        return "\n".join([*lines, "", "Run it:", *(f"  {command}" for command in self.commands)])


class Catalogue(BaseModel):
    """The installed systems, by name."""

    systems: list[Entry]

    def __str__(self) -> str:
        width = max((len(entry.name) for entry in self.systems), default=0)
        lines = [f"{entry.name:<{width}}  {entry.task:<12} {entry.title}" for entry in self.systems]
        return "\n".join([*lines, "", "More about one of them: inkwash show NAME"])


def catalogue(task: str | None = None) -> Catalogue:
    """The installed systems, or those for one task ("generation", "synthesis", ...)."""
    found = [systems.get(name) for name in systems.names(task)]
    return Catalogue(systems=[Entry(name=s.name, title=s.title, task=s.task, paper=s.paper) for s in found])


def show(system: str) -> Card:
    """What a system is: its paper, its options with their defaults, how to run it.

    Raises:
        WrongUse: no system has this name.
    """
    found = systems.get(system)
    fields = found.Config.model_fields
    options = [
        Option(
            name=name,
            kind=_kind(field.annotation),
            default=None if field.is_required() else field.get_default(call_default_factory=True),
            about=field.description or "",
        )
        for name, field in fields.items()
    ]
    return Card(
        name=found.name,
        title=found.title,
        task=found.task,
        reads=found.reads,
        paper=found.paper,
        about=inspect.cleandoc(sys.modules[found.__module__].__doc__ or found.__doc__ or ""),
        options=options,
        presets=getattr(found.Config, "presets", {}),
        commands=[
            f"inkwash train {found.name} PATH --out runs/{found.name} --minutes 10",
            f"inkwash sample runs/{found.name} -n 16 --out pictures",
            f"inkwash evaluate runs/{found.name} PATH",
        ],
    )


def _kind(annotation: Any) -> str:
    choices = getattr(annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return " or ".join(choices)
    return annotation.__name__ if isinstance(annotation, type) and not choices else str(annotation)


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
