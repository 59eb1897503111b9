"""HiDiff: what its prior feels, what it starts from, priors of every kind, and what holds for every segmenter."""

import pytest
import torch
from disc_masks import dice, discs, trained
from tiny_system import randomised
from torch import nn

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.systems.segmentation.ensemdiff import EnsemDiff, EnsemDiffConfig
from inkwash.systems.segmentation.hidiff import HiDiff, HiDiffConfig, passing
from inkwash.systems.segmentation.losses import dice_and_cross_entropy
from inkwash.systems.segmentation.unet import UNetConfig, UNetSegmenter
from inkwash.training.options import TrainOptions, parse
from inkwash.training.run import Run

TINY = {"base": 8, "multipliers": (1, 2), "attention": (4,)}


def spec(size=(16, 16), classes=2, channels=1):
    return DataSpec(channels=channels, size=size, mask_classes=classes)


def built(size=(16, 16), *, classes=2, channels=1, prior=None, **options):
    torch.manual_seed(0)
    if prior is not None:
        options["prior"] = "given"
    return randomised(HiDiff(HiDiffConfig(**{**TINY, **options}), spec(size, classes, channels), prior=prior))


def items(count, size=(16, 16), **options):
    image, mask = discs(count, size, **options)
    return {"image": image, "mask": mask}


def gradients(system, batch):
    system.zero_grad()
    terms = system.loss(batch, noise=Noise(1, range(len(batch["mask"]))))
    terms["loss"].mean().backward()
    part = {name: p.grad.clone() for name, p in system.named_parameters() if p.grad is not None}
    return {side: {n: g for n, g in part.items() if n.startswith(side)} for side in ("prior", "denoiser")}


def test_the_gradient_is_handed_on_by_its_weight():
    x = torch.tensor([1.0, -2.0, 1e-7], requires_grad=True)
    for weight in (0.0, 0.5, 2.0):
        y = passing(x, weight)
        assert torch.equal(y, x)
        given = torch.autograd.grad(y.sum(), x)[0] if weight else torch.zeros(3)
        assert given.tolist() == [weight] * 3


def test_the_prior_learns_its_own_loss_and_lambda_times_the_refiners():
    batch = items(4)
    found = {weight: gradients(built(collaboration=weight), batch) for weight in (0.0, 1.0, 2.0)}
    system = built()
    logits = system.prior(batch["image"], noise=Noise(1, range(4))).logits
    dice_and_cross_entropy(logits, batch["mask"]).mean().backward()
    own = {name: p.grad for name, p in system.named_parameters() if name.startswith("prior") and p.grad is not None}
    for name, grad in own.items():
        torch.testing.assert_close(found[0.0]["prior"][name], grad, rtol=1e-4, atol=1e-6)
        shared = found[1.0]["prior"][name] - grad
        torch.testing.assert_close(found[2.0]["prior"][name] - grad, 2 * shared, rtol=1e-2, atol=1e-5)
    assert max((found[1.0]["prior"][n] - g).abs().max() for n, g in own.items()) > 1e-4
    for name, grad in found[0.0]["denoiser"].items():
        torch.testing.assert_close(found[1.0]["denoiser"][name], grad)


def test_the_prior_is_believed_first_and_masks_are_refined_from_it():
    system, image = built(), items(2)["image"]
    beliefs = list(system.segmenting(image, seed=3))
    seen = system.prior(image, noise=Noise(0, range(2)))
    torch.testing.assert_close(beliefs[0].probability[:, 0], seen.probability)
    assert len(beliefs) == 1 + system.config.sampling_steps
    assert (beliefs[-1].probability - beliefs[0].probability).abs().max() > 1e-3


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_mask_i_is_the_same_in_every_batch(sampler):
    system, image = built(), items(4)["image"]
    together = system.segment(image, draws=2, seed=5, sampler=sampler, steps=5)
    for item in range(4):
        alone = system.segment(image[item : item + 1], draws=3, seed=5, first=item, sampler=sampler, steps=5)
        assert (alone.draws[0, :2] - together.draws[item]).abs().max() < 1e-5
    assert (together.draws[:, 0] - together.draws[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("predict", ["mask", "flip"])
@pytest.mark.parametrize(("size", "classes", "channels"), [((16, 16), 4, 3), ((13, 10), 2, 1), ((8, 6, 7), 3, 2)])
def test_classes_channels_and_sizes(size, classes, channels, predict):
    system = built(size, classes=classes, channels=channels, predict=predict)
    batch = items(2, size, classes=classes, channels=channels)
    assert system.loss(batch, noise=Noise(0, range(2)))["loss"].isfinite().all()
    for other in (size, tuple(side + 3 for side in size)):
        found = system.segment(torch.randn(2, channels, *other), draws=2, steps=2)
        assert found.draws.shape == (2, 2, classes, *other)
        torch.testing.assert_close(found.probability.sum(dim=1), torch.ones(2, *other))


def test_a_frozen_prior_stays_as_it_is():
    prior = UNetSegmenter(UNetConfig(**TINY), spec())
    system = built(prior=prior, frozen=True).train()
    found = gradients(system, items(4))
    assert found["prior"] == {}
    assert len(found["denoiser"]) > 0
    assert not system.prior.training


def test_priors_of_every_kind():
    image = items(2)["image"]
    torch.manual_seed(0)
    other = EnsemDiff(EnsemDiffConfig(**TINY, sampling_steps=2), spec()).eval()
    module = nn.Conv2d(1, 2, 1)
    for prior, frozen, trained_too in ((other, True, False), (module, False, True), (module, True, False)):
        system = built(prior=prior, frozen=frozen)
        assert system.prior.trained is trained_too
        assert system.segment(image, steps=2).probability.isfinite().all()
    with pytest.raises(WrongUse, match="frozen=true"):
        built(prior=other)
    with pytest.raises(WrongUse, match="3 channels"):
        built(prior=UNetSegmenter(UNetConfig(**TINY), spec(channels=3)))
    with pytest.raises(WrongUse, match="logits of each class"):
        built(prior=lambda x: x).segment(image)


def test_a_run_is_a_prior_and_its_folder_may_go(tmp_path):
    torch.manual_seed(3)
    segmenter = randomised(UNetSegmenter(UNetConfig(**TINY), spec()))
    config = segmenter.config
    run = Run.create(
        tmp_path / "prior", system="unet", config=config, spec=spec(), data={}, options=TrainOptions(steps=1)
    )
    run.save_weights(segmenter.state_dict())
    told = parse(HiDiffConfig, {**TINY, "prior": str(tmp_path / "prior"), "frozen": True})
    system = HiDiff(told, spec()).eval()
    image = items(2)["image"]
    seen = system.prior(image, noise=Noise(0, range(2)))
    torch.testing.assert_close(seen.probability, segmenter.segment(image).probability)
    again = HiDiff(parse(HiDiffConfig, told.model_dump(mode="json")), spec())
    again.load_state_dict(system.state_dict())
    torch.testing.assert_close(again.eval().prior(image, noise=Noise(0, range(2))).probability, seen.probability)


@pytest.mark.slow
def test_it_finds_discs_that_no_mean_mask_finds():
    image, mask = discs(256)
    torch.manual_seed(0)
    system = HiDiff(HiDiffConfig(**{**TINY, "base": 16}), spec())
    trained(system, image[:192], mask[:192], steps=120)
    mean, truth = mask[:192].float().mean(dim=0), mask[192:]
    floor = max(dice((mean > at).long().expand_as(truth), truth) for at in mean.unique()[:-1])
    assert floor < 0.4
    assert dice(system.segment(image[192:], draws=3).mask, truth) > 0.75


@pytest.mark.parametrize(
    ("options", "said"),
    [({"frozen": True}, "give prior=RUN"), ({"retention": "cosin"}, "did you mean"), ({"predict": "x"}, "predict"),
     ({"sampling_steps": 20}, "10"), ({"prior": "no-such-run"}, "no-such-run")],
    ids=str,
)  # fmt: skip
def test_wrong_options_say_what_would_be_right(options, said):
    with pytest.raises(WrongUse, match=said):
        parse(HiDiffConfig, options)
