"""What `inkwash show` answers: the parts of a page, as data."""

from typing import Any

from pydantic import BaseModel, PrivateAttr

from inkwash.reading import Card, Entry, Tree
from inkwash.reading.language import Language
from inkwash.reading.shelf import Status


class Listed(Entry):
    """An entry of the reading list, and whether all of it runs, a part, or nothing."""

    status: Status


class Option(BaseModel):
    """One option, settable with `--set name=value`."""

    name: str
    kind: str
    default: Any
    about: str


class SystemLine(BaseModel):
    """A system in a list."""

    name: str
    title: str
    task: str
    paper: str


class Details(SystemLine):
    """A system in full.

    Attributes:
        reads: the key of its paper in the reading list.
        about: what the paper is and where the system departs from it.
        options: every option of the system with its default.
        presets: by name, the options that a preset changes.
        training: every option of its training and of the augmentation, with the defaults that suit the system.
        commands: how to train it, draw from it and measure it.
    """

    reads: str
    about: str
    options: list[Option]
    presets: dict[str, dict[str, Any]]
    training: list[Option]
    commands: list[str]


class Solver(BaseModel):
    """A way to take a step.

    Attributes:
        code: module:class.
        order: the global error falls with this power of the step; the laws measure it.
        evaluations: of the network in a step.
        grid: the grid that it walks when none is asked for.
    """

    name: str
    code: str
    about: str
    order: int
    stochastic: bool
    evaluations: int
    grid: str


class Run(BaseModel):
    """Something that runs, and what to type for it."""

    what: str
    commands: list[str]


class Page(BaseModel):
    """Everything about one key: what is read, what runs, what was measured.

    Attributes:
        runs: what makes it runnable.
        leads_to: keys of the entries that stand on it.
        tree: the taxonomy of a survey.
        system, solver: what the key names besides an entry, or instead of one.
        cards: what was measured of its systems.
    """

    key: str
    entry: Listed | None = None
    runs: list[Run] = []
    leads_to: list[str] = []
    tree: Tree | None = None
    system: Details | None = None
    solver: Solver | None = None
    cards: list[Card] = []
    _language: Language = PrivateAttr("en")

    def __str__(self) -> str:
        from inkwash.api.shown_text import text

        return text(self, self._language)
