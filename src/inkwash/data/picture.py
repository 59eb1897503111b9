"""From the bytes of one picture file to numbers, whatever mode it was stored in.

What becomes of the modes: 1-bit and palette pictures are expanded; CMYK, YCbCr, Lab and HSV become RGB;
alpha is composited on black, the background of medical pictures (of a mask it is dropped, there it means
nothing); 16-bit, 32-bit and float greys keep their numbers; the EXIF orientation is applied. Of several pages
the first is read. Pillow reads 16-bit RGB PNG with 8 bits.
"""

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm"]
    + [".pbm", ".pnm", ".jp2", ".tga", ".avif"]
)
VOLUMES = (".nii", ".nii.gz", ".dcm", ".mha", ".mhd", ".nrrd", ".h5", ".mgz")
# Lossy coding of a grey picture in RGB leaves the channels a few steps apart.
_GREY = 8

Pixels = NDArray[Any]


class Unreadable(Exception):
    """One file can't be used; the message completes the sentence "file.png ..."."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: `(H, W, C)`: uint8 in [0, 255], or uint16, int32 or float32 where the source has more bits.
        mode: the mode it was stored in, in Pillow's words ("L", "RGB", "I;16", ...).
        pages: how many pages or frames the file holds.
    """

    pixels: Pixels
    mode: str
    pages: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """`(H, W)`."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def key(self) -> int:
        """A number made of the pixels, which the noise of a picture is keyed by."""
        return int.from_bytes(hashlib.blake2b(self.pixels.tobytes(), digest_size=5).digest(), "big") >> 1

    @property
    def grey(self) -> bool:
        """Whether it has one channel, or three that say the same."""
        if self.pixels.shape[2] != 3:
            return self.pixels.shape[2] == 1
        red, green, blue = np.moveaxis(self.pixels.astype(np.int16), 2, 0)
        return bool(abs(red - green).max() <= _GREY and abs(green - blue).max() <= _GREY)


def decode(data: bytes, *, mask: bool = False) -> Picture:
    """Read one picture file; of a mask the alpha channel is dropped.

    Raises:
        Unreadable: the bytes are no picture, are cut short, or hold more pixels than Pillow deems sane.
    """
    if not data:
        raise Unreadable("is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, pages = image.mode, int(getattr(image, "n_frames", 1))
            image.load()
            pixels = _pixels(ImageOps.exif_transpose(image), mask)
    except UnidentifiedImageError as error:
        raise Unreadable(_what_instead(data)) from error
    except Image.DecompressionBombError as error:
        raise Unreadable("unpacks to more pixels than is safe (a decompression bomb?)") from error
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, MemoryError) as error:
        raise Unreadable("is damaged or cut short") from error
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise Unreadable("holds values that are not finite (NaN or infinity)")
    return Picture(pixels, mode, pages)


def resize(pixels: Pixels, size: tuple[int, int], filter: Image.Resampling) -> Pixels:
    """`(H, W)` uint8 or float32 at another size `(H, W)`; shrinking averages (antialiased)."""
    if pixels.shape == size:
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size[::-1], filter))


def centre(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The largest centred part of `(H, W, ...)` with the aspect ratio of `size`."""
    high, wide = pixels.shape[:2]
    scale = min(high / size[0], wide / size[1])
    h, w = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (high - h) // 2, (wide - w) // 2
    return pixels[top : top + h, left : left + w]


def _pixels(image: Image.Image, mask: bool) -> Pixels:
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        short = values.min() >= 0 and values.max() < 1 << 16
        return values.astype(np.uint16 if short else np.int32)[..., None]
    if image.mode == "F":
        return np.asarray(image)[..., None]
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L"))[..., None]
    if image.has_transparency_data and not mask:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        flat = Image.alpha_composite(black, image.convert("RGBA"))
    else:
        flat = image
    grey = image.mode in ("1", "L", "LA", "La")
    pixels = np.asarray(flat.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels


def _what_instead(data: bytes) -> str:
    """What bytes are that Pillow makes nothing of."""
    if data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")):
        return "is damaged or cut short"
    start = data[:512]
    if b"\0" not in start and all(c.isprintable() or c.isspace() for c in start.decode("utf-8", "replace")):
        return "is text, not a picture"
    return "is no picture Pillow knows"
