r"""EDICT: an inversion of DDIM that is exact: Wallace, Gokul & Naik, "EDICT: exact diffusion inversion via coupled
transformations", CVPR 2023.

DDIM's step, `z_s = a z_t + b eps(z_t, t)`, cannot be undone, since the noise that is believed at `z_t` is what one
would have to know. Two copies of the picture, each moved by the noise that is believed at the other, can be: each half
of the step leaves in place what the next half reads (section 4.1). After each step the copies are mixed, which keeps
them together (eq. 14 and 15) and can be undone too.

What makes it exact is arithmetic, not the model: any condition may be told on either way, and going up with one and
down with another is the paper's way to edit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.gaussian import Gaussian
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid

_LEAST = -8.0  # log-SNR


@dataclass(frozen=True)
class Coupled:
    """Where both copies are after a step from `t` to `s`; on the way up `s` is the noisier time.

    `index` counts from 0 to `total - 1`.
    """

    index: int
    total: int
    t: float
    s: float
    z: Float[Tensor, "b ..."]
    other: Float[Tensor, "b ..."]


class Edict:
    """The walk in both directions along one grid.

    Args:
        grid: its first time must leave something of the image, alpha above 0.
        mix: how much of a copy stays its own after a step, in (0.5, 1]. The paper's 0.93 is for some fifty steps,
            evenly spread: nearer to 1 what separates the copies is not damped on the way down, and over more steps it
            grows on the way up, by `1 / mix` at each. The way back is exact all the same; an edit is not.
        dtype: of what the denoiser is given, where the walk itself is held in more digits: rounding is all that a round
            trip loses.
    """

    def __init__(
        self, denoiser: Denoiser, grid: Grid, mix: float = 0.93, *, dtype: torch.dtype | None = None
    ) -> None:
        if not 0.5 < mix <= 1.0:
            raise WrongUse(f"mix lies above 0.5 and is at most 1, not {mix}")
        self.denoiser, self.grid, self.mix, self.dtype = denoiser, grid, mix, dtype
        self.corruption = gaussian(denoiser)
        if self.corruption.at(grid.times[0]).alpha <= 0.0:
            raise WrongUse(
                f"at t = {grid.times[0]:g} nothing is left of the image, and no walk goes back from there: let the "
                "grid begin a little later"
            )

    def down(
        self, z: Float[Tensor, "b ..."], other: Float[Tensor, "b ..."] | None = None, **condition: Any
    ) -> Iterator[Coupled]:
        """From the grid's first time to its last.

        Args:
            other: the second copy; the same as the first where there is none yet.
        """
        x, y, p = z, z if other is None else other, self.mix
        for index, (t, s) in enumerate(self.grid):
            a, b = self._step(t, s)
            x = a * x + b * self._eps(y, t, condition)
            y = a * y + b * self._eps(x, t, condition)
            x = p * x + (1 - p) * y
            y = p * y + (1 - p) * x
            yield Coupled(index, len(self.grid), t, s, x, y)

    def up(
        self, x: Float[Tensor, "b ..."], other: Float[Tensor, "b ..."] | None = None, **condition: Any
    ) -> Iterator[Coupled]:
        """From the grid's last time to its first: `down` from there comes back to `x`."""
        y, p = x if other is None else other, self.mix
        for index, (s, t) in enumerate(list(self.grid)[::-1]):
            # Here the walk down was from s to t; it is undone in the opposite order.
            a, b = self._step(s, t)
            y = (y - (1 - p) * x) / p
            x = (x - (1 - p) * y) / p
            y = (y - b * self._eps(x, s, condition)) / a
            x = (x - b * self._eps(y, s, condition)) / a
            yield Coupled(index, len(self.grid), t, s, x, y)

    def _step(self, t: float, s: float) -> tuple[float, float]:
        """DDIM's step as `(a, b)`."""
        now, then = self.corruption.at(t), self.corruption.at(s)
        a = then.alpha / now.alpha
        return a, then.sigma - a * now.sigma

    def _eps(self, z: Tensor, t: float, condition: dict[str, Any]) -> Tensor:
        now = self.corruption.at(t)
        with torch.no_grad():
            mean = self.denoiser(z if self.dtype is None else z.to(self.dtype), t, **condition).mean.to(z.dtype)
        return (z - now.alpha * mean) / now.sigma


def even(corruption: Gaussian, steps: int) -> Grid:
    """The even steps that the mixing is made for, from where something of the picture is left."""
    low = torch.tensor(max(corruption.at(1.0).log_snr, _LEAST), dtype=torch.float64)
    first = float(corruption.time_of(low))
    return Grid.of([first * (1 - k / steps) for k in range(steps)] + [0.0])
