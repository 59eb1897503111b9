"""The planned U-Net: its plan against published ones, deep supervision and mirroring against their definitions."""

import sys

import pytest
import torch
from disc_masks import dice, discs, trained

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.systems.segmentation.dynunet import DynUNetConfig, DynUNetSegmenter
from inkwash.systems.segmentation.losses import dice_and_cross_entropy
from inkwash.systems.segmentation.plan import plan
from inkwash.training.options import parse

pytest.importorskip("monai")

Z, ALL = (1, 2, 2), (2, 2, 2)


def built(size=(32, 32), *, classes=2, channels=1, **options):
    torch.manual_seed(0)
    spec = DataSpec(channels=channels, size=size, mask_classes=classes)
    return DynUNetSegmenter(DynUNetConfig(**{"base": 4, **options}), spec).eval()


def batch(count, size=(32, 32), **options):
    image, mask = discs(count, size, **options)
    return {"image": image, "mask": mask}


@pytest.mark.parametrize(
    ("size", "spacing", "strides", "flat"),
    [
        # Task 115 (COVID-19-20) as quoted in nnU-Net's own code.
        ((28, 256, 256), (5.0, 0.742, 0.742), [Z, Z, ALL, ALL, Z, Z], 2),
        # PROMISE12 as quoted by users of nnU-Net, without its spacing: slices 2 to 4 times as far apart as pixels do.
        ((20, 256, 224), (2.2, 0.625, 0.625), [Z, ALL, ALL, Z, Z], 1),
        ((128, 128, 128), (1.0, 1.0, 1.0), [ALL] * 5, 0),
    ],
    ids=["covid", "promise", "cube"],
)
def test_plans_are_nnunets(size, spacing, strides, flat):
    """`flat`: stages at the beginning whose kernels don't reach along the coarse axis."""
    made = plan(size, spacing)
    assert made.strides == ((1, 1, 1), *strides)
    assert made.kernels == (*[(1, 3, 3)] * flat, *[(3, 3, 3)] * (len(strides) + 1 - flat))


@pytest.mark.parametrize(
    ("size", "multiples"),
    [
        ((512, 512), (128, 128)),
        ((64, 64), (16, 16)),
        ((64, 12), (8, 2)),  # the last axis alone stops at 8
        ((64, 7), (8, 1)),
        ((8, 8), (4, 4)),  # too small for two halvings down to 4
        ((3, 5), (4, 4)),
    ],
    ids=str,
)
def test_pictures_are_halved_until_four_pixels_are_left(size, multiples):
    assert plan(size, (1.0, 1.0)).multiples == multiples


def test_a_picture_that_cannot_be_halved_twice_is_refused():
    with pytest.raises(WrongUse, match=r"\(2, 2\) cannot be halved twice"):
        plan((2, 2), (1.0, 1.0))


def test_the_spacing_shapes_the_network():
    size = (8, 32, 32)
    assert built(size).plan.strides[1] == (2, 2, 2)
    assert built(size, spacing=(6.0, 1.0, 1.0)).plan.strides[1] == (1, 2, 2)


def test_channels_double_up_to_the_widest():
    named = built((128, 128), base=64).network.named_parameters()
    widths = [weight.shape[0] for name, weight in named if name.endswith("conv1.conv.weight")]
    assert sorted({*widths}) == [64, 128, 256, 512]


def test_a_state_holds_each_weight_once():
    system = built()
    assert len(system.state_dict()) == len([*system.parameters()])
    assert not any("deep_supervision_heads" in name for name in system.state_dict())
    assert any("super_head" in name for name in system.state_dict())


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_the_loss_is_dice_and_cross_entropy_at_weights_that_halve(deep_supervision):
    """Of four stages, 32 to 4 pixels a side, the two finest are supervised: 2/3 and 1/3."""
    system, told = built(deep_supervision=deep_supervision).train(), batch(3)
    logits = system(told["image"])
    loss = system.loss(told, noise=Noise(0, range(3)))["loss"]
    if not deep_supervision:
        assert logits.shape == (3, 2, 32, 32)
        torch.testing.assert_close(loss, dice_and_cross_entropy(logits, told["mask"]))
        return
    assert logits.shape == (3, 2, 2, 32, 32)
    fine, coarse = (dice_and_cross_entropy(each, told["mask"]) for each in logits.unbind(dim=1))
    torch.testing.assert_close(loss, (2 * fine + coarse) / 3)
    # The coarser one says one thing for each 2x2 pixels.
    assert torch.equal(logits[:, 1, :, ::2, ::2], logits[:, 1, :, 1::2, 1::2])
    assert not torch.equal(logits[:, 0, :, ::2, ::2], logits[:, 0, :, 1::2, 1::2])


def test_every_weight_is_trained():
    system = built().train()
    system.loss(batch(4), noise=Noise(0, range(4)))["loss"].mean().backward()
    still = [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_in_evaluation_there_is_one_resolution():
    system, told = built(), batch(2)
    assert system(told["image"]).shape == (2, 2, 32, 32)
    terms = system.loss(told, noise=Noise(0, range(2)))
    torch.testing.assert_close(terms["loss"], dice_and_cross_entropy(system(told["image"]), told["mask"]))


@pytest.mark.parametrize(("size", "passes"), [((32, 32), 4), ((8, 16, 16), 8)], ids=str)
def test_mirroring_is_the_mean_over_all_mirror_images(size, passes):
    system, image = built(size), batch(2, size)["image"]
    axes = range(2, image.ndim)
    expected = 0
    for code in range(passes):
        turned = [axis for bit, axis in enumerate(axes) if code >> bit & 1]
        expected = expected + system(image.flip(turned)).softmax(dim=1).flip(turned) / passes
    found = system.segment(image, mirror=True)
    torch.testing.assert_close(found.probability, expected)
    assert found.evaluations == passes
    assert not found.probability.requires_grad, "the passes would be kept for gradients"
    # What is mirrored comes out mirrored, which a single pass of this network doesn't do.
    whole = system.segment(image.flip(-1), mirror=True).probability.flip(-1)
    torch.testing.assert_close(whole, found.probability)
    single = system.segment(image).probability
    assert (system.segment(image.flip(-1)).probability.flip(-1) - single).abs().max() > 1e-4
    assert built(size, mirror=True).segment(image).evaluations == passes
    assert [belief.index for belief in system.segmenting(image, mirror=True)] == [*range(passes)]


@pytest.mark.parametrize(
    ("size", "classes", "channels"), [((32, 32), 4, 3), ((29, 21), 2, 1), ((8, 12, 10), 3, 2)], ids=str
)
def test_classes_channels_and_sizes(size, classes, channels):
    """Odd sides, volumes, and another size than in training, the smallest too."""
    system = built(size, classes=classes, channels=channels)
    told = batch(2, size, classes=classes, channels=channels)
    assert system.train().loss(told, noise=Noise(0, range(2)))["loss"].isfinite().all()
    system.eval()
    for other in (size, tuple(side + 3 for side in size), (1,) * len(size)):
        found = system.segment(torch.randn(2, channels, *other), draws=5)
        assert found.draws.shape == (2, 1, classes, *other)
        torch.testing.assert_close(found.probability.sum(dim=1), torch.ones(2, *other))


def test_an_image_is_segmented_the_same_in_every_batch():
    system, image = built(), batch(5)["image"]
    together = system.segment(image).probability
    for item in range(5):
        alone = system.segment(image[item : item + 1]).probability[0]
        assert (alone - together[item]).abs().max() < 1e-5


def test_a_sides_filling_doesnt_show():
    """Where the network's side is not divided by its strides, the edge goes on; the picture itself stays in place."""
    system, image = built(), batch(1)["image"]
    cut = system(image[..., :29, :31])
    filled = torch.nn.functional.pad(image[..., :29, :31], (0, 1, 0, 3), mode="replicate")
    assert torch.equal(cut, system(filled)[..., :29, :31])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"spacing": "1,0"}, "spacing"),
        ({"base": 0}, "base"),
        ({"preset": "full"}, "did you mean|known: "),
        ({"bases": 3}, "did you mean 'base'"),
    ],
    ids=str,
)
def test_wrong_options_say_what_would_be_right(options, said):
    with pytest.raises(WrongUse, match=said):
        parse(DynUNetConfig, options)


def test_a_spacing_has_a_number_for_each_axis():
    assert parse(DynUNetConfig, {"spacing": "2.5,1,1"}).spacing == (2.5, 1, 1)
    with pytest.raises(WrongUse, match="spacing has 3 numbers, one for each of the 2 axes"):
        built(spacing=(2.5, 1, 1))


def test_options_of_a_walk_are_refused():
    with pytest.raises(WrongUse, match="dynunet finds a mask in one pass: it takes no sampler"):
        built().segment(torch.randn(1, 1, 32, 32), sampler="ddim")
    with pytest.raises(WrongUse, match="it takes no steps"):
        built().segment(torch.randn(1, 1, 32, 32), steps=10)


def test_without_monai_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(WrongUse, match=r"pip install 'inkwash\[medical\]'"):
        built()


def test_it_finds_discs_of_two_kinds_that_no_mean_mask_finds():
    """Told apart by their brightness. The baseline is one mask of each class for all pictures, the mean thresholded."""
    image, mask = discs(256, (32, 32), classes=3)
    torch.manual_seed(0)
    system = DynUNetSegmenter(DynUNetConfig(base=8), DataSpec(channels=1, size=(32, 32), mask_classes=3))
    trained(system, image[:192], mask[:192], steps=60)
    tests, truth = image[192:], mask[192:]
    each = [(mask[:192] == k).float().mean(dim=0) for k in (1, 2)]
    floor = max(
        sum(dice((mean > share * mean.max()).expand_as(truth), truth == k) for k, mean in enumerate(each, 1)) / 2
        for share in torch.linspace(0, 0.95, 20)
    )
    found = system.segment(tests)
    assert floor < 0.4
    assert dice(found.mask, truth, classes=3) > 0.85
