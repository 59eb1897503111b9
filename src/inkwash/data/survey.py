"""Looking at every file of a collection once: what it holds, and whether it can be used."""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Generator
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from inkwash.data import cache
from inkwash.data.captions import Captions, words_of
from inkwash.data.item import Found, Item
from inkwash.data.leaks import Sample
from inkwash.data.likeness import difference_hash
from inkwash.data.mask import MaskTable, codes, count
from inkwash.data.picture import Picture, Unreadable
from inkwash.data.pool import spread
from inkwash.data.source import Source
from inkwash.data.split import assign


class Facts(BaseModel):
    """What one file holds.

    Attributes:
        size: `(H, W)`.
        mode: as stored, in Pillow's words.
        depth: the number type of the pixels; `low` and `high` are the range that they use.
        likeness: of a picture: its difference hash, in hexadecimal digits.
        codes: of a mask: how many pixels have each code.
        problem: why the file can't be used; the rest is then empty.
    """

    model_config = ConfigDict(frozen=True)

    digest: str
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    pages: int = 1
    channels: int = 0
    grey: bool = False
    depth: str = ""
    low: float = 0.0
    high: float = 0.0
    likeness: str = ""
    codes: dict[int, int] = {}
    problem: str | None = None


_UNSEEN = Facts(digest="")
# Of what is kept of files: raised when more is looked at.
_VERSION = 2


class Survey:
    """All items of a collection that can be used, and how they are to be read: decided once, for all together.

    Attributes:
        items: the items without a problem, `images` and `masks` their facts, `annotations` those of further masks,
            `measured` those of the pictures as measured; none unless every item has one.
        splits: the split of each, by the rule `split_rule`.
        problems: (name, reason) of the rest.
    """

    def __init__(
        self, found: Found, images: list[Facts], masks: list[tuple[Facts, ...]], measured: list[Facts | None]
    ) -> None:
        self.found = found
        masked, paired = any(masks), any(measured)
        self.problems = list(found.problems)
        kept: list[tuple[Item, Facts, tuple[Facts, ...], Facts | None]] = []
        for item, image, theirs, seen in zip(found.items, images, masks, measured, strict=True):
            problem = _problem(item, image, theirs, seen)
            problem = problem or ((item.image, "has no mask") if masked and not theirs else None)
            problem = problem or ((item.image, "has no measured picture") if paired and not seen else None)
            if problem:
                self.problems.append(problem)
            else:
                kept.append((item, image, theirs, seen))
        self.items = [item for item, _, _, _ in kept]
        self.images = [image for _, image, _, _ in kept]
        self.masks = [theirs[0] for _, _, theirs, _ in kept if theirs]
        self.annotations = [theirs[1:] for _, _, theirs, _ in kept]
        self.measured = [seen for _, _, _, seen in kept if seen]
        self.splits, self.split_rule = assign(self.items, [image.digest for image in self.images])

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the image classes, numbers in order of size; None where there are fewer than two."""
        words = {item.label for item in self.items if item.label is not None}
        if len(words) < 2:
            return None
        return tuple(sorted(words, key=lambda w: (0, int(w), w) if w.lstrip("-").isdecimal() else (1, 0, w)))

    @cached_property
    def captions(self) -> Captions | None:
        """The words of the captions to train on, of all where none is; None where no picture has one."""
        told = [(item.caption or "", split) for item, split in zip(self.items, self.splits, strict=True)]
        told = [(text, split) for text, split in told if words_of(text)]
        trained = [text for text, split in told if split == "train"]
        return Captions.of(trained or [text for text, _ in told]) if told else None

    @cached_property
    def channels(self) -> int:
        """1 where at least half of the pictures are grey, 3 otherwise; what an array says where it holds others."""
        odd = Counter(image.channels for image in self.images if image.channels not in (1, 3))
        if odd:
            return odd.most_common(1)[0][0]
        return 1 if 2 * sum(image.grey for image in self.images) >= len(self.images) else 3

    @cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """What becomes black and white, for each number type, over all pictures of every split.

        8-bit pictures use the whole of 0..255. Of wider integers 0..maximum (scanners fill 12 of 16 bits), of
        floats 0..1 if they lie in it; minimum..maximum where there are negative numbers.
        """
        found = {}
        pictures = [*self.images, *self.measured]
        for depth in {image.depth for image in pictures}:
            low = min(image.low for image in pictures if image.depth == depth)
            high = max(image.high for image in pictures if image.depth == depth)
            if depth == "uint8":
                low, high = 0.0, 255.0
            elif low >= 0:
                low, high = 0.0, 1.0 if depth == "float32" and high <= 1 else high
            found[depth] = (low, high if high > low else low + 1)
        return found

    @cached_property
    def samples(self) -> list[Sample]:
        """Each picture as far as leaks are concerned."""
        return [
            Sample(item.image, item.group, image.digest, bytes.fromhex(image.likeness))
            for item, image in zip(self.items, self.images, strict=True)
        ]

    @cached_property
    def mask_counts(self) -> dict[int, int]:
        """How many pixels of all masks, of all annotators, have each code."""
        total: Counter[int] = Counter()
        for mask in (*self.masks, *(mask for others in self.annotations for mask in others)):
            total.update(mask.codes)
        return dict(total)

    @cached_property
    def table(self) -> MaskTable | None:
        """From the codes of the masks to classes; None where there are no masks."""
        return MaskTable.of(self.mask_counts) if self.masks else None


def survey(source: Source, found: Found) -> Generator[int, None, Survey]:
    """Look at every picture and its mask; yields how many are done and returns the `Survey`.

    What was seen is kept in the cache by content, so another run only reads the bytes again.
    """
    kept = _kept(source.path)
    items = found.items
    images: list[Facts] = [_UNSEEN] * len(items)
    masks: list[tuple[Facts, ...]] = [()] * len(items)
    measured: list[Facts | None] = [None] * len(items)

    def look(index: int) -> None:
        images[index] = _look(source, items[index].image, False, kept)
        masks[index] = tuple(_look(source, mask, True, kept) for mask in items[index].masks)
        theirs = items[index].measured
        measured[index] = None if theirs is None else _look(source, theirs, False, kept)

    yield from spread(look, range(len(items)))
    _keep(source.path, [*images, *filter(None, measured)], masks)
    return Survey(found, images, masks, measured)


def _look(source: Source, name: str, mask: bool, kept: dict[str, Facts]) -> Facts:
    try:
        digest = hashlib.blake2b(source.read(name), digest_size=16).hexdigest()
    except Unreadable as error:
        return Facts(digest="", problem=str(error))
    known = kept.get(f"{digest} {mask}")
    if known:
        return known
    try:
        picture = source.picture(name, mask=mask)
        return _facts(digest, picture, count(codes(picture)) if mask else None)
    except Unreadable as error:
        return Facts(digest=digest, problem=str(error))


def _facts(digest: str, picture: Picture, counts: dict[int, int] | None) -> Facts:
    """Of a picture; of a mask where there are counts of its codes."""
    pixels = picture.pixels
    return Facts(
        digest=digest, size=picture.size, mode=picture.mode, pages=picture.pages, channels=pixels.shape[2],
        grey=picture.grey, depth=str(pixels.dtype), low=float(pixels.min()), high=float(pixels.max()),
        likeness=difference_hash(pixels).hex() if counts is None else "", codes=counts or {},
    )  # fmt: skip


def _problem(
    item: Item, image: Facts, masks: tuple[Facts, ...], measured: Facts | None
) -> tuple[str, str] | None:
    if image.problem:
        return item.image, image.problem
    if measured is not None and item.measured is not None:
        if measured.problem:
            return item.measured, measured.problem
        if measured.size != image.size:
            (h, w), (x, y) = measured.size, image.size
            return item.measured, f"is {h} x {w} and the clean {item.image} is {x} x {y}"
    for name, mask in zip(item.masks, masks, strict=True):
        if mask.problem:
            return name, mask.problem
        if mask.size != image.size:
            (h, w), (x, y) = mask.size, image.size
            return name, f"is {h} x {w} and its picture {item.image} is {x} x {y}"
    return None


def _file(path: Path) -> Path:
    key = hashlib.blake2b(str(path.resolve()).encode(), digest_size=16).hexdigest()
    return cache.home() / "surveys" / f"{key}-{_VERSION}.json"


def _kept(path: Path) -> dict[str, Facts]:
    try:
        stored = json.loads(_file(path).read_bytes())
        return {key: Facts.model_validate(value) for key, value in stored.items()}
    except (OSError, ValueError, AttributeError, ValidationError):
        return {}


def _keep(path: Path, images: list[Facts], masks: list[tuple[Facts, ...]]) -> None:
    seen = [(facts, False) for facts in images] + [(facts, True) for theirs in masks for facts in theirs]
    stored = {f"{facts.digest} {mask}": facts.model_dump(exclude_defaults=True) for facts, mask in seen if facts.digest}
    file = _file(path)
    # A cache that can't be written costs time in the next run and nothing else.
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as draft:
            draft.write(json.dumps(stored))
        os.replace(draft.name, file)
    except OSError:
        return
