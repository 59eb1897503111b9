"""What there is to predict in a file, a folder, a zip or a list: scans and pictures, and not their masks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from inkwash.data.arrays import Arrays
from inkwash.data.item import Found
from inkwash.data.layout import is_picture, read_layout, stem
from inkwash.data.listing import is_list, read_lists
from inkwash.data.source import File, Folder, Source, source_of
from inkwash.data.volumes import arrays, decathlon, identity
from inkwash.data.volumes.arrays import ArrayVolume
from inkwash.data.volumes.cases import Case, Cases, is_scan, of_list, of_names
from inkwash.data.volumes.opening import has_ending
from inkwash.data.volumes.volume import Volume
from inkwash.errors import WrongUse


@dataclass(frozen=True)
class Target:
    """One scan or picture.

    Attributes:
        name: what it is called wherever it is spoken of.
        stem: what its results are called, with folders, without an ending.
        case: the scan, None for a picture.
        burned_in: whether its pixels may show who it is of.
    """

    name: str
    stem: str
    case: Case | None = None

    @property
    def burned_in(self) -> bool:
        """Whether its pixels are said to show who it is of."""
        return self.case is not None and any(header.burned_in for header in self.case.series)

    @contextmanager
    def open(self, source: Source, *, shown: bool) -> Iterator[Volume]:
        """The scan; for networks of pictures `shown` as on a screen."""
        assert self.case is not None
        if shown and self.case.images and self.case.images[0].lower().endswith(arrays.SUFFIXES):
            yield ArrayVolume(source.local(self.case.images[0]), pictures=True)
            return
        with self.case.open(source, shown=shown) as volume:
            yield volume


@dataclass
class Targets:
    """All of them.

    Attributes:
        bad: (name, reason) of files that can't be used.
        known: the words that name patients, which are never said.
    """

    source: Source
    targets: list[Target]
    bad: list[tuple[str, str]] = field(default_factory=list)
    known: frozenset[str] = frozenset()


def gather(path: Path, *, scans: bool) -> Targets:
    """What there is to predict at `path`.

    Args:
        scans: whether the model was trained on scans; pictures are then nothing to it.

    Raises:
        WrongUse: there is nothing.
    """
    source, listed = _source(path, scans)
    if isinstance(source, Arrays):
        found, cases = source.found({}), Cases([], "")
    elif listed is not None:
        found = Found([item for item in listed.items if not has_ending(item.image)], listed.layout)
        inside = Found([item for item in listed.items if has_ending(item.image)], listed.layout)
        cases = of_list(source, inside)
        cases.problems += listed.problems
    else:
        found = read_layout([name for name in source.names if is_picture(name)])
        cases = _cases(source)
    pictures = [] if scans else [*(item.image for item in found.items), *found.unmasked]
    known = frozenset[str]().union(*(header.identity for case in _all(cases) for header in case.series))
    made = Targets(source, [], list(cases.problems), known)
    taken: set[str] = set()
    for case in _all(cases):
        made.targets.append(Target(case.name, _stem(case.name, taken, neutral=bool(case.series)), case))
    for name in sorted(pictures):
        made.targets.append(Target(name, _stem(name, taken)))
    if not made.targets and not made.bad:
        other = "pictures, and the model was trained on scans" if found.items else "nothing to predict"
        raise WrongUse(f"{identity.hide(str(path), known)}: holds {other}")
    return made


def _source(path: Path, scans: bool) -> tuple[Source, Found | None]:
    """The source, and what a list says of it."""
    there = source_of(path)
    if not isinstance(there, File):
        return there, None
    if path.suffix.lower() == ".npz" and not scans:
        try:
            packed = Arrays(path)
            packed.found({})
            return packed, None
        except WrongUse:
            return there, None
    if is_list(path.name):
        source = Folder(path.parent)
        found = read_lists(source, [path.name], {})
        if found is None:
            raise WrongUse(f"{path}: no column names pictures or scans")
        return source, found
    return there, None


def _cases(source: Source) -> Cases:
    described = decathlon.description(source)
    found = decathlon.of_description(source, described) if described else None
    if found is not None:
        return found
    names = [name for name in source.names if is_scan(source, name) or name.lower().endswith(arrays.SUFFIXES)]
    if isinstance(source, File) and not is_picture(source.names[0]):
        names = source.names  # what was named itself is tried, whatever its ending
    return of_names(source, names)


def _all(cases: Cases) -> list[Case]:
    return sorted([*cases.cases, *cases.unmasked], key=lambda case: case.name)


def _stem(name: str, taken: set[str], *, neutral: bool = False) -> str:
    """A name for results that no other has: with its folders, and with its ending only where it must."""
    parent = PurePosixPath() if neutral else PurePosixPath(name).parent
    plain = name if neutral else stem(name).replace("[", "_").replace("]", "")
    ending = PurePosixPath(name).suffix[1:].lower()
    choices = [plain, f"{plain}_{ending}", *(f"{plain}_{n}" for n in range(2, len(taken) + 3))]
    found = next(c for c in (str(parent / choice) for choice in choices) if c not in taken)
    taken.add(found)
    return found
