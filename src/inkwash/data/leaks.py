"""What lies on both sides of a split and must not: patients, the same files, pictures that are nearly the same."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from inkwash.data.likeness import BITS, near_pairs

LEAKS = {
    "patient": "patients or groups on both sides",
    "same": "files with the very same bytes on both sides",
    "near": "near-duplicates on both sides",
}


@dataclass(frozen=True)
class Sample:
    """One picture of a collection, as far as leaks are concerned.

    Attributes:
        digest: of its bytes.
        likeness: its difference hash.
    """

    name: str
    group: str | None
    digest: str
    likeness: bytes


@dataclass(frozen=True)
class Leak:
    """A pair of pictures on two sides, and why they should not be.

    Attributes:
        about: the patient, or how many bits differ.
    """

    kind: Literal["patient", "same", "near"]
    first: str
    second: str
    about: str

    def __str__(self) -> str:
        return f"{self.first} and {self.second} ({self.about})"


def leaks(first: Sequence[Sample], second: Sequence[Sample], *, patients: bool = True) -> list[Leak]:
    """What leaks between two sets of pictures: of each patient one pair, of pictures every pair.

    Args:
        patients: whether the groups of both sets have the same names; those of two data sets don't.
    """
    found: list[Leak] = []
    if patients:
        theirs = {sample.group: sample for sample in reversed(second) if sample.group}
        ours = {sample.group: sample for sample in reversed(first) if sample.group in theirs}
        found += [
            Leak("patient", ours[group].name, theirs[group].name, f"both of {group}") for group in sorted(ours, key=str)
        ]
    same = defaultdict(list)
    for sample in second:
        same[sample.digest].append(sample.name)
    pairs = [(sample.name, name) for sample in first for name in same.get(sample.digest, ())]
    found += [Leak("same", a, b, "the same bytes") for a, b in pairs]
    for i, j, bits in near_pairs([s.likeness for s in first], [s.likeness for s in second]):
        if first[i].digest != second[j].digest:
            about = f"{bits} of {BITS} bits of their difference hashes differ"
            found.append(Leak("near", first[i].name, second[j].name, about))
    return found


def described(found: Sequence[Leak], most: int = 3) -> str:
    """Leaks in one line: how many of each kind, and the first few by name."""
    parts = []
    for kind, words in LEAKS.items():
        some = [leak for leak in found if leak.kind == kind]
        if some:
            named = "; ".join(map(str, some[:most]))
            rest = f"; and {len(some) - most} more" if len(some) > most else ""
            parts.append(f"{len(some)} {words}: {named}{rest}")
    return "; ".join(parts)


def families(samples: Sequence[Sample]) -> list[str]:
    """For each picture a key that it shares with all that must stay on its side of a split: its family.

    Pictures of one group, with the same bytes, or nearly the same are of one family, and so is what they lead to.
    """
    from scipy.sparse import coo_array  # here, because it takes a while to load
    from scipy.sparse.csgraph import connected_components

    by_key = defaultdict(list)
    for place, sample in enumerate(samples):
        by_key["digest", sample.digest].append(place)
        if sample.group:
            by_key["group", sample.group].append(place)
    links = [link for places in by_key.values() for link in pairwise(places)]
    links += [(i, j) for i, j, _ in near_pairs([sample.likeness for sample in samples])]
    ends = np.array(links, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(samples), len(samples)))
    _, labels = connected_components(graph, directed=False)
    keys: dict[int, str] = {}
    for label, sample in zip(labels.tolist(), samples, strict=True):
        own = f"group {sample.group}" if sample.group else sample.digest
        keys[label] = min(keys.get(label, own), own)
    return [keys[label] for label in labels.tolist()]
