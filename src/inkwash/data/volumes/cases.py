"""Finding scans among files: which belong together, which are masks, which are of one patient."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from inkwash.data.item import SPLITS, Found
from inkwash.data.layout import read_layout, stem
from inkwash.data.picture import Unreadable
from inkwash.data.source import Source
from inkwash.data.volumes import arrays, identity
from inkwash.data.volumes.dicom_header import Header, read_header
from inkwash.data.volumes.opening import has_ending, is_volume, open_series, open_volume
from inkwash.data.volumes.volume import Volume

_SERIES = ".series"  # the ending of the name that stands for the files of a series while names are paired
_SEG = "SEG"


@dataclass(frozen=True)
class Case:
    """One scan, and its mask.

    Attributes:
        name: what it is called wherever it is spoken of.
        images: names in the source: a file, or one for each channel.
        series: the headers of a DICOM series instead.
        mask: a file of a volume; or the header of a DICOM segmentation.
        split, group: as in `Item`; all scans of a patient are one group.
    """

    name: str
    images: tuple[str, ...] = ()
    series: tuple[Header, ...] = ()
    mask: str | Header | None = None
    split: str | None = None
    group: str | None = None

    @contextmanager
    def open(self, source: Source, *, shown: bool = False) -> Iterator[Volume]:
        """The scan, open as long as the context lasts; raises `Unreadable`."""
        if self.series:
            yield open_series(self.series, shown=shown)
            return
        yield open_volume([source.local(name) for name in self.images])
        for name in self.images:
            source.forget(name)


@dataclass
class Cases:
    """What was found among files.

    Attributes:
        cases: with masks where there are any, `unmasked` those without.
        layout: in words.
        problems: (name, reason) of files that can't be used.
        modalities: what a description says of each channel: "CT", "T1".
        names: of the mask classes by their number in the files, where a description says them.
    """

    cases: list[Case]
    layout: str
    unmasked: list[Case] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    modalities: tuple[str, ...] = ()
    names: dict[int, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def is_scan(source: Source, name: str) -> bool:
    """Whether a file is one of a scan, by its ending, or as a DICOM file by its first bytes."""
    if has_ending(name):
        return True
    suffix = PurePosixPath(name).suffix
    return (not suffix or suffix[1:].isdecimal()) and source.start(name, 132)[128:] == b"DICM"


def of_list(source: Source, found: Found) -> Cases:
    """The cases that a list names, each in a file."""
    made = Cases([], found.layout, remarks=found.remarks, columns=found.columns, unused=found.unused)
    headers, _, made.problems = _headers(source, [item.image for item in found.items])
    made.problems += found.problems
    for item in found.items:
        header = headers.get(item.image)
        if header is not None:
            group = item.group or header.patient
            made.cases.append(Case(header.name, series=(header,), mask=item.mask, split=item.split, group=group))
        elif is_volume(item.image):
            made.cases.append(Case(item.image, (item.image,), mask=item.mask, split=item.split, group=item.group))
    return made


def of_names(source: Source, names: list[str]) -> Cases:
    """The cases among files, told by their names and by the headers of DICOM files."""
    headers, plain, problems = _headers(source, names)
    series: dict[str, list[Header]] = defaultdict(list)
    for header in headers.values():
        if header.modality != _SEG:
            series[header.series].append(header)
    stands_for = {}
    for uid, files in series.items():
        where = PurePosixPath(next(name for name, header in headers.items() if header.series == uid)).parent
        # A folder of slices has the name of its scan; loose files have names of their own.
        alone = sum(PurePosixPath(name).parent == where for name in headers) == len(files)
        key = str(where) if alone and str(where) != "." else str(where / files[0].name)
        stands_for[key + _SERIES] = uid
    found = read_layout([*plain, *stands_for], lambda name: True)
    what = " and ".join((["volumes"] if plain else []) + (["DICOM series"] if series else []))
    masked = any(item.mask for item in found.items)
    made = Cases([], f"{what}, {found.layout}" if masked else what, problems=problems)
    known = frozenset[str]().union(*(header.identity for header in headers.values()))

    def case(name: str, mask: str | None, split: str | None, group: str | None) -> Case:
        if name not in stands_for:
            return Case(name, (name,), mask=mask, split=split, group=group)
        files = series[stands_for[name]]
        drawn = next((h for h in headers.values() if h.modality == _SEG and files[0].series in h.references), mask)
        return Case(files[0].name, series=tuple(files), mask=drawn, split=split, group=files[0].patient)

    cases = [case(i.image, i.mask, i.split, i.group or _patient(i.image)) for i in found.items]
    cases += [case(name, None, _split(name), _patient(name)) for name in found.unmasked]
    masked = any(c.mask for c in cases)
    made.cases = [c for c in cases if c.mask or not masked]
    made.unmasked = [c for c in cases if masked and not c.mask]
    for c in [c for c in made.cases if c.mask in stands_for]:
        made.cases.remove(c)
        made.problems.append((c.name, "has a DICOM series for a mask: masks are NIfTI files or DICOM segmentations"))
    left = [(n, reason) for n, reason in found.problems if n not in found.unmasked]
    made.problems += [(identity.hide(n.removesuffix(_SERIES), known), reason) for n, reason in left]
    return made


def _headers(source: Source, names: list[str]) -> tuple[dict[str, Header], list[str], list[tuple[str, str]]]:
    """The headers of DICOM files, the names of other volumes, and files that can't be read."""
    headers: dict[str, Header] = {}
    plain, bad = [], []
    for name in names:
        if is_volume(name) or name.lower().endswith(arrays.SUFFIXES):
            plain.append(name)
            continue
        try:
            header = read_header(source.local(name))
        except Unreadable as error:
            bad.append((name, str(error)))
            continue
        if header is not None:
            headers[name] = header
    known = frozenset[str]().union(*(header.identity for header in headers.values()))
    return headers, plain, [(identity.hide(name, known), reason) for name, reason in bad]


def _split(name: str) -> str | None:
    return next((SPLITS[part.lower()] for part in PurePosixPath(name).parts[:-1] if part.lower() in SPLITS), None)


def _patient(name: str) -> str | None:
    """The subject of a BIDS name, `sub-01_ses-2_T1w.nii.gz`."""
    first = stem(name).split("_")[0]
    return first if first.startswith("sub-") else None
