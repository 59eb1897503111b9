"""LDSeg: its loss written out, its walk, and what holds for every segmenter."""

import pytest
import torch
from disc_masks import dice, discs, trained
from tiny_system import randomised

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.autoencoder import standardise
from inkwash.systems import masks
from inkwash.systems.segmentation.ldseg import LDSeg, LDSegConfig
from inkwash.systems.segmentation.losses import cross_entropy, soft_dice
from inkwash.training.options import parse

TINY = {"base": 8, "code_base": 8, "image_base": 8, "attention": (4,), "sampling_steps": 3}


def built(size=(16, 16), *, classes=2, channels=1, **options):
    torch.manual_seed(0)
    spec = DataSpec(channels=channels, size=size, mask_classes=classes)
    return randomised(LDSeg(LDSegConfig(**{**TINY, **options}), spec))


def items(count, size=(16, 16), **options):
    image, mask = discs(count, size, **options)
    return {"image": image, "mask": mask}


@pytest.mark.parametrize("predict", ["x", "eps"])
def test_the_loss_is_written_out(predict):
    """Cross-entropy and twice the Dice loss of the mask that is read from the belief, and the squared error of what is
    predicted: of the noise, which is the code's times `alpha / sigma`, or of the code."""
    system, batch, noise = built(predict=predict), items(3), Noise(4, range(3))
    terms = system.loss(batch, noise=noise)
    corruption = system.denoiser.corruption
    code = standardise(system.label_encoder(masks.encode(batch["mask"], 2)))
    t, _ = system.denoiser.times.draw(noise, corruption)
    z = corruption.sample(code, t, noise=noise)
    believed = system.denoiser(z, t, image=system.image_encoder(batch["image"])).mean
    alpha, sigma = (scale.reshape(3, 1, 1, 1).float() for scale in corruption.scales(t))
    wrong = believed - code if predict == "x" else (z - alpha * believed) / sigma - (z - alpha * code) / sigma
    logits = system.decoder(standardise(believed), (16, 16))
    expected = {
        "denoising": wrong.square().mean(dim=(1, 2, 3)),
        "cross_entropy": cross_entropy(logits, batch["mask"]),
        "dice": soft_dice(logits.softmax(dim=1), batch["mask"]),
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-3, atol=1e-5)
    total = expected["cross_entropy"] + 2 * expected["dice"] + expected["denoising"]
    torch.testing.assert_close(terms["loss"], total, rtol=1e-3, atol=1e-5)


def test_the_walk_believes_standardised_codes():
    system = built(predict="eps")
    z, told = torch.randn(2, *system.code_shape((16, 16))), system.condition(items(2)["image"])
    believed = system.walker(z, 1.0, **told).mean
    torch.testing.assert_close(believed.mean(dim=(1, 2, 3)), torch.zeros(2), rtol=0, atol=1e-4)
    torch.testing.assert_close(believed.std(dim=(1, 2, 3), correction=0), torch.ones(2), rtol=0, atol=1e-2)


def test_everything_learns():
    system = built().train()
    system.loss(items(16), noise=Noise(0, range(16)))["loss"].mean().backward()
    assert [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_mask_i_is_the_same_in_every_batch():
    system, image = built(), items(4)["image"]
    together = system.segment(image, draws=2, seed=5)
    for item in range(4):
        alone = system.segment(image[item : item + 1], draws=3, seed=5, first=item)
        assert (alone.draws[0, :2] - together.draws[item]).abs().max() < 1e-5
    assert (together.draws[:, 0] - together.draws[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize(("size", "classes", "channels"), [((16, 16), 4, 3), ((13, 10), 2, 1), ((8, 6, 7), 3, 2)])
def test_classes_channels_and_sizes(size, classes, channels):
    system = built(size, classes=classes, channels=channels)
    batch = items(2, size, classes=classes, channels=channels)
    assert system.loss(batch, noise=Noise(0, range(2)))["loss"].isfinite().all()
    for other in (size, tuple(side + 3 for side in size)):
        found = system.segment(torch.randn(2, channels, *other), draws=2)
        assert found.draws.shape == (2, 2, classes, *other)
        torch.testing.assert_close(found.probability.sum(dim=1), torch.ones(2, *other))


@pytest.mark.slow
def test_it_finds_discs_that_no_mean_mask_finds():
    image, mask = discs(256)
    torch.manual_seed(0)
    spec = DataSpec(channels=1, size=(16, 16), mask_classes=2)
    system = trained(LDSeg(LDSegConfig(**{**TINY, "base": 16}), spec), image[:192], mask[:192], steps=150)
    mean, truth = mask[:192].float().mean(dim=0), mask[192:]
    floor = max(dice((mean > at).long().expand_as(truth), truth) for at in mean.unique()[:-1])
    assert floor < 0.4
    assert dice(system.segment(image[192:]).mask, truth) > 0.65


@pytest.mark.parametrize(
    ("options", "said"),
    [({"predict": "velocity"}, "predict"), ({"code": 0}, "code"), ({"sampler": "ddimm"}, "did you mean"),
     ({"schedule": "cosin"}, "did you mean")],
    ids=str,
)  # fmt: skip
def test_wrong_options_say_what_would_be_right(options, said):
    with pytest.raises(WrongUse, match=said):
        parse(LDSegConfig, options)
