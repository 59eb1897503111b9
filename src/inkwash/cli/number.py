"""Whole numbers and sizes on the command line. Left alone, the parser rounds `--steps 2.5` and says nothing."""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


def _sides(_: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    text = tokens[-1].value  # of a size said twice the last counts, as everywhere
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is no size: a whole number, or several with commas between them") from None


Whole = Annotated[int, Parameter(converter=_whole)]
Sides = Annotated[tuple[int, ...], Parameter(converter=_sides, n_tokens=1)]
