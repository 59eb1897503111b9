"""`inkwash.tune`: the times and weights of a walk of few steps, made for one model."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from inkwash.api import conditions
from inkwash.api.progress import Progress
from inkwash.api.runs import generator
from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.sampling.dpm_solver import DPMSolver
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import walk
from inkwash.sampling.solver import Solver
from inkwash.sampling.tuned import Trajectory, choose, search
from inkwash.systems import recipes, settings
from inkwash.systems.settings import TunedWalk
from inkwash.training.run import Run

# The items that a walk is tuned and judged on are none that a user draws.
_FITTED, _JUDGED = 1 << 40, 1 << 41
# Deterministic ones, one evaluation a step: the others do not arrive where the fine walk does.
_RIVALS = ("dpm++2m", "dpm++2m@karras", "dpm++2m@uniform", "dpm++3m", "unipc", "unipc3", "ddim")
_GRIDS = ("log-snr", "karras", "uniform")
_MOST_BYTES = 1 << 30


class Tuning(BaseModel):
    """What was tuned.

    Attributes:
        walks: one for each number of steps, the better ones in use from now on.
        kept: whether each was better than every hand-made solver and grid, on noise that it was not made on.
    """

    run: str
    walks: list[TunedWalk]
    kept: list[bool]
    items: int

    def __str__(self) -> str:
        lines = [f"{self.run}: root mean square per pixel to the exact walk, on held-out noise", ""]
        lines.append(f"{'steps':>5}  {'tuned':>8}  {'by hand':>8}  best by hand")
        for tuned, kept in zip(self.walks, self.kept, strict=True):
            note = "" if kept else "   (not better: not stored)"
            lines.append(f"{tuned.steps:>5}  {tuned.error:>8.4f}  {tuned.by_hand:>8.4f}  {tuned.rival}{note}")
        stored = ", ".join(str(w.steps) for w, kept in zip(self.walks, self.kept, strict=True) if kept)
        if stored:
            lines += ["", f"stored in {self.run}/{settings.NAME}: sample and evaluate use it with --steps {stored}"]
        return "\n".join(lines)


def tuning(
    run: str | Path,
    *,
    steps: Sequence[int],
    guidance: float | None = None,
    condition: str | None = None,
    items: int = 24,
    candidates: int = 64,
    tries: int = 16,
    seed: int = 0,
) -> Iterator[Progress]:
    """`tune`, saying where it is; the last report carries a `Tuning`."""
    if not steps or min(steps) < 1 or max(steps) > candidates // 2:
        raise WrongUse(f"--steps are numbers from 1 to {candidates // 2}, half the candidates, not {list(steps)}")
    if items < 4 or tries < 0:
        raise WrongUse(f"--items is at least 4 and --tries at least 0, not {items} and {tries}")
    folder, system = Run.open(run), generator(run)
    if folder.student != "none":
        raise WrongUse(f"{run} is a student, whose few steps are learned: tune the run that it was made from")
    way = system.way(sampler=system.config.sampler, guidance=guidance)
    shape = system.shape
    device = next(system.parameters()).device
    size = 4 * int(torch.tensor(shape).prod())
    items = max(4, min(items, _MOST_BYTES // (2 * candidates * size)))
    judged = max(4, items // 2)
    given = conditions.of_model(folder, system, condition, items + judged)
    told: dict[str, Any] = system.condition({name: value.to(device) for name, value in given.items()})

    corruption = system.denoiser.corruption
    by_hand = {count: [recipes.GRIDS[name](corruption, count) for name in _GRIDS] for count in steps}
    fine = Grid.joined([recipes.GRIDS["log-snr"](corruption, candidates), *(g for v in by_hand.values() for g in v)])

    # Both lots are walked together; only the first is kept in full.
    noise = Noise(seed, [*range(_FITTED, _FITTED + items), *range(_JUDGED, _JUDGED + judged)])
    z = start = corruption.prior(shape, noise=noise, device=device)
    seen, believed = [], []
    for step in walk(way.denoiser, DPMSolver(order=3), fine, start, noise=noise, **told):
        seen.append(z[:items])
        believed.append(step.posterior.mean[:items])
        z = step.z
        yield Progress("walking finely", step.index + 1, len(fine))
    trajectory = Trajectory(fine.times[:-1], torch.stack(seen), torch.stack(believed), z[:items])
    fitted = {name: value[:items] for name, value in told.items()}
    rest = {name: value[items:] for name, value in told.items()}

    def miss(solver: Solver, grid: Grid) -> float:
        *_, last = walk(way.denoiser, solver, grid, start[items:], noise=noise[items:], **rest)
        return float((last.z - z[items:]).square().mean().sqrt())

    walks = []
    for count in steps:
        starts = [choose(way.denoiser, trajectory, count, seed=seed)]
        starts += [[fine.place(t) for t in grid.times[:-1]] for grid in by_hand[count]]
        done = 0
        for done, best in enumerate(search(way.denoiser, trajectory, starts, tries=tries, **fitted), start=1):
            yield Progress(f"tuning {count} steps", done, len(starts) + tries, note=f"error {best.error:.4f}")
        yield Progress(f"tuning {count} steps", done, done, note=f"error {best.error:.4f}")
        rivals = {name: recipes.sampler(name, corruption, count) for name in _RIVALS}
        missed = {name: miss(solver, grid) for name, (solver, grid) in rivals.items()}
        rival = min(missed, key=missed.__getitem__)
        walks.append(
            TunedWalk(
                steps=count,
                guidance=way.guidance,
                times=best.solver.times,
                weights=best.solver.weights,
                error=miss(best.solver, best.solver.grid),
                by_hand=missed[rival],
                rival=rival,
            )
        )
    kept = [found.error < found.by_hand for found in walks]
    stored = settings.read(folder.path)
    for found, better in zip(walks, kept, strict=True):
        if better:
            stored = stored.with_walk(found)
    stored.write(folder.path)
    result = Tuning(run=str(run), walks=walks, kept=kept, items=items)
    yield Progress("judging", len(steps), len(steps), result=result)


def tune(run: str | Path, *, steps: Sequence[int], **options: Any) -> Tuning:
    """Make walks of few steps for a model, and let `sample` and `evaluate` use them.

    The model is walked finely once for a few items; the times and the weights of every step are fitted to that walk and
    judged on other noise beside the hand-made solvers. What is better than all of them is stored in the run folder.

    Args:
        run: a run folder.
        steps: how many evaluations an image; several may be tuned at once.
        **options: `guidance` that the walk is for; `condition`, as `sample` takes it, by default that of the training
            data; `items` to fit on (24); `candidates`, times to choose from (64); `tries`, moves
            of a time that are tried for each number of steps (16); `seed` (0).

    Raises:
        WrongUse: something handed in can't be used.
    """
    *_, last = tuning(run, steps=steps, **options)
    result: Tuning = last.result
    return result
