"""ADZUS: segments of frozen models, whatever the batch; names by rule and learned; one line for what can't be."""

import pytest
import torch
from safetensors.torch import load_file
from tiny_stable_diffusion import write_stable_diffusion
from tiny_system import TINY

import inkwash
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.attention_maps import Recording
from inkwash.systems.segmentation.frozen import FrozenGenerator
from inkwash.systems.segmentation.zero_shot import ZeroShot, ZeroShotConfig
from inkwash.training.options import parse

SPEC = DataSpec(channels=3, size=(16, 16), mask_classes=2)
OWN = {**TINY, "segments": 3, "anchors": 8, "times": (0.1, 0.3), "noised": True}


def awake(system: ZeroShot) -> ZeroShot:
    """With its zero-initialised layers filled, so that everything makes a difference."""
    torch.manual_seed(1)
    for parameter in system.parameters():
        if parameter.numel() and parameter.ndim and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return system.eval()


def made(spec: DataSpec = SPEC, **options) -> ZeroShot:
    torch.manual_seed(0)
    return awake(ZeroShot(parse(ZeroShotConfig, {**OWN, **options}), spec))


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth pictures, so that there is something to find."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2, count_include_pad=False).mul(3).clamp(-1, 1)


@pytest.mark.parametrize("options", [{}, {"noised": False, "times": (0.3,)}, {"refine": 2}, {"segments": None}])
def test_the_mask_of_an_image_is_the_same_in_every_batch(options):
    system, x = made(**options), images(5, 3, 16, 16)
    together = system.segment(x, seed=3)
    alone = [system.segment(x[i : i + 1], seed=3, first=i).probability for i in range(5)]
    assert (together.probability - torch.cat(alone)).abs().max() < 1e-5
    torch.testing.assert_close(together.probability.sum(dim=1), torch.ones(5, 16, 16))
    assert 0 < together.mask.float().mean() < 1


@pytest.mark.parametrize("size", [(16, 16), (13, 22), (24, 17)])
def test_pictures_of_any_size_and_channels(size):
    system = made(SPEC.model_copy(update={"channels": 1}))
    x = images(2, 1, *size)
    assert system.segment(x).probability.shape == (2, 2, *size)
    segments = system.segments(x)
    assert segments.share.shape[2:] == size
    assert segments.alive.sum(dim=1).max() <= 3


def test_draws_differ_by_their_noise_and_are_one_where_there_is_none():
    x = images(2, 3, 16, 16)
    several = made().segment(x, draws=3)
    assert several.draws.shape == (2, 3, 2, 16, 16)
    assert several.evaluations == 3 * 2
    first = made().segment(x, draws=1)
    assert (several.draws[:, 0] - first.probability).abs().max() < 1e-5
    assert (several.draws[:, 0] - several.draws[:, 1]).abs().max() > 1e-4
    assert made(noised=False).segment(x, draws=3).draws.shape[1] == 1


def test_every_option_does_something():
    x = images(4, 3, 16, 16)
    plain = made().segment(x).probability
    for options in (
        {"times": (0.8,)},
        {"noised": False},
        {"anchors": 3},
        {"threshold": 1.5},
        {"relative": False},
        {"rounds": 1, "threshold": 1.0},
        {"segments": 2},
        {"refine": 3},
        {"naming": "dark"},
        {"smallest": 0.3},
        {"largest": 0.2},
        {"finest": 4},
    ):
        other = made(**options).segment(x).probability
        assert (other - plain).abs().max() > 1e-4, options


def test_it_yields_after_each_time():
    noise = Noise(0, torch.arange(2))
    steps = [*made(times=(0.1, 0.3, 0.5)).believe(images(2, 3, 16, 16), noise=noise)]
    assert [(index, total) for index, total, _ in steps] == [(0, 3), (1, 3), (2, 3)]


def test_learned_names_are_of_any_number_of_classes_and_the_masks_teach_nothing_else():
    spec = SPEC.model_copy(update={"mask_classes": 4})
    system = made(spec, naming="learned")
    x = images(2, 3, 16, 16)
    batch = {"image": x, "mask": torch.arange(256).reshape(1, 16, 16).repeat(2, 1, 1) // 64}
    terms = system.loss(batch, noise=Noise(0, torch.arange(2)))
    assert set(terms) == {"loss", "denoising", "naming"}
    torch.testing.assert_close(terms["loss"], terms["denoising"] + terms["naming"])
    terms["naming"].sum().backward()
    learned = {name for name, p in system.named_parameters() if p.grad is not None and p.grad.any()}
    assert learned == {"read_out.weight", "read_out.bias"}
    assert system.segment(x).probability.shape == (2, 4, 16, 16)


def test_the_naming_loss_is_the_cross_entropy_of_the_pixels_and_the_overlap():
    system, x = made(naming="learned", noised=False), images(1, 3, 16, 16)
    mask = (images(1, 1, 16, 16, seed=4)[:, 0] > 0).long()
    segments = system.segments(x)
    by_pixel = system._names(segments, x)[0, segments.index[0].flatten()].log()
    expected = torch.nn.functional.nll_loss(by_pixel, mask.flatten())
    found, truth = system.segment(x).probability[0], torch.stack((1 - mask[0], mask[0])).float()
    expected += 1 - (2 * (found[1] * truth[1]).sum() + 1) / (found[1].sum() + truth[1].sum() + 1)
    terms = system.loss({"image": x, "mask": mask}, noise=Noise(0, torch.arange(1)))
    torch.testing.assert_close(terms["naming"][0], expected)


def test_without_learned_names_no_mask_is_looked_at():
    system, x = made(SPEC.model_copy(update={"mask_classes": None})), images(2, 3, 16, 16)
    terms = system.loss({"image": x}, noise=Noise(0, torch.arange(2)))
    assert set(terms) == {"loss", "denoising"}
    assert system.segment(x).probability.shape == (2, 2, 16, 16)


def test_the_oracle_looks_at_the_mask():
    system, x = made(), images(3, 3, 16, 16)
    segments = system.segments(x)
    for wanted in range(2):
        mask = (segments.index == wanted).long()
        assert torch.equal(system.oracle(x, mask).mask, mask)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twenty pictures of bright discs on a dark ground."""
    import numpy as np

    generator = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16] + 0.5
    middle, radius = generator.uniform(5, 11, (24, 2, 1, 1)), generator.uniform(2.5, 4, (24, 1, 1))
    masks = ((y - middle[:, 0]) ** 2 + (x - middle[:, 1]) ** 2 < radius**2).astype(np.uint8)
    pictures = np.where(masks[..., None] > 0, 200, 60) + generator.normal(0, 8, (24, 16, 16, 3))
    path = tmp_path_factory.mktemp("discs") / "discs.npz"
    np.savez(path, images=pictures.clip(0, 255).astype(np.uint8), masks=masks, split=(np.arange(24) >= 16))
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A generator of these pictures."""
    out = tmp_path_factory.mktemp("runs") / "ddpm"
    tiny = {"base": 16, "multipliers": "1,2", "attention": "8,4", "learning_rate": 2e-3}
    return inkwash.train("ddpm", data, out=out, steps=150, size=16, batch=8, set=tiny).path


def of(data, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    import numpy as np

    held = np.load(data)
    chosen = held["split"] == (split == "test")
    x = torch.from_numpy(held["images"][chosen]).movedim(-1, 1).float() / 127.5 - 1
    return x, torch.from_numpy(held["masks"][chosen]).long()


def dice(found: torch.Tensor, mask: torch.Tensor) -> float:
    both = (found * mask).sum(dim=(1, 2))
    return (2 * both / (found.sum(dim=(1, 2)) + mask.sum(dim=(1, 2)))).mean().item()


def test_it_finds_discs_in_the_attention_of_a_trained_generator(data, trained, tmp_path):
    run = inkwash.train("zero-shot", data, out=tmp_path / "run", steps=5, size=16, set={"model": str(trained)})
    assert run.metrics() == []  # there was nothing to learn
    system = inkwash.load(run.path)
    (x, mask), (_, others) = of(data, "test"), of(data, "train")
    everywhere = (others.float().mean(dim=0) > 0.5).long().expand_as(mask)
    # 0.72 and 0.47 where it was written.
    assert dice(system.segment(x).mask, mask) > dice(everywhere, mask) + 0.2


def test_a_run_that_looks_at_a_model_holds_it(data, trained, tmp_path):
    run = inkwash.train("zero-shot", data, out=tmp_path / "run", steps=1, size=16, set={"model": str(trained)})
    theirs, ours = load_file(trained / "model.safetensors"), load_file(run.weights)
    assert set(ours) == {f"frozen.generator.{name}" for name in theirs}
    assert all(torch.equal(ours[f"frozen.generator.{name}"], value) for name, value in theirs.items())
    assert str(trained) in (run.path / "config.yaml").read_text()
    x, _ = of(data, "test")
    inside = inkwash.load(trained)
    fresh = ZeroShot(parse(ZeroShotConfig, {"model": str(trained)}), run.spec)
    assert isinstance(fresh.frozen, FrozenGenerator)
    assert torch.equal(inkwash.load(run.path).segment(x).probability, fresh.eval().segment(x).probability)
    assert all(torch.equal(a, b) for a, b in zip(inside.parameters(), fresh.parameters()))


def test_a_given_model_stays_frozen_while_names_are_learned(data, trained, tmp_path):
    given = {"model": str(trained), "naming": "learned", "learning_rate": 0.1, "warmup": 0, "ema": ""}
    run = inkwash.train("zero-shot", data, out=tmp_path / "run", steps=80, size=16, batch=8, set=given)
    theirs, ours = load_file(trained / "model.safetensors"), load_file(run.weights)
    assert all(torch.equal(ours[f"frozen.generator.{name}"], value) for name, value in theirs.items())
    (x, mask), (_, others) = of(data, "test"), of(data, "train")
    everywhere = (others.float().mean(dim=0) > 0.5).long().expand_as(mask)
    found = dice(inkwash.load(run.path).segment(x).mask, mask)
    assert found > dice(everywhere, mask) + 0.15, (found, dice(everywhere, mask))


def test_stable_diffusion_is_looked_at_and_its_prompt_told(data, tmp_path):
    pytest.importorskip("transformers")
    folder = write_stable_diffusion(tmp_path / "sd")
    x = images(3, 3, 24, 17)
    given = {"model": str(folder), "segments": 3, "noised": False, "times": (0.301,)}
    system = ZeroShot(parse(ZeroShotConfig, given), SPEC).eval()
    together = system.segment(x)
    assert together.probability.shape == (3, 2, 24, 17)
    assert (together.probability[1:2] - system.segment(x[1:2], first=1).probability).abs().max() < 1e-5
    # The picture of 24 x 17 has a code of 12 x 9.
    found = system.frozen.look(x, 0.301, noise=None, finest=64)
    assert [one.size for one in found] == [(12, 9), (6, 5), (12, 9), (12, 9)]
    told = ZeroShot(parse(ZeroShotConfig, {**given, "prompt": "polyp"}), SPEC).eval()
    other = told.frozen.look(x, 0.301, noise=None, finest=64)
    assert (found[-1].probability() - other[-1].probability()).abs().max() > 1e-6
    run = inkwash.train("zero-shot", data, out=tmp_path / "run", steps=1, size=16, set=given)
    assert set(load_file(run.weights)) == {"frozen.here", "frozen.model.fingerprint", "frozen.model.vae.fingerprint"}
    inkwash.load(run.path)
    write_stable_diffusion(tmp_path / "other", seed=1)
    (folder / "unet").rename(tmp_path / "old")
    (tmp_path / "other" / "unet").rename(folder / "unet")
    with pytest.raises(WrongUse, match="not the weights it was trained with"):
        inkwash.load(run.path)


def test_stable_diffusion_is_asked_as_diffusers_would(tmp_path):
    """The mean code at the published scale, step 300, the empty text filled up to the encoder's length."""
    transformers, diffusers = pytest.importorskip("transformers"), pytest.importorskip("diffusers")
    folder = write_stable_diffusion(tmp_path / "sd")
    x = images(2, 3, 16, 16)
    system = ZeroShot(parse(ZeroShotConfig, {"model": str(folder)}), SPEC)
    ours = system.frozen.look(x, 0.301, noise=None, finest=64)
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
    encoder = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    with torch.no_grad():
        tokens = tokenizer([""] * 2, padding="max_length", max_length=9, return_tensors="pt").input_ids
        text = encoder(tokens)[0]
        code = vae.encode(x).latent_dist.mean * vae.config.scaling_factor
        with Recording((8, 8), finest=64, context=9) as theirs:
            unet(code, 300, text)
        with Recording((8, 8), finest=64, context=9) as later:
            unet(code, 330, text)
    for one, other, wrong in zip(ours, theirs.found, later.found, strict=True):
        torch.testing.assert_close(one.probability(), other.probability(), rtol=1e-4, atol=1e-6)
        assert (one.probability() - wrong.probability()).abs().max() > 1e-4


def test_half_a_stable_diffusion_is_said(tmp_path):
    pytest.importorskip("transformers")
    folder = write_stable_diffusion(tmp_path / "sd")
    with pytest.raises(WrongUse, match="pictures of 3 channels or 1; these have 2"):
        ZeroShot(parse(ZeroShotConfig, {"model": str(folder)}), SPEC.model_copy(update={"channels": 2}))
    (folder / "tokenizer").rename(tmp_path / "elsewhere")
    with pytest.raises(WrongUse, match="no folder tokenizer"):
        ZeroShot(parse(ZeroShotConfig, {"model": str(folder)}), SPEC)


@pytest.mark.parametrize(
    ("options", "spec", "says"),
    [
        ({"segments": 1}, {}, "segments = 1"),
        ({"times": "0"}, {}, "times"),
        ({"naming": "big"}, {}, "naming"),
        ({"smallest": 0.5, "largest": 0.2}, {}, "nothing would fit"),
        ({"prompt": "polyp"}, {}, "give its folder as model"),
        ({"model": "nowhere"}, {}, "nowhere"),
        ({"model": "bundled:nowhere"}, {}, "no model of that name is bundled"),
        ({"model": "bundled:polyp-ddpm-retina"}, {"channels": 1}, "3 channels"),
        ({"model": "bundled:polyp-ddpm-retina", "base": 64}, {}, "base describes a denoiser that is trained here"),
        ({"model": "bundled:polyp-ddpm-retina", "prompt": "polyp"}, {}, "takes no text"),
        ({}, {"mask_classes": 3}, "naming=learned names any number"),
        ({"naming": "learned"}, {"mask_classes": None}, "this data has none"),
        ({}, {"size": (8, 8, 8)}, "3 dimensions"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(options, spec, says):
    with pytest.raises(WrongUse, match=says) as error:
        ZeroShot(parse(ZeroShotConfig, options), SPEC.model_copy(update=spec))
    assert "\n" not in str(error.value)


def test_a_network_without_attention_is_said():
    system = made(attention=())
    with pytest.raises(WrongUse, match="no self-attention on maps of at most 64 a side"):
        system.segment(images(1, 3, 16, 16))
    with pytest.raises(WrongUse, match="it takes no 7 steps"):
        made().segment(images(1, 3, 16, 16), steps=7)
