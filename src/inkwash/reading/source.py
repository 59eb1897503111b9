"""YAML whose errors say where they are: file, line, field, reason."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from inkwash.errors import WrongUse

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Place = tuple[int | str, ...]
_Model = TypeVar("_Model", bound=BaseModel)


class Located:
    """What a YAML file holds, and the line that each part of it stands on."""

    def __init__(self, path: Path) -> None:
        """Read `path`.

        Raises:
            WrongUse: it cannot be read, is not YAML, or says a key twice.
        """
        self.path = path
        self._lines: dict[_Place, int] = {}
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
        except OSError as error:
            raise WrongUse(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise WrongUse(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise WrongUse(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {error.problem}") from None
        self.content = self._read(node, ())

    def line(self, *place: int | str) -> int:
        """The line of the part at `place`, or of the innermost part around it that is there."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def wrong(self, reason: str, *place: int | str) -> WrongUse:
        """The error for the part at `place`."""
        where = ".".join(str(part) for part in place if isinstance(part, str))
        return WrongUse(f"{self.path}:{self.line(*place)}: {where + ': ' if where else ''}{reason}")

    def into(self, model: type[_Model], *place: int | str) -> _Model:
        """The part at `place` as a `model`.

        Raises:
            WrongUse: it does not fit; names the file, the line, the field and the reason of the first misfit.
        """
        value = self.content
        for part in place:
            value = value[part]
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            reason = first["msg"].removeprefix("Value error, ")
            raise self.wrong(f"{reason}{_got(first)}", *place, *first["loc"]) from None

    def _read(self, node: yaml.Node | None, place: _Place) -> Any:
        if node is None:
            return None
        self._lines[place] = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            return [self._read(item, (*place, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key_node, value in node.value:
                key = str(key_node.value)
                if key in found:
                    line = key_node.start_mark.line + 1
                    raise WrongUse(f"{self.path}:{line}: {key}: said twice in the same block")
                found[key] = self._read(value, (*place, key))
                self._lines[(*place, key)] = key_node.start_mark.line + 1
            return found
        return yaml.constructor.SafeConstructor().construct_object(node)


def _got(error: Mapping[str, Any]) -> str:
    value = error.get("input")
    return f", not {value!r}" if isinstance(value, (str, int, float)) and error["type"] != "value_error" else ""
