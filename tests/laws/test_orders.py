"""Every deterministic solver converges with the order it declares, measured in float64 on exact denoisers."""

import functools

import pytest
import torch
from targets import TARGETS, arrive, growing, mixture, slope, start
from torch import Tensor

from inkwash.corruption.gaussian import EDM, VP, Cosine, Flow, Gaussian, Linear
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.dpm_solver import DampedDPMSolver3M, DPMSolver, DPMSolver2S
from inkwash.sampling.edm import EDMStochastic
from inkwash.sampling.euler import Euler, FlowHeun, Heun
from inkwash.sampling.exponential import ExponentialAB
from inkwash.sampling.grid import Grid
from inkwash.sampling.shortcut import Shortcut
from inkwash.sampling.solver import Solver
from inkwash.sampling.unipc import UniPC

SOLVERS: dict[str, Solver] = {
    "DDIM": DDIM(),
    "Euler": Euler(),
    "Heun": Heun(),
    "Heun on the velocity": FlowHeun(),
    "EDM without churn": EDMStochastic(gamma=0.0),
    "DPM-Solver++ (1)": DPMSolver(1),
    "DPM-Solver++ (2M)": DPMSolver(2),
    "DPM-Solver++ (3M)": DPMSolver(3),
    "DPM-Solver++ (4M)": DPMSolver(4),
    "DPM-Solver++ (3M, damped)": DampedDPMSolver3M(),
    "DPM-Solver++ (2S)": DPMSolver2S(),
    "exponential AB on noise (1)": ExponentialAB(1, "noise"),
    "exponential AB on noise (2)": ExponentialAB(2, "noise"),
    "exponential AB on noise (3)": ExponentialAB(3, "noise"),
    "exponential AB on noise (4)": ExponentialAB(4, "noise"),
    "UniPC-1": UniPC(1),
    "UniPC-2": UniPC(2),
    "UniPC-3": UniPC(3),
    "shortcut, not told": Shortcut(),
}


@functools.lru_cache
def truth(target: str) -> Tensor:
    """Where the probability flow arrives, by two methods that agree to 1e-10."""
    denoiser = TARGETS[target](VP())
    z, grid = start(denoiser, 4), growing(VP(), 500)
    data, noise = arrive(denoiser, UniPC(3), grid, z), arrive(denoiser, ExponentialAB(4, "noise"), grid, z)
    assert (data - noise).abs().max() < 1e-9
    return data


def error(denoiser: torch.nn.Module, solver: Solver, steps: int, truth: Tensor, corruption: Gaussian) -> float:
    got = arrive(denoiser, solver, growing(corruption, steps), start(denoiser, 4))
    return (got - truth).square().mean().sqrt().item()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SOLVERS)
def test_a_deterministic_solver_converges_with_its_declared_order(name: str, target: str, record_law) -> None:
    """The log-log slope of the error is within 0.3 of the declared order."""
    solver, denoiser = SOLVERS[name], TARGETS[target](VP())
    assert not solver.stochastic
    errors = [error(denoiser, solver, steps, truth(target), VP()) for steps in (80, 160)]
    record_law(
        f"{name} converges with order {solver.order} on {target}",
        slope(*errors),
        (solver.order - 0.3, solver.order + 0.3),
        pitfall=3,
    )


@pytest.mark.parametrize("corruption", [Linear(), Cosine(), Flow(), EDM()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("name", ["DPM-Solver++ (3M)", "UniPC-2", "Heun"])
def test_the_order_holds_for_every_corruption(name: str, corruption: Gaussian, record_law) -> None:
    """The order belongs to the solver: variance-preserving, exploding and straight corruptions alike."""
    solver, denoiser = SOLVERS[name], mixture(corruption)
    reference = arrive(denoiser, UniPC(3), growing(corruption, 300), start(denoiser, 4))
    errors = [error(denoiser, solver, steps, reference, corruption) for steps in (64, 128)]
    record_law(
        f"{name} converges with order {solver.order} under {type(corruption).__name__}",
        slope(*errors),
        (solver.order - 0.3, solver.order + 0.3),
        pitfall=3,
    )


def test_a_cold_start_on_equal_steps_is_of_order_two(record_law) -> None:
    """What the documentation says of short histories: on equal steps a third-order method falls to 2 in the limit."""
    corruption = VP()
    denoiser = mixture(corruption)

    def miss(steps: int) -> float:
        grid = Grid.of(corruption.time_of(torch.linspace(-4, 4, steps + 1, dtype=torch.float64)).tolist())
        end = arrive(denoiser, DPMSolver(3), grid, start(denoiser, 4))
        return (end - truth("a mixture")).square().mean().sqrt().item()

    measured = slope(miss(200), miss(400))
    record_law("DPM-Solver++ (3M) begun cold on equal steps is of order 2 in the limit", measured, (1.8, 2.3))


@pytest.mark.parametrize("name", SOLVERS)
def test_evaluations_are_as_declared(name: str) -> None:
    """A step calls the denoiser as often as the solver declares; the step to 0 not more than that."""
    solver, denoiser, calls = SOLVERS[name], mixture(Linear()), []
    denoiser.register_forward_hook(lambda *_: calls.append(1))
    arrive(denoiser, solver, Grid.of([0.9, 0.7, 0.5, 0.3]), start(denoiser, 1))
    assert len(calls) == 3 * solver.evaluations
    arrive(denoiser, solver, Grid.of([0.1, 0.0]), start(denoiser, 1))
    assert len(calls) - 3 * solver.evaluations <= solver.evaluations
