"""What is the user's own, by the words of the command line: `module:function`, `file.py:function`."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inkwash.errors import WrongUse
from inkwash.operators.base import Operator
from inkwash.operators.noise import Counted, White
from inkwash.systems.restoration.measurements import LEVEL, OPERATORS, Measurement, Shape, kind, measurement


def function(text: str) -> Callable[..., Any]:
    """The function that `module:function` or `file.py:function` names; importing runs what stands in the module.

    Raises:
        WrongUse: there is none.
    """
    module, _, name = text.rpartition(":")
    try:
        if module.endswith(".py"):
            found = importlib.util.spec_from_file_location(Path(module).stem, module)
            if found is None or found.loader is None or not Path(module).is_file():
                raise ImportError("no such file")
            loaded = importlib.util.module_from_spec(found)
            sys.modules[found.name] = loaded
            found.loader.exec_module(loaded)
        else:
            loaded = importlib.import_module(module)
        made = getattr(loaded, name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise WrongUse(f"{text}: {error}") from None
    if not callable(made):
        raise WrongUse(f"{text} is a {type(made).__name__}, not a function")
    result: Callable[..., Any] = made
    return result


def is_own(text: str) -> bool:
    """Whether an operator is the user's own: `mine.py:blur,noise=5`, where ours say `blur:sigma=2,noise=5`."""
    return kind(text) not in OPERATORS and ":" in text and "=" not in text.partition(":")[2].partition(",")[0]


def asked(text: str, shape: Shape) -> Measurement:
    """The measurement that an operator of ours or of the user's own means, as of `measurement`.

    A run is never told one of the user's own: whoever loads it would run what it names.

    Args:
        text: of the user's own `module:function`, and after a comma `noise=` in grey levels of 255 or `peak=` in
            photons. `function(shape)` makes the `Operator`.

    Raises:
        WrongUse: there is no such function, or what it makes isn't an operator for such images.
    """
    if not is_own(text):
        return measurement(text, shape)
    name, *options = text.split(",")
    told = dict(option.partition("=")[::2] for option in options)
    if len(told) > 1 or not told.keys() <= {"noise", "peak"}:
        raise WrongUse(f"--operator {text}: after a function of your own comes noise=5 or peak=30, and nothing else")
    try:
        level = {key: float(value) for key, value in told.items()}
    except ValueError:
        raise WrongUse(f"--operator {text}: noise and peak are numbers") from None
    made = function(name)(shape)
    if not isinstance(made, Operator):
        raise WrongUse(f"{name} made a {type(made).__name__} of a shape, not an operator (inkwash.operators)")
    if made.shape != tuple(shape):
        raise WrongUse(f"{name} was told images of shape {tuple(shape)} and made an operator for {made.shape}")
    noise = Counted(level["peak"]) if "peak" in level else White(LEVEL * level.get("noise", 0.0))
    return Measurement(text, made, noise)
