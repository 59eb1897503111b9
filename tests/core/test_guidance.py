"""Guidance against Bayes' rule and closed forms; the neutral weight is the identity; items stay apart."""

import pytest
import torch
from torch import Tensor

from inkwash.corruption.categorical import CategoricalCorruption
from inkwash.corruption.gaussian import Cosine, Linear
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Categorical, Normal, Point, Posterior
from inkwash.denoise.base import Denoiser
from inkwash.denoise.exact import GaussianMixture
from inkwash.errors import WrongUse
from inkwash.sampling.guidance.autoguidance import autoguidance
from inkwash.sampling.guidance.cfg import apg, cfg
from inkwash.sampling.guidance.classifier import classifier
from inkwash.sampling.guidance.interval import within
from inkwash.sampling.guidance.threshold import clip, dynamic_threshold

T = 0.4


@pytest.fixture
def classes() -> GaussianMixture:
    means = torch.tensor([[1.0, 0.0, 0.2], [-1.0, 0.5, 0.0], [0.0, -1.0, 0.4]])
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2]), means, Cosine(), std=torch.tensor([0.3, 0.5, 0.4]))


@pytest.fixture
def z() -> Tensor:
    return Noise(3, range(5)).normal((3,), "z", dtype=torch.float64)


LABEL = torch.tensor([0, 1, 2, 1, 0])


class Fixed(Denoiser):
    """Believes in what it was given, whatever it sees; counts its calls and remembers the conditions."""

    def __init__(self, posterior: Posterior) -> None:
        super().__init__()
        self.corruption = Linear()
        self.posterior = posterior
        self.seen: list[dict[str, Tensor]] = []

    def forward(self, z: Tensor, t: float | Tensor, **condition: Tensor) -> Posterior:
        self.seen.append(condition)
        return self.posterior


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0, 7.5])
def test_cfg_extrapolates_from_none_to_the_condition(classes: GaussianMixture, z: Tensor, weight: float) -> None:
    conditional, none = classes(z, T, label=LABEL), classes(z, T)
    guided = cfg(weight)(classes)(z, T, label=LABEL)
    torch.testing.assert_close(guided.mean, none.mean + weight * (conditional.mean - none.mean))
    torch.testing.assert_close(guided.var, conditional.var)


BAD = Fixed(Point(torch.zeros(1, 1)))


@pytest.mark.parametrize("guidance", [cfg(1.0), cfg(1.0, rescale=0.7), apg(1.0), autoguidance(1.0, BAD)])
def test_weight_one_is_the_denoiser_itself(classes: GaussianMixture, guidance) -> None:
    assert guidance(classes) is classes


def test_both_halves_are_one_batch_and_share_the_estimate() -> None:
    denoiser = Fixed(Point(torch.zeros(4, 1)))
    told = {"label": torch.tensor([4, 5]), "image": torch.ones(2, 1), "context": None, "estimate": torch.ones(2, 1)}
    cfg(3.0)(denoiser)(torch.zeros(2, 1), T, **told)
    (seen,) = denoiser.seen
    assert seen["label"].tolist() == [4, 5, -1, -1]
    assert seen["image"].tolist() == [[1.0], [1.0], [0.0], [0.0]]
    assert seen["estimate"].tolist() == [[1.0]] * 4
    assert seen["context"] is None


def test_cfg_without_a_condition_is_refused(classes: GaussianMixture, z: Tensor) -> None:
    with pytest.raises(WrongUse, match="needs a condition"):
        cfg(2.0)(classes)(z, T)


def test_cfg_takes_a_time_for_each_item(classes: GaussianMixture, z: Tensor) -> None:
    t = torch.linspace(0.2, 0.8, 5, dtype=torch.float64)
    together = cfg(2.0)(classes)(z, t, label=LABEL).mean
    each = [cfg(2.0)(classes)(z[i : i + 1], t[i].item(), label=LABEL[i : i + 1]).mean for i in range(5)]
    torch.testing.assert_close(together, torch.cat(each))


def test_rescaling_restores_the_conditional_standard_deviation(classes: GaussianMixture, z: Tensor) -> None:
    conditional, plain = classes(z, T, label=LABEL).mean, cfg(6.0)(classes)(z, T, label=LABEL).mean
    whole = cfg(6.0, rescale=1.0)(classes)(z, T, label=LABEL).mean
    half = cfg(6.0, rescale=0.5)(classes)(z, T, label=LABEL).mean
    torch.testing.assert_close(whole.std(dim=1), conditional.std(dim=1))
    torch.testing.assert_close(half, (whole + plain) / 2)


def test_rescaling_a_constant_image_leaves_it_finite() -> None:
    constant = Fixed(Point(torch.ones(2, 1, 4, 4)))
    guided = cfg(3.0, rescale=1.0)(constant)(torch.zeros(1, 1, 4, 4), T, label=torch.tensor([1])).mean
    assert guided.tolist() == torch.ones(1, 1, 4, 4).tolist()


def test_apg_without_projection_and_radius_is_cfg(classes: GaussianMixture, z: Tensor) -> None:
    torch.testing.assert_close(
        apg(4.0, parallel=1.0)(classes)(z, T, label=LABEL).mean, cfg(4.0)(classes)(z, T, label=LABEL).mean
    )


def test_apg_adds_at_right_angles_and_no_more_than_the_radius(classes: GaussianMixture, z: Tensor) -> None:
    conditional = classes(z, T, label=LABEL).mean
    added = apg(5.0)(classes)(z, T, label=LABEL).mean - conditional
    torch.testing.assert_close((added * conditional).sum(dim=1), torch.zeros(5, dtype=torch.float64))
    added = apg(5.0, parallel=1.0, radius=0.01)(classes)(z, T, label=LABEL).mean - conditional
    torch.testing.assert_close(added.norm(dim=1), torch.full((5,), 4 * 0.01, dtype=torch.float64))


def test_classifier_guidance_with_the_exact_classifier_is_bayes_rule(classes: GaussianMixture, z: Tensor) -> None:
    def log_prob(z: Tensor, t: float | Tensor) -> Tensor:
        return classes.log_prob(z, t, label=LABEL) - classes.log_prob(z, t)

    with torch.no_grad():
        guided = classifier(1.0, log_prob)(classes)
        torch.testing.assert_close(guided(z, T).mean, classes(z, T, label=LABEL).mean)
        times = torch.full((5,), T, dtype=torch.float64)
        torch.testing.assert_close(guided(z, times).mean, classes(z, T, label=LABEL).mean)
    assert classifier(0.0, log_prob)(classes) is classes


def test_autoguidance_leads_away_from_the_bad_model(classes: GaussianMixture, z: Tensor) -> None:
    bad = GaussianMixture(torch.ones(1), torch.zeros(1, 3), Cosine(), std=1.0)
    good, worse = classes(z, T).mean, bad(z, T).mean
    torch.testing.assert_close(autoguidance(2.0, bad)(classes)(z, T).mean, 2 * good - worse)
    with pytest.raises(WrongUse, match="same corruption"):
        autoguidance(2.0, Fixed(Point(z)))(classes)


def test_guidance_within_an_interval(classes: GaussianMixture, z: Tensor) -> None:
    plain, guided = classes(z, T, label=LABEL).mean, cfg(3.0)(classes)(z, T, label=LABEL).mean
    here = Cosine().at(T).log_snr
    for interval, expected in [
        ({"t": (0.3, 0.5)}, guided),
        ({"t": (0.5, 1.0)}, plain),
        ({"log_snr": (here - 0.1, here + 0.1)}, guided),
        ({"log_snr": (here + 0.1, 9.0)}, plain),
        ({"log_snr": (here - 0.1, here + 0.1), "t": (0.0, 0.1)}, plain),
    ]:
        torch.testing.assert_close(within(cfg(3.0), **interval)(classes)(z, T, label=LABEL).mean, expected)
    with pytest.raises(WrongUse, match="low, high"):
        within(cfg(3.0), t=(0.5, 0.1))


def test_guidance_of_discrete_beliefs_acts_on_logits() -> None:
    logits = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0))
    guided = cfg(2.0)(Fixed(Categorical(logits)))(torch.zeros(2, 6), T, label=torch.tensor([0, 1]))
    torch.testing.assert_close(guided.logits, 2 * logits[:2] - logits[2:])


def test_wrapped_denoisers_keep_what_the_loop_reads(classes: GaussianMixture) -> None:
    classes.self_conditioning = True
    guided = clip()(within(cfg(2.0), t=(0.1, 0.9))(classes))
    assert guided.corruption is classes.corruption
    assert guided.self_conditioning


def test_clipping_keeps_the_variance() -> None:
    posterior = clip()(Fixed(Normal(torch.tensor([[-3.0, 0.5]]), torch.tensor([[0.1, 0.2]]))))(torch.zeros(1, 2), T)
    assert posterior.mean.tolist() == [[-1.0, 0.5]]
    assert posterior.var.tolist() == torch.tensor([[0.1, 0.2]]).tolist()


def test_dynamic_threshold_is_the_quantile_of_each_item() -> None:
    sizes = torch.tensor([0.1, 1.0, 4.0]).reshape(3, 1, 1)
    x = torch.randn(3, 2, 50, generator=torch.Generator().manual_seed(1)) * sizes
    got = dynamic_threshold(0.9)(Fixed(Point(x)))(x, T).mean
    bound = torch.quantile(x.abs().flatten(1), 0.9, dim=1, interpolation="lower").clamp(min=1.0).reshape(3, 1, 1)
    torch.testing.assert_close(got, x.clamp(-bound, bound) / bound)
    assert torch.equal(got[0], x[0])
    capped = dynamic_threshold(1.0, ceiling=1.5)(Fixed(Point(x)))(x, T).mean
    torch.testing.assert_close(capped[2], x[2].clamp(-1.5, 1.5) / 1.5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: cfg(2.0, rescale=1.5), "rescale"),
        (lambda: apg(2.0, radius=0.0), "radius"),
        (lambda: clip(1.0, -1.0), "low < high"),
        (lambda: dynamic_threshold(0.0), "share"),
        (lambda: dynamic_threshold(ceiling=0.5), "ceiling"),
    ],
)
def test_what_cannot_be_is_refused(make, says: str) -> None:
    with pytest.raises(WrongUse, match=says):
        make()


def test_classifier_guidance_needs_a_gaussian_corruption() -> None:
    denoiser = Fixed(Categorical(torch.zeros(1, 3, 2)))
    denoiser.corruption = CategoricalCorruption.absorbing(3)
    with pytest.raises(WrongUse, match="made for Gaussian corruptions"):
        classifier(1.0, lambda z, t: z.sum(dim=1))(denoiser)(torch.zeros(1, 2), T)
