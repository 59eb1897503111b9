"""One paper, one file. Systems are found through the entry points `inkwash.systems`, ours and other people's."""

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from inkwash.errors import Failed, unknown

if TYPE_CHECKING:
    from inkwash.systems.base import System


def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="inkwash.systems")}


def get(name: str) -> "type[System]":
    """The system of this name; unknown names raise `WrongUse` with the nearest one."""
    points = _points()
    if name not in points:
        raise unknown("system", name, points)
    try:
        found = points[name].load()
    except ImportError as error:
        raise Failed(f"system {name!r} is installed but does not import: {error}") from error
    return found


def installed() -> frozenset[str]:
    """The names of all installed systems, none of which is imported."""
    return frozenset(_points())


def names(task: str | None = None) -> list[str]:
    """The names of all installed systems, or of those for one task."""
    return sorted(name for name in _points() if task is None or get(name).task == task)
