"""A gradient step towards the measurement after every step back: DPS, and MCG, which also projects."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.operators.base import Linear, Operator
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.guidance.base import norm
from inkwash.sampling.solver import Solver, State


@dataclass(frozen=True, eq=False)
class DPS(Solver):
    """Chung et al., "Diffusion posterior sampling for general noisy inverse problems", ICLR 2023, algorithm 1.

    The ancestral step, then `z_s - scale grad |y - A(m(z_t))|`, the gradient taken through the network. That is the
    published code's step; the paper's formula, with the square over the norm, is twice as long. The scale was chosen
    for 1000 steps: over fewer, what all of them add up to falls with their number.

    Args:
        operator: any, linear or not.
        y: `(B, *measured)`, or one for all items.
        scale: the step, 0.3 to 1 in the paper.
    """

    operator: Operator
    y: Float[Tensor, "b ..."]
    scale: float = 1.0
    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        corruption = gaussian(denoiser)
        with torch.enable_grad():
            place = state.z.detach().requires_grad_()
            posterior = denoiser(place, t, **condition)
            off = norm(self.y.to(place) - self.operator(posterior.mean))
            # Items do not see each other, so the gradient of the sum is each item's own.
            gradient = torch.autograd.grad(off.sum(), place)[0]
        with torch.no_grad():
            posterior = type(posterior)(**{name: value.detach() for name, value in vars(posterior).items()})
            z = corruption.step_back(state.z, posterior, t, s, path=path)
            return State(self.project(z.sub(gradient, alpha=self.scale), t, s, corruption, path), posterior)

    def project(self, z: Tensor, t: float, s: float, corruption: Any, path: Path) -> Tensor:
        """What follows the gradient step: nothing."""
        return z


@dataclass(frozen=True, eq=False)
class MCG(DPS):
    """Chung, Sim, Ryu & Ye, "Improving diffusion models for inverse problems using manifold constraints", NeurIPS
    2022, algorithm 1: after DPS's gradient, `z_s` is set to a noised measurement wherever it is measured."""

    def __post_init__(self) -> None:
        if not isinstance(self.operator, Linear):
            kind = type(self.operator).__name__
            raise WrongUse(f"MCG projects onto its measurement, and {kind} isn't linear: use DPS")

    def project(self, z: Tensor, t: float, s: float, corruption: Any, path: Path) -> Tensor:
        operator, then = self.operator, corruption.at(s)
        assert isinstance(operator, Linear)
        level = then.alpha * self.y.to(z)
        if then.sigma > 0.0:
            level = level + then.sigma * operator(path.fresh(t, s, "measurement"))
        return operator.nearest(z, level.expand(len(z), *level.shape[1:]))
