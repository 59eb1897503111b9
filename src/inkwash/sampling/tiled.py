r"""Pictures larger than memory: the denoiser is asked about overlapping tiles, and its beliefs are blended.

Bar-Tal et al., "MultiDiffusion: fusing diffusion paths for controlled image generation", ICML 2023, section 3: at every
step the belief about the whole picture is the weighted mean of those about its tiles (their eq. 5),

    belief = sum_k w_k belief(z_k) / sum_k w_k,

so tiles agree where they overlap and grow into one picture. For denoisers that look at a neighbourhood, as
convolutional ones do; what a tile can't see (the far side of the picture, to attention everything outside) has no part
in it, so the pictures are others than those of the whole denoiser. Where a denoiser looks at each pixel alone they are
the same ones, bit for bit.

Departures: what is blended is the belief about the clean picture, where the paper blends the noisy pictures after their
step; both are linear in it for a step without noise, and here every solver and every kind of posterior comes out. The
weights fall off towards a tile's edges as a raised cosine, the paper's are constant: a seam would show there.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.nets.adapters.base import Adapter
from inkwash.nets.blocks import Downsample
from inkwash.nets.dit import DiT
from inkwash.nets.patched import Patched
from inkwash.sampling.guidance.base import Guidance, Guided

# The conditions that lie over the picture, and are cut as it is.
SPATIAL = ("image", "estimate")

Place = tuple[slice, ...]


def tiled(tile: Sequence[int], *, overlap: int, multiple: int = 1) -> Guidance:
    """A denoiser asked about tiles, for sampling; the denoiser itself where the picture is one tile.

    Args:
        tile: the sides of a tile, one for each spatial axis; an axis that is shorter is one tile.
        overlap: by how many pixels neighbours overlap at least.
        multiple: tiles begin at multiples of it where the overlap allows, so that a network that halves the picture
            several times halves each tile as it would the whole.

    Raises:
        WrongUse: the overlap is not below the sides.
    """
    if not tile or not 0 <= overlap < min(tile) or multiple < 1:
        raise WrongUse(f"tiles of {tuple(tile)} overlap by 0 to {min(tile, default=1) - 1} pixels, not {overlap}")
    return lambda denoiser: Tiled(denoiser, tuple(tile), overlap, multiple)


class Tiled(Guided):
    """A denoiser whose belief is put together from tiles, one after the other: memory is that of a tile."""

    def __init__(self, inner: Denoiser, tile: tuple[int, ...], overlap: int, multiple: int) -> None:
        super().__init__(inner)
        self.tile, self.overlap, self.multiple = tile, overlap, multiple

    def forward(self, z: Tensor, t: float | Float64[Tensor, "b"], **condition: Any) -> Posterior:
        size = tuple(z.shape[-len(self.tile) :])
        if all(side <= most for side, most in zip(size, self.tile, strict=True)):
            return self.inner(z, t, **condition)
        whole: dict[str, Tensor] = {}
        for place, share in shares(size, self.tile, self.overlap, self.multiple, device=z.device):
            told = {name: _cut(v, place) if v is not None and name in SPATIAL else v for name, v in condition.items()}
            part = self.inner(_cut(z, place), t, **told)
            for name in (field.name for field in fields(part)):
                value = getattr(part, name)
                if name not in whole:
                    whole[name] = value.new_zeros((*value.shape[: -len(size)], *size))
                _blend(whole[name], value, place, share)
        return type(part)(**whole)


def blended(
    network: Callable[[Float[Tensor, "b ..."]], Float[Tensor, "b ..."]],
    x: Float[Tensor, "b ..."],
    tile: Sequence[int],
    *,
    overlap: int,
    multiple: int = 1,
) -> Float[Tensor, "b ..."]:
    """What a network that keeps the sides of a picture makes of it, put together from tiles as in `tiled`."""
    size = tuple(x.shape[-len(tile) :])
    if all(side <= most for side, most in zip(size, tile, strict=True)):
        return network(x)
    whole: Tensor | None = None
    for place, share in shares(size, tile, overlap, multiple, device=x.device):
        part = network(_cut(x, place))
        whole = part.new_zeros((*part.shape[: -len(size)], *size)) if whole is None else whole
        _blend(whole, part, place, share)
    assert whole is not None
    return whole


def shares(
    size: Sequence[int], tile: Sequence[int], overlap: int, multiple: int = 1, *, device: torch.device | str = "cpu"
) -> Iterator[tuple[Place, Float[Tensor, "..."]]]:
    """The places of the tiles, each with its weight as a part of all weights up to it.

    Moved by so much towards each tile in turn, a picture is their weighted mean; of equal beliefs it is that belief,
    without rounding.
    """
    total = torch.zeros(tuple(size), device=device)
    weight = _window([min(pair) for pair in zip(size, tile, strict=True)], overlap).to(device)
    for place in places(size, tile, overlap, multiple):
        total[place] += weight
        yield place, weight / total[place]


def places(size: Sequence[int], tile: Sequence[int], overlap: int, multiple: int = 1) -> Iterator[Place]:
    """The places of the tiles over a picture: all of one size, the last of an axis flush with its end."""
    axes = [starts(side, min(side, most), overlap, multiple) for side, most in zip(size, tile, strict=True)]
    sides = [min(pair) for pair in zip(size, tile, strict=True)]
    for corner in itertools.product(*axes):
        yield tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))


def starts(side: int, tile: int, overlap: int, multiple: int = 1) -> list[int]:
    """Where tiles begin along an axis."""
    stride = tile - overlap
    stride -= stride % multiple if stride >= multiple else 0
    return [*range(0, side - tile, stride), side - tile]


def grid_of(network: nn.Module) -> tuple[int, int]:
    """What the sides of a tile must be multiples of for a network, and what its tiles had better begin at."""
    patch = halvings = 1
    for module in network.modules():
        if isinstance(module, Patched | DiT):
            patch *= module.patch
        elif isinstance(module, Adapter):
            patch *= module.multiple
        elif isinstance(module, Downsample):
            halvings *= 2
    return patch, patch * halvings


def _window(sides: Sequence[int], overlap: int) -> Float[Tensor, "..."]:
    """The weight of each pixel of a tile, above 0: 1 inside, a raised cosine over the overlap at each edge."""
    window = torch.ones(())
    for side in sides:
        depth = torch.minimum(torch.arange(side), torch.arange(side).flip(0)) + 0.5
        rise = (depth / max(overlap, 1)).clamp(max=1.0)
        window = window[..., None] * (rise * math.pi / 2).sin().square()
    return window


def _blend(whole: Tensor, part: Tensor, place: Place, share: Tensor) -> None:
    there = _cut(whole, place)
    there.copy_(torch.lerp(there, part, share.to(part.dtype)))


def _cut(value: Tensor, place: Place) -> Tensor:
    """A view of the last axes."""
    index: tuple[Any, ...] = (..., *place)
    return value[index]
