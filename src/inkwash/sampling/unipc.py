r"""UniPC: Zhao, Bai, Rao, Zhou & Lu, "UniPC: a unified predictor-corrector framework", NeurIPS 2023.

The predictor is exponential Adams-Bashforth on the clean image; the corrector repeats the step just taken with
the belief at its end among the nodes (Adams-Moulton). That belief is the next step's evaluation anyway, so the
correction is free and one order is gained: UniPC-p has order p + 1.

Predictor and corrector start from the same z and differ in their weights alone, so the corrected z is never
formed: it is folded into the weights of the next step. The paper's functions `B(h)` cancel from the exact
quadrature used here; where libraries replace a weight by one half (p = 2), they differ from it by `O(h^2)`.
"""

import functools
import math
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, ClassVar

from inkwash.corruption.gaussian import Gaussian
from inkwash.corruption.noise import Path
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.sampling.exponential import combine, weights
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.solver import Solver, State


@functools.lru_cache(maxsize=4096)
def _weights(corruption: Gaussian, p: int, t: float, s: float, earlier: tuple[float, ...]) -> tuple[float, ...]:
    """`(c, w_0, w_1, ...)` of a step that corrects at `t` and then predicts at `s`."""
    predict = weights(corruption, 1.0, t, s, earlier[: p - 1])
    if not earlier or math.isinf(corruption.at(earlier[0]).log_snr):
        return predict
    start = earlier[0]
    predicted = weights(corruption, 1.0, start, t, earlier[1:])
    corrected = weights(corruption, 1.0, start, t, (t, *earlier[1:]))
    # In the order (t, start, before): the corrector has its own start first, then t.
    before = (c - p for c, p in zip(corrected[3:], predicted[2:], strict=True))
    change = (corrected[2], corrected[1] - predicted[1], *before)
    return predict[0], *(predict[0] * c + w for c, w in zip_longest(change, predict[1:], fillvalue=0.0))


@dataclass(frozen=True)
class UniPC(Solver):
    """UniPC-p: a predictor of order `p`, corrected to order `p + 1` without further evaluations.

    Args:
        p: 1, 2 or 3, what the paper and libraries call its order. `order` is the measured one, `p + 1`.
    """

    p: int = 2
    stochastic: ClassVar[bool] = False
    evaluations: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.p not in (1, 2, 3):
            raise WrongUse(f"UniPC's p is 1, 2 or 3, not {self.p}")

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.p + 1

    def step(self, denoiser: Denoiser, state: State, t: float, s: float, *, path: Path, **condition: Any) -> State:
        posterior = denoiser(state.z, t, **condition)
        if s == 0.0:
            return State(posterior.mean, posterior)
        earlier = tuple(time for time, _ in state.history)
        beliefs = [posterior.mean, *(value for _, value in state.history)]
        z = combine(state.z, _weights(gaussian(denoiser), self.p, t, s, earlier), beliefs)
        return State(z, posterior, ((t, posterior.mean), *state.history)[: self.p])
