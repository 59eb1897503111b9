"""Lists in CSV: which column names the image, the mask, the class, the split and the patient."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from inkwash.data.item import SPLITS, Found, Item
from inkwash.data.layout import MASKS
from inkwash.data.pairs import CLEAN, MEASURED
from inkwash.data.picture import SUFFIXES, Unreadable
from inkwash.data.source import Source
from inkwash.errors import WrongUse, unknown

ROLES = ("image", "measured", "mask", "label", "split", "group", "caption")
IMAGE_WORDS = ("image", "images", "img", "filename", "file", "path", "picture", "photo")
_MASK_WORDS = ("mask", "masks", "segmentation", *sorted(MASKS - {"mask", "masks", "segmentation"}))
_LABEL_WORDS = ("label", "labels", "class", "classes", "cls", "category", "diagnosis", "dx", "target", "grade")
_GROUP_WORDS = ("patient", "subject", "case", "person", "lesion", "group")
_SPLIT_WORDS = ("split", "splits", "subset", "partition", "fold", "set")
_CAPTION_WORDS = ("caption", "captions", "prompt", "prompts")
_IDENTIFIER = frozenset(("id", "no", "nr", "number", "name", "code"))


def is_list(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in (".csv", ".tsv")


def read_lists(source: Source, names: list[str], columns: Mapping[str, str]) -> Found | None:
    """Items from the list among `names`, or None where no list names pictures.

    Lists called `train`, `val` and `test` are read as one, each a split. Otherwise a single list must name
    pictures.

    Args:
        columns: role (`image`, `measured`, `mask`, `label`, `split`, `group`, `caption`) to column, over what is
            recognised.
    """
    tables = {}
    for name in names:
        rows = _rows(source, name)
        if rows and _file_columns(rows, _Resolver(source, name)):
            tables[name] = rows
    if not tables:
        return None
    splits = [SPLITS.get(PurePosixPath(n).stem.lower()) for n in tables]
    if len(tables) > 1 and not all(splits):
        raise WrongUse(f"{source.path}: several lists name pictures ({', '.join(tables)}): keep one, or give its path")
    found: Found | None = None
    for (name, rows), split in zip(tables.items(), splits, strict=True):
        part = _read(name, rows, _Resolver(source, name), columns, split)
        if found is None:
            found = part
        else:
            found.items += part.items
            found.problems += part.problems
            found.layout += f", {name}"
            found.remarks += [r for r in part.remarks if r not in found.remarks]
    return found


class _Resolver:
    """From what a list writes to a name of the source: relative to the list, to the top, or by file name."""

    def __init__(self, source: Source, table: str) -> None:
        self.names, self.folder, self.source = set(source.names), PurePosixPath(table).parent, source
        by_stem: dict[str, list[str]] = {}
        for name in source.names:
            path = PurePosixPath(name)
            if path.suffix.lower() in SUFFIXES:
                by_stem.setdefault(path.name, []).append(name)
                by_stem.setdefault(path.stem, []).append(name)
        self.by_stem = {stem: found[0] for stem, found in by_stem.items() if len(found) == 1}

    def __call__(self, value: str) -> str | None:
        value = value.strip().replace("\\", "/").removeprefix("./")
        if not value:
            return None
        for name in (str(self.folder / value), value):
            if name in self.names:
                return name
        return self.by_stem.get(value)


def _rows(source: Source, name: str) -> list[dict[str, str]]:
    try:
        text = source.read(name).decode("utf-8-sig")
    except Unreadable as error:
        raise WrongUse(f"{source.path}: {name} {error}") from error
    except UnicodeDecodeError as error:
        raise WrongUse(f"{source.path}: {name} is not UTF-8 text: save the list as UTF-8") from error
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="", restkey="")
        return [{str(k).strip(): str(v or "").strip() for k, v in row.items() if k} for row in reader]
    except csv.Error as error:
        raise WrongUse(f"{source.path}: {name} cannot be read as CSV ({error})") from error


def _file_columns(rows: list[dict[str, str]], resolve: _Resolver) -> list[str]:
    """Columns whose values name files: they look like pictures, or most of them are found."""
    columns = []
    for column in rows[0]:
        values = [row[column] for row in rows if row.get(column)][:200]
        pictures = sum(PurePosixPath(v).suffix.lower() in SUFFIXES for v in values)
        if values and (2 * pictures > len(values) or 2 * sum(resolve(v) is not None for v in values) > len(values)):
            columns.append(column)
    # A column of bare identifiers that happens to be the file names without their ending says nothing new.
    full = [c for c in columns if PurePosixPath(next(r[c] for r in rows if r[c])).suffix.lower() in SUFFIXES]
    return full or columns


def choose(
    files: list[str], others: dict[str, list[str]], rows: int, given: Mapping[str, str], where: str
) -> tuple[dict[str, str], list[str]]:
    """Which column plays which role, and remarks on what was doubtful.

    Args:
        files: the columns that name pictures.
        others: the values of each other column.
        rows: how many rows there are.
        given: roles that are settled.
        where: the list, for messages.
    """
    for role, column in given.items():
        if role not in ROLES:
            raise unknown("role of a column", role, ROLES)
        if column not in files and column not in others:
            raise WrongUse(f"{where} has no column {column!r} for the {role}: columns: {', '.join([*files, *others])}")
    chosen, remarks = dict(given), []
    if not {"image", "measured"} & chosen.keys():
        chosen |= _pair(files)
    if "image" not in chosen:
        free = [c for c in files if c not in chosen.values()]
        named = [c for c in _ranked(free, IMAGE_WORDS) if not set(_words(c)) & MASKS]
        if not named and len(free) > 1:
            remarks.append(f"{where}: none of the columns {', '.join(free)} is called image: {free[0]!r} was taken")
        chosen["image"] = (named or free)[0]
    if "mask" not in chosen:
        named = _ranked([c for c in files if c not in chosen.values()], _MASK_WORDS)
        several = _numbered(named)
        if len(named) > len(several) + (not several):
            remarks.append(f"{where}: the masks could be {', '.join(named)}: {(several or named)[0]!r} was taken")
        if named:
            chosen["mask"] = (several or named)[0]
        chosen |= {f"mask {k}": column for k, column in enumerate(several[1:], start=2)}
    facts = {c: values for c, values in others.items() if c not in chosen.values() and any(values)}
    if "split" not in chosen:
        named = [c for c in _ranked(list(facts), _SPLIT_WORDS) if c == "split" or _all_splits(facts[c])]
        if named:
            chosen["split"] = named[0]
            del facts[named[0]]
    if "caption" not in chosen and (named := _ranked(list(facts), _CAPTION_WORDS)):
        chosen["caption"] = named[0]
        del facts[named[0]]
    if "group" not in chosen:
        named = [c for c in _ranked(list(facts), _GROUP_WORDS) if set(_words(c)) <= {*_GROUP_WORDS, *_IDENTIFIER}]
        # A column called `group` may be any grouping; one that the given split cuts through isn't one of patients.
        if named and _words(named[0]) == ["group"] and _crosses(facts[named[0]], others.get(chosen.get("split", ""))):
            remarks.append(f"{where}: column {named[0]!r} is not read as patients, the given split cuts through it")
            named = named[1:]
        if named:
            chosen["group"] = named[0]
            del facts[named[0]]
    if "label" not in chosen:
        named = [c for c in _ranked(list(facts), _LABEL_WORDS) if 2 <= len(set(facts[c]) - {""}) <= max(2, rows / 2)]
        # A column of names says more than one of numbers.
        named.sort(key=lambda c: "name" not in _words(c))
        if len({tuple(_partition(facts[c])) for c in named}) > 1:
            remarks.append(f"{where}: the classes could be {', '.join(named)}: {named[0]!r} was taken")
        if named:
            chosen["label"] = named[0]
    return chosen, remarks


def _pair(files: list[str]) -> dict[str, str]:
    """The columns of measured pictures and of clean ones, where there are both."""
    measured = _ranked(files, MEASURED)
    clean = _ranked([c for c in files if c not in measured], (*CLEAN, *IMAGE_WORDS))
    return {"image": clean[0], "measured": measured[0]} if measured and clean else {}


def _numbered(columns: list[str]) -> list[str]:
    """Those of the first one's name but for a number at its end, `mask_1` and `mask_2`, where there are several."""
    if not columns or not re.search(r"\d+$", columns[0]):
        return []
    stem = re.sub(r"\d+$", "", columns[0])
    same = [c for c in columns if re.fullmatch(re.escape(stem) + r"\d+", c)]
    return sorted(same, key=lambda c: int(c.removeprefix(stem))) if len(same) > 1 else []


def _words(column: str) -> list[str]:
    """The words of a name: `patient_id`, `PatientID` and `patientId` have the same two."""
    return [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", column)]


def _ranked(columns: list[str], words: Sequence[str]) -> list[str]:
    """The columns whose names hold one of the words, by the order of the words."""
    rank = {c: min((words.index(w) for w in _words(c) if w in words), default=-1) for c in columns}
    return sorted((c for c in columns if rank[c] >= 0), key=lambda c: rank[c])


def _all_splits(values: list[str]) -> bool:
    return all(v.lower() in SPLITS for v in values if v)


def _crosses(groups: list[str], splits: list[str] | None) -> bool:
    """Whether a group lies in more than one split."""
    return splits is not None and len(set(zip(groups, splits, strict=True))) > len(set(groups))


def _partition(values: list[str]) -> list[int]:
    """The values by order of first appearance: equal for columns that say the same in other words."""
    seen: dict[str, int] = {}
    return [seen.setdefault(v, len(seen)) for v in values]


def _read(
    name: str, rows: list[dict[str, str]], resolve: _Resolver, given: Mapping[str, str], split: str | None
) -> Found:
    files = _file_columns(rows, resolve)
    others = {c: [row.get(c, "") for row in rows] for c in rows[0] if c not in files}
    chosen, remarks = choose(files, others, len(rows), given, name)
    found = Found([], f"the list {name}", chosen, remarks=remarks)
    found.unused = [c for c in (*files, *others) if c not in chosen.values()]
    for number, row in enumerate(rows, start=2):
        cell = {role: row.get(column, "") for role, column in chosen.items()}
        image = resolve(cell["image"])
        mask = resolve(cell["mask"]) if cell.get("mask") else None
        measured = resolve(cell["measured"]) if cell.get("measured") else None
        where = cell["image"] or f"{name}, line {number}"
        if image is None:
            found.problems.append((where, "does not exist" if cell["image"] else "names no image"))
        elif "mask" in chosen and mask is None:
            lost = cell["mask"]
            found.problems.append((where, f"has no mask: {lost} does not exist" if lost else "has no mask"))
        elif "measured" in chosen and measured is None:
            lost = cell["measured"]
            found.problems.append((where, f"has no measured picture: {lost or 'none is named'}"
                                          f"{' does not exist' if lost else ''}"))
        elif cell.get("split") and cell["split"].lower() not in SPLITS:
            found.problems.append((where, f"is in split {cell['split']!r}, which is not train, val or test"))
        else:
            part = SPLITS.get(cell.get("split", "").lower()) or split
            further = [resolve(value) for role, value in cell.items() if role.startswith("mask ")]
            more = tuple(name for name in further if name is not None)
            label, group, caption = (cell.get(role) or None for role in ("label", "group", "caption"))
            found.items.append(Item(image, mask, label, part, group, more, measured, caption))
    return found
