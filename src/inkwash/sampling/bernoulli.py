"""DDIM for binary masks: a pixel is kept, or drawn anew from what is believed of the clean mask.

Song, Meng & Ermon, "Denoising diffusion implicit models", ICLR 2021, appendix A, for two classes and any end of the
corruption (BerDiff: Chen, Wang & Shan, MICCAI 2023; HiDiff: Chen et al., IEEE TMI 2024).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from inkwash.corruption.bernoulli import BernoulliCorruption
from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.solver import Solver, State


@dataclass(frozen=True)
class BernoulliDDIM(Solver):
    """Draw `z_s ~ B(w z_t + (1 - w) y)`, `w = (1 - keep_s) / (1 - keep_t)`, with `y` the mean of the posterior.

    Of all kernels that leave the marginals `q(z_s | y)` as they are, this keeps the most pixels; the end of the
    corruption cancels. A step to 0 draws the clean mask.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    evaluations: ClassVar[int] = 1

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        corruption = denoiser.corruption
        if not isinstance(corruption, BernoulliCorruption):
            raise WrongUse(f"this solver is made for Bernoulli corruptions, not {type(corruption).__name__}")
        posterior = denoiser(state.z, t, **condition)
        keep = (1 - corruption.keep(s)) / (1 - corruption.keep(t))
        one = keep * state.z + (1 - keep) * posterior.mean
        z = (path.uniform(t, s, tuple(state.z.shape[1:])) < one).to(state.z.dtype)
        return State(z, posterior)
