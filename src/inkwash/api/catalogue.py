"""`inkwash.catalogue` and `inkwash.show`: which systems there are, and what one of them is."""

import inspect
import json
import sys
from dataclasses import fields
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from inkwash import systems
from inkwash.data.augment import Augment
from inkwash.training.options import TrainOptions

_WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}


class Option(BaseModel):
    """One option of a system, settable with `--set name=value`."""

    name: str
    kind: str
    default: Any
    about: str

    def __str__(self) -> str:
        return f"  {self.name:<18}  {self.about} [{self.kind}, default {plain(self.default)}]"


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
        options: every option of the system with its default.
        presets: by name, the options that a preset changes.
        training: every option of its training and of the augmentation, with the defaults that suit the system.
        commands: how to train it and draw from it.
    """

    reads: str
    about: str
    options: list[Option]
    presets: dict[str, dict[str, Any]]
    training: list[Option]
    commands: list[str]

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title} ({self.task})", self.paper, "", self.about, ""]
        lines += ["Options (--set name=value):", *map(str, self.options)]
        for preset, changes in self.presets.items():
            lines.append("")
            lines.append(f"--set preset={preset} means:")
            lines.append("  " + ", ".join(f"{name}={plain(value)}" for name, value in changes.items()))
        lines += ["", "Options of the training (--set name=value):", *map(str, self.training)]
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
    condition = "--condition PATH " if found.task == "synthesis" else ""
    return Card(
        name=found.name,
        title=found.title,
        task=found.task,
        reads=found.reads,
        paper=found.paper,
        about=inspect.cleandoc(sys.modules[found.__module__].__doc__ or found.__doc__ or ""),
        options=_options(found.Config),
        presets={
            name: {**changes, **found.training_presets.get(name, {})}
            for name, changes in getattr(found.Config, "presets", {}).items()
        },
        training=_suited([*_options(TrainOptions), *_augmentation()], found.training_presets.get("quick", {})),
        commands=[
            f"inkwash train {found.name} PATH --out runs/{found.name} --minutes 10",
            f"inkwash sample runs/{found.name} -n 16 {condition}--out pictures",
            f"inkwash evaluate runs/{found.name} PATH",
        ],
    )


def _options(config: type[BaseModel]) -> list[Option]:
    return [
        Option(name=name, kind=_kind(field.annotation), default=field.get_default(), about=field.description or "")
        for name, field in config.model_fields.items()
    ]


def _augmentation() -> list[Option]:
    lines = (line.strip().partition(": ") for line in (Augment.__doc__ or "").splitlines())
    about = {name: text.rstrip(".") for name, _, text in lines}
    return [
        Option(name=part.name, kind=_kind(part.type), default=part.default, about=about[part.name])
        for part in fields(Augment)
    ]


def _suited(options: list[Option], changes: dict[str, Any]) -> list[Option]:
    return [option.model_copy(update={"default": changes.get(option.name, option.default)}) for option in options]


def _kind(annotation: Any) -> str:
    """A type in plain words: "integer", "number or null", "eps or x or v", "list of integer"."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0])
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin is tuple:
        return f"list of {_kind(parts[0])}"
    return " or ".join(map(_kind, parts)) if parts else _WORDS.get(annotation, str(annotation))


def plain(value: Any) -> str:
    """A value as `--set` takes it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return ",".join(map(plain, value)) if isinstance(value, (list, tuple)) else str(value)
