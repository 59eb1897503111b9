r"""The mean-reverting process from a clean image to a degraded one with noise of a fixed level.

    dz = theta_t (mu - z) dt + sigma_t dw,    sigma_t^2 = 2 level^2 theta_t
    z_t ~ N(mu + e^{-Theta_t} (x - mu), level^2 (1 - e^{-2 Theta_t})),    Theta_t = integral of theta from 0 to t

Luo, Gustafsson, Zhao, Sjoelund & Schoen, "Image restoration with mean-reverting stochastic differential equations",
ICML 2023 (arXiv 2301.11699). What is left of `x - mu` at the end, `e^{-Theta_1}`, is 0.005 there, and `level` is 10 of
255. The speed theta is theirs too: a squared cosine subtracted from 1, in a table of 100 steps with an offset of 0.008,
`theta_k = 1 - f((k + 1) / (T + 2)) / f(0)`, scaled so that the end comes out. Between the entries theta is constant, so
that `Theta_{k / T}` is their sum and the process is defined, and exact, between them too.

The schedule, the step back and the numbers were checked against the authors' published code; the numbers of the
equations in the paper could not be.
"""

import functools
import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.base import Corruption
from inkwash.corruption.gaussian import expand
from inkwash.corruption.noise import Noise, Path
from inkwash.corruption.posterior import Bernoulli, Categorical, Normal, Posterior
from inkwash.errors import WrongUse

Time = float | Float64[Tensor, "b"]
_OFFSET = 0.008


@functools.lru_cache(maxsize=16)
def _table(left: float, steps: int) -> Float64[Tensor, "k"]:
    """`Theta` at the times `k / steps`, `(steps + 1,)`."""
    k = torch.arange(steps + 1, dtype=torch.float64)
    f = torch.cos(((k + 1) / (steps + 2) + _OFFSET) / (1 + _OFFSET) * math.pi / 2).square()
    theta = 1 - f / math.cos(_OFFSET / (1 + _OFFSET) * math.pi / 2) ** 2
    theta[0] = 0.0
    total = theta.cumsum(0)
    return total * (-math.log(left) / total[-1])


def _all(t: Time) -> Float64[Tensor, "b"]:
    return t if isinstance(t, Tensor) else torch.tensor([t], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class MeanReverting(Corruption):
    """A process is for given images: `MeanReverting(level).towards(y)` is the one that reverts to `y`.

    Args:
        level: standard deviation of the noise that it settles at, in model units, above 0.
        left: share of the difference between the clean and the degraded image that is left at the end, in (0, 1).
        steps: entries of the table of theta, at least 1.
        end: the degraded images, `(B, C, *spatial)`.
    """

    level: float = 20 / 255
    left: float = 0.005
    steps: int = 100
    end: Float[Tensor, "b ..."] | None = None

    def __post_init__(self) -> None:
        if not self.level > 0 or not 0 < self.left < 1 or self.steps < 1:
            raise WrongUse(
                "a mean-reverting process has a level above 0, a share left in (0, 1) and at least 1 step, "
                f"not level={self.level:g}, left={self.left:g}, steps={self.steps}"
            )

    def towards(self, y: Float[Tensor, "b ..."]) -> "MeanReverting":
        """The process that reverts to these images, one for each item."""
        return replace(self, end=y)

    def reverted(self, t: Time) -> Float64[Tensor, "n"]:
        """`Theta_t`, `(B,)`, or `(1,)` for a time that the batch shares."""
        table, place = _table(self.left, self.steps), _all(t) * self.steps
        below = place.floor().clamp(0, self.steps - 1).long()
        return torch.lerp(table[below], table[below + 1], place - below)

    def kept(self, t: Time) -> Float64[Tensor, "n"]:
        """The share of `x - mu` in the mean at `t`: `e^{-Theta_t}`."""
        return torch.exp(-self.reverted(t))

    def spread(self, t: Time) -> Float64[Tensor, "n"]:
        """The standard deviation of `z_t` given `x`."""
        return self.level * torch.expm1(-2 * self.reverted(t)).neg().sqrt()

    def sample(self, x: Tensor, t: Time, *, noise: Noise) -> Float[Tensor, "b ..."]:
        y = self._end(len(x), tuple(x.shape[1:])).to(x)
        eps = noise.normal(tuple(x.shape[1:]), "corrupt", dtype=x.dtype, device=x.device)
        return torch.lerp(y, x, expand(self.kept(t), x)) + expand(self.spread(t), x) * eps

    def prior(
        self,
        shape: tuple[int, ...],
        *,
        noise: Noise,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "b ..."]:
        """The degraded images with noise of `level`; what is left of the clean ones is neglected, as in the paper."""
        y = self._end(len(noise), shape).to(device, dtype)
        return y + self.level * noise.normal(shape, "prior", dtype=dtype, device=device)

    def optimum(self, z: Tensor, x: Tensor, t: Time, s: Time) -> Float[Tensor, "b ..."]:
        """The most likely `z_s` between `x` at 0 and `z` at t, the mean of `q(z_s | z_t, x)`; `s < t`."""
        return self._mix(z, x, *self._exact(t, s))

    def step_back(self, z: Tensor, posterior: Posterior, t: float, s: float, *, path: Path) -> Float[Tensor, "b ..."]:
        """`z_s ~ q(z_s | z_t, x)`: the optimum, and the variance of a Gaussian that is known at both ends."""
        mean = self._believed(posterior)
        if s == 0.0:
            return mean
        of_z, of_x = self._exact(t, s)
        found = self._mix(z, mean, of_z, of_x)
        bar_t, bar_s = self.reverted(t), self.reverted(s)
        var = self.level**2 * torch.expm1(-2 * bar_s) * torch.expm1(-2 * (bar_t - bar_s)) / -torch.expm1(-2 * bar_t)
        if isinstance(posterior, Normal):
            scale = (expand(var, z) + expand(of_x, z) ** 2 * posterior.var).sqrt()
            return found + scale * path.normal(t, s)
        return found + expand(var.sqrt(), z) * path.normal(t, s)

    def euler(self, z: Tensor, x: Tensor, t: Time, s: Time) -> Float[Tensor, "b ..."]:
        """The mean of one Euler step of the reverse SDE from `t` to `s < t`, its score that of `z_t` given `x`."""
        step = self.reverted(t) - self.reverted(s)
        pull = 2 * step / -torch.expm1(-2 * self.reverted(t))
        return self._mix(z, x, 1 + step - pull, pull * self.kept(t))

    def euler_back(self, z: Tensor, posterior: Posterior, t: float, s: float, *, path: Path) -> Float[Tensor, "b ..."]:
        """One Euler-Maruyama step of the reverse SDE; the last, to 0, draws no noise."""
        found = self.euler(z, self._believed(posterior), t, s)
        if s == 0.0:
            return found
        scale = self.level * (2 * (self.reverted(t) - self.reverted(s))).sqrt()
        return found + expand(scale, z) * path.normal(t, s)

    def _exact(self, t: Time, s: Time) -> tuple[Tensor, Tensor]:
        """How much of `z - mu` and of `x - mu` there is in the optimum."""
        bar_t, bar_s = self.reverted(t), self.reverted(s)
        whole = torch.expm1(-2 * bar_t)
        of_z = torch.exp(bar_s - bar_t) * torch.expm1(-2 * bar_s) / whole
        return of_z, torch.exp(-bar_s) * torch.expm1(2 * (bar_s - bar_t)) / whole

    def _mix(self, z: Tensor, x: Tensor, of_z: Tensor, of_x: Tensor) -> Tensor:
        y = self._end(len(z), tuple(z.shape[1:])).to(z)
        return y + expand(of_z, z) * (z - y) + expand(of_x, z) * (x - y)

    @staticmethod
    def _believed(posterior: Posterior) -> Tensor:
        if isinstance(posterior, Categorical | Bernoulli):
            raise WrongUse(f"a mean-reverting process joins images, and the posterior is {type(posterior).__name__}")
        return posterior.mean

    def _end(self, items: int, shape: tuple[int, ...]) -> Tensor:
        if self.end is None:
            raise WrongUse(
                "a mean-reverting process needs the images it reverts to: MeanReverting(...).towards(images)"
            )
        if self.end.shape != (items, *shape):
            raise WrongUse(f"the process reverts to {tuple(self.end.shape)} and the data are {(items, *shape)}")
        return self.end
