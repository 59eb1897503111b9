r"""Noise with structure: octaves of simplex noise in the place of independent normal numbers.

Wyatt, Leach, Schmon & Willcocks, "AnoDDPM", CVPR workshops 2022, section 3.2, with Perlin's simplex noise ("Noise
hardware", 2001): the plane is cut into triangles, each corner has a random direction, and a point adds what the
directions of its three corners say of it, falling off with the distance. Octave `k` has `2^k` times the frequency and
`decay^k` times the amplitude.

The directions come from the same counters as all random numbers here, so a field depends on (seed, item, purpose)
alone. Fields are scaled to mean square 1 on average; they are no normal numbers, and neighbours are alike. That is
their point: coarse noise covers what is coarse.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.noise import Noise, Purpose
from inkwash.errors import WrongUse

_SKEW, _BACK = (math.sqrt(3) - 1) / 2, (3 - math.sqrt(3)) / 6


class SimplexNoise(Noise):
    """`Noise` whose normal numbers are fields; its uniform numbers are what they were.

    Args:
        frequency: pixels that the coarsest octave's triangles are wide.
        octaves: how many, each half as wide as the last.
        decay: the amplitude of an octave over that of the one before.
    """

    def __init__(
        self, seed: int, items: Any, *, frequency: float = 64.0, octaves: int = 6, decay: float = 0.8
    ) -> None:
        if frequency <= 1 or octaves < 1 or not 0 < decay <= 1:
            raise WrongUse(
                f"needs a frequency above 1 pixel, an octave and 0 < decay <= 1, not {frequency}, {octaves}, {decay}"
            )
        super().__init__(seed, items)
        self.frequency, self.octaves, self.decay = frequency, octaves, decay

    def __getitem__(self, part: slice) -> "SimplexNoise":
        return SimplexNoise(
            self.seed, self.items[part], frequency=self.frequency, octaves=self.octaves, decay=self.decay
        )

    def normals(
        self,
        shape: tuple[int, ...],
        purposes: Sequence[Purpose],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "p b ..."]:
        if len(shape) != 3:
            raise WrongUse(f"simplex noise is made for pictures, (C, H, W), not for items of shape {shape}")
        fields = torch.stack([self._field(shape, purpose, device) for purpose in purposes])
        scale = _level(self.frequency, self.octaves, self.decay) ** -0.5
        return fields.mul_(scale).to(dtype)

    def _field(self, shape: tuple[int, ...], purpose: Purpose, device: torch.device | str) -> Float[Tensor, "b c h w"]:
        total = torch.zeros(len(self), *shape, device=device)
        # Where the field begins is random too: else the corner at the origin would be one in every item.
        offset = 1000 * super().uniform((shape[0], 2, 1, 1), *purpose, "place", device=device)
        for octave in range(self.octaves):
            width = self.frequency / 2**octave
            corners = math.ceil(max(shape[1:]) / width) + 3
            table = super().uniform((shape[0], corners * 2, corners * 2), *purpose, "octave", octave, device=device)
            total += self.decay**octave * _simplex(shape[1:], width, offset.remainder(width), 2 * math.pi * table)
        return total


def _simplex(
    size: tuple[int, ...], width: float, offset: Float[Tensor, "b c 2 1 1"], angles: Float[Tensor, "b c n n"]
) -> Float[Tensor, "b c h w"]:
    """One octave: a direction for each corner of the triangles, of which there are enough."""
    device, count = angles.device, angles.shape[-1]
    rows = (torch.arange(size[0], device=device)[:, None] + offset[:, :, 0]) / width
    columns = (torch.arange(size[1], device=device) + offset[:, :, 1]) / width
    rows, columns = torch.broadcast_tensors(rows, columns)
    skew = (rows + columns) * _SKEW
    i, j = (rows + skew).floor(), (columns + skew).floor()
    back = (i + j) * _BACK
    y, x = rows - (i - back), columns - (j - back)
    # The triangle's second corner lies along the axis in which the point has gone further.
    first = (y > x).to(y)
    flat = angles.flatten(2)
    found = torch.zeros_like(y)
    for di, dj, turn in ((0.0, 0.0, 0.0), (first, 1 - first, 1.0), (1.0, 1.0, 2.0)):
        v, u = y - di + turn * _BACK, x - dj + turn * _BACK
        place = ((i + di).long() % count) * count + (j + dj).long() % count
        angle = flat.gather(2, place.flatten(2)).reshape(y.shape)
        near = (0.5 - v * v - u * u).clamp(min=0.0).square().square()
        found += near * (angle.cos() * v + angle.sin() * u)
    return found


@functools.cache
def _level(frequency: float, octaves: int, decay: float) -> float:
    """The mean square of a field, measured once on many."""
    made = SimplexNoise(0, range(64), frequency=frequency, octaves=octaves, decay=decay)
    side = min(256, math.ceil(2 * frequency))
    return float(made._field((1, side, side), ("level",), "cpu").square().mean())
