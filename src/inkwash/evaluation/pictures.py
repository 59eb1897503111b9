"""Tensors in [-1, 1] as pictures to look at: PNG files, grids, masks drawn over images, films."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from matplotlib import colormaps
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from inkwash.atomic import write_bytes

# Classes 1, 2, ...: vermilion first, then colours that keep apart for colour-blind eyes (Okabe & Ito 2008).
PALETTE = ("#d9432f", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442")


def to_pil(image: Float[Tensor, "c h w"]) -> Image.Image:
    """An 8-bit picture: grey of one channel, colour of three; other numbers of channels lie side by side in grey."""
    if image.shape[0] not in (1, 3):
        image = torch.cat(list(image), dim=1)[None]
    pixels = image.detach().float().cpu().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return Image.fromarray(pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy())


def as_channels(x: Float[Tensor, "c h w"], channels: int) -> Float[Tensor, "d h w"]:
    """Grey as three equal channels, colours as their mean."""
    if len(x) == channels:
        return x
    return x.expand(3, -1, -1) if channels == 3 else x.mean(dim=0, keepdim=True)


def png(image: Float[Tensor, "c h w"], *, facts: Mapping[str, object] | None = None) -> bytes:
    """The picture as a PNG file; `facts` are written into it as text, by which it says how it was made."""
    return _png(to_pil(image), facts or {})


def save_pixels(image: Image.Image, path: Path, *, facts: Mapping[str, object] | None = None) -> Path:
    """`save` for a picture whose values are what they are: a mask."""
    return write_bytes(path, _png(image, facts or {}))


def _png(image: Image.Image, facts: Mapping[str, object]) -> bytes:
    text, buffer = PngInfo(), io.BytesIO()
    for name, value in facts.items():
        text.add_itxt(name, str(value))
    image.save(buffer, "PNG", pnginfo=text, optimize=True)
    return buffer.getvalue()


def save(image: Float[Tensor, "c h w"], path: Path, *, facts: Mapping[str, object] | None = None) -> Path:
    """Write the picture as a PNG file, whole or not at all.

    Raises:
        Failed: if the disk refuses.
    """
    return write_bytes(path, png(image, facts=facts))


def grid(
    images: Float[Tensor, "n c h w"], *, columns: int | None = None, gap: int = 2, paper: float = 1.0
) -> Float[Tensor, "c tall wide"]:
    """The pictures in rows, `gap` pixels of the grey level `paper` apart; a near-square without `columns`."""
    count, channels, h, w = images.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    cells = F.pad(images, (0, gap, 0, gap), value=paper)
    missing = cells.new_full((rows * columns - count, *cells.shape[1:]), paper)
    cells = torch.cat([cells, missing]).reshape(rows, columns, channels, h + gap, w + gap)
    sheet = cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * (h + gap), columns * (w + gap))
    return sheet[:, : rows * (h + gap) - gap, : columns * (w + gap) - gap]


def _colours(count: int, like: Tensor) -> Float[Tensor, "k 3"]:
    """The colours of classes 1 to `count`, in [-1, 1]; the palette repeats."""
    hexes = [PALETTE[k % len(PALETTE)] for k in range(count)]
    return torch.tensor([[int(x[i : i + 2], 16) / 127.5 - 1 for i in (1, 3, 5)] for x in hexes], device=like.device)


def mask_pictures(masks: Int64[Tensor, "n h w"]) -> Float[Tensor, "n 3 h w"]:
    """Class maps as pictures: white on black where there is one class, coloured where there are more."""
    highest = int(masks.max())
    if highest <= 1:
        return (2.0 * masks - 1)[:, None].expand(-1, 3, -1, -1)
    table = torch.cat([masks.new_full((1, 3), -1).float(), _colours(highest, masks)])
    return table[masks].movedim(-1, 1)


def overlay(images: Float[Tensor, "n c h w"], masks: Int64[Tensor, "n h w"]) -> Float[Tensor, "n 3 h w"]:
    """The outline of every class drawn over its picture, inside the class and one pixel wide."""
    base = images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
    around = F.pad(masks[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0].long()
    neighbours = (around[:, :-2, 1:-1], around[:, 2:, 1:-1], around[:, 1:-1, :-2], around[:, 1:-1, 2:])
    edge = (masks > 0) & torch.stack([n != masks for n in neighbours]).any(dim=0)
    colour = _colours(max(1, int(masks.max())), images)[(masks - 1).clamp_min(0)].movedim(-1, 1)
    return torch.where(edge[:, None], colour.to(base.dtype), base)


def heat(values: Float[Tensor, "n h w"]) -> Float[Tensor, "n 3 h w"]:
    """Numbers in [0, 1] as colours from black over red to pale yellow, evenly to the eye (matplotlib's magma)."""
    table = torch.tensor(colormaps["magma"](range(256))[:, :3], dtype=torch.float32, device=values.device) * 2 - 1
    return table[(values.clamp(0, 1) * 255).round().long()].movedim(-1, 1)


def enlarge(images: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c tall wide"]:
    """Small pictures made larger by a whole factor, pixel by pixel, to at least `side`: browsers would blur them."""
    factor = max(1, math.ceil(side / max(images.shape[-2:])))
    return images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def webp(image: Float[Tensor, "c h w"], *, quality: int = 85) -> bytes:
    """The picture as a lossy WebP file, several times smaller than PNG where pictures are noisy."""
    buffer = io.BytesIO()
    to_pil(image).convert("RGB").save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def film(frames: Sequence[Float[Tensor, "c h w"]], *, milliseconds: int = 90, hold: int = 1500) -> bytes:
    """An animated WebP, repeated for ever; the last frame stays for `hold` milliseconds."""
    buffer, pages = io.BytesIO(), [to_pil(frame).convert("RGB") for frame in frames]
    durations = [milliseconds] * (len(pages) - 1) + [hold]
    pages[0].save(buffer, "WEBP", save_all=True, append_images=pages[1:], duration=durations, loop=0, quality=85)
    return buffer.getvalue()
