"""The reading list as it lies in this package: entries, topics, trees and cards, read once, checked while reading."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

from inkwash.errors import unknown
from inkwash.reading.schema import Card, Entry, Node, Runs, Topic, Tree
from inkwash.reading.source import Located

HOME = Path(__file__).parent
Status = Literal["whole", "part", "none"]
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Shelf:
    """Everything there is to read, each part by its key.

    Attributes:
        home: the folder that it was read from: `list.yaml`, `topics.yaml`, `trees/`, `cards/`.
    """

    home: Path

    @cached_property
    def topics(self) -> Mapping[str, Topic]:
        """In the order in which they are shown."""
        return _keyed(Located(self.home / "topics.yaml"), "topics", Topic, lambda topic: topic.key)

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """In the order of the file."""
        source = Located(self.home / "list.yaml")
        found = _keyed(source, "entries", Entry, lambda entry: entry.key)
        for place, entry in enumerate(found.values()):
            for field, known, kind in (("topics", self.topics, "topic"), ("builds_on", found, "entry")):
                for i, name in enumerate(getattr(entry, field)):
                    if name not in known:
                        raise source.wrong(str(unknown(kind, name, known)), "entries", place, field, i)
        return found

    @cached_property
    def trees(self) -> Mapping[str, Tree]:
        """By the key of the survey."""
        found = {}
        for path in sorted((self.home / "trees").glob("*.yaml")):
            source = Located(path)
            tree = source.into(Tree)
            if tree.survey != path.stem:
                raise source.wrong(f"is the name of the file, {path.stem!r}, not {tree.survey!r}", "survey")
            if tree.survey not in self.entries:
                raise source.wrong(str(unknown("entry", tree.survey, self.entries)), "survey")
            _check_reads(source, tree.nodes, ("nodes",), self.entries)
            found[tree.survey] = tree
        return found

    @cached_property
    def cards(self) -> Mapping[str, Card]:
        """By the name of the system."""
        found = {}
        for path in sorted((self.home / "cards").glob("*.yaml")):
            source = Located(path)
            card = source.into(Card)
            if card.system != path.stem:
                raise source.wrong(f"is the name of the file, {path.stem!r}, not {card.system!r}", "system")
            if card.reads not in self.entries:
                raise source.wrong(str(unknown("entry", card.reads, self.entries)), "reads")
            found[card.system] = card
        return found

    def get(self, key: str) -> Entry:
        """The entry of this key; unknown keys raise `WrongUse` with the nearest one."""
        if key not in self.entries:
            raise unknown("key", key, self.entries, listed="inkwash list")
        return self.entries[key]

    def status(self, entry: Entry) -> Status:
        """Whether all of an entry runs, a part of it, or nothing; a survey is what its leaves are."""
        runs = self.runs(entry)
        tree = self.trees.get(entry.key)
        lacking = entry.uncovered is not None or any(leaf.missing for leaf in (tree.leaves() if tree else []))
        return "none" if not runs else "part" if lacking else "whole"

    def runs(self, entry: Entry) -> list[Runs]:
        """What makes an entry runnable; for a survey, what runs of its tree too."""
        tree = self.trees.get(entry.key)
        leaves = tree.leaves() if tree else []
        return list(dict.fromkeys([*entry.runs, *(run for leaf in leaves for run in leaf.runs)]))

    def papers(self, run: str) -> list[Entry]:
        """The papers behind a part, such as `sampler:ddim`."""
        return [e for e in self.entries.values() if e.kind == "paper" and any(str(r) == run for r in e.runs)]

    def solvers(self) -> set[str]:
        """The names of the solvers that some entry is about."""
        return {run.name for entry in self.entries.values() for run in entry.runs if run.kind == "sampler"}


def _check_reads(source: Located, nodes: list[Node], place: tuple[int | str, ...], known: Mapping[str, Entry]) -> None:
    for i, node in enumerate(nodes):
        for j, key in enumerate(node.reads):
            if key not in known:
                raise source.wrong(str(unknown("entry", key, known)), *place, i, "reads", j)
        _check_reads(source, node.children, (*place, i, "children"), known)


def _keyed(source: Located, field: str, model: type[_Model], key: Callable[[_Model], str]) -> dict[str, _Model]:
    content = source.content
    if not isinstance(content, dict) or set(content) != {field} or not isinstance(content[field], list):
        raise source.wrong(f"holds one list called {field!r}")
    found: dict[str, _Model] = {}
    for place in range(len(content[field])):
        part = source.into(model, field, place)
        if key(part) in found:
            raise source.wrong(f"{key(part)!r} is taken", field, place, "key")
        found[key(part)] = part
    return found


@lru_cache(maxsize=1)
def shelf() -> Shelf:
    """The bundled reading list."""
    return Shelf(HOME)
