r"""Bernoulli corruption: each pixel of a binary mask is kept with probability `keep(t)`, or redrawn from a prior.

    q(y_t | y) = B(keep(t) y + (1 - keep(t)) p)

BerDiff (Chen, Wang & Shan, MICCAI 2023), where `p = 1/2`, and HiDiff (Chen et al., IEEE TMI 2024), where `p` is what a
segmenter believes of each pixel; here continuous in t.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inkwash.corruption.base import Corruption
from inkwash.corruption.gaussian import expand
from inkwash.corruption.noise import Noise, Path
from inkwash.corruption.posterior import Bernoulli
from inkwash.corruption.retention import CosineRetention, Retention
from inkwash.errors import WrongUse

# See corruption.categorical: a network that rules out the truth still leaves a distribution.
_FLOOR = 1e-30


@dataclass(frozen=True, eq=False)
class BernoulliCorruption(Corruption):
    """Data are zeros and ones in floating point, `(B, C, *spatial)`.

    Args:
        prior_mean: the probability of one at t = 1: a number, or one for each pixel, to broadcast against the data.
        retention: the share of pixels not yet redrawn.
    """

    prior_mean: float | Float[Tensor, "..."] = 0.5
    retention: Retention = CosineRetention()

    def __post_init__(self) -> None:
        if not isinstance(self.prior_mean, Tensor) and not 0.0 <= self.prior_mean <= 1.0:
            raise WrongUse(f"the probability of one is between 0 and 1, not {self.prior_mean}")

    def towards(self, prior_mean: float | Float[Tensor, "..."]) -> "BernoulliCorruption":
        """The same corruption with another end, for instance what a segmenter believes."""
        return replace(self, prior_mean=prior_mean)

    def sample(self, x: Tensor, t: float | Float64[Tensor, "b"], *, noise: Noise) -> Float[Tensor, "b ..."]:
        keep = self._keep(t, x)
        one = keep * x + (1 - keep) * self.prior_mean
        return (noise.uniform(tuple(x.shape[1:]), "corrupt", dtype=x.dtype, device=x.device) < one).to(x.dtype)

    def prior(
        self,
        shape: tuple[int, ...],
        *,
        noise: Noise,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "b ..."]:
        return (noise.uniform(shape, "prior", dtype=dtype, device=device) < self.prior_mean).to(dtype)

    def step_back(self, z: Tensor, posterior: Bernoulli, t: float, s: float, *, path: Path) -> Float[Tensor, "b ..."]:
        return (path.uniform(t, s, tuple(z.shape[1:])) < self.kernel(z, posterior, t, s)).to(z.dtype)

    def kernel(
        self, z: Tensor, posterior: Bernoulli, t: float | Float64[Tensor, "b"], s: float | Float64[Tensor, "b"]
    ) -> Float[Tensor, "b ..."]:
        """The probability that `z_s` is one: `q(z_s | z_t, x)`, by Bayes' rule, averaged over the posterior."""
        to_zero, to_one = self._step(z, posterior, t, s)
        return to_one / (to_one + to_zero)

    def log_odds(
        self, z: Tensor, posterior: Bernoulli, t: float | Float64[Tensor, "b"], s: float | Float64[Tensor, "b"]
    ) -> Float[Tensor, "b ..."]:
        """The logit of `kernel`, exact where the kernel rounds to one; finite for `s > 0` where `0 < p < 1`."""
        to_zero, to_one = self._step(z, posterior, t, s)
        return to_one.log() - to_zero.log()

    def keep(self, t: float) -> float:
        """The share of pixels not yet redrawn at `t`."""
        return float(self.retention(torch.tensor(t, dtype=torch.float64)))

    def _step(
        self, z: Tensor, posterior: Bernoulli, t: float | Float64[Tensor, "b"], s: float | Float64[Tensor, "b"]
    ) -> tuple[Tensor, Tensor]:
        """What `z_s = 0` and `z_s = 1` weigh, up to a common factor."""
        keep_t, keep_s = self._keep(t, z), self._keep(s, z)
        one, p = posterior.mean, self.prior_mean
        zero_t, one_t = self._origins(z, keep_t)
        weight_one = torch.where(one_t > 0, (one + _FLOOR) / one_t, 0.0)
        weight_zero = torch.where(zero_t > 0, (1 - one + _FLOOR) / zero_t, 0.0)
        both = weight_zero + weight_one
        zero_s, one_s = self._origins(z, keep_t / keep_s)
        to_one = one_s * (keep_s * weight_one + (1 - keep_s) * p * both)
        to_zero = zero_s * (keep_s * weight_zero + (1 - keep_s) * (1 - p) * both)
        return to_zero, to_one

    def evidence(self, z: Tensor, t: float | Float64[Tensor, "b"]) -> Float[Tensor, "b ..."]:
        """`log q(z_t | x = 1) - log q(z_t | x = 0)` of each pixel: what `z` says of `x` by itself, 0 at t = 1."""
        zero, one = self._origins(z, self._keep(t, z))
        return one.log() - zero.log()

    def likelihood(self, z: Tensor, t: float | Float64[Tensor, "b"]) -> Float64[Tensor, "b 2 ..."]:
        """`q(z_t | x = 0)` and `q(z_t | x = 1)` for each pixel."""
        return torch.stack(self._origins(z.double(), self._keep(t, z.double())), dim=1)

    def _origins(self, z: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """The probability of `z` from zero and from one, of which `keep` stay as they are."""
        redrawn = (1 - keep) * (z * self.prior_mean + (1 - z) * (1 - self.prior_mean))
        return keep * (1 - z) + redrawn, keep * z + redrawn

    def _keep(self, t: float | Float64[Tensor, "b"], like: Tensor) -> Tensor:
        time = t if isinstance(t, Tensor) else torch.tensor([t], dtype=torch.float64)
        return expand(self.retention(time), like)
