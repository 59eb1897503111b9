"""The posterior samplers by name: from a prior and a measurement to images that explain it.

Each takes any operator that its mathematics allows. The weights are those of the papers, over far fewer steps, where no
`strength` is told; how good they are is measured in docs/posteriors.md and docs/restoration.md.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse, unknown
from inkwash.operators.base import Linear, Operator, Spectral
from inkwash.operators.light import Illuminated
from inkwash.operators.mask import Identity, Masked
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.dps import DPS, MCG
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.measurement import diffpir, pigdm
from inkwash.sampling.guidance.threshold import clip
from inkwash.sampling.loop import Step, walk
from inkwash.sampling.reddiff import reddiff
from inkwash.sampling.renoise import Renoise
from inkwash.sampling.repaint import repaint
from inkwash.sampling.spectral import DDNM, DDRM
from inkwash.sampling.unimie import unimie
from inkwash.systems import recipes


@dataclass(frozen=True)
class Problem:
    """What is known of the images that are looked for.

    Attributes:
        denoiser: the prior.
        operator, y, std: the measurement, one for each item, and its noise.
        guess: an image made without the prior.
        noise: one item for each.
        strength: how much the prior counts beside the measurement, as a multiple of the paper's weight.
    """

    denoiser: Denoiser
    operator: Operator
    y: Float[Tensor, "b ..."]
    std: float
    guess: Float[Tensor, "b ..."]
    noise: Noise
    strength: float = 1.0

    @property
    def start(self) -> Float[Tensor, "b ..."]:
        """Pure noise."""
        shape, like = self.operator.shape, self.guess
        return self.denoiser.corruption.prior(shape, noise=self.noise, dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class Method:
    """A posterior sampler.

    Attributes:
        reads: the key of its paper in the reading list.
        needs: the kind of operator it takes.
        steps: evaluations of the network by default.
        grid: how its times are spread.
        run: the walk, over a grid.
        share: how many evaluations one step of the grid takes.
        random: whether draws differ.
        weighted: whether it has a weight, so that a `strength` is another result.
    """

    reads: str
    needs: type
    steps: int
    grid: str
    run: Callable[[Problem, Grid], Iterator[Step]]
    share: int = 1
    random: bool = True
    weighted: bool = False

    def restore(self, problem: Problem, steps: int | None = None) -> Iterator[Step]:
        """Walk to images that explain the measurement; the last step's `z` holds them.

        Raises:
            WrongUse: the operator isn't one it takes, the steps are too few, or a strength is told and it has none.
        """
        if not isinstance(problem.operator, self.needs):
            names = ", ".join(name for name, m in METHODS.items() if isinstance(problem.operator, m.needs))
            raise WrongUse(
                f"{type(problem.operator).__name__} isn't an operator that {self.reads} takes; these do: {names}"
            )
        wanted = self.steps if steps is None else steps
        if wanted < self.share:
            raise WrongUse(f"{self.reads} evaluates the network at least {self.share} times, not {wanted}")
        grid = recipes.GRIDS[self.grid](gaussian(problem.denoiser), max(1, wanted // self.share))
        self.check(problem.strength)
        return self.run(problem, grid)

    def check(self, strength: float) -> None:
        """Whether the prior can be weighed so.

        Raises:
            WrongUse: no.
        """
        if not 0 < strength < math.inf:
            raise WrongUse(f"a strength is a multiple of the prior's weight above 0, not {strength:g}")
        if strength != 1.0 and not self.weighted:
            names = ", ".join(name for name, m in METHODS.items() if m.weighted)
            raise WrongUse(f"{self.reads} has no weight, so no strength; these have one: {names}")


def method(name: str) -> Method:
    """The posterior sampler of this name."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def _pigdm(p: Problem, grid: Grid) -> Iterator[Step]:
    assert isinstance(p.operator, Linear)
    guided = clip()(pigdm(p.operator, p.y, p.std, weight=1 / p.strength)(p.denoiser))
    return walk(guided, DDIM(eta=1.0), grid, p.start, noise=p.noise)


def _diffpir(p: Problem, grid: Grid) -> Iterator[Step]:
    assert isinstance(p.operator, Linear)
    guided = clip()(diffpir(p.operator, p.y, p.std, strength=_LAMBDA * p.strength)(clip()(p.denoiser)))
    return walk(guided, Renoise(0.3), grid, p.start, noise=p.noise)


def _ddrm(p: Problem, grid: Grid) -> Iterator[Step]:
    assert isinstance(p.operator, Spectral)
    return walk(clip()(p.denoiser), DDRM(p.operator, p.y, p.std), grid, p.start, noise=p.noise)


def _ddnm(p: Problem, grid: Grid) -> Iterator[Step]:
    assert isinstance(p.operator, Spectral)
    return walk(clip()(p.denoiser), DDNM(p.operator, p.y, p.std), grid, p.start, noise=p.noise)


def _dps(p: Problem, grid: Grid) -> Iterator[Step]:
    return walk(clip()(p.denoiser), DPS(p.operator, p.y, scale=1 / p.strength), grid, p.start, noise=p.noise)


def _mcg(p: Problem, grid: Grid) -> Iterator[Step]:
    return walk(clip()(p.denoiser), MCG(p.operator, p.y, scale=1 / p.strength), grid, p.start, noise=p.noise)


def _reddiff(p: Problem, grid: Grid) -> Iterator[Step]:
    # The paper's weight is for measurements without noise; the noisier it is, the more the prior must count.
    weight = p.strength * (0.25 + 20 * p.std**2)
    return reddiff(clip()(p.denoiser), grid, p.guess, p.operator, p.y, noise=p.noise, weight=weight)


def _repaint(p: Problem, grid: Grid) -> Iterator[Step]:
    assert isinstance(p.operator, Masked)
    jump = max(1, len(grid) // 5)
    mask = p.operator.mask
    # Known up to its noise, which ancestral steps take off where it is seen as the walk's own.
    return repaint(
        clip()(p.denoiser), DDIM(eta=1.0), grid, p.start, torch.where(mask.to(p.y.device), p.y, 0.0), mask,
        noise=p.noise, jump=jump, resample=_REPAINT,
    )  # fmt: skip


def _unimie(p: Problem, grid: Grid) -> Iterator[Step]:
    # It finds gain and veil itself; what the operator says of them is not looked at.
    return unimie(p.denoiser, grid, p.y, noise=p.noise, std=max(p.std / 2, 0.01))


def _one_step(p: Problem, grid: Grid) -> Iterator[Step]:
    """What is believed of the images at the time whose noise is the measurement's: their posterior mean.

    `alpha y` is then distributed as `z_t` is, so the belief is `E[x | y]`, exactly where the denoiser is exact (Efron
    2011 tells how Tweedie's formula reads it off a score). There is nothing to draw, and no grid.
    """
    corruption = gaussian(p.denoiser)
    level = torch.tensor(-2 * math.log(max(p.std, 1e-6)), dtype=torch.float64)
    t = float(corruption.time_of(level))
    with torch.no_grad():
        posterior = clip()(p.denoiser)(corruption.at(t).alpha * p.y, t)
    yield Step(0, 1, t, 0.0, posterior.mean, posterior)


_REPAINT = 5
_LAMBDA = 7.0

METHODS: dict[str, Method] = {
    "diffpir": Method("diffpir", Linear, 50, "uniform", _diffpir, weighted=True),
    "ddrm": Method("ddrm", Spectral, 20, "uniform", _ddrm),
    "ddnm": Method("ddnm", Spectral, 50, "uniform", _ddnm),
    "pigdm": Method("pigdm", Linear, 50, "uniform", _pigdm, weighted=True),
    "dps": Method("dps", Operator, 200, "uniform", _dps, weighted=True),
    "mcg": Method("mcg", Linear, 200, "uniform", _mcg, weighted=True),
    "red-diff": Method("red-diff", Operator, 200, "uniform", _reddiff, weighted=True),
    "repaint": Method("repaint", Masked, 200, "uniform", _repaint, _REPAINT),
    "one-step": Method("tweedie", Identity, 1, "uniform", _one_step, random=False),
    "unimie": Method("unimie", Illuminated, 50, "log-snr", _unimie),
}
