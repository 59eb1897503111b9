"""The names that users write, and the parts that they mean. Below this floor there are no such strings."""

from collections.abc import Callable
from typing import Any

from inkwash.corruption.gaussian import (
    EDM,
    VE,
    VP,
    Cosine,
    Flow,
    Gaussian,
    Linear,
    ScaledLinear,
    Shifted,
    Sigmoid,
    ZeroTerminalSNR,
)
from inkwash.corruption.retention import CosineRetention, LinearRetention, Retention
from inkwash.denoise.parameterization import Data, Epsilon, Parameterization, Preconditioned, V, Velocity
from inkwash.denoise.times import Importance, LogNormal, LowDiscrepancy, Times, Uniform
from inkwash.denoise.weighting import P2, VLB, EDMWeighting, MinSNR, Simple, Weighting
from inkwash.errors import WrongUse, unknown
from inkwash.sampling.ancestral import Ancestral
from inkwash.sampling.bernoulli import BernoulliDDIM
from inkwash.sampling.cache import Cache
from inkwash.sampling.consistency import Consistency
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.dpm_solver import DampedDPMSolver3M, DPMSolver, DPMSolver2S, SDEDPMSolver2M
from inkwash.sampling.edm import EDMStochastic
from inkwash.sampling.euler import Euler, FlowEuler, FlowHeun, Heun
from inkwash.sampling.exponential import ExponentialAB
from inkwash.sampling.grid import Grid
from inkwash.sampling.shortcut import Shortcut
from inkwash.sampling.solver import Solver
from inkwash.sampling.unipc import UniPC
from inkwash.systems.distillation.consistency import ConsistencyDistillation, ConsistencyTraining
from inkwash.systems.distillation.method import Method
from inkwash.systems.distillation.progressive import Progressive
from inkwash.systems.distillation.shortcut import ShortcutDistillation

SCHEDULES: dict[str, Callable[[int, float, float], Gaussian]] = {
    "linear": lambda steps, mean, std: Linear(steps=steps, data_mean=mean, data_std=std),
    "scaled-linear": lambda steps, mean, std: ScaledLinear(steps=steps, data_mean=mean, data_std=std),
    "latent-linear": lambda steps, mean, std: ScaledLinear(
        steps=steps, beta_start=0.0015, beta_end=0.0155, data_mean=mean, data_std=std
    ),
    "cosine": lambda steps, mean, std: Cosine(steps=steps, data_mean=mean, data_std=std),
    "sigmoid": lambda steps, mean, std: Sigmoid(steps=steps, data_mean=mean, data_std=std),
    "vp": lambda _, mean, std: VP(data_mean=mean, data_std=std),
    "ve": lambda steps, mean, std: VE(steps=steps, data_mean=mean, data_std=std),
    "edm": lambda _, mean, std: EDM(data_mean=mean, data_std=std),
    "flow": lambda _, mean, std: Flow(data_mean=mean, data_std=std),
    "zero-snr": lambda steps, mean, std: ZeroTerminalSNR(
        base=Linear(steps=steps), steps=steps, data_mean=mean, data_std=std
    ),
}

PARAMETERIZATIONS: dict[str, Callable[[float], Parameterization]] = {
    "eps": lambda _: Epsilon(),
    "x": lambda _: Data(),
    "v": lambda _: V(),
    "velocity": lambda _: Velocity(),
    "edm": lambda std: Preconditioned(data_std=std),
}

WEIGHTINGS: dict[str, Callable[[float], Weighting]] = {
    "simple": lambda _: Simple(),
    "min-snr": lambda _: MinSNR(),
    "p2": lambda _: P2(),
    "edm": lambda std: EDMWeighting(data_std=std),
    "vlb": lambda _: VLB(),
}

TIMES: dict[str, Callable[[], Times]] = {
    "uniform": Uniform,
    "low-discrepancy": LowDiscrepancy,
    "log-normal": LogNormal,
    "importance": Importance,
}

SOLVERS: dict[str, Callable[[], Solver]] = {
    "ddpm": Ancestral,
    "ddim": DDIM,
    "euler": Euler,
    "heun": Heun,
    "flow-euler": FlowEuler,
    "flow-heun": FlowHeun,
    "edm": EDMStochastic,
    "dpm++1": lambda: DPMSolver(order=1),
    "dpm++2s": DPMSolver2S,
    "dpm++2m": lambda: DPMSolver(order=2),
    "dpm++3m": lambda: DPMSolver(order=3),
    "dpm++3m-damped": DampedDPMSolver3M,
    "dpm++2m-sde": SDEDPMSolver2M,
    "unipc": lambda: UniPC(p=2),
    "unipc3": lambda: UniPC(p=3),
    "deis": lambda: ExponentialAB(order=2, predict="noise"),
    "exp-ab3": lambda: ExponentialAB(order=3, predict="data"),
    "consistency": Consistency,
    "shortcut": Shortcut,
}

# For masks of zeros and ones: how long their pixels last, and the solvers.
RETENTIONS: dict[str, Callable[[], Retention]] = {"cosine": CosineRetention, "linear": LinearRetention}
BINARY_SOLVERS: dict[str, Callable[[], Solver]] = {"ddpm": Ancestral, "ddim": BernoulliDDIM}

GRIDS: dict[str, Callable[[Gaussian, int], Grid]] = {
    "uniform": lambda _, steps: Grid.uniform(steps),
    "quadratic": lambda _, steps: Grid.quadratic(steps),
    "karras": lambda corruption, steps: Grid.karras(corruption, steps),
    "log-snr": lambda corruption, steps: _log_snr(corruption, steps),
}

# What is kept across the steps of a walk, how it is told, and what makes a number of it.
CACHES: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "deep": ("deep:N", lambda number: {"deep": int(number)}),
    "first-block": ("first-block:CHANGE", lambda number: {"first_block": float(number)}),
    "guidance": ("guidance:N", lambda number: {"guidance": int(number)}),
}

# The grids that the papers of these solvers use; the others gain from equal steps in log-SNR.
OWN_GRIDS = {
    "ddpm": "uniform",
    "flow-euler": "uniform",
    "flow-heun": "uniform",
    "euler": "karras",
    "heun": "karras",
    "edm": "karras",
    "consistency": "uniform",
    "shortcut": "uniform",
}

# How a trained generator is taught to draw in a few evaluations.
METHODS: dict[str, type[Method]] = {
    "progressive": Progressive,
    "consistency": ConsistencyDistillation,
    "consistency-training": ConsistencyTraining,
    "shortcut": ShortcutDistillation,
}


def schedule(name: str, *, steps: int, shift: float, data_mean: float, data_std: float) -> Gaussian:
    """The corruption of this name, its noise multiplied by `shift`."""
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    base = SCHEDULES[name](steps, data_mean, data_std)
    return base if shift == 1.0 else Shifted(base=base, shift=shift, data_mean=data_mean, data_std=data_std)


def _log_snr(corruption: Gaussian, steps: int, reach: float = 8.0) -> Grid:
    """From t = 1, then equal steps in log-SNR between `-reach` and `reach`, where pictures of 8 bits come to be.

    Schedules that go on to log-SNR -20 would spend a third of the steps on pure noise.
    """
    low = max(corruption.at(1.0).log_snr, -reach)
    return Grid.of([1.0, *Grid.log_snr(corruption, steps, low=low, high=reach).times[1:]])


def sampler(name: str, corruption: Gaussian, steps: int) -> tuple[Solver, Grid]:
    """A solver and its grid from `solver` or `solver@grid`, for `steps` evaluations of the network."""
    solver_name, _, grid_name = name.partition("@")
    if solver_name not in SOLVERS:
        raise unknown("sampler", solver_name, SOLVERS)
    if grid_name and grid_name not in GRIDS:
        raise unknown("grid", grid_name, GRIDS)
    solver = SOLVERS[solver_name]()
    if steps < solver.evaluations:
        raise WrongUse(
            f"{solver_name} evaluates the network {solver.evaluations} times a step: "
            f"steps counts evaluations and is at least that, not {steps}"
        )
    grid = GRIDS[grid_name or OWN_GRIDS.get(solver_name, "log-snr")]
    return solver, grid(corruption, steps // solver.evaluations)


def binary_sampler(name: str, table: int, steps: int) -> tuple[Solver, Grid]:
    """A solver of binary masks, and `steps` of the `table` steps that a denoiser was trained on."""
    if name not in BINARY_SOLVERS:
        raise unknown("sampler", name, BINARY_SOLVERS)
    return BINARY_SOLVERS[name](), Grid.trailing(table, steps)


def cache(text: str) -> Cache:
    """The cache that `deep:3`, `first-block:0.1`, `guidance:2`, or several of them joined by `+`, means; or `none`."""
    told: dict[str, Any] = {}
    for part in () if text == "none" else text.split("+"):
        name, _, number = part.partition(":")
        if name not in CACHES:
            raise unknown("cache", name, [*CACHES, "none"])
        form, read = CACHES[name]
        try:
            found = read(number)
        except ValueError:
            raise WrongUse(f"cache {part!r}: it is told as {form}, {form.split(':')[1]} a number") from None
        if found.keys() & told.keys():
            raise WrongUse(f"cache {text!r} says {name} twice")
        told |= found
    return Cache(**told)
