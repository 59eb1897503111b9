"""SDSeg: latent estimation against the two errors it stands for, both autoencoders, and what every segmenter has."""

import sys
from pathlib import Path

import pytest
import torch
from disc_masks import dice, discs, trained
from tiny_system import randomised

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.systems.segmentation.mask_codes import GivenCodes
from inkwash.systems.segmentation.sdseg import SDSeg, SDSegConfig
from inkwash.training.options import parse

TINY = {"base": 8, "code_base": 8, "image_base": 8, "attention": (4,)}


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """The folder of an autoencoder of diffusers that builds in no time."""
    pytest.importorskip("diffusers")
    sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
    from tiny_vae import tiny_vae

    folder = tmp_path_factory.mktemp("vae")
    tiny_vae().save_pretrained(folder)
    return str(folder)


def built(size=(16, 16), *, classes=2, channels=1, **options):
    torch.manual_seed(0)
    spec = DataSpec(channels=channels, size=size, mask_classes=classes)
    return randomised(SDSeg(SDSegConfig(**{**TINY, **options}), spec))


def items(count, size=(16, 16), **options):
    image, mask = discs(count, size, **options)
    return {"image": image, "mask": mask}


@pytest.mark.parametrize("predict", ["eps", "x", "v"])
def test_latent_estimation_is_the_error_of_the_noise_and_that_of_the_code(predict):
    system, batch, noise = built(predict=predict, noise_error=0.7, code_error=0.4), items(4), Noise(3, range(4))
    terms = system.loss(batch, noise=noise)
    coded = system.codes.learn(batch["mask"], noise)
    corruption = system.denoiser.corruption
    t, _ = system.denoiser.times.draw(noise, corruption)
    z = corruption.sample(coded.code, t, noise=noise)
    believed = system.denoiser(z, t, image=system.image_encoder(batch["image"])).mean.double()
    alpha, sigma = (scale.reshape(4, 1, 1, 1) for scale in corruption.scales(t))
    eps, eps_hat = ((z - alpha * clean) / sigma for clean in (coded.code, believed))
    expected = 0.7 * (eps - eps_hat).abs() + 0.4 * (coded.code - believed).abs()
    found = terms["denoising"].double()
    torch.testing.assert_close(found, expected.mean(dim=(1, 2, 3)), rtol=1e-3, atol=1e-5)
    whole = terms["denoising"] + terms["reconstruction"] + system.config.divergence * terms["divergence"]
    torch.testing.assert_close(terms["loss"], whole)


def test_everything_learns():
    system = built().train()
    system.loss(items(16), noise=Noise(0, range(16)))["loss"].mean().backward()
    assert [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_mask_i_is_the_same_in_every_batch():
    system, image = built(), items(4)["image"]
    together = system.segment(image, draws=2, seed=5, steps=3)
    for item in range(4):
        alone = system.segment(image[item : item + 1], draws=3, seed=5, first=item, steps=3)
        assert (alone.draws[0, :2] - together.draws[item]).abs().max() < 1e-5
    assert (together.draws[:, 0] - together.draws[:, 1]).abs().max() > 1e-4
    assert system.segment(image).evaluations == 1


@pytest.mark.parametrize(("size", "classes", "channels"), [((16, 16), 4, 3), ((13, 10), 2, 1), ((8, 6, 7), 3, 2)])
def test_classes_channels_and_sizes(size, classes, channels):
    system = built(size, classes=classes, channels=channels)
    batch = items(2, size, classes=classes, channels=channels)
    assert system.loss(batch, noise=Noise(0, range(2)))["loss"].isfinite().all()
    for other in (size, tuple(side + 3 for side in size)):
        found = system.segment(torch.randn(2, channels, *other), draws=2)
        assert found.draws.shape == (2, 2, classes, *other)
        torch.testing.assert_close(found.probability.sum(dim=1), torch.ones(2, *other))


@pytest.mark.parametrize("classes", [2, 3])
def test_a_given_autoencoder_has_a_walk_for_each_class_and_is_not_stored(vae, classes):
    system = built(classes=classes, vae=vae)
    assert isinstance(system.codes, GivenCodes)
    assert system.passes == (1 if classes == 2 else 3)
    assert system.loss(items(4, classes=classes), noise=Noise(0, range(4)))["loss"].isfinite().all()
    image = items(3, classes=classes)["image"]
    together = system.segment(image, draws=2, seed=1)
    alone = system.segment(image[2:], draws=2, seed=1, first=2)
    torch.testing.assert_close(alone.draws[0], together.draws[2], rtol=0, atol=1e-5)
    torch.testing.assert_close(together.probability.sum(dim=1), torch.ones(3, 16, 16))
    assert not any(name.startswith("codes.vae") and value.ndim > 1 for name, value in system.state_dict().items())


def test_a_given_autoencoder_is_of_pictures(vae):
    with pytest.raises(WrongUse, match="3 dimensions"):
        built((8, 8, 8), vae=vae)


@pytest.mark.slow
def test_one_step_finds_discs_that_no_mean_mask_finds():
    image, mask = discs(256)
    torch.manual_seed(0)
    spec = DataSpec(channels=1, size=(16, 16), mask_classes=2)
    system = trained(SDSeg(SDSegConfig(**{**TINY, "base": 16}), spec), image[:192], mask[:192], steps=200)
    mean, truth = mask[:192].float().mean(dim=0), mask[192:]
    floor = max(dice((mean > at).long().expand_as(truth), truth) for at in mean.unique()[:-1])
    found = system.segment(image[192:], draws=3)
    assert floor < 0.4
    assert dice(found.mask, truth) > 0.65
    assert found.agreement.mean() > 0.8


def test_agreement_is_the_mean_dice_of_pairs():
    found = built().segment(items(5)["image"], draws=3, seed=2)
    for item in range(5):
        pairs = [dice(found.masks[item : item + 1, i], found.masks[item : item + 1, j]) if (
            found.masks[item, [i, j]].any()) else 1.0 for i, j in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
        assert found.agreement[item].item() == pytest.approx(sum(pairs) / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"noise_error": 0, "code_error": 0}, "one of them trains"), ({"code_error": -1}, "code_error"),
     ({"sampler": "ddimm"}, "did you mean")],
    ids=str,
)  # fmt: skip
def test_wrong_options_say_what_would_be_right(options, said):
    with pytest.raises(WrongUse, match=said):
        parse(SDSegConfig, options)
