"""From a path to a collection: of pictures or of scans, in a folder, a zip, a list or an array."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from inkwash.data.arrays import Arrays
from inkwash.data.captions import attached
from inkwash.data.collection import Collection
from inkwash.data.layout import read_layout
from inkwash.data.listing import is_list, read_lists
from inkwash.data.pairs import read_pairs
from inkwash.data.picture import SUFFIXES, Unreadable
from inkwash.data.source import File, Folder, Source, source_of
from inkwash.data.volumes import decathlon
from inkwash.data.volumes.cases import Cases, is_scan, of_list, of_names
from inkwash.data.volumes.collection import VolumeCollection
from inkwash.data.volumes.opening import has_ending
from inkwash.errors import WrongUse

_READS = "a folder, a .zip, a .npz or a .csv list"


def open_collection(
    path: str | Path, *, skip_bad: bool = False, columns: Mapping[str, str] | None = None
) -> Collection:
    """Open a folder, a zip, a `.npz` or a CSV list of pictures, or a folder, a zip or a list of scans.

    Where there are more files of scans (NIfTI, DICOM, MetaImage, NRRD) than pictures, it is a collection of scans.

    Args:
        path: where the data lies.
        skip_bad: leave out files that can't be used; otherwise they stop `images`.
        columns: which column of a list (or array of a `.npz`) is the `image`, `measured`, `mask`, `label`, `split`,
            `group` or `caption`, where what is recognised isn't what is meant.

    Raises:
        WrongUse: the path does not exist, may not be read, is of no known kind, or holds no pictures.
    """
    path = Path(path).expanduser()
    roles = dict(columns or {})
    source, lists = _source(path)
    if isinstance(source, Arrays):
        return Collection(source, source.found(roles), skip_bad)
    lists = lists or _shallowest([n for n in source.names if is_list(n)])
    found = read_lists(source, lists, roles)
    if found is not None and 2 * sum(has_ending(item.image) for item in found.items) > len(found.items):
        return VolumeCollection(source, of_list(source, found), skip_bad)
    if found is None and path.is_file() and is_list(path.name):
        raise WrongUse(f"{path}: no column names pictures: a list has a header line and a column `image` of file names")
    if found is None:
        scans = _scans(source)
        if scans is not None:
            return VolumeCollection(source, scans, skip_bad)
        packed = [n for n in source.names if n.lower().endswith(".npz")]
        pictures = [n for n in source.names if PurePosixPath(n).suffix.lower() in SUFFIXES]
        if not pictures and len(packed) == 1:
            return _packed(source, packed[0], roles, skip_bad)
        if roles:
            raise WrongUse(f"{path}: columns were named, and there is no list of pictures in it")
        found = read_pairs(source.names) or read_layout(source.names)
    if not found.items and not found.problems:
        raise WrongUse(f"{path}: holds no pictures{_instead(source)}")
    return Collection(source, found if "caption" in found.columns else attached(source, found), skip_bad)


def _scans(source: Source) -> Cases | None:
    """The scans of a source; None where it holds none, or more pictures than scans."""
    described = decathlon.description(source)
    found = decathlon.of_description(source, described) if described else None
    if found is not None and (found.cases or found.unmasked):
        return found
    pictures = sum(PurePosixPath(name).suffix.lower() in SUFFIXES for name in source.names)
    scans = [name for name in source.names if is_scan(source, name)]
    return of_names(source, scans) if len(scans) > pictures else None


def _source(path: Path) -> tuple[Source, list[str]]:
    """The source, and the lists in it that the path names itself."""
    found, suffix = source_of(path), path.suffix.lower()
    if not isinstance(found, File):
        return found, []
    if suffix == ".npz":
        return Arrays(path), []
    if is_list(path.name):
        return Folder(path.parent), [path.name]
    if suffix in SUFFIXES:
        raise WrongUse(f"{path}: is a single picture: give the folder that holds it")
    raise WrongUse(f"{path}: is of no kind that can be read: give {_READS}")


def _packed(source: Source, name: str, roles: Mapping[str, str], skip_bad: bool) -> Collection:
    try:
        arrays = Arrays(source.path / name, source.read(name))
    except Unreadable as error:
        raise WrongUse(f"{source.path}: {name} {error}") from error
    return Collection(arrays, arrays.found(roles), skip_bad)


def _shallowest(names: list[str]) -> list[str]:
    depth = min((n.count("/") for n in names), default=0)
    return [n for n in names if n.count("/") == depth]


def _instead(source: Source) -> str:
    """What it holds where it holds no pictures."""
    kinds: dict[str, Any] = {}
    for name in source.names:
        kind = "".join(PurePosixPath(name).suffixes[-2:]).lower() or "no ending"
        kinds[kind] = kinds.get(kind, 0) + 1
    most = sorted(kinds, key=lambda k: -kinds[k])[:3]
    return ": " + ", ".join(f"{kinds[k]} of {k}" for k in most) if most else ": it is empty"
