r"""Denoisers that are formulas: data distributions whose posterior is known exactly.

They are the oracles of the library. Everything that corrupts, samples or guides is tested with them, and a
method that is wrong here is wrong with a network too. All arithmetic is in float64.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int, Num
from torch import Tensor

from inkwash.corruption.bernoulli import BernoulliCorruption
from inkwash.corruption.categorical import CategoricalCorruption
from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Bernoulli, Categorical, Normal
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse


class GaussianMixture(Denoiser):
    """Data from a mixture of normals, under a Gaussian corruption: the exact `p(x | z_t)`.

    Args:
        weights: `(K,)`, positive; normalised.
        means: `(K, *shape)` for data of `shape`, images included.
        corruption: what destroys it.
        std: one for each component, `(K,)` or a number, for isotropic components; 0 is a point.
        covariances: `(K, D, D)` with `D` the size of `shape`, instead of `std`.
        labels: `(K,)`, the class of each component, for the condition `label`; by default its index.
    """

    corruption: Gaussian

    def __init__(
        self,
        weights: Num[Tensor, "k"],
        means: Float[Tensor, "k ..."],
        corruption: Gaussian,
        *,
        std: float | Float[Tensor, "k"] | None = None,
        covariances: Float[Tensor, "k d d"] | None = None,
        labels: Int[Tensor, "k"] | None = None,
    ) -> None:
        super().__init__()
        if (std is None) == (covariances is None):
            raise WrongUse("a Gaussian mixture needs either std or covariances")
        k = len(weights)
        self.corruption = corruption
        self.shape = tuple(means.shape[1:])
        self.weights: Tensor
        self.means: Tensor
        self.spreads: Tensor
        self.axes: Tensor | None
        self.labels: Tensor
        self.register_buffer("weights", weights.double() / weights.double().sum())
        self.register_buffer("means", means.double().reshape(k, -1))
        self.register_buffer("labels", torch.arange(k) if labels is None else labels)
        if covariances is None:
            variance = torch.as_tensor(std, dtype=torch.float64).expand(k).square()[:, None]
            self.register_buffer("spreads", variance.expand(k, self.means.shape[1]))
            self.register_buffer("axes", None)
        else:
            spreads, axes = torch.linalg.eigh(covariances.double())
            self.register_buffer("spreads", spreads.clamp(min=0.0))
            self.register_buffer("axes", axes)

    def forward(self, z: Tensor, t: float | Float64[Tensor, "b"], **condition: Any) -> Normal:
        """Mean and marginal variances. `label`, `(B,)`, restricts the components; -1 is all of them."""
        if not isinstance(t, Tensor) and t == 0.0:
            return Normal(z, torch.zeros_like(z))
        alpha, sigma = self._scales(t, z)
        log_joint, off = self._log_joint(z, alpha, sigma, condition.get("label"))
        share = log_joint.softmax(dim=1)[..., None]
        total = alpha**2 * self.spreads + sigma**2
        mean_k = self.means + self._rotate(alpha * self.spreads / total * off)
        var_k = self.spreads * sigma**2 / total
        if self.axes is not None:
            var_k = torch.einsum("kij,bkj->bki", self.axes**2, var_k)
        mean = (share * mean_k).sum(dim=1)
        var = (share * (var_k + (mean_k - mean[:, None]) ** 2)).sum(dim=1)
        return Normal(mean.reshape(z.shape).to(z.dtype), var.reshape(z.shape).to(z.dtype))

    def log_prob(
        self, z: Tensor, t: float | Float64[Tensor, "b"], *, label: Int[Tensor, "b"] | None = None
    ) -> Float64[Tensor, "b"]:
        """`log q(z_t)`, in nats; given a `label`, `log q(z_t, label)`."""
        return self._log_joint(z, *self._scales(t, z), label)[0].logsumexp(dim=1)

    def score(
        self, z: Tensor, t: float | Float64[Tensor, "b"], *, label: Int[Tensor, "b"] | None = None
    ) -> Float[Tensor, "b ..."]:
        """The gradient of `log q(z_t)` with respect to z. Not at t = 0, where a point has none."""
        alpha, sigma = self._scales(t, z)
        log_joint, off = self._log_joint(z, alpha, sigma, label)
        share = log_joint.softmax(dim=1)[..., None]
        # Not by Tweedie's formula, whose difference of mean and z cancels as sigma falls.
        score = -(share * self._rotate(off / (alpha**2 * self.spreads + sigma**2))).sum(dim=1)
        return score.reshape(z.shape).to(z.dtype)

    def sample(self, *, noise: Noise) -> Float64[Tensor, "b ..."]:
        """Clean data, one for each item of `noise`."""
        u = noise.uniform((), "component", dtype=torch.float64, device=self.weights.device)
        k = torch.searchsorted(self.weights.cumsum(0), u).clamp(max=len(self.weights) - 1)
        xi = noise.normal((self.means.shape[1],), "data", dtype=torch.float64, device=self.weights.device)
        x = self.spreads[k].sqrt() * xi
        if self.axes is not None:
            x = torch.einsum("bij,bj->bi", self.axes[k], x)
        return (self.means[k] + x).reshape(-1, *self.shape)

    def moments(self) -> tuple[Float64[Tensor, "d"], Float64[Tensor, "d d"]]:
        """Mean and covariance of the flattened clean data; meant for small `D`."""
        mean = self.weights @ self.means
        off = self.means - mean
        axes = torch.eye(len(mean)).to(mean).expand(len(off), -1, -1) if self.axes is None else self.axes
        within = torch.einsum("k,kij,kj,klj->il", self.weights, axes, self.spreads, axes)
        return mean, within + torch.einsum("k,ki,kj->ij", self.weights, off, off)

    def given(self, matrix: Float[Tensor, "m d"], y: Float[Tensor, "m"], std: float) -> "GaussianMixture":
        """The exact posterior of the data given `y = matrix x + std noise`: a mixture again, of as many components.

        What every posterior sampler approximates; sampling from it needs no guidance.

        Args:
            matrix: on the flattened data.
            std: of the measurement's noise; 0 where every component has spread in all that is measured.
        """
        matrix, y = matrix.to(self.means), y.to(self.means)
        k, d = self.means.shape
        axes = torch.eye(d).to(self.means).expand(k, d, d) if self.axes is None else self.axes
        covariances = torch.einsum("kij,kj,klj->kil", axes, self.spreads, axes)
        seen = torch.einsum("mi,kij,nj->kmn", matrix, covariances, matrix)
        seen = seen + std**2 * torch.eye(len(y)).to(seen)
        values, vectors = torch.linalg.eigh(seen)
        if bool((values[:, 0] <= 1e-12 * values[:, -1].clamp(min=1e-12)).any()):
            raise WrongUse("without noise, a measurement must be of data that has spread: give it a std above 0")
        off = y - self.means @ matrix.T
        inverse = torch.einsum("kmi,ki,kni->kmn", vectors, 1 / values, vectors)
        gain = torch.einsum("kij,mj,kmn->kin", covariances, matrix, inverse)
        fit = -(torch.einsum("km,kmn,kn->k", off, inverse, off) + values.log().sum(dim=1)) / 2
        means = self.means + torch.einsum("kin,kn->ki", gain, off)
        left = covariances - torch.einsum("kin,nj,kjl->kil", gain, matrix, covariances)
        return GaussianMixture(
            (self.weights.log() + fit).softmax(dim=0),
            means.reshape(-1, *self.shape),
            self.corruption,
            covariances=(left + left.mT) / 2,
            labels=self.labels,
        )

    def _scales(self, t: float | Float64[Tensor, "b"], z: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, `(B, 1, 1)` or `(1, 1, 1)`."""
        time = t if isinstance(t, Tensor) else torch.tensor([t], dtype=torch.float64)
        alpha, sigma = self.corruption.scales(time)
        return alpha.to(z.device).reshape(-1, 1, 1), sigma.to(z.device).reshape(-1, 1, 1)

    def _rotate(self, v: Tensor) -> Tensor:
        """From each component's own axes back to the data's."""
        return v if self.axes is None else torch.einsum("kij,bkj->bki", self.axes, v)

    def _log_joint(self, z: Tensor, alpha: Tensor, sigma: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """`log w_k N(z; alpha m_k, alpha^2 C_k + sigma^2)`, `(B, K)`, and `z - alpha m_k` in each one's axes."""
        off = z.double().reshape(len(z), 1, -1) - alpha * self.means
        if self.axes is not None:
            off = torch.einsum("kij,bki->bkj", self.axes, off)
        total = alpha**2 * self.spreads + sigma**2
        log_normal = -(off**2 / total + total.log() + math.log(math.tau)).sum(dim=2) / 2
        log_joint = self.weights.log() + log_normal
        if label is not None:
            other = (label[:, None] != self.labels) & (label[:, None] >= 0)
            log_joint = log_joint.masked_fill(other, -torch.inf)
        return log_joint, off


class _Atoms(Denoiser):
    """Data that takes `N` values, `atoms`, with probabilities `weights`."""

    def __init__(self, weights: Num[Tensor, "n"], atoms: Num[Tensor, "n ..."]) -> None:
        super().__init__()
        self.weights: Tensor
        self.atoms: Tensor
        self.register_buffer("weights", weights.double() / weights.double().sum())
        self.register_buffer("atoms", atoms)

    def sample(self, *, noise: Noise) -> Num[Tensor, "b ..."]:
        """Clean data, one for each item of `noise`."""
        u = noise.uniform((), "atom", dtype=torch.float64, device=self.weights.device)
        return self.atoms[torch.searchsorted(self.weights.cumsum(0), u).clamp(max=len(self.weights) - 1)]

    def _marginals(self, likelihood: Float64[Tensor, "b k ..."]) -> Float64[Tensor, "b k ..."]:
        """Posterior probability of each class at each position, from `q(z_t | x = k)` at each position."""
        table = likelihood.flatten(2)
        atoms = self.atoms.long().flatten(1)
        log_each = table[:, atoms, torch.arange(atoms.shape[1])].log()
        share = (self.weights.log() + log_each.sum(dim=2)).softmax(dim=1)
        onehot = F.one_hot(atoms, table.shape[1]).to(share)
        return torch.einsum("bn,npk->bkp", share, onehot).reshape(likelihood.shape)


class ExactCategorical(_Atoms):
    """Data with finitely many values, under a categorical corruption: the exact marginals of `p(x | z_t)`.

    Args:
        weights: `(N,)`, positive; normalised.
        atoms: int64 class maps, `(N, *positions)`.
        corruption: what destroys it.
    """

    corruption: CategoricalCorruption

    def __init__(
        self, weights: Num[Tensor, "n"], atoms: Int[Tensor, "n ..."], corruption: CategoricalCorruption
    ) -> None:
        super().__init__(weights, atoms)
        self.corruption = corruption

    def forward(self, z: Tensor, t: float | Float64[Tensor, "b"], **condition: Any) -> Categorical:
        return Categorical(self._marginals(self.corruption.likelihood(z, t)).log())


class ExactBernoulli(_Atoms):
    """Data with finitely many binary values, under a Bernoulli corruption: the exact marginals of `p(x | z_t)`.

    Args:
        weights: `(N,)`, positive; normalised.
        atoms: zeros and ones, `(N, *shape)`, floating point.
        corruption: what destroys it.
    """

    corruption: BernoulliCorruption

    def __init__(
        self, weights: Num[Tensor, "n"], atoms: Float[Tensor, "n ..."], corruption: BernoulliCorruption
    ) -> None:
        super().__init__(weights, atoms)
        self.corruption = corruption

    def forward(self, z: Tensor, t: float | Float64[Tensor, "b"], **condition: Any) -> Bernoulli:
        return Bernoulli(self._marginals(self.corruption.likelihood(z, t))[:, 1].logit())
