"""Time per step outside the network: every solver, around a network that returns a constant.

Ours is `walk` over a `GaussianDenoiser` (for the flow solvers one that predicts the velocity, for all others the
noise): what the network's output is made into, the solver, the loop. diffusers' is `scale_model_input` and `step` of
the scheduler that computes the same, in its pipelines' loop. Both in 20 steps, the grid made beforehand. A step of
Heun's method, of 2S and of EDM's evaluates the network twice.

A stochastic solver also draws noise. Ours draws numbers that depend on (seed, item, interval) alone, from a Brownian
path, diffusers draws from torch's generator; the notes say what share that is, beside `torch.randn` of that shape.
"""

from collections.abc import Callable
from typing import Any

import torch
from support import schedulers
from support.arguments import parse
from support.record import Row, Target, write
from support.timing import Spread, interleaved
from torch import Tensor, nn

from inkwash.corruption.gaussian import Flow, Gaussian, Linear
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.denoise.base import Denoiser
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Epsilon, Velocity
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import resolution, walk
from inkwash.sampling.solver import Solver
from inkwash.systems import recipes

STEPS = 20
# Milliseconds a step, by batch.
MOST = {1: 0.06, 16: 0.2}


class Constant(nn.Module):
    """A network that has nothing to do."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, z: Tensor, t: Tensor, **_: Any) -> Tensor:
        return self.output


class Certain(Denoiser):
    """A denoiser that has nothing to do: what is left is the solver and the loop."""

    def __init__(self, corruption: Gaussian, mean: Tensor) -> None:
        super().__init__()
        self.corruption, self.posterior = corruption, Point(mean)

    def forward(self, z: Tensor, t: float | Tensor, **_: Any) -> Point:
        return self.posterior


def main() -> None:
    options = parse(__doc__)
    shape, batches, rounds = ((3, 8, 8), (1,), 2) if options.quick else ((3, 64, 64), (1, 16), 25)
    rows = [measured(name, batch, shape, rounds) for batch in batches for name in recipes.SOLVERS]
    write("overhead", "Time per step outside the network", rows, options.out, about=str(__doc__))


def measured(name: str, batch: int, shape: tuple[int, ...], rounds: int) -> Row:
    flow = name.startswith("flow")
    corruption: Gaussian = Flow() if flow else Linear()
    solver = recipes.SOLVERS[name]()
    start = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    network = Constant(torch.full_like(start, 0.1))
    noise = Noise(0, range(batch))
    denoiser = GaussianDenoiser(network, corruption, Velocity() if flow else Epsilon())
    grid = recipes.GRIDS[recipes.OWN_GRIDS.get(name, "log-snr")](corruption, STEPS)

    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: _walk(denoiser, solver, grid, start, noise),
        "without the denoiser": lambda: _walk(Certain(corruption, network.output), solver, grid, start, noise),
    }
    prepare: dict[str, Callable[[], object]] = {}
    fresh = iter(_grids(grid, rounds + 1))
    following: list[Grid] = []
    prepare["first walk"] = lambda: following.append(next(fresh))
    calls["first walk"] = lambda: _walk(denoiser, solver, following.pop(), start, noise)
    if name in schedulers.COUNTERPARTS:
        kind, own = schedulers.COUNTERPARTS[name]
        scheduler = schedulers.make(kind, **own)
        prepare["diffusers"] = lambda: scheduler.set_timesteps(STEPS)
        calls["diffusers"] = lambda: _loop(scheduler, network, start)
    if solver.stochastic:
        calls["noise"] = lambda: _noise(noise, shape, grid, solver)
        calls["randn"] = lambda: [torch.randn(start.shape) for _ in range(STEPS)]

    times = interleaved(calls, rounds, warmup=1 if rounds < 10 else 3, prepare=prepare)
    step = {call: times[call] * (1000 / STEPS) for call in calls}
    note = f"two evaluations a step, {step['ours'].median / 2:.3f} ms each" if solver.evaluations == 2 else ""
    if solver.stochastic:
        drawn, random = step["noise"].median, step["randn"].median
        rest = step["ours"].median - drawn
        share = f"{drawn:.3f} ms of it to draw the noise (torch.randn: {random:.3f}), {rest:.3f} not"
        note = "; ".join(part for part in (note, share) if part)
    peer = "diffusers" in calls
    return Row(
        measure=f"{name}, {batch}x{'x'.join(map(str, shape))}",
        ours=step["ours"].median,
        unit="ms",
        peers={f"diffusers {schedulers.COUNTERPARTS[name][0]}": step["diffusers"].median} if peer else {},
        ratio=times.ratio("diffusers", "ours") if peer else None,
        target=Target("ours", MOST[batch]) if batch in MOST else None,
        note=note,
        detail={
            "stochastic": solver.stochastic,
            "evaluations": solver.evaluations,
            "least": times.least("ours") * 1000 / STEPS,
            **{call: _plain(spread) for call, spread in step.items() if call != "ours"},
        },
    )


def _walk(denoiser: Denoiser, solver: Solver, grid: Grid, z: Tensor, noise: Noise) -> None:
    for _ in walk(denoiser, solver, grid, z, noise=noise):
        pass


@torch.no_grad()
def _loop(scheduler: Any, network: nn.Module, z: Tensor) -> None:
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(z, t) if hasattr(scheduler, "scale_model_input") else z
        z = scheduler.step(network(scaled, t), t, z, return_dict=False)[0]


def _noise(noise: Noise, shape: tuple[int, ...], grid: Grid, solver: Solver) -> None:
    """What a walk along the grid draws: EDM's solver keys its noise by the interval, the others walk along a path."""
    path = noise.path(shape, depth=resolution(grid))
    for t, s in grid:
        if solver.evaluations == 2:
            path.fresh(t, s, "churn")
        elif s > 0.0:
            path.normal(t, s)


def _grids(grid: Grid, count: int) -> list[Grid]:
    """Grids that differ from this one by nothing that matters, so that no coefficient is remembered from before."""
    return [Grid.of([1.0, *(t * (1 - 1e-9 * k) for t in grid.times[1:-1]), 0.0]) for k in range(1, count + 3)]


def _plain(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "low": spread.low, "high": spread.high}


if __name__ == "__main__":
    main()
