"""Measurements and posterior samplers by name, with a prior whose denoiser is a formula."""

import math

import pytest
import torch
from torch import Tensor

from inkwash.corruption.gaussian import Linear
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.exact import GaussianMixture
from inkwash.errors import WrongUse
from inkwash.operators.base import Linear as LinearOperator
from inkwash.operators.mask import Masked
from inkwash.operators.noise import Counted, White
from inkwash.reading.shelf import shelf
from inkwash.systems.generation.ddpm import DDPM, DDPMConfig
from inkwash.systems.restoration.measurements import LEVEL, OPERATORS, described, measurement
from inkwash.systems.restoration.methods import METHODS, method
from inkwash.systems.restoration.restorer import Restoration, restore

SIDE = 8


class Prior(DDPM):
    """A generator that knows its data exactly: three smooth pictures and what lies around them."""

    def __init__(self) -> None:
        super().__init__(DDPMConfig(base=4, multipliers=(1,), attention=()), DataSpec(channels=1, size=(SIDE, SIDE)))
        grid = torch.linspace(-1, 1, SIDE, dtype=torch.float64)
        means = torch.stack([grid[:, None].expand(SIDE, SIDE), grid.expand(SIDE, SIDE), -grid.expand(SIDE, SIDE)])
        smooth = torch.exp(-(grid[:, None] - grid).square() / 0.3)
        covariance = 0.05 * torch.kron(smooth, smooth) + 1e-4 * torch.eye(SIDE**2, dtype=torch.float64)
        exact = GaussianMixture(
            torch.ones(3), 0.6 * means[:, None], Linear(), covariances=covariance.expand(3, -1, -1).clone()
        )
        exact.network = self.denoiser.network
        self.denoiser = exact  # type: ignore[assignment]

    def pictures(self, count: int) -> Tensor:
        return self.denoiser.sample(noise=Noise(7, range(count))).clamp(-1, 1).float()


@pytest.fixture(scope="module")
def prior() -> Prior:
    return Prior().eval()


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_defaults(name: str) -> None:
    shape = (1, 32, 32)
    made = measurement(name, shape)
    x = torch.zeros(2, *shape)
    y = x if made.made else made.take(x, noise=Noise(0, range(2)))
    assert tuple(y.shape[1:]) == made.operator.measured
    assert made.first_guess(y).shape == (2, *shape)
    assert name in described()


def test_options_are_read() -> None:
    made = measurement("inpaint:hide=random,share=0.8,seed=3,noise=5", (1, 64, 64))
    assert isinstance(made.operator, Masked)
    assert float(made.operator.mask.double().mean()) == pytest.approx(0.2, abs=0.02)
    assert made.noise == White(5 * LEVEL)
    assert measurement("light:gain=0.5,peak=30", (1, 8, 8)).noise == Counted(30.0)
    assert measurement("denoise", (1, 8, 8)).noise == White(25 * LEVEL)
    assert measurement("sr:factor=2,kernel=box", (3, 8, 8)).operator.measured == (3, 4, 4)
    assert measurement("mri:pattern=radial", (2, 16, 16)).operator.measured == (2, 16, 16)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("sharpen", (1, 8, 8), "sharpen"),
        ("sr:scale=2", (1, 8, 8), "factor"),
        ("sr:factor", (1, 8, 8), "factor needs a value, factor=4 for example"),
        ("sr:factor=two", (1, 8, 8), "factor is a whole number, not 'two'"),
        ("blur:sigma=wide", (1, 8, 8), "sigma is a number"),
        ("sr:kernel=nearest", (1, 8, 8), "lanczos"),
        ("inpaint:hide=most", (1, 8, 8), "strokes"),
        ("mri:pattern=spiral", (1, 8, 8), "radial"),
        ("blur:noise=auto", (1, 8, 8), "noise=auto is estimated where all of the picture is seen as it is: denoise"),
        ("measured:noise=much", (1, 8, 8), "noise is a number, not 'much'"),
        ("measured:noise", (1, 8, 8), "noise needs a value, noise=25.0 for example"),
        ("light:noise=3,peak=9", (1, 8, 8), "two kinds of noise"),
        ("mri", (3, 8, 8), "one channel"),
        ("ct", (1, 8, 9), "square"),
        ("jpeg", (1, 9, 8), "multiples of 8"),
    ],
)
def test_wrong_measurements_are_one_line(text: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(WrongUse, match=message) as caught:
        measurement(text, shape)
    assert "\n" not in str(caught.value)


TASKS = ("denoise:noise=40", "inpaint:share=0.5,noise=2", "sr:factor=2,noise=5", "blur:sigma=1.5,noise=10")
# They put the measurement into the image as it is, with its noise.
KEEP_NOISE = {"mcg": TASKS[1:3], "repaint": TASKS[1:2]}


@pytest.mark.parametrize("text", TASKS)
@pytest.mark.parametrize("by", METHODS)
def test_restoring_comes_near_the_best_estimate(prior: Prior, by: str, text: str) -> None:
    """That of Bayes' rule has the least squared error that any estimate can have."""
    x = prior.pictures(8)
    made = measurement(text, (1, SIDE, SIDE))
    if not isinstance(made.operator, METHODS[by].needs) or text not in KEEP_NOISE.get(by, TASKS):
        pytest.skip("not for this method")
    y = made.take(x, noise=Noise(1, range(8)))
    found = restore(prior, made, y, by=by, draws=8)
    error, guess, best = (
        float((estimate - x).square().mean())
        for estimate in (found.estimate, made.first_guess(y), bayes(prior, made.operator, y, made.std(y)))
    )
    assert error < guess
    # The worst of them is 3 times as far off (DPS on heavy noise, whose step does not know of it).
    assert error < 3.5 * best


def bayes(prior: Prior, operator: object, y: Tensor, std: float) -> Tensor:
    assert isinstance(operator, LinearOperator)
    n = SIDE * SIDE
    matrix = operator(torch.eye(n, dtype=torch.float64).reshape(n, 1, SIDE, SIDE)).flatten(1).T
    means = [prior.denoiser.given(matrix, row.flatten().double(), std).moments()[0] for row in y]
    return torch.stack(means).reshape(-1, 1, SIDE, SIDE).float()


def test_a_restoration_depends_on_its_own_measurement_and_number(prior: Prior) -> None:
    made = measurement("inpaint:noise=5", (1, SIDE, SIDE))
    y = made.take(prior.pictures(3), noise=Noise(1, range(3)))
    whole = restore(prior, made, y, draws=3, steps=6)
    alone = restore(prior, made, y[2:], draws=2, steps=6, first=2)
    torch.testing.assert_close(whole.draws[2:, :2], alone.draws, atol=1e-5, rtol=0)
    assert whole.evaluations == 6
    assert float(whole.std.mean()) > 0


@pytest.mark.parametrize("by", ["dps", "ddnm", "red-diff", "repaint"])
def test_what_a_hole_shows_says_nothing(prior: Prior, by: str) -> None:
    made = measurement("inpaint:share=0.5", (1, SIDE, SIDE))
    y = made.take(prior.pictures(2), noise=Noise(1, range(2)))
    assert isinstance(made.operator, Masked)
    painted = torch.where(made.operator.mask, y, 0.9)
    plain, other = (restore(prior, made, given, by=by, steps=10) for given in (y, painted))
    torch.testing.assert_close(plain.draws, other.draws)


@pytest.mark.parametrize("by", [name for name, m in METHODS.items() if m.weighted])
def test_the_stronger_the_prior_the_less_is_what_was_measured(prior: Prior, by: str) -> None:
    text = "inpaint:share=0.5" if by == "mcg" else "blur:sigma=1.0,noise=20"
    made = measurement(text, (1, SIDE, SIDE))
    y = made.take(prior.pictures(4), noise=Noise(1, range(4)))
    plain, same, strong = (
        restore(prior, made, y, by=by, steps=40, **options).draws
        for options in ({}, {"strength": 1.0}, {"strength": 4.0})
    )
    torch.testing.assert_close(plain, same)
    assert not torch.equal(plain, strong)
    if by != "mcg":  # it ends in the measurement, whatever its gradient did
        weaker, stronger = (float((made.operator(x[:, 0]) - y).square().mean()) for x in (plain, strong))
        assert weaker < stronger


def test_one_draw_has_no_spread() -> None:
    assert float(Restoration(torch.ones(2, 1, 1, 4, 4), 3).std.sum()) == 0


def test_wrong_restorations_are_refused(prior: Prior) -> None:
    made = measurement("ct:views=4", (1, SIDE, SIDE))
    y = made.take(prior.pictures(1), noise=Noise(0, range(1)))
    with pytest.raises(WrongUse, match=r"Rays isn't an operator that ddrm takes; these do: diffpir, pigdm"):
        restore(prior, made, y, by="ddrm")
    with pytest.raises(WrongUse, match="at least 1"):
        restore(prior, made, y, draws=0)
    with pytest.raises(WrongUse, match=r"is of shape \(1, 4, \d+\), not"):
        restore(prior, made, y[..., :-1])
    with pytest.raises(WrongUse, match=r"ddrm has no weight, so no strength; these have one: diffpir, pigdm"):
        restore(prior, measurement("denoise", (1, SIDE, SIDE)), prior.pictures(1), by="ddrm", strength=2.0)
    with pytest.raises(WrongUse, match="above 0, not -1"):
        restore(prior, made, y, strength=-1.0)
    with pytest.raises(WrongUse, match="for 3"):
        restore(prior, measurement("denoise", (3, 8, 8)), torch.zeros(1, 3, 8, 8))
    with pytest.raises(WrongUse, match="diffpir"):
        method("diffpi")


def test_methods_are_on_the_reading_list() -> None:
    assert {m.reads for m in METHODS.values()} <= set(shelf().entries)


def test_counted_light_has_a_std_that_the_measurement_tells() -> None:
    made = measurement("denoise:peak=50", (1, 8, 8))
    y = made.take(torch.zeros(64, 1, 8, 8), noise=Noise(0, range(64)))
    assert made.std(y) == pytest.approx(math.sqrt(4 * 25) / 50, rel=0.05)
