"""What a step costs outside the network, counted instead of timed: evaluations, operations, allocations, waiting.

No speed is asserted anywhere; what makes a walk slow is that one of these counts grows.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from inkwash.corruption.gaussian import Cosine, Flow
from inkwash.corruption.noise import Noise
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import V, Velocity
from inkwash.sampling.guidance.cfg import cfg
from inkwash.sampling.guidance.threshold import clip
from inkwash.sampling.loop import walk
from inkwash.systems import recipes

STEPS = 12
SHAPE = (2, 3, 8, 8)
# Operations of a step, as counted when this was written; views are not counted. Three are the denoiser's (the time as
# a tensor, skip z, plus out F), the rest the solver's combination and, where it is stochastic, noise.
OPERATIONS = {
    "ddpm": 74,
    "ddim": 6,
    "euler": 6,
    "heun": 13,
    "flow-euler": 6,
    "flow-heun": 13,
    "edm": 53,
    "dpm++1": 6,
    "dpm++2s": 13,
    "dpm++2m": 7,
    "dpm++3m": 8,
    "dpm++3m-damped": 8,
    "dpm++2m-sde": 99,
    "unipc": 8,
    "unipc3": 9,
    "deis": 9,
    "exp-ab3": 8,
    "consistency": 45,
    "shortcut": 6,
}


class Counting(TorchDispatchMode):
    """Counts operations, those that make a tensor of the pictures' size, and those that wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.allocations, self.waits = 0, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = str(function)
        self.operations += not any(word in name for word in ("view", "expand", "slice", "detach"))
        self.waits += "_local_scalar_dense" in name or "nonzero" in name or "is_nonzero" in name
        made = isinstance(result, torch.Tensor) and result.numel() >= 3 * 8 * 8
        given = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, torch.Tensor)]
        self.allocations += made and all(result.data_ptr() != a.data_ptr() for a in given)
        return result


class Network(torch.nn.Module):
    """Returns a constant and counts its calls and their items."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.items = 0, 0

    def forward(self, z, t, **condition):
        self.calls += 1
        self.items += len(z)
        return torch.zeros_like(z) if self.calls == 1 else self.kept[: len(z)]


@pytest.fixture
def denoiser():
    network = Network()
    network.kept = torch.full((4, *SHAPE[1:]), 0.1)

    def of(name):
        flow = name.startswith("flow")
        return GaussianDenoiser(network, *((Flow(), Velocity()) if flow else (Cosine(), V())))

    return of


def counted(model, name, *, steps=STEPS, **told):
    """The counts of a second walk: the first one computes the coefficients."""
    solver = recipes.SOLVERS[name]()
    grid = recipes.GRIDS[recipes.OWN_GRIDS.get(name, "log-snr")](model.corruption, steps)
    noise = Noise(0, range(SHAPE[0]))
    z = model.corruption.prior(SHAPE[1:], noise=noise)
    for _ in walk(model, solver, grid, z, noise=noise, **told):
        pass
    with Counting() as counting:
        for _ in walk(model, solver, grid, z, noise=noise, **told):
            pass
    return counting


@pytest.mark.parametrize("name", recipes.SOLVERS)
def test_as_many_evaluations_as_it_says(denoiser, name):
    model, solver = denoiser(name), recipes.SOLVERS[name]()
    counted(model, name)
    # Twice the same walk; the step to 0 needs one evaluation only.
    assert model.network.calls == 2 * (solver.evaluations * (STEPS - 1) + 1)


@pytest.mark.parametrize("name", recipes.SOLVERS)
def test_operations_of_a_step(denoiser, name):
    assert counted(denoiser(name), name).operations / STEPS <= OPERATIONS[name]


def test_the_counter_sees_waiting():
    with Counting() as counting:
        assert torch.ones(1).item() == 1
        torch.ones(3).nonzero()
    assert counting.waits == 2


@pytest.mark.parametrize("name", recipes.SOLVERS)
def test_nothing_waits_for_the_device(denoiser, name):
    assert counted(denoiser(name), name).waits == 0


@pytest.mark.parametrize("name", [name for name in recipes.SOLVERS if not recipes.SOLVERS[name]().stochastic])
def test_pictures_are_allocated_as_often_as_there_are_new_ones(denoiser, name):
    """A belief and a new z for each evaluation; the noise that DEIS believes in is one more."""
    each = 3 if name == "deis" else 2
    assert counted(denoiser(name), name).allocations / STEPS <= each * recipes.SOLVERS[name]().evaluations


def test_guidance_is_one_evaluation_of_twice_the_items(denoiser):
    model = denoiser("ddim")
    guided = clip(-1.0, 1.0)(cfg(2.0)(model))
    counted(guided, "ddim", label=torch.zeros(2, dtype=torch.int64))
    assert (model.network.calls, model.network.items) == (2 * STEPS, 2 * STEPS * 2 * SHAPE[0])
