"""The two ways in which Inkwash stops, and the words it stops with.

`WrongUse` is the caller's to mend (exit code 2), `Failed` is not (exit code 1). Both carry one line that
says what is wrong, where, and what would be right; the command line prints that line and no traceback.
"""

import difflib
from collections.abc import Iterable


class WrongUse(ValueError):
    """Something handed in cannot be used: a path, a file, a shape, a value, a name. Exit code 2."""


class Failed(RuntimeError):
    """The request was sound and could not be carried out: disk full, loss not finite. Exit code 1."""


def unknown(kind: str, name: str, choices: Iterable[str], *, listed: str = "") -> WrongUse:
    """The error for a name that does not exist: suggests the nearest one and lists the rest.

    Args:
        listed: where the names can be looked up, for choices too many to list.
    """
    known = sorted(choices)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    rest = f"{listed} names them" if listed else f"known: {', '.join(known) or 'none'}"
    return WrongUse(f"unknown {kind} {name!r}: {hint}{rest}")
