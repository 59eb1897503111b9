r"""Restoration in the axes of the measurement's singular values: DDRM and DDNM+.

`y = A x + std noise`, `A = U S V*`. In the axes `V`, coordinate `i` of `y` is `y_i / s_i` with noise of `std / s_i`, so
each is asked on its own whether the measurement or the walk is the noisier one. `sigma` and `sigma'` below are the
noise of `z_t / alpha_t` and `z_s / alpha_s`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.noise import Path
from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.operators.base import Operator, Spectral
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.solver import Solver, State


@dataclass(frozen=True, eq=False)
class _InAxes(Solver):
    """A measurement of each item, `y`, by an operator that knows its singular values.

    Args:
        y: `(B, *measured)`, or one for all items.
        std: of its noise.
        eta: how much of the noise is fresh where nothing is measured; 0 is DDIM there.
    """

    operator: Operator
    y: Float[Tensor, "b ..."]
    std: float
    eta: float = 0.85
    _known: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor]] = field(
        init=False, repr=False, default_factory=dict
    )
    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not isinstance(self.operator, Spectral):
            raise WrongUse(
                f"{type(self).__name__} needs the singular values of its operator, and "
                f"{type(self.operator).__name__} doesn't know them: use pigdm, diffpir or DPS"
            )
        if self.std < 0 or not 0.0 <= self.eta <= 1.0:
            raise WrongUse(f"needs std >= 0 and eta between 0 and 1, not std={self.std}, eta={self.eta}")

    @property
    def _axes(self) -> Spectral:
        """The operator, as `__post_init__` has checked it."""
        return cast(Spectral, self.operator)

    def _measured(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where coordinates are measured, their values `y_i / s_i` and the noise of those, `std / s_i`.

        They are the same at every step, so the first one finds them for the whole walk.
        """
        where = (like.device, like.dtype)
        if where not in self._known:
            self._known[where] = self._found(like)
        return self._known[where]

    def _found(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        operator = self._axes
        singular = operator.singular.to(like.device)
        seen = singular > 1e-6 * singular.max()
        safe = torch.where(seen, singular, 1.0)
        values = operator.measurement_coefficients(self.y.to(like))
        real = values.real.dtype
        return seen, values / safe.to(real), (self.std / safe).to(real)


@dataclass(frozen=True, eq=False)
class DDRM(_InAxes):
    """Kawar, Elad, Ermon & Song, "Denoising diffusion restoration models", NeurIPS 2022, eq. 7 and 8.

    Args:
        eta_b: how far a coordinate that is measured better than the walk knows it is set to its measurement.
    """

    eta_b: float = 1.0

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        operator, corruption = self._axes, gaussian(denoiser)
        now, then = corruption.at(t), corruption.at(s)
        posterior = denoiser(state.z, t, **condition)
        before = now.sigma / max(now.alpha, 1e-12)
        after = then.sigma / then.alpha
        m = operator.coefficients(posterior.mean)
        z = operator.coefficients(state.z) / max(now.alpha, 1e-12)
        seen, y, noise = self._measured(state.z)
        fresh = torch.zeros_like(m) if after == 0.0 else operator.coefficients(path.normal(t, s))
        kept = math.sqrt(1 - self.eta**2) * after
        unseen = m + kept * (z - m) / before + self.eta * after * fresh
        # Where the measurement is the noisier one, its residual takes the place of the walk's noise.
        coarse = m + kept * (y - m) / noise.clamp(min=1e-12) + self.eta * after * fresh
        rest = (after**2 - (noise * self.eta_b) ** 2).clamp(min=0.0).sqrt()
        fine = (1 - self.eta_b) * m + self.eta_b * y + rest * fresh
        moved = torch.where(seen, torch.where(noise > after, coarse, fine), unseen)
        return State(then.alpha * operator.item(moved), posterior)


@dataclass(frozen=True, eq=False)
class DDNM(_InAxes):
    """DDNM+: Wang, Yu & Zhang, "Zero-shot image restoration using denoising diffusion null-space model", ICLR 2023,
    eq. 17 to 19: the projection onto the measurement, held back where its noise exceeds what the step adds."""

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        operator, corruption = self._axes, gaussian(denoiser)
        now, then = corruption.at(t), corruption.at(s)
        posterior = denoiser(state.z, t, **condition)
        m = operator.coefficients(posterior.mean)
        seen, y, noise = self._measured(state.z)
        added = self.eta * then.sigma
        carried = then.alpha * noise  # what the measurement's noise becomes in z_s
        held = torch.where(carried > added, added / carried.clamp(min=1e-12), 1.0) * seen
        x = m + held * (y - m)
        kept = math.sqrt(1 - self.eta**2) * then.sigma
        eps = (operator.coefficients(state.z) - now.alpha * m) / now.sigma
        z = then.alpha * x + kept * eps
        if added > 0.0:
            rest = (added**2 - (held * carried) ** 2).clamp(min=0.0).sqrt()
            z = z + rest * operator.coefficients(path.normal(t, s))
        return State(operator.item(z), Point(operator.item(x)))
