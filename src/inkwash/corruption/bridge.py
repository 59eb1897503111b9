r"""The Brownian bridge from a degraded image to the clean one.

    z_t = (1 - t) x + t y + scale sqrt(t (1 - t)) eps

Li et al., "BBDM: image-to-image translation with Brownian bridge diffusion models", CVPR 2023 (their maximal
variance 1/2 is `scale = sqrt(2)`); Liu et al., "I2SB: image-to-image Schroedinger bridge", ICML 2023. I2SB's other
speeds along the bridge are other grids and training times on this one, so there is no schedule here.
"""

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


@dataclass(frozen=True, eq=False)
class Bridge(Corruption):
    """A bridge is for given images: `Bridge(scale).towards(y)` is the corruption that ends in `y`.

    Args:
        scale: standard deviation of the Brownian motion over the whole of t, in model units; 0 is a straight line.
        end: the degraded images, `(B, C, *spatial)`.
    """

    scale: float = 1.0
    end: Float[Tensor, "b ..."] | None = None

    def __post_init__(self) -> None:
        if self.scale < 0:
            raise WrongUse(f"a bridge's scale is at least 0, not {self.scale}")

    def towards(self, y: Float[Tensor, "b ..."]) -> "Bridge":
        """The bridge that ends in these images, one for each item."""
        return replace(self, end=y)

    def sample(self, x: Tensor, t: float | Float64[Tensor, "b"], *, noise: Noise) -> Float[Tensor, "b ..."]:
        time = t if isinstance(t, Tensor) else torch.tensor([t], dtype=torch.float64)
        y = self._end(len(x), tuple(x.shape[1:])).to(x)
        eps = noise.normal(tuple(x.shape[1:]), "corrupt", dtype=x.dtype, device=x.device)
        return torch.lerp(x, y, expand(time, x)) + expand(self.scale * (time * (1 - time)).sqrt(), x) * eps

    def prior(
        self,
        shape: tuple[int, ...],
        *,
        noise: Noise,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "b ..."]:
        """The degraded images: where every bridge ends."""
        return self._end(len(noise), shape).to(device, dtype)

    def step_back(self, z: Tensor, posterior: Posterior, t: float, s: float, *, path: Path) -> Float[Tensor, "b ..."]:
        """Between `x` at 0 and `z` at t lies a bridge that no longer knows of `y` (I2SB, eq. 4)."""
        if isinstance(posterior, Categorical | Bernoulli):
            raise WrongUse(f"a bridge joins images, and the posterior is {type(posterior).__name__}")
        part = s / t
        mean = torch.lerp(posterior.mean, z, part)
        if s == 0.0:
            return mean
        var = self.scale**2 * s * (1 - part)
        if isinstance(posterior, Normal):
            return mean + (var + (1 - part) ** 2 * posterior.var).sqrt() * path.normal(t, s)
        return mean.add_(path.normal(t, s), alpha=math.sqrt(var))

    def _end(self, items: int, shape: tuple[int, ...]) -> Tensor:
        if self.end is None:
            raise WrongUse("a bridge needs the degraded images it ends in: Bridge(...).towards(images)")
        if self.end.shape != (items, *shape):
            raise WrongUse(f"the bridge ends in {tuple(self.end.shape)} and the data are {(items, *shape)}")
        return self.end
