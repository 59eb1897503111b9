"""What a solver is: one step back, from `t` to `s`, and three declared promises."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from jaxtyping import Num
from torch import Tensor

from inkwash.corruption.noise import Path
from inkwash.corruption.posterior import Posterior
from inkwash.denoise.base import Denoiser


@dataclass(frozen=True)
class State:
    """Where a walk is: the noisy data, and what the solver remembers of earlier steps.

    Attributes:
        z: the current data, `(B, C, *spatial)`.
        posterior: the posterior that the last step was taken with.
        history: what a multistep solver keeps: `(time, mean)` of earlier evaluations, newest first.
    """

    z: Num[Tensor, "b ..."]
    posterior: Posterior | None = None
    history: tuple[tuple[float, Tensor], ...] = ()


class Solver(ABC):
    """One step of one method. Solvers are immutable and know nothing of grids.

    A step may use only what it is given, so it cannot disagree with the list of times, and a solver used
    twice gives the same answer. The three declarations below are measured by `tests/laws`.

    Attributes:
        order: the global order of convergence on a smooth grid (for stochastic solvers: of the
            deterministic limit, or 1).
        stochastic: whether it draws noise.
        evaluations: calls of the denoiser a step (the last step, to time 0, may need fewer).
    """

    order: int
    stochastic: bool
    evaluations: int

    @abstractmethod
    def step(
        self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any
    ) -> State:
        """From `z_t` in `state` to `z_s`; a step to `s = 0` returns the posterior mean exactly."""
