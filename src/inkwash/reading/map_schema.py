"""What the map is made of: spots, the lines between them, and what to type for what runs."""

from typing import Literal

from pydantic import BaseModel, SerializeAsAny

from inkwash.reading.schema import Change, Kind, Text
from inkwash.reading.shelf import Status

Column = Literal["survey", "family", "paper", "part", "piece", "system"]
Relation = Literal["topic", "reads", "runs", "changes", "builds_on", "part", "takes"]


class Spot(BaseModel):
    """One thing in the picture.

    Attributes:
        id: the address that selects it. Entries go by their key, everything else by kind:name.
        label: what stands on it.
        within: the spot that it is drawn inside of: a paper in its first family, a piece in its part.
        status: ink, half ink or wash.
        share: how many of its leaves or entries run, and of how many, where it has some.
    """

    id: str
    column: Column
    label: str | Text
    within: str | None = None
    status: Status = "whole"
    share: tuple[int, int] | None = None


class Branch(Text):
    """A branch or leaf of a survey's tree. `runs` are keys of `FieldMap.runs`."""

    children: "list[Branch]"
    reads: list[str]
    runs: list[str]
    missing: Text | None


class Reading(Spot):
    """A survey, paper, tool, tutorial or notebook. `runs` are keys of `FieldMap.runs`."""

    kind: Kind
    title: str
    authors: list[str]
    year: int
    venue: str
    url: str
    arxiv: str | None
    topics: list[str]
    medical: bool
    added: bool
    summary: Text
    changes: list[Change]
    runs: list[str]
    uncovered: Text | None
    builds_on: list[str]
    tree: list[Branch]


class Part(Spot):
    """One of the four parts of a diffusion model, or what lies around them."""

    about: Text


class Trainable(BaseModel):
    """A system as the map is told of it.

    Attributes:
        commands: what to type to train, draw and measure.
        takes: what of the list it can be put together with or measured by, as `kind:name`.
    """

    name: str
    title: str
    task: str
    commands: list[str]
    takes: frozenset[str]


class System(Spot):
    """A paper that can be trained."""

    title: str
    task: str | Text
    commands: list[str]


class Run(BaseModel):
    """Where something that runs is in the picture, and what to type for it."""

    spot: str
    commands: list[str]


class Line(BaseModel):
    """Two spots that belong together."""

    source: str
    target: str
    relation: Relation


class FieldMap(BaseModel):
    """Everything in the picture.

    Attributes:
        runs: by `kind:name`, everything that some entry or leaf says runs.
    """

    spots: list[SerializeAsAny[Spot]]
    lines: list[Line]
    runs: dict[str, Run]
