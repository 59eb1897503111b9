"""MedSegDiff and its second version: each block against its formula, and what holds for every segmenter."""

import jaxtyping
import numpy as np
import pytest
import torch
from disc_masks import dice, discs, trained
from scipy import ndimage
from tiny_system import randomised

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.systems.segmentation.anchor_condition import SpectrumSpaceBlock, UncertainAttention
from inkwash.systems.segmentation.dynamic_condition import DynamicEncoding
from inkwash.systems.segmentation.losses import cross_entropy, soft_dice
from inkwash.systems.segmentation.medsegdiff import MedSegDiff, MedSegDiffConfig
from inkwash.training.options import parse

TINY = {"base": 8, "multipliers": (1, 2, 2), "attention": (4,), "sampling_steps": 4}
VERSIONS = pytest.mark.parametrize("version", [1, 2])


def built(size=(16, 16), *, classes=2, channels=1, **options):
    torch.manual_seed(0)
    spec = DataSpec(channels=channels, size=size, mask_classes=classes)
    return randomised(MedSegDiff(MedSegDiffConfig(**TINY, **options), spec))


def items(count, size=(16, 16), **options):
    image, mask = discs(count, size, **options)
    return {"image": image, "mask": mask}


@pytest.mark.parametrize("size", [(6, 5), (4, 3, 5)], ids=str)
@pytest.mark.parametrize("filtered", [False, True])
def test_dynamic_encoding_is_its_formula(size, filtered):
    """(LN(m_I) LN(m_x)) m_I in numpy; the filter is a product in Fourier space of the whole transform."""
    encoding = DynamicEncoding(3, size, filtered=filtered)
    for parameter in encoding.parameters():
        torch.nn.init.normal_(parameter)
    image, mask = torch.randn(2, 3, *size), torch.randn(2, 3, *size)

    def normed(x, norm):
        x = x.reshape(len(x), -1)
        x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + norm.eps)
        scale, shift = (w.detach().numpy().reshape(1, 3, *[1] * len(size)) for w in (norm.weight, norm.bias))
        return x.reshape(2, 3, *size) * scale + shift

    parsed = mask.numpy()
    if filtered:
        axes = tuple(range(2, 2 + len(size)))
        half = np.fft.rfftn(parsed, axes=axes) * encoding.parser.response(size).detach().numpy()
        parsed = np.fft.irfftn(half, s=size, axes=axes)
    expected = normed(image.numpy(), encoding.norm_image) * normed(parsed, encoding.norm_mask) * image.numpy()
    np.testing.assert_allclose(encoding(image, mask).detach().numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("size", [(12, 9), (7, 6, 8)], ids=str)
def test_the_anchor_is_widened_by_a_gaussian(size):
    """Against scipy's, with a standard deviation of its own along each axis."""
    attention = UncertainAttention(2, len(size))
    std = [1.0, 0.7, 1.3][: len(size)]
    attention.log_std.data = torch.tensor(std).log()[:, None].expand(-1, 2).clone()
    anchor = torch.randn(1, 2, *size)
    for channel in range(2):
        radius = [4] * len(size)
        expected = ndimage.gaussian_filter(anchor[0, channel].numpy(), std, mode="nearest", radius=radius)
        np.testing.assert_allclose(attention.smooth(anchor)[0, channel].detach().numpy(), expected, atol=1e-5)


def test_the_gaussians_mean_moves_the_anchor():
    attention = UncertainAttention(1, 2)
    attention.mean.data = torch.tensor([[1.0], [-2.0]])
    attention.log_std.data.fill_(-5.0)
    anchor = torch.randn(1, 1, 9, 9)
    moved = torch.roll(anchor, (-1, 2), (2, 3))
    torch.testing.assert_close(attention.smooth(anchor)[..., :-1, 2:], moved[..., :-1, 2:], rtol=0, atol=1e-5)


def test_uncertain_attention_is_its_formula():
    """f + sigmoid(w max(G * a, a)) f (quoted as the paper's): never less than the features, at most twice them."""
    attention = UncertainAttention(2, 2)
    torch.nn.init.normal_(attention.weigh.weight)
    features, anchor = torch.rand(1, 3, 8, 8), torch.randn(1, 2, 8, 8)
    widened = np.maximum(attention.smooth(anchor).detach().numpy(), anchor.numpy())
    weight = attention.weigh.weight.detach().numpy().reshape(2)
    told = np.einsum("c,bchw->bhw", weight, widened) + attention.weigh.bias.item()
    expected = features.numpy() * (1 + 1 / (1 + np.exp(-told)))[:, None]
    made = attention(features, anchor).detach()
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-5)
    assert (made >= features).all()
    assert (made <= 2 * features).all()


def test_a_spectrum_space_block_hears_mask_semantics_and_time():
    torch.manual_seed(0)
    block = SpectrumSpaceBlock(8, 2, 4, 16)
    for attention in (block.inwards, block.back):
        torch.nn.init.normal_(attention.out.weight)
        torch.nn.init.normal_(attention.band.leave.weight)
    mask, semantic, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    made = block(mask, semantic, embedding)
    assert (block(mask.flip(0), semantic, embedding) - made).abs().max() > 0.1
    assert (block(mask, semantic.flip(0), embedding) - made).abs().max() > 0.1
    assert (block(mask, semantic, -embedding) - made).abs().max() > 0.01


@pytest.mark.parametrize(("fusion", "levels"), [("none", []), ("middle", ["2", "3"]), ("all", ["1", "2", "3"])])
def test_fusion_is_at_the_scales_it_says(fusion, levels):
    config = MedSegDiffConfig(**{**TINY, "multipliers": (1, 1, 2, 2), "fusion": fusion})
    system = MedSegDiff(config, DataSpec(channels=1, size=(32, 32), mask_classes=2))
    network = system.denoiser.network.network
    assert list(network.fuse) == levels
    assert [encoding.parser.size for encoding in network.fuse.values()] == [(16 >> int(k) - 1,) * 2 for k in levels]


@pytest.mark.parametrize(("multipliers", "levels"), [((1,), ["1"]), ((1, 2), ["1"])])
def test_networks_of_few_levels_fuse_at_the_finest(multipliers, levels):
    config = MedSegDiffConfig(**{**TINY, "multipliers": multipliers})
    system = MedSegDiff(config, DataSpec(channels=1, size=(8, 8), mask_classes=2))
    assert list(system.denoiser.network.network.fuse) == levels
    assert system.eval().segment(torch.randn(1, 1, 8, 8)).mask.shape == (1, 8, 8)


def test_version_one_adds_ten_times_the_calibration_error():
    """And the head sees the image's features alone: of the mask's it knows what fusion tells it."""
    system, batch, noise = built(), items(3), Noise(0, range(3))
    aside = []
    x = batch["mask"][:, None].float() * 2 - 1
    denoising = system.denoiser.loss(x, noise=noise, image=batch["image"], aside=aside)
    found = torch.nn.functional.pixel_shuffle(aside[0], 2).sigmoid()
    error = (found - batch["mask"][:, None]).square().mean(dim=(1, 2, 3))
    terms = system.loss(batch, noise=noise)
    torch.testing.assert_close(terms["denoising"], denoising)
    torch.testing.assert_close(terms["calibration"], error)
    torch.testing.assert_close(terms["loss"], denoising + 10 * error)


def test_without_calibration_the_loss_is_the_papers():
    system, batch, noise = built(calibration=0), items(3), Noise(0, range(3))
    assert system.denoiser.network.network.calibrate is None
    terms = system.loss(batch, noise=noise)
    assert list(terms) == ["loss"]
    x = batch["mask"][:, None].float() * 2 - 1
    torch.testing.assert_close(terms["loss"], system.denoiser.loss(x, noise=noise, image=batch["image"]))


def test_version_two_trains_the_anchor_where_alpha_divides_the_step():
    """Of 1000 steps, those that 5 divides: the item's own time says so, drawn again here from the definition."""
    system = built(version=2, times="uniform", anchor_cross_entropy=3.0)
    batch, noise = items(64), Noise(7, range(100, 164))
    step = np.ceil(noise.uniform((), "time", dtype=torch.float64).numpy() * 1000).astype(int)
    due = torch.from_numpy(step % 5 == 0)
    assert 5 < due.sum() < 25
    terms, logits = system.loss(batch, noise=noise), system.read(batch["image"]).logits
    anchor = soft_dice(logits.softmax(dim=1), batch["mask"]) + 3 * cross_entropy(logits, batch["mask"])
    torch.testing.assert_close(terms["anchor"], torch.where(due, anchor, 0.0))
    torch.testing.assert_close(terms["loss"], terms["denoising"] + terms["anchor"])


@VERSIONS
def test_the_loss_of_an_item_is_its_own(version):
    """Whatever was trained before, in whatever batches and in whatever order: no state says when the anchor is due."""
    system, batch = built(version=version), items(12)
    whole = system.loss(batch, noise=Noise(3, range(40, 52)))
    for first, count in ((8, 4), (0, 3), (3, 5)):
        part = {name: value[first : first + count] for name, value in batch.items()}
        terms = system.loss(part, noise=Noise(3, range(40 + first, 40 + first + count)))
        for name, value in terms.items():
            torch.testing.assert_close(value, whole[name][first : first + count], rtol=1e-4, atol=1e-5)
    if version == 2:
        assert 0 < (whole["anchor"] > 0).sum() < 12


@VERSIONS
@pytest.mark.parametrize("learned_variance", [False, True])
def test_every_weight_is_trained(version, learned_variance):
    system = built(version=version, learned_variance=learned_variance, predict="eps", schedule="linear").train()
    system.loss(items(16), noise=Noise(0, range(16)))["loss"].mean().backward()
    idle = [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert all(p.grad.isfinite().all() for p in system.parameters())


@VERSIONS
def test_mask_i_is_the_same_in_every_batch(version):
    system, image = built(version=version), items(4)["image"]
    together = system.segment(image, draws=2, seed=5, sampler="ddpm")
    for item in range(4):
        alone = system.segment(image[item : item + 1], draws=3, seed=5, first=item, sampler="ddpm")
        assert (alone.draws[0, :2] - together.draws[item]).abs().max() < 1e-5
    assert (together.draws[:, 0] - together.draws[:, 1]).abs().max() > 1e-3
    assert together.evaluations == 8


@VERSIONS
@pytest.mark.parametrize(
    ("size", "classes", "channels"), [((16, 16), 4, 3), ((13, 10), 2, 1), ((8, 6, 7), 3, 2)], ids=str
)
def test_classes_channels_and_sizes(version, size, classes, channels):
    """Odd sides, volumes, and another size than in training."""
    system = built(size, classes=classes, channels=channels, version=version)
    batch = items(2, size, classes=classes, channels=channels)
    assert system.loss(batch, noise=Noise(0, range(2)))["loss"].isfinite().all()
    for other in (size, tuple(side + 3 for side in size)):
        found = system.segment(torch.randn(2, channels, *other), draws=2, steps=2)
        assert found.draws.shape == (2, 2, classes, *other)
        torch.testing.assert_close(found.probability.sum(dim=1), torch.ones(2, *other))
        assert 0 <= found.uncertainty.min() <= found.uncertainty.max() <= 1 + 1e-6


@VERSIONS
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++2m", "heun", "unipc"])
def test_any_sampler_walks(version, sampler):
    system = built(version=version)
    *_, last = system.segmenting(items(1)["image"], sampler=sampler, steps=4)
    assert last.probability.isfinite().all()


def test_draws_are_merged_by_mean_or_by_staple():
    pytest.importorskip("SimpleITK")
    from inkwash.systems.staple import staple

    system, image = built(), items(2)["image"]
    mean = system.segment(image, draws=5, sampler="ddpm")
    weighed = system.segment(image, draws=5, sampler="ddpm", merge="staple")
    torch.testing.assert_close(mean.probability, mean.draws.mean(dim=1))
    assert torch.equal(weighed.probability, staple(mean.draws))
    assert (mean.probability - weighed.probability).abs().max() > 0.01


def test_the_condition_network_is_asked_once_a_walk():
    system = built(version=2)
    calls = []
    system.reader.register_forward_hook(lambda *_: calls.append(1))
    system.segment(items(1)["image"], steps=4)
    assert len(calls) == 1


def test_versions_read_the_image():
    for system in (built(), built(version=2)):
        image = items(2)["image"]
        one, other = (system.segment(x, steps=2).draws for x in (image, image.flip(-1)))
        assert (one - other).abs().max() > 1e-3


def test_the_presets():
    for version in (1, 2):
        paper = MedSegDiffConfig(preset="paper", version=version)
        assert (paper.base, paper.multipliers, paper.blocks, paper.patch) == (128, (1, 1, 2, 2, 4, 4), 2, 1)
        assert (paper.schedule, paper.predict, paper.learned_variance) == ("linear", "eps", True)
        assert (paper.sampler, paper.sampling_steps, paper.draws, paper.merge) == ("ddpm", 100, 25, "staple")
    assert (paper.anchor_every, paper.anchor_cross_entropy) == (5, 10)
    quick = MedSegDiffConfig()
    assert (quick.version, quick.predict, quick.calibration, quick.fusion) == (1, "x", 10, "middle")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"version": 3}, "version"),
        ({"version": 2, "parser": False}, "parser is an option of version 1: set version=1, or leave it out"),
        ({"anchor_every": 3}, "anchor_every is an option of version 2"),
        ({"version": 2, "anchor_every": 2000}, "at most schedule_steps, 1000"),
        ({"fusion": "midle"}, "fusion"),
        ({"calibration": -1}, "calibration"),
        ({"transformers": 0}, "transformers"),
        ({"preset": "papers"}, "did you mean 'paper'"),
    ],
    ids=str,
)
def test_wrong_options_say_what_would_be_right(options, said):
    with pytest.raises(WrongUse, match=said):
        parse(MedSegDiffConfig, options)


def test_data_without_masks_is_refused():
    with pytest.raises(WrongUse, match="medsegdiff learns masks"):
        MedSegDiff(MedSegDiffConfig(**TINY), DataSpec(channels=1, size=(16, 16)))


@VERSIONS
def test_networks_compile_whole(version):
    system = built(version=version)
    network = system.denoiser.network
    z, t = torch.randn(2, 1, 16, 16), torch.tensor([10.0, 300.0])
    told = system.condition(items(2)["image"])
    told = {name: value.detach() for name, value in told.items()}
    torch._dynamo.reset()
    # The run-time type checks of the tests are no part of what a user compiles.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        compiled = torch.compile(network, fullgraph=True, backend="eager")(z, t, **told)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    torch.testing.assert_close(compiled, network(z, t, **told), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"version": 1}, {"version": 2}], ids=str)
def test_it_finds_discs_that_no_mean_mask_finds(options):
    """The baseline is one mask for all pictures: the mean of the training masks, thresholded where the test likes it
    best. Discs anywhere in the picture leave it 0.35."""
    image, mask = discs(256)
    torch.manual_seed(0)
    system = MedSegDiff(
        MedSegDiffConfig(**{**TINY, "base": 16, "multipliers": (1, 2)}, **options),
        DataSpec(channels=1, size=(16, 16), mask_classes=2),
    )
    trained(system, image[:192], mask[:192], steps=90)
    tests, truth = image[192:], mask[192:]
    mean = mask[:192].float().mean(dim=0)
    floor = max(dice((mean > at).long().expand_as(truth), truth) for at in mean.unique()[:-1])
    found = system.segment(tests, draws=3)
    assert floor < 0.4
    assert dice(found.mask, truth) > 0.8


@pytest.mark.slow
@VERSIONS
def test_it_finds_several_classes_and_the_draws_agree(version):
    """Told apart by their brightness, in pictures with odd sides; each draw is nearly as good as their mean."""
    size = (25, 23)
    image, mask = discs(320, size, classes=3)
    torch.manual_seed(0)
    system = MedSegDiff(
        MedSegDiffConfig(**{**TINY, "base": 16, "version": version}), DataSpec(channels=1, size=size, mask_classes=3)
    )
    trained(system, image[:256], mask[:256], steps=300)
    found = system.segment(image[256:], draws=5)
    merged = dice(found.mask, mask[256:], classes=3)
    single = dice(found.masks[:, 0], mask[256:], classes=3)
    assert merged > 0.85
    assert single > merged - 0.03
    # Where the draws disagree they are wrong more often than elsewhere.
    wrong = (found.mask != mask[256:]).float()
    unsure = found.disagreement > found.disagreement.quantile(0.95)
    assert wrong[unsure].mean() > 5 * wrong[~unsure].mean()
