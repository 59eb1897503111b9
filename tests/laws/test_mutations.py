"""Every law fails when the fault that it guards against is put back.

The faults are those of published code, or of their kind: each is put into the library for one test, and the very
check that records the law has to break. What it then measures stands on the laws page. Pitfall 27 has no fault to put
back yet: no volumes are read.
"""

import math
import random
from types import SimpleNamespace

import pytest
import test_averages
import test_chains
import test_moments
import test_orders
import test_parameterizations
import test_pictures_in_and_out
import test_posteriors
import test_schedules
import test_seeds
import test_walks
import torch
from torch import Tensor

from inkwash.corruption import gaussian as corruptions
from inkwash.corruption.categorical import CategoricalCorruption
from inkwash.corruption.gaussian import Gaussian, Scales, Tabulated
from inkwash.corruption.noise import Noise, Path
from inkwash.denoise import gaussian as denoisers
from inkwash.denoise.parameterization import Coefficients, V, Velocity
from inkwash.denoise.weighting import MinSNR
from inkwash.evaluation import features, pictures
from inkwash.nets import patched
from inkwash.sampling import dpm_solver, edm, exponential, unipc
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.dpm_solver import DampedDPMSolver3M, DPMSolver
from inkwash.sampling.euler import Euler
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance import cfg as guidance
from inkwash.sampling.guidance import classifier as bayes
from inkwash.sampling.solver import State
from inkwash.training.ema import Averages

REMEMBERED = (
    corruptions._at, denoisers._at, exponential.weights, dpm_solver._damped, dpm_solver._half_way, unipc._weights,
    edm._raised,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _forget():
    """What was computed once is computed with the fault, and again without it."""
    for remembered in REMEMBERED:
        remembered.cache_clear()
    yield
    for remembered in REMEMBERED:
        remembered.cache_clear()


def test_1_the_previous_step_is_a_fixed_stride(monkeypatch, fails) -> None:
    """diffusers' and MONAI's DDIM: from entry k to k - T // N, whatever the list says."""

    def pairs(self: Grid):
        stride = 1000 // len(self)
        return iter([(t, max(round(1000 * t) - stride, 0) / 1000) for t in self.times[:-1]])

    monkeypatch.setattr(Grid, "__iter__", pairs)
    monkeypatch.setattr(Grid, "__post_init__", lambda self: None)
    fails("steps of T // N entries", test_walks.check_steps_land_where_listed)


def test_2_the_variance_is_that_of_one_entry(monkeypatch, fails) -> None:
    """MONAI's DDPM: the posterior of t and t - 1, taken for that of a whole stride."""
    exact = Gaussian.posterior_weights
    monkeypatch.setattr(
        Gaussian, "posterior_weights", lambda self, t, s: exact(self, t, max(t - 0.001, 0.0) if s > 0 else 0.0)
    )
    fails("strided DDPM with t - 1", test_moments.test_strided_ddpm_has_the_spread_of_the_data)


def test_3_half_of_the_second_difference(monkeypatch, fails) -> None:
    """k-diffusion's and diffusers' 3M."""
    monkeypatch.setattr(DPMSolver, "weights", DampedDPMSolver3M.weights)
    check = test_orders.test_a_deterministic_solver_converges_with_its_declared_order
    fails("3M with half of the second difference", check, "DPM-Solver++ (3M)", "a mixture")


def test_4_the_schedule_in_float32(monkeypatch, fails) -> None:
    """diffusers' and MONAI's tables."""
    exact = Gaussian.at
    monkeypatch.setattr(Gaussian, "at", lambda self, t: Scales(*torch.tensor(exact(self, t)).float().tolist()))
    fails("alpha and sigma rounded to float32", test_schedules.check_a_step_is_exact_in_float64)


def test_5_starting_from_pure_noise(monkeypatch, fails) -> None:
    """N(0, 1) although the schedule leaves some of the image."""
    monkeypatch.setattr(
        Gaussian, "prior", lambda self, shape, *, noise, dtype=torch.float32: noise.normal(shape, "prior", dtype=dtype)
    )
    fails("walks start from N(0, 1)", test_schedules.check_the_start_is_that_of_the_data)


def test_6_v_by_way_of_the_noise(monkeypatch, fails) -> None:
    """x = (z - sigma eps) / alpha with eps = alpha v + sigma z: 0 / 0 at SNR 0."""

    def coefficients(self: V, alpha: Tensor, sigma: Tensor) -> Coefficients:
        return Coefficients(torch.ones_like(alpha), (1 - sigma**2) / alpha, -sigma * alpha / alpha, -sigma, alpha)

    monkeypatch.setattr(V, "coefficients", coefficients)
    fails("x read from v by dividing by alpha", test_schedules.check_zero_snr)


def test_7_the_velocity_of_another_convention(monkeypatch, fails) -> None:
    """MONAI's: x - eps."""
    exact = Velocity.coefficients

    def coefficients(self: Velocity, alpha: Tensor, sigma: Tensor) -> Coefficients:
        here = exact(self, alpha, sigma)
        return here._replace(out=-here.out)

    monkeypatch.setattr(Velocity, "coefficients", coefficients)
    fails("velocity taken for x - eps", test_parameterizations.check_the_velocity_points_to_noise)
    fails("velocity taken for x - eps", test_parameterizations.check_conversions)


def test_8_weights_counted_from_zero(monkeypatch, fails) -> None:
    """azula's: conditional + w (conditional - none)."""
    exact = guidance.cfg
    monkeypatch.setattr(guidance, "cfg", lambda weight: exact(weight + 1))
    fails("conditional + w (conditional - none)", test_posteriors.check_guidance_weights)


def test_9_stale_noise(monkeypatch, fails) -> None:
    """diffusers' and MONAI's DDIM: the image is clipped, the noise stays that of the unclipped one."""

    def step(self: DDIM, denoiser, state: State, t: float, s: float, *, path: Path, **condition) -> State:
        now, then = denoiser.corruption.at(t), denoiser.corruption.at(s)
        posterior, raw = denoiser(state.z, t), denoiser.inner(state.z, t).mean
        return State(then.alpha * posterior.mean + then.sigma * (state.z - now.alpha * raw) / now.sigma, posterior)

    monkeypatch.setattr(DDIM, "step", step)
    fails("clipped x with the unclipped eps", test_walks.check_noise_follows_clipping)


def test_10_a_floor_under_sigma(monkeypatch, fails) -> None:
    """Against the logarithm of 0: the last step goes to a small sigma instead of the image."""

    def step(self: Euler, denoiser, state: State, t: float, s: float, *, path: Path, **condition) -> State:
        now, then = denoiser.corruption.at(t), denoiser.corruption.at(s)
        posterior = denoiser(state.z, t)
        eps = (state.z - now.alpha * posterior.mean) / now.sigma
        return State(then.alpha * posterior.mean + max(then.sigma, 1e-4) * eps, posterior)

    monkeypatch.setattr(Euler, "step", step)
    fails("sigma kept above 1e-4", test_moments.test_the_last_step_is_the_posterior_mean, "Euler")


def test_11_sigma_min_is_left_in(monkeypatch, fails) -> None:
    """Grids that end at the cleanest entry, not at the image."""
    exact = Grid.trailing
    monkeypatch.setattr(Grid, "trailing", lambda table, n: Grid.of([*exact(table, n).times[:-1], 1 / table]))
    fails("grids end at the first entry of the table", test_walks.check_nothing_is_left)


def test_12_the_table_follows_the_data(monkeypatch, fails) -> None:
    """MONAI's add_noise: the schedule is cast to the type of the images, for good."""
    exact = Gaussian.mix

    def mix(self: Tabulated, x: Tensor, eps: Tensor, t: float | Tensor) -> Tensor:
        self.__dict__["_spline"] = tuple(part.to(x.dtype).double() for part in self._spline)
        return exact(self, x, eps, t)

    monkeypatch.setattr(Gaussian, "mix", mix)
    fails("the table cast to float16 by a call", test_schedules.check_half_precision_leaves_the_schedule)


def test_13_times_in_half_precision(monkeypatch, fails) -> None:
    """MONAI's rectified flow."""
    exact = Grid.of
    monkeypatch.setattr(Grid, "of", lambda times: exact(torch.tensor(list(times)).half().tolist()))
    fails("times rounded through float16", test_walks.check_times_are_not_rounded)


def test_14_one_norm_for_the_batch(monkeypatch, fails) -> None:
    """azula's DPS."""
    monkeypatch.setattr(guidance, "norm", torch.linalg.vector_norm)
    fails("the norm of a batch in place of an item's", test_posteriors.check_the_batch_does_not_matter)


def test_15_the_likelihood_of_a_certain_image(monkeypatch, fails) -> None:
    """As if x given z were a point: the posterior's own variance is left out, and y counts for too much."""

    def guided(y: float, noise: float):
        corruption = test_posteriors.VP()

        def log_prob(z: Tensor, t: float | Tensor) -> Tensor:
            return -((y - corruption.at(t).alpha * z) ** 2 / noise**2 / 2).sum(dim=1)

        prior = test_posteriors.GaussianMixture(torch.ones(1), torch.zeros(1, 1), corruption, std=1.0)
        return bayes.classifier(1.0, log_prob)(prior)

    monkeypatch.setattr(test_posteriors, "_guided", guided)
    fails("the variance of x given z left out", test_posteriors.check_the_posterior_variance)


def test_16_the_measurement_is_dropped(monkeypatch, fails) -> None:
    """deepinv's DDRM where the noise is as large as a singular value."""
    monkeypatch.setattr(bayes, "classifier", lambda weight, log_prob: lambda denoiser: denoiser)
    fails("guidance dropped", test_posteriors.check_the_measurement_is_heard)
    fails("guidance dropped", test_posteriors.check_the_posterior_mean)


def test_17_if_seed(monkeypatch, fails) -> None:
    """deepinv's: zero counts as no seed."""
    exact, unseeded = Noise.__init__, random.Random(5)
    monkeypatch.setattr(
        Noise, "__init__", lambda self, seed, items: exact(self, seed if seed else unseeded.getrandbits(32), items)
    )
    fails("`if seed:`", test_seeds.check_zero_is_a_seed)


def test_18_noise_permuted_and_target_not(monkeypatch, fails) -> None:
    """denoising-diffusion-pytorch's "immiscible" assignment."""
    exact = Gaussian.mix
    monkeypatch.setattr(Gaussian, "mix", lambda self, x, eps, t: exact(self, x, eps.roll(1, 0), t))
    fails("the noise permuted, the target not", test_parameterizations.check_the_target_is_the_noise_added)


def test_19_one_step_late(monkeypatch, fails) -> None:
    """denoising-diffusion-pytorch's interpolation: noise added at t, removed from the time below."""
    monkeypatch.setattr(Grid, "start_at", lambda self, t: Grid.of([s for s in self.times if s < t]))
    fails("the walk begins one time below", test_walks.check_an_edit_keeps_its_level)


def test_20_buffers_averaged_too(monkeypatch, fails) -> None:
    """An average over the whole state."""
    exact = Averages.state

    def state(self: Averages, std: float) -> dict[str, Tensor]:
        names = {name for name, buffer in self.module.named_buffers() if buffer.is_floating_point()}
        return {n: v / 2 if n in names else v for n, v in exact(self, std).items()}

    monkeypatch.setattr(Averages, "state", state)
    fails("buffers averaged with where they began", test_averages.check_buffers_are_not_averaged)


def test_20_a_constant_decay(monkeypatch, fails) -> None:
    """0.999 from the first step on: the weights of the start stay for a thousand steps."""

    def update(self: Averages, step: int) -> None:
        with torch.no_grad():
            for averages in self.averages.values():
                torch._foreach_lerp_(averages, self.parameters, 0.001)

    monkeypatch.setattr(Averages, "update", update)
    fails("a decay of 0.999 without warm-up", test_averages.check_the_average_is_its_integral)


def test_21_min_snr_of_eps_for_all(monkeypatch, fails) -> None:
    """min(SNR, gamma) / SNR on whatever the network predicts: for v it wants SNR + 1."""

    def weight(self: MinSNR, corruption: Gaussian, t: Tensor, out: Tensor) -> Tensor:
        snr = corruption.log_snr(t).exp()
        return snr.clamp(max=self.gamma) / snr / out**2

    monkeypatch.setattr(MinSNR, "__call__", weight)
    fails("min(SNR, gamma) / SNR for v too", test_parameterizations.check_min_snr_agrees)


def test_22_torch_quantile(monkeypatch, fails) -> None:
    """It refuses more than 2^24 values; here what it refuses is left as it is."""

    def kthvalue(self: Tensor, rank: int, dim: int) -> SimpleNamespace:
        try:
            return SimpleNamespace(values=torch.quantile(self, rank / self.shape[dim], dim=dim))
        except RuntimeError:
            return SimpleNamespace(values=torch.full((len(self),), math.inf))

    monkeypatch.setattr(Tensor, "kthvalue", kthvalue)
    fails("torch.quantile", test_moments.test_a_volume_larger_than_two_to_the_24_can_be_thresholded)


def test_23_no_low_pass(monkeypatch, fails) -> None:
    exact = features.F.interpolate

    def interpolate(*arguments, antialias: bool, **options) -> Tensor:
        return exact(*arguments, **options)

    monkeypatch.setattr(features, "F", SimpleNamespace(interpolate=interpolate))
    fails("resizing without a low-pass", test_pictures_in_and_out.check_fine_texture_does_not_fold)


def test_24_the_scale_undone_by_truncation(monkeypatch, fails, tmp_path) -> None:
    """`.to(uint8)` without rounding: values that float32 puts just below a level lose it."""
    monkeypatch.setattr(Tensor, "round", lambda self: self)
    assert pictures.to_pil(torch.zeros(1, 1, 1)).getpixel((0, 0)) == 127
    fails("8 bits by truncation", lambda record: test_pictures_in_and_out.check_levels_survive(record, tmp_path))


def test_25_the_chance_of_the_whole_walk(monkeypatch, fails) -> None:
    """A step's jump with the probability of the whole way from 0 to t."""
    exact = CategoricalCorruption.kernel

    def kernel(self: CategoricalCorruption, z: Tensor, posterior, t: float, s: float) -> Tensor:
        transition, keep = self._transition, float(self._keep(t, 1, "cpu"))

        def wrong(z: Tensor, _: float, origins: int) -> Tensor:
            return transition(z, keep, origins)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CategoricalCorruption, "_transition", lambda self, *arguments: wrong(*arguments))
            return exact(self, z, posterior, t, s)

    monkeypatch.setattr(CategoricalCorruption, "kernel", kernel)
    fails("jumps with keep(t) in place of keep(t) / keep(s)", test_chains.check_jumps)


def test_26_unfolded_in_another_order(monkeypatch, fails) -> None:
    """Channels before patches on the way in, patches before channels on the way out."""
    exact = patched.F.pixel_shuffle

    def pixel_shuffle(x: Tensor, patch: int) -> Tensor:
        return exact(x.unflatten(1, (patch**2, -1)).transpose(1, 2).flatten(1, 2), patch)

    monkeypatch.setattr(patched.F, "pixel_shuffle", pixel_shuffle)
    fails("unfolded in another order", test_pictures_in_and_out.check_the_fold_has_its_adjoint)


def test_28_noise_of_its_own_for_every_step(monkeypatch, fails) -> None:
    monkeypatch.setattr(Path, "normal", lambda self, t, s: self.fresh(t, s, "step"))
    fails("independent noise for every step", test_seeds.check_more_steps_keep_the_picture)
