"""Our steps beside those of diffusers' schedulers, fed the same model outputs.

Both walk the same entries of the same table with the exact denoiser of a mixture, in float64: the schedulers'
tables, which they keep in float32, are replaced by exact ones, so that what remains is the formula.
"""

import pytest
import torch
from targets import MeanOnly, arrive, growing, mixture, slope, start
from torch import Tensor

from inkwash.corruption.gaussian import Gaussian, Linear
from inkwash.corruption.noise import Noise
from inkwash.denoise.exact import GaussianMixture
from inkwash.sampling.ancestral import Ancestral
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.dpm_solver import DampedDPMSolver3M, DPMSolver
from inkwash.sampling.euler import Euler
from inkwash.sampling.exponential import ExponentialAB, weights
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import resolution, walk
from inkwash.sampling.solver import Solver, State
from inkwash.sampling.unipc import UniPC

diffusers = pytest.importorskip("diffusers")
PEER = f"diffusers {diffusers.__version__}"
CORRUPTION = Linear()
FLOAT32 = 2e-6  # these schedulers turn the data they are given into float32 (pitfall 4)


def scheduler(kind: str, steps: int, **options) -> object:
    """A scheduler of diffusers over the DDPM table, its numbers in float64."""
    made = getattr(diffusers, kind)(beta_schedule="linear", timestep_spacing="trailing", **options)
    table = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma = CORRUPTION.scales(table)
    made.alphas_cumprod, made.betas = alpha**2, 1 - alpha**2 / torch.cat([torch.ones(1), alpha[:-1] ** 2])
    made.alphas = 1 - made.betas
    made.alpha_t, made.sigma_t, made.lambda_t = alpha, sigma, torch.log(alpha / sigma)
    made.set_timesteps(steps)
    if hasattr(made, "sigmas"):
        places = made.timesteps.long()
        made.sigmas = torch.cat([(sigma / alpha)[places], torch.zeros(1, dtype=torch.float64)])
    return made


def eps(denoiser: GaussianMixture, z: Tensor, t: float) -> Tensor:
    now = CORRUPTION.at(t)
    return (z - now.alpha * denoiser(z, t).mean) / now.sigma


def theirs(made, denoiser: GaussianMixture, z: Tensor, *, exploding: bool = False, **options) -> list[Tensor]:
    """The states after each step; `exploding` schedulers hold z / alpha."""
    states = []
    for k in made.timesteps:
        t = (int(k) + 1) / 1000
        scale = CORRUPTION.at(t).alpha if exploding else 1.0
        held = z / scale
        if exploding:
            made.scale_model_input(held, k)
        held = made.step(eps(denoiser, z, t), k, held, **options).prev_sample
        place = made.timesteps.tolist().index(int(k)) + 1
        later = made.timesteps.tolist()[place:]
        z = held * (CORRUPTION.at((int(later[0]) + 1) / 1000).alpha if exploding and later else 1.0)
        states.append(z)
    return states


def ours(solver: Solver, denoiser: GaussianMixture, z: Tensor, grid: Grid) -> list[Tensor]:
    return [step.z for step in walk(MeanOnly(denoiser), solver, grid, z, noise=Noise(0, range(len(z))))]


def apart(mine: list[Tensor], yours: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(mine, yours, strict=True))


def test_ddim_is_diffusers_ddim(record_law) -> None:
    """On a grid whose stride divides the table, where its previous step is the next listed one."""
    denoiser = mixture(CORRUPTION)
    z = start(denoiser, 8)
    made = scheduler("DDIMScheduler", 20, clip_sample=False, set_alpha_to_one=True)
    difference = apart(ours(DDIM(), denoiser, z, Grid.trailing(1000, 20)), theirs(made, denoiser, z))
    record_law(f"DDIM's steps are those of {PEER}, largest difference", difference, 1e-9)


def test_diffusers_ddim_leaves_its_own_list(record_law) -> None:
    """With linspace spacing it steps to t - T // N, which its list doesn't hold; walked so, we agree again."""
    denoiser = mixture(CORRUPTION)
    z, made = start(denoiser, 8), scheduler("DDIMScheduler", 10, clip_sample=False)
    made.register_to_config(timestep_spacing="linspace")
    made.set_timesteps(10)
    listed = made.timesteps.tolist()
    k = listed[3]
    now, then = (k + 1) / 1000, (k - 100 + 1) / 1000
    stepped = made.step(eps(denoiser, z, now), k, z).prev_sample
    there = arrive(denoiser, DDIM(), Grid.of([now, then]), z)
    due = arrive(denoiser, DDIM(), Grid.of([now, (listed[4] + 1) / 1000]), z)
    assert (stepped - there).abs().max() < 1e-9
    walked = ours(DDIM(), denoiser, z, Grid.linspace(1000, 10).start_at(now))[0]
    record_law(
        "linspace: distance of one step's end from where the list says it should be",
        (walked - due).abs().max().item(), 1e-12, pitfall=1, peers={PEER: (stepped - due).abs().max().item()},
    )  # fmt: skip


def test_ddpm_is_diffusers_ddpm(record_law, monkeypatch) -> None:
    """Fed the same noise; the last step adds none."""
    denoiser, grid, count = mixture(CORRUPTION), Grid.trailing(1000, 50), 8
    z = start(denoiser, count)
    path = Noise(0, range(count)).path((2,), dtype=torch.float64, depth=resolution(grid))
    pairs = iter(grid)
    module = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
    monkeypatch.setattr(module, lambda *args, **kwargs: path.normal(*next(pairs)))
    made = scheduler("DDPMScheduler", 50, clip_sample=False)
    difference = apart(ours(Ancestral(), denoiser, z, grid), theirs(made, denoiser, z))
    record_law(f"DDPM's steps are those of {PEER}, largest difference", difference, 1e-9)


def test_euler_is_diffusers_euler(record_law) -> None:
    """In sigma / alpha, where diffusers holds z / alpha."""
    denoiser = mixture(CORRUPTION)
    z, made = start(denoiser, 8), scheduler("EulerDiscreteScheduler", 20)
    difference = apart(ours(Euler(), denoiser, z, Grid.trailing(1000, 20)), theirs(made, denoiser, z, exploding=True))
    record_law(f"Euler's steps are those of {PEER}, largest difference", difference, FLOAT32)


class Midpoint(ExponentialAB):
    """2M as published: the integral of e^(u - h) u replaced by h (1 - e^-h) / 2."""

    def weights(self, corruption: Gaussian, t: float, s: float, earlier: tuple[float, ...]) -> tuple[float, ...]:
        carry, near = weights(corruption, 1.0, t, s, ())
        if not earlier:
            return carry, near
        h = (corruption.at(s).log_snr - corruption.at(t).log_snr) / 2
        back = (corruption.at(t).log_snr - corruption.at(earlier[0]).log_snr) / 2
        return carry, near * (1 + h / back / 2), -near * h / back / 2


@pytest.mark.parametrize(("kind", "solver"), [("heun", DPMSolver(2)), ("midpoint", Midpoint(2))])
def test_dpm_solver_2m_is_diffusers(kind: str, solver: Solver, record_law) -> None:
    """Its "heun" kind is the exact quadrature, its "midpoint" kind halves a weight, and ours agrees once it does."""
    denoiser = mixture(CORRUPTION)
    z, made = start(denoiser, 8), scheduler("DPMSolverMultistepScheduler", 20, solver_order=2, solver_type=kind)
    difference = apart(ours(solver, denoiser, z, Grid.trailing(1000, 20)), theirs(made, denoiser, z))
    record_law(f"DPM-Solver++ (2M, {kind}) is that of {PEER}, largest difference", difference, FLOAT32)


def test_dpm_solver_3m_of_diffusers_is_the_damped_one(record_law) -> None:
    """Its third-order step carries half of the second difference: it is our damped solver, of order 2."""
    denoiser = mixture(CORRUPTION)
    z, options = start(denoiser, 8), {"solver_order": 3, "solver_type": "heun"}
    made = scheduler("DPMSolverMultistepScheduler", 20, **options)
    difference = apart(ours(DampedDPMSolver3M(), denoiser, z, Grid.trailing(1000, 20)), theirs(made, denoiser, z))
    record_law(f"the damped 3M is the 3M of {PEER}, largest difference", difference, FLOAT32)

    truth = _smooth(DPMSolver(4), denoiser, z, 600)
    errors = {
        name: [(_smooth(solver, denoiser, z, n) - truth).square().mean().sqrt().item() for n in (100, 200)]
        for name, solver in (("exact", DPMSolver(3)), ("damped", DampedDPMSolver3M()))
    }
    order, damped = slope(*errors["exact"]), slope(*errors["damped"])
    record_law("the order of 3M", order, (2.7, 3.3), pitfall=3, peers={PEER: damped})


def _smooth(solver: Solver, denoiser: GaussianMixture, z: Tensor, steps: int) -> Tensor:
    return arrive(denoiser, solver, growing(CORRUPTION, steps), z)


def test_unipc_3_is_diffusers_unipc(record_law) -> None:
    """Single steps from its own states, once three values are there.

    Its first steps, of lower order, replace a weight by one half (`rhos = [0.5]`) where the exact quadrature
    has another, so whole walks differ: we are handed its states instead.
    """
    denoiser, steps = mixture(CORRUPTION), 20
    z = start(denoiser, 8)
    made = scheduler("UniPCMultistepScheduler", steps, solver_order=3, solver_type="bh2", lower_order_final=False,
                     final_sigmas_type="zero")  # fmt: skip
    grid, history, worst = Grid.trailing(1000, steps), [], 0.0
    path = Noise(0, range(8)).path((2,))
    for index, (t, s) in enumerate(grid):
        if s == 0.0:
            break
        mean = denoiser(z, t).mean
        mine = UniPC(3).step(denoiser, State(z, None, tuple(history[:3])), t, s, path=path).z
        z = made.step(eps(denoiser, z, t), made.timesteps[index], z).prev_sample
        history.insert(0, (t, mean))
        if index >= 3:
            worst = max(worst, (mine - z).abs().max().item())
    record_law(f"UniPC-3's steps are those of {PEER}, largest difference", worst, 1e-8)


def test_unipc_2_differs_from_diffusers_by_its_half(record_law) -> None:
    """UniPC-2 there has 1/2 for the predictor's weight, which is right to second order in the step; ours is nearer."""
    denoiser = mixture(CORRUPTION)
    z = start(denoiser, 8)
    truth = ours(DPMSolver(3), denoiser, z, Grid.trailing(1000, 1000))[-1]
    made = scheduler("UniPCMultistepScheduler", 40, solver_order=2, solver_type="bh2", final_sigmas_type="zero")
    here = (ours(UniPC(2), denoiser, z, Grid.trailing(1000, 40))[-1] - truth).square().mean().sqrt().item()
    there = (theirs(made, denoiser, z)[-1] - truth).square().mean().sqrt().item()
    record_law("UniPC-2 in 40 steps, distance from the fine walk", here, there, peers={PEER: there})
