"""`inkwash.catalogue`: which systems there are, and every option of one of them."""

import inspect
import sys
from dataclasses import fields
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from inkwash import systems
from inkwash.api.runnable import of_system
from inkwash.api.shown import Details, Option, SystemLine
from inkwash.data.augment import Augment
from inkwash.training.options import TrainOptions

_WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}


class Catalogue(BaseModel):
    """The installed systems, by name."""

    systems: list[SystemLine]

    def __str__(self) -> str:
        width = max((len(entry.name) for entry in self.systems), default=0)
        lines = [f"{entry.name:<{width}}  {entry.task:<12} {entry.title}" for entry in self.systems]
        return "\n".join([*lines, "", "More about one of them: inkwash show SYSTEM"])


def catalogue(task: str | None = None) -> Catalogue:
    """The installed systems, or those for one task ("generation", "synthesis", ...)."""
    found = [systems.get(name) for name in systems.names(task)]
    return Catalogue(systems=[SystemLine(name=s.name, title=s.title, task=s.task, paper=s.paper) for s in found])


def details(system: str) -> Details:
    """What a system is: its paper, its options with their defaults, how to run it.

    Raises:
        WrongUse: no system has this name.
    """
    found = systems.get(system)
    return Details(
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
        commands=of_system(found.name),
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
