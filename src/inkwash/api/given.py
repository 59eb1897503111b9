"""Options as a user gives them, `key=value`, sorted to what they are options of."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from inkwash.api.plain import plain
from inkwash.data.augment import Augment
from inkwash.errors import WrongUse

AUGMENTS = frozenset(part.name for part in fields(Augment))


def pairs(given: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """What `--set` was given, as a mapping."""
    if isinstance(given, Mapping):
        return dict(given)
    found: dict[str, Any] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise WrongUse(f"--set takes key=value, not {pair!r}")
        found[key.strip()] = yaml.safe_load(value) if "," not in value or "[" in value else value
    return found


def said(given: Mapping[str, Any]) -> list[str]:
    """The words of a command line that give these options again."""
    return [word for key, value in given.items() for word in ("--set", f"{key}={plain(value)}")]


def of(part: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that are options of `part`."""
    return {key: value for key, value in values.items() if key in part.model_fields}


def augmentation(values: Mapping[str, Any]) -> Augment:
    """The augmentation with these options, or one line that says which of them is wrong."""
    listed = {k: v.split(",") if isinstance(v, str) and "," in v else v for k, v in values.items()}
    try:
        return TypeAdapter(Augment).validate_python(listed)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if part in AUGMENTS)
        raise WrongUse(f"{name + ': ' if name else ''}{first['msg'].removeprefix('Value error, ')}") from None
