"""Anomalies: a model of healthy images takes out what it has not seen."""

import pytest
import torch
from flat_images import SIDE, SPEC, Healthy, answer, lesions
from tiny_system import TINY

from inkwash.corruption.gaussian import Linear
from inkwash.corruption.noise import Noise
from inkwash.corruption.simplex import SimplexNoise
from inkwash.data.spec import DataSpec
from inkwash.denoise.exact import GaussianMixture
from inkwash.errors import WrongUse
from inkwash.systems.generation.ddpm import DDPM, DDPMConfig
from inkwash.systems.restoration.anoddpm import AnoDDPM, AnoDDPMConfig
from inkwash.systems.restoration.anomaly import counterfactual, partial


def test_what_is_unlike_healthy_is_found() -> None:
    x, mask = lesions(12)
    found = answer(partial(Healthy(), x, strength=0.3, steps=10, draws=2))
    assert float(found.score[6:].min()) > float(found.score[:6].max())
    assert float(found.map[mask].mean()) > 2 * float(found.map[6:][~mask[6:]].mean())
    assert found.healthy.shape == x.shape
    assert found.map.shape == mask.shape


def test_evaluations_are_those_below_the_strength() -> None:
    x, _ = lesions(2)
    steps = list(partial(Healthy(), x, strength=0.25, steps=8, draws=3))
    assert steps[-1][2].evaluations == 3 * steps[-1][1]
    assert abs(steps[-1][1] - 8) <= 1


def test_a_map_depends_on_its_own_image_and_number() -> None:
    x, _ = lesions(4)
    whole = answer(partial(Healthy("simplex"), x, steps=4, draws=2))
    alone = answer(partial(Healthy("simplex"), x[3:], steps=4, draws=2, first=3))
    torch.testing.assert_close(whole.map[3:], alone.map, atol=1e-5, rtol=0)


def test_a_counterfactual_is_of_the_healthy_class() -> None:
    spec = DataSpec(channels=1, size=(SIDE, SIDE), classes=("well", "ill"))
    system = DDPM(DDPMConfig(**TINY, schedule="linear"), spec)
    square = torch.zeros(1, SIDE, SIDE, dtype=torch.float64)
    square[:, 5:10, 4:9] = 0.7
    flat = torch.ones(SIDE * SIDE, SIDE * SIDE, dtype=torch.float64) * 0.05
    covariance = (flat + 1e-3 * torch.eye(SIDE * SIDE, dtype=torch.float64)).expand(2, -1, -1).clone()
    means = torch.stack([torch.zeros_like(square), square])
    system.denoiser = GaussianMixture(torch.ones(2), means, Linear(), covariances=covariance)  # type: ignore[assignment]
    x, mask = lesions(8)
    found = answer(counterfactual(system, x, 0, strength=0.7, steps=20, guidance=1.0))
    assert float(found.map[mask].mean()) > 0.5
    assert float(found.map[4:][~mask[4:]].mean()) < 0.15
    # A healthy image is left as it is.
    assert float(found.map[:4].mean()) < 0.1


def test_only_the_healthy_class_is_learned() -> None:
    spec = DataSpec(channels=1, size=(SIDE, SIDE), classes=("normal", "ill"))
    system = AnoDDPM(AnoDDPMConfig(**TINY, healthy="normal"), spec)
    x = torch.rand(4, 1, SIDE, SIDE) * 2 - 1
    label = torch.tensor([0, 1, 1, 0])
    some = system.loss({"image": x, "label": label}, noise=Noise(0, range(4)))["loss"]
    assert bool((some[1:3] == 0).all())
    every = system.loss({"image": x}, noise=Noise(0, range(4)))["loss"]
    torch.testing.assert_close(some.mean(), every[[0, 3]].mean())


def test_a_class_may_be_called_by_a_number() -> None:
    assert AnoDDPMConfig(**TINY, healthy=0).healthy == "0"


def test_noise_is_the_one_that_was_learned() -> None:
    noise = Noise(3, range(2))
    simplex = AnoDDPM(AnoDDPMConfig(**TINY), SPEC).noised(noise)
    assert isinstance(simplex, SimplexNoise)
    assert AnoDDPM(AnoDDPMConfig(**TINY, noise="gaussian"), SPEC).noised(noise) is noise


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(WrongUse, match="this data has none"):
        AnoDDPM(AnoDDPMConfig(**TINY, healthy="normal"), SPEC)
    with pytest.raises(WrongUse, match="normal"):
        AnoDDPM(AnoDDPMConfig(**TINY, healthy="norml"), DataSpec(channels=1, size=(8, 8), classes=("normal", "ill")))
    with pytest.raises(WrongUse, match="at least 1"):
        list(partial(Healthy(), torch.zeros(1, 1, SIDE, SIDE), draws=0))
    with pytest.raises(WrongUse, match="trained without them part of the time"):
        list(counterfactual(Healthy(), torch.zeros(1, 1, SIDE, SIDE), 0))
