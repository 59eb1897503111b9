"""The suggested noise: even by construction, and the same for what is the same."""

import math

import pytest
import torch
from disc_masks import discs, trained

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.evaluation.segmentation.levels import errors
from inkwash.evaluation.segmentation.recognisability import Recognisability, recognisability
from inkwash.systems import masks, recipes
from inkwash.systems.segmentation.ensemdiff import EnsemDiff, EnsemDiffConfig
from inkwash.systems.segmentation.mask_diffusion import MaskDiffusionConfig, denoiser
from inkwash.systems.segmentation.ottl import CANDIDATES, EXPERIMENTS, gap, suggest


def even(name, shift):
    """Masks that are lost evenly under this schedule and shift."""
    t = torch.linspace(0.001, 0.999, 4000, dtype=torch.float64)
    corruption = recipes.schedule(name, steps=1000, shift=shift, data_mean=0.0, data_std=1.0)
    return Recognisability.measured(corruption.log_snr(t).tolist(), (1 - t).tolist())


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("shift", [0.4, 1.0, 6.0])
def test_masks_that_are_lost_evenly_under_a_schedule_get_it(name, shift):
    curve = even(name, shift)
    found = {one.schedule: one for one in suggest(curve)}[name]
    # Levels are known in steps of a quarter, and beyond their ends as at the ends.
    assert found.shift == pytest.approx(shift, rel=0.02)
    assert found.gap < 0.02
    assert found.half == pytest.approx(0.5, abs=0.01)
    assert found.gap == min(one.gap for one in suggest(curve)) or found.gap < 0.01


@pytest.mark.parametrize("radius", [4, 10])
def test_the_suggestion_is_the_best_of_all_shifts(radius):
    curve = recognisability(disc(64, radius))
    best = suggest(curve)[0]
    for name in CANDIDATES:
        for shift in (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, best.shift * 1.1, best.shift / 1.1):
            assert gap(curve, name, shift) >= best.gap - 1e-4
    assert gap(curve, best.schedule, best.shift) == pytest.approx(best.gap, abs=1e-4)
    assert gap(curve, best.schedule, 1.0) == pytest.approx(best.unshifted, abs=1e-9)


def disc(side, radius):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = (y - (side - 1) / 2) ** 2 + (x - (side - 1) / 2) ** 2 < radius**2
    return inside.float()[None, None] * 2 - 1


def test_masks_twice_the_size_need_twice_the_noise():
    """And so half the input scale: the rule for larger pictures (Hoogeboom et al. 2023), found and not put in."""
    one, two = (suggest(recognisability(disc(side, side // 6)))[0] for side in (64, 128))
    assert two.shift / one.shift == pytest.approx(2.0, rel=0.1)
    assert one.scale / two.scale == pytest.approx(2.0, rel=0.1)


def test_names_of_classes_places_and_mirrors_do_not_matter():
    x = disc(48, 9)
    for other in (-x, x.roll((7, -5), (2, 3)), torch.cat([x, x.flip(3)])):
        assert str(suggest(recognisability(other))[0]) == str(suggest(recognisability(x))[0])


def test_the_input_scale_of_chen_is_the_shift():
    """`b x` mixed with noise and divided by its standard deviation is the process at shift `1 / b`, for masks."""
    b, t = 0.25, torch.tensor([0.1, 0.4, 0.8], dtype=torch.float64)
    base = recipes.schedule("cosine", steps=1000, shift=1.0, data_mean=0.0, data_std=1.0)
    shifted = recipes.schedule("cosine", steps=1000, shift=1 / b, data_mean=0.0, data_std=1.0)
    alpha, sigma = base.scales(t)
    deviation = torch.sqrt((alpha * b) ** 2 + sigma**2)
    torch.testing.assert_close(shifted.scales(t), (alpha * b / deviation, sigma / deviation))
    x = disc(32, 6)
    assert x.square().mean().item() == 1.0


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("predict", ["eps", "x", "v"])
def test_what_is_suggested_can_be_trained_with_any_prediction(name, predict):
    config = MaskDiffusionConfig(schedule=name, shift=11.0, predict=predict)
    assert denoiser(config, torch.nn.Identity()).corruption.at(1.0).alpha > 0


def test_the_experiments_train_equal_networks():
    from inkwash import systems

    spec = DataSpec(channels=1, size=(16, 16), mask_classes=2)
    told = {"base": 8, "multipliers": (1, 2), "attention": (8,)}
    counts = {}
    for one in EXPERIMENTS:
        kind = systems.get(one.system)
        system = kind(kind.Config(**told, **one.options), spec)
        counts[one.name] = sum(parameter.numel() for parameter in system.parameters())
    assert counts["E2"] == counts["E3"]
    assert max(counts.values()) < 1.1 * min(counts.values())


def test_a_blind_denoiser_never_sees_the_image():
    torch.manual_seed(0)
    config = EnsemDiffConfig(base=8, multipliers=(1, 2), attention=(), sampling_steps=2, blind=True)
    system = EnsemDiff(config, DataSpec(channels=1, size=(16, 16), mask_classes=2)).eval()
    for parameter in system.parameters():  # the last layer begins at nothing, and would see nothing anyhow
        torch.nn.init.normal_(parameter, std=0.2)
    image, mask = discs(4)
    other = image + torch.randn_like(image)
    found, same = (system.segment(one).probability for one in (image, other))
    assert torch.equal(found, same)
    losses = [
        system.loss({"image": one, "mask": mask}, noise=Noise(0, range(4)))["loss"] for one in (image, other)
    ]
    assert torch.equal(*losses)
    seeing = EnsemDiff(config.model_copy(update={"blind": False}), system.spec).eval()
    seeing.load_state_dict(system.state_dict())
    assert not torch.allclose(*(seeing.segment(one).probability for one in (image, other)))


def test_several_classes_are_analysed_together():
    _, mask = discs(12, (32, 32), classes=4)
    curve = recognisability(masks.encode(mask, 4))
    assert 0.5 < suggest(curve)[0].shift < 64
    assert math.isfinite(curve.level(0.5))


@pytest.mark.slow
def test_a_trained_denoiser_of_masks_tells_what_the_window_does_and_more():
    """The window's error is a bound: a network that has learned the shapes is below it, and neither knows all."""
    torch.manual_seed(0)
    config = EnsemDiffConfig(base=16, multipliers=(1, 2), attention=(), patch=1, shift=3.0, blind=True)
    image, mask = discs(512, (16, 16))
    system = trained(EnsemDiff(config, DataSpec(channels=1, size=(16, 16), mask_classes=2)), image, mask, steps=500)
    _, new = discs(128, (16, 16), seed=1)
    curve, x = recognisability(masks.encode(mask, 2)), masks.encode(new, 2)
    variance = 1 - x.mean().item() ** 2
    times = (0.2, 0.35, 0.5, 0.65)
    told = system.condition(torch.zeros(128, 1, 16, 16))
    for t, error in zip(times, errors(system.denoiser, x, times, noise=Noise(0, range(128)), **told), strict=True):
        level = torch.tensor(system.denoiser.corruption.at(t).log_snr, dtype=torch.float64)
        window = variance * (1 - curve.at(level).item())
        assert 0.1 * window < error.mean().item() < window
