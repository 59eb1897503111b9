r"""Categorical corruptions: each position keeps its class with probability `keep(t)`, or is redrawn from `target`.

Austin et al., "Structured denoising diffusion models in discrete state-spaces" (D3PM), NeurIPS 2021, continuous in
t. Absorbing, uniform and marginal transitions are one formula with three targets,

    q(z_t | x) = keep(t) [z_t = x] + (1 - keep(t)) target(z_t),

and the same holds from s to t with `keep(t) / keep(s)`. So no transition matrix is ever built, and the
ancestral kernel costs one pass over the classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from inkwash.corruption.base import Corruption
from inkwash.corruption.noise import Noise, Path
from inkwash.corruption.posterior import Categorical
from inkwash.corruption.retention import LinearRetention, Retention
from inkwash.errors import WrongUse

# Mass given to every class, so that a network that rules out the truth leaves a distribution. Below float32's
# resolution of any probability that matters.
_FLOOR = 1e-30


@dataclass(frozen=True)
class CategoricalCorruption(Corruption):
    """Data are int64 classes `(B, *positions)`, from 0; posteriors are logits `(B, classes, *positions)`.

    Args:
        classes: the number of classes of clean data.
        target: what a position is redrawn from: one probability for each state. The states are the classes,
            and one more, the mask, where it is one longer.
        retention: the share of positions not yet redrawn.
    """

    classes: int
    target: tuple[float, ...]
    retention: Retention = LinearRetention()

    def __post_init__(self) -> None:
        if self.classes < 2 or len(self.target) not in (self.classes, self.classes + 1):
            raise WrongUse(f"{self.classes} classes need {self.classes} target probabilities, not {len(self.target)}")
        if min(self.target) < 0 or abs(sum(self.target) - 1) > 1e-6:
            raise WrongUse(f"target probabilities are at least 0 and sum to 1, these sum to {sum(self.target):g}")

    @classmethod
    def absorbing(cls, classes: int, retention: Retention = LinearRetention()) -> "CategoricalCorruption":
        """Positions turn into a mask, the state with index `classes`, and stay there."""
        return cls(classes, (*[0.0] * classes, 1.0), retention)

    @classmethod
    def uniform(cls, classes: int, retention: Retention = LinearRetention()) -> "CategoricalCorruption":
        """Every class is as likely."""
        return cls(classes, (1 / classes,) * classes, retention)

    @classmethod
    def marginal(
        cls, probabilities: Float[Tensor, "k"], retention: Retention = LinearRetention()
    ) -> "CategoricalCorruption":
        """Classes as frequent as in the data (Vignac et al. 2023, "DiGress"); `(classes,)`, normalised."""
        p = probabilities.double()
        return cls(len(p), tuple((p / p.sum()).tolist()), retention)

    def sample(self, x: Tensor, t: float | Float64[Tensor, "b"], *, noise: Noise) -> Int64[Tensor, "b ..."]:
        positions = tuple(x.shape[1:])
        kept = noise.uniform(positions, "keep", device=x.device) < self._keep(t, x.ndim, x.device)
        return torch.where(kept, x, self._redraw(positions, "corrupt", noise, x.device))

    def prior(
        self,
        shape: tuple[int, ...],
        *,
        noise: Noise,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Int64[Tensor, "b ..."]:
        """Draw `z_1`; `dtype` is that of continuous data, classes are int64 always."""
        return self._redraw(shape, "prior", noise, device)

    def step_back(
        self, z: Int64[Tensor, "b ..."], posterior: Categorical, t: float, s: float, *, path: Path
    ) -> Int64[Tensor, "b ..."]:
        return _choose(self.kernel(z, posterior, t, s), path.uniform(t, s, tuple(z.shape[1:])))

    def kernel(
        self, z: Int64[Tensor, "b ..."], posterior: Categorical, t: float, s: float
    ) -> Float[Tensor, "b states ..."]:
        """`q(z_s | z_t)`, the mixture of `q(z_s | z_t, x)` over the posterior (Austin et al. 2021, eq. 3 and 4).

        `q(z_s | z_t, x) = q(z_t | z_s) q(z_s | x) / q(z_t | x)`, summed over `x`.
        """
        likelihood = self.likelihood(z, t).to(posterior.logits.dtype)
        # Classes that cannot have led to z have no part, whatever the network believes of them.
        weight = torch.where(likelihood > 0, (posterior.mean + _FLOOR) / likelihood, 0.0)
        target = self._target(z).to(weight.dtype)
        keep_s = float(self._keep(s, 1, "cpu"))
        before = (1 - keep_s) * target * weight.sum(dim=1, keepdim=True)
        before[:, : self.classes] += keep_s * weight
        ahead = self._transition(z, float(self._keep(t, 1, "cpu")) / keep_s, len(self.target)).to(weight.dtype)
        joint = ahead * before
        return joint / joint.sum(dim=1, keepdim=True)

    def likelihood(
        self, z: Int64[Tensor, "b ..."], t: float | Float64[Tensor, "b"]
    ) -> Float64[Tensor, "b classes ..."]:
        """`q(z_t | x = k)` for each class `k` and position."""
        return self._transition(z, self._keep(t, z.ndim + 1, z.device), self.classes)

    def _transition(self, z: Tensor, keep: float | Tensor, origins: int) -> Tensor:
        """The probability of `z` from each of `origins` states, of which `keep` stay as they are."""
        target = torch.tensor(self.target, dtype=torch.float64, device=z.device)
        same = F.one_hot(z, len(target)).movedim(-1, 1)[:, :origins].to(target)
        return keep * same + (1 - keep) * target[z].unsqueeze(1)

    def _target(self, z: Tensor) -> Tensor:
        """The target over states, to broadcast against `(B, states, *positions)`."""
        return torch.tensor(self.target, dtype=torch.float64, device=z.device).reshape(-1, *[1] * (z.ndim - 1))

    def _keep(self, t: float | Float64[Tensor, "b"], ndim: int, device: torch.device | str) -> Tensor:
        time = t if isinstance(t, Tensor) else torch.tensor([t], dtype=torch.float64)
        return self.retention(time).to(device).reshape(-1, *[1] * (ndim - 1))

    def _redraw(
        self, shape: tuple[int, ...], purpose: str, noise: Noise, device: torch.device | str
    ) -> Int64[Tensor, "b ..."]:
        u = noise.uniform(shape, purpose, device=device)
        return _choose(self._target(u).to(u.dtype)[None], u)


def _choose(probabilities: Float[Tensor, "_ k ..."], u: Float[Tensor, "b ..."]) -> Int64[Tensor, "b ..."]:
    """The class whose interval of the cumulative probabilities holds `u`."""
    edges = probabilities.cumsum(dim=1)
    return (u[:, None] * edges[:, -1:] >= edges[:, :-1]).sum(dim=1)
