"""From the pixels of masks to classes, by one table for the whole collection.

Every pixel has a code: its grey value, or its colour. The table that turns codes into classes is made from
the codes of all masks together, so a mask that happens to lack a class is not read differently from the rest.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from inkwash.data.picture import Picture, Pixels, Unreadable, resize

_COLOUR = 1 << 24  # codes from here on are colours: _COLOUR + 0xRRGGBB
_MOST_CLASSES = 32
_MOST_COLOURS = 256


def codes(picture: Picture) -> Pixels:
    """The code of each pixel, `(H, W)` int32: a grey value, or `2**24 + 0xRRGGBB`.

    Raises:
        Unreadable: a photograph, fractions beyond [0, 1], negative numbers, two channels.
    """
    pixels = picture.pixels
    if pixels.dtype == np.float32:
        if (pixels == np.round(pixels)).all() and abs(pixels).max() < _COLOUR:
            pixels = pixels.astype(np.int32)
        elif pixels.min() >= 0 and pixels.max() <= 1:
            pixels = np.round(pixels * 255).astype(np.int32)
        else:
            raise Unreadable("holds fractions: a mask has one whole number for each class")
    if pixels.min() < 0:
        raise Unreadable("holds negative numbers: the classes of a mask count from 0")
    if pixels.shape[2] == 1:
        return pixels[..., 0].astype(np.int32)
    if pixels.shape[2] == 2:
        raise Unreadable("has 2 channels: a mask has one, or a colour")
    red, green, blue = np.moveaxis(pixels[..., :3].astype(np.int32), 2, 0)
    if (red == green).all() and (green == blue).all():
        return red
    colours = _COLOUR + (red << 16) + (green << 8) + blue
    found = len(np.unique(colours))
    if found <= _MOST_COLOURS:
        return colours
    if picture.grey:
        return green
    raise Unreadable(f"holds {found} colours: a mask has one colour for each class")


def count(code: Pixels) -> dict[int, int]:
    """How many pixels have each code."""
    if code.max() < 1 << 16:
        counts = np.bincount(code.ravel())
        values = counts.nonzero()[0]
        return dict(zip(values.tolist(), counts[values].tolist(), strict=True))
    values, counts = np.unique(code, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


class MaskTable(BaseModel):
    """Which code is which class.

    Attributes:
        codes: of "values": the codes in order, class k is the k-th; code 0 (black) is always among them.
        rule: "values"; "threshold": class 1 from `codes[0]` on, for lossy or smoothed masks; "instances": each
            object has its own number, class 1 is everything above 0.
    """

    model_config = ConfigDict(frozen=True)

    rule: Literal["values", "threshold", "instances"]
    codes: tuple[int, ...]

    @property
    def classes(self) -> int:
        """Number of classes with the background."""
        return max(2, len(self.codes)) if self.rule == "values" else 2

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> "MaskTable":
        """The table for masks whose pixels have these codes, `counts[code]` of each."""
        coloured = any(c >= _COLOUR for c in counts)
        values = sorted({0} | set(counts)) if not coloured else sorted({_COLOUR} | {_as_colour(c) for c in counts})
        few = len(values) <= _MOST_CLASSES
        if not coloured and _blurred(counts, few):
            return cls(rule="threshold", codes=((values[-1] + 1) // 2,))
        if few:
            return cls(rule="values", codes=tuple(values))
        if coloured:
            raise Unreadable(f"hold {len(values)} colours together: a mask has one colour for each class")
        return cls(rule="instances", codes=(1,))

    def __call__(self, code: Pixels) -> Pixels:
        """Classes `(H, W)` uint8 of codes `(H, W)`."""
        if self.rule != "values":
            return (code >= self.codes[0]).astype(np.uint8)
        if self.codes[-1] >= _COLOUR:
            code = np.where(code < _COLOUR, _COLOUR + code * 0x010101, code)
        return np.searchsorted(np.asarray(self.codes, dtype=np.int32), code).astype(np.uint8)

    def share(self, counts: Mapping[int, int]) -> list[int]:
        """How many pixels fall into each class."""
        found = self(np.array([list(counts)], dtype=np.int32))[0]
        return np.bincount(found, weights=list(counts.values()), minlength=self.classes).astype(int).tolist()

    def names(self) -> list[str]:
        """How each class is written in the files: "0", "255", "#ff0000", ">= 128"."""
        if self.rule != "values":
            return [f"< {self.codes[0]}", f">= {self.codes[0]}"]
        return [f"#{c - _COLOUR:06x}" if c >= _COLOUR else str(c) for c in self.codes]


def shrink(classes: Pixels, size: tuple[int, int], count: int) -> Pixels:
    """Classes `(H, W)` uint8 at another size: each pixel takes the class with the largest area in it."""
    if classes.shape == size:
        return classes
    areas = [resize((classes == k).astype(np.float32), size, Image.Resampling.BOX) for k in range(count)]
    return np.argmax(areas, axis=0).astype(np.uint8)


def _blurred(counts: Mapping[int, int], few: bool) -> bool:
    """Whether these are the greys of black and white masks after lossy coding or smoothing.

    They lie in two heaps, near 0 and near the top, each of several values; between them lies little, or nothing
    where there are so few values that they could be classes.
    """
    top = max(counts)
    high = {c: n for c, n in counts.items() if c >= top * 7 / 8}
    between = sum(n for c, n in counts.items() if top / 8 < c < top * 7 / 8)
    return top >= 128 and len(high) > 1 and (between == 0 if few else between < sum(high.values()) / 2)


def _as_colour(code: int) -> int:
    return code if code >= _COLOUR else _COLOUR + code * 0x010101
