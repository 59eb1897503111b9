"""How a file becomes numbers of the size and kind that a set of pictures has."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image

from inkwash.data.mask import MaskTable, codes, shrink
from inkwash.data.picture import Picture, Pixels, centre, resize
from inkwash.data.source import Source

Fit = Literal["squash", "crop", "tiles"]
Place = tuple[slice, ...]


@dataclass(frozen=True)
class Reading:
    """How item `i` becomes numbers of the set's size.

    Attributes:
        images, masks: names in the source; `masks` is None where there are none.
        size: `(H, W)`.
        fit: "squash" resizes both sides as needed, "crop" cuts the centre with the right aspect ratio first, "tiles"
            takes the part of the picture that `places` says, at its own resolution.
        ranges: black and white for each number type of the files.
        table: from the codes of masks to classes.
        dtype: uint8, or uint16 where any picture has more than 8 bits.
        annotations: the masks of further annotators of each item.
        measured: the names of the pictures as they were measured, where `images` are the clean ones.
        places: where in its picture each tile lies.
    """

    source: Source
    images: tuple[str, ...]
    masks: tuple[str, ...] | None
    channels: int
    size: tuple[int, int]
    fit: Fit
    ranges: dict[str, tuple[float, float]]
    table: MaskTable | None
    dtype: Literal["uint8", "uint16"]
    annotations: tuple[tuple[str, ...], ...] | None = None
    measured: tuple[str, ...] | None = None
    places: tuple[Place, ...] | None = None

    def image(self, index: int) -> Pixels:
        """`(C, H, W)` in the set's dtype: Lanczos with antialiasing."""
        return self.fitted(self._picture(self.images[index], False), index)

    def measurement(self, index: int) -> Pixels:
        """The same of the picture as it was measured."""
        assert self.measured is not None
        return self.fitted(self._picture(self.measured[index], False), index)

    def fitted(self, picture: Picture, index: int = 0) -> Pixels:
        """A decoded picture, as of `image`."""
        pixels = self._part(picture.pixels, index)
        if pixels.dtype != np.uint8:
            low, high = self.ranges[str(pixels.dtype)]
            pixels = ((pixels.astype(np.float64) - low) / (high - low)).astype(np.float32)
        planes = _channels(pixels, self.channels)
        stacked = np.stack([resize(plane, self.size, Image.Resampling.LANCZOS) for plane in planes])
        if stacked.dtype == np.uint8:
            return stacked if self.dtype == "uint8" else stacked.astype(np.uint16) * 257
        top = np.iinfo(self.dtype).max
        return np.round(stacked.clip(0, 1) * top).astype(self.dtype)

    def mask(self, index: int) -> Pixels:
        """`(H, W)` uint8 classes: the class with the largest area in each pixel."""
        assert self.masks is not None
        return self._classes(self.masks[index], index)

    def annotators(self, index: int) -> Pixels:
        """`(A, H, W)` uint8 classes, of every annotator, that of `mask` first."""
        assert self.masks is not None
        names = (self.masks[index], *(self.annotations[index] if self.annotations else ()))
        return np.stack([self._classes(name, index) for name in names])

    def _classes(self, name: str, index: int) -> Pixels:
        assert self.table is not None
        classes = self.table(self._part(codes(self._picture(name, True)), index))
        return shrink(classes, self.size, self.table.classes)

    def _picture(self, name: str, mask: bool) -> Picture:
        # The tiles of a picture are read one after another.
        return self.source.picture(name, mask=mask) if self.places is None else _decoded(self.source, name, mask)

    def _part(self, pixels: Pixels, index: int) -> Pixels:
        """What of a picture `(H, W, ...)` becomes the item."""
        if self.places is not None:
            return pixels[self.places[index]]
        return pixels if self.fit == "squash" else centre(pixels, self.size)


@lru_cache(maxsize=4)
def _decoded(source: Source, name: str, mask: bool) -> Picture:
    return source.picture(name, mask=mask)


def _channels(pixels: Pixels, wanted: int) -> list[Pixels]:
    """The channels of `(H, W, C)` as planes: colour to grey by luminance (ITU-R 601), grey to colour by repeating."""
    have = pixels.shape[2]
    if have == 3 and wanted == 1:
        grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return [np.round(grey).astype(np.uint8) if pixels.dtype == np.uint8 else grey]
    return [pixels[..., k if have > 1 else 0] for k in range(wanted)]
