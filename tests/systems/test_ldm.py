"""Latent diffusion: its codes and their scale, what it is told, both networks, and autoencoders that are given."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tiny_stable_diffusion import write_stable_diffusion
from tiny_system import randomised

from inkwash.corruption.noise import Noise
from inkwash.data.captions import Captions
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.dit import DiT
from inkwash.systems.pixel import unet
from inkwash.systems.restoration.measurements import measurement
from inkwash.systems.restoration.restorer import restore
from inkwash.systems.synthesis.image_codes import GivenCodes
from inkwash.systems.synthesis.ldm import LDM, LDMConfig
from inkwash.training.options import parse

COLOURS = ("red", "blue")
WORDS = Captions.of(["a red disc", "a blue disc"])
TINY = {"text_width": 16, "base": 8, "code_base": 8, "mask_base": 8, "width": 24, "layers": 2, "attention": (4,)}


def built(size=(16, 16), *, channels=3, classes=None, masks=None, captions=None, **options):
    torch.manual_seed(0)
    spec = DataSpec(channels=channels, size=size, classes=classes, mask_classes=masks, captions=captions)
    return randomised(LDM(LDMConfig(**{**TINY, **options}), spec))


def discs(count, *, seed=0, size=16):
    """Colour pictures of a disc: red or blue by the label, where the mask says."""
    random = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 2, generator=random) * 12 + 2
    axis = torch.arange(float(size))
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))
    mask = ((grid - places[:, :, None, None]).square().sum(1) < 12).long()
    label = torch.randint(0, 2, (count,), generator=random)
    sign = (1.0 - 2 * label)[:, None, None]
    red, blue = (mask - 0.5) * sign, (0.5 - mask) * sign
    image = torch.stack([red, torch.zeros_like(red), blue], dim=1)
    image = image + 0.05 * torch.randn(image.shape, generator=random)
    caption = torch.tensor([WORDS.tokens(f"a {COLOURS[k]} disc") for k in label])
    return {"image": image.clamp(-1, 1), "mask": mask, "label": label, "caption": caption}


def trained(system, data, *, steps, batch=16, rate=3e-3):
    optimizer = torch.optim.AdamW(system.train().parameters(), rate)
    for step in range(steps):
        items = torch.arange(step * batch, (step + 1) * batch)
        told = {name: value[items % len(value)] for name, value in data.items()}
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        system.loss(told, noise=Noise(0, items))["loss"].mean().backward()
        optimizer.step()
    return system.eval()


@pytest.mark.parametrize(
    ("size", "channels", "network"),
    [((16, 16), 3, "unet"), ((13, 10), 1, "unet"), ((8, 6, 7), 2, "unet"), ((16, 12), 3, "dit"), ((8, 8, 8), 1, "dit")],
)  # fmt: skip
def test_pictures_and_volumes_of_any_size(size, channels, network):
    system = built(size, channels=channels, masks=3, network=network)
    assert system.shape == (4, *(-(-side // 4) for side in size))
    assert isinstance(system.denoiser.network, DiT) == (network == "dit")
    batch = {"image": torch.rand(2, channels, *size) * 2 - 1, "mask": torch.randint(0, 3, (2, *size))}
    assert system.loss(batch, noise=Noise(0, range(2)))["loss"].isfinite().all()
    assert system.decode(system.encode(batch["image"])).shape == (2, channels, *size)
    made = system.generate(3, condition={"mask": batch["mask"]}, steps=2)
    assert made.shape == (3, channels, *size)
    assert made.abs().max() <= 1


@pytest.mark.parametrize("told", [{"masks": 2}, {"classes": COLOURS}, {"captions": WORDS}, {}], ids="".join)
def test_everything_learns(told):
    system = built(**told).train()
    system.loss(discs(16), noise=Noise(0, range(16)))["loss"].mean().backward()
    assert [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_autoencoder_learns_nothing_of_the_denoiser():
    system = built().train()
    system.loss(discs(4), noise=Noise(0, range(4)))["denoising"].mean().backward()
    assert all(p.grad is None for p in system.codes.parameters())
    assert any(p.grad is not None for p in system.denoiser.parameters())


def test_the_denoiser_is_trained_on_codes_of_unit_variance():
    system, seen = built().train(), []
    system.denoiser.loss = lambda x, **_: seen.append(x) or x.new_zeros(len(x))
    for step in range(100):
        batch = discs(8, seed=step)
        batch["image"] = batch["image"] / 4  # no scale that a random encoder would have by itself
        system.loss(batch, noise=Noise(0, range(8 * step, 8 * step + 8)))
    assert torch.cat(seen[-50:]).std().item() == pytest.approx(1.0, abs=0.1)
    before = system.codes.scale.std.clone()
    system.encode(torch.randn(4, 3, 16, 16))
    assert torch.equal(system.codes.scale.std, before)


def test_picture_i_is_the_same_in_every_batch():
    system, mask = built(masks=2, drop_condition=0.1), discs(5)["mask"]
    together = system.generate(5, condition={"mask": mask}, seed=3, steps=3, guidance=2.0, sampler="ddpm")
    alone = system.generate(5, condition={"mask": mask}, seed=3, steps=3, guidance=2.0, sampler="ddpm", batch=2)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert (system.generate(5, condition={"mask": mask}, seed=4, steps=3) - together).abs().max() > 1e-3


def test_guidance_exaggerates_what_it_is_told():
    """Weight 0 is the model that was told nothing, and the belief is linear in the weight."""
    system, mask = built(masks=2), discs(2)["mask"]
    z = torch.randn(2, *system.shape)
    none = system.denoiser(z, 0.7).mean
    told = system.denoiser(z, 0.7, **system.condition({"mask": mask})).mean
    assert (told - none).abs().max() > 1e-3
    way = system.way(guidance=3.0)
    guided = way.denoiser(z, 0.7, **system.condition({"mask": mask})).mean
    torch.testing.assert_close(guided, none + 3 * (told - none), rtol=1e-4, atol=1e-4)
    assert not system.condition({"mask": mask})["image"].requires_grad


def test_beliefs_about_codes_are_not_held_to_the_range_of_pictures():
    system = built(predict="v")
    z = 30 * torch.randn(1, *system.shape)
    belief = system.way().denoiser(z, 0.2).mean
    assert belief.abs().max() > 1.5
    torch.testing.assert_close(belief, system.denoiser(z, 0.2).mean)


def test_every_step_of_a_drawing_can_be_looked_at():
    system = built()
    *steps, last = system.draw(2, steps=3)
    assert all(step.step.z.shape == (2, 4, 4, 4) and step.pictures.shape == (2, 3, 16, 16) for step in steps)
    torch.testing.assert_close(last.pictures, system.generate(2, steps=3))


def test_tiles_are_sides_of_pictures():
    system, shapes = built((48, 32), attention=()), []
    system.denoiser.network.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    assert system.generate(1, steps=2, tile=32).shape == (1, 3, 48, 32)
    assert set(shapes) == {(1, 4, 8, 8)}
    with pytest.raises(WrongUse, match="a side of 4 pixels or a multiple"):
        system.way(tile=30)


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, ("caption",)), ({"condition": "mask"}, ("mask",)), ({"condition": "label"}, ("label",)),
     ({"condition": "none"}, ())],
    ids=str,
)  # fmt: skip
def test_it_is_told_one_thing(options, told):
    system = built(masks=2, classes=("a", "b"), captions=WORDS, **options)
    assert system.told == told
    assert bool(system.spec.captions) == (told == ("caption",))
    assert bool(system.spec.mask_classes) == (told == ("mask",))
    assert bool(system.spec.classes) == (told == ("label",))
    names = {"mask": "image", "label": "label", "caption": "context"}
    assert set(system.condition(discs(2))) == {names[name] for name in told}


@pytest.mark.parametrize("network", ["unet", "dit"])
def test_a_caption_is_attended_to(network):
    system, data = built(captions=WORDS, network=network), discs(8)
    red, blue = (torch.tensor([WORDS.tokens(f"a {colour} disc")]) for colour in COLOURS)
    told = (red, blue, -torch.ones_like(red))
    made = [system.generate(2, condition={"caption": caption}, steps=2) for caption in told]
    plain = system.generate(2, steps=2)
    assert (made[0] - made[1]).abs().max() > 1e-4
    torch.testing.assert_close(made[2], plain, rtol=0, atol=1e-6)
    guided = system.generate(3, condition={"caption": data["caption"]}, steps=2, guidance=3.0)
    alone = system.generate(3, condition={"caption": data["caption"]}, steps=2, guidance=3.0, batch=1)
    torch.testing.assert_close(guided, alone, rtol=0, atol=1e-5)


def test_captions_of_other_data_are_read_in_the_words_that_were_learned():
    system, other = built(captions=WORDS), Captions.of(["green squares"])
    spec = DataSpec(channels=3, size=(16, 16), mask_classes=2, captions=other)
    assert system.known(spec) == system.spec


def test_a_given_encoder_of_texts_stays_as_it_is(tmp_path):
    pytest.importorskip("diffusers")
    folder = write_stable_diffusion(tmp_path / "sd")
    system = built(captions=WORDS, text=str(folder), vae=str(folder / "vae"))
    assert system.context == 16
    frozen = [v for k, v in system.state_dict().items() if k.startswith(("text_encoder.", "codes.vae"))]
    assert [value.ndim for value in frozen] == [0, 0]  # fingerprints
    assert system.train().loss(discs(4), noise=Noise(0, range(4)))["loss"].isfinite().all()
    told = discs(2)["caption"]
    assert system.eval().generate(2, condition={"caption": told}, steps=2).shape == (2, 3, 16, 16)


def test_what_the_data_lacks_cannot_be_told():
    with pytest.raises(WrongUse, match="this data has no masks"):
        built(condition="mask", classes=("a", "b"))


def test_codes_are_no_pictures_to_a_posterior_sampler():
    system = built(channels=1)
    blur = measurement("blur", (1, 16, 16))
    with pytest.raises(WrongUse, match="a posterior sampler needs a model of pictures, and ldm makes codes"):
        restore(system, blur, blur.take(torch.zeros(1, 1, 16, 16), noise=Noise(0, range(1))))


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """The folder of an autoencoder of diffusers that builds in no time."""
    pytest.importorskip("diffusers")
    sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
    from tiny_vae import tiny_vae

    folder = tmp_path_factory.mktemp("vae")
    tiny_vae().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def monai_vae(tmp_path_factory):
    """The weights of an autoencoder of volumes of MONAI, and its arguments beside them."""
    nets = pytest.importorskip("monai.networks.nets")
    from safetensors.torch import save_file

    told = {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 1, "channels": [8, 8, 8], "latent_channels": 3,
        "num_res_blocks": 1, "norm_num_groups": 4, "attention_levels": [False] * 3,
    }  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("monai") / "vae.safetensors"
    save_file(nets.AutoencoderKL(**told).state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps(told))
    return str(path)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_given_autoencoder_of_diffusers_stays_as_it_is(vae, channels):
    system = built(channels=channels, vae=vae, masks=2)
    assert isinstance(system.codes, GivenCodes)
    assert not any(name.startswith("codes.vae") and value.ndim for name, value in system.state_dict().items())
    batch = discs(4)
    batch["image"] = batch["image"][:, :channels]
    terms = system.train().loss(batch, noise=Noise(0, range(4)))
    assert set(terms) == {"loss", "denoising"}
    system.eval()
    assert system.generate(2, condition={"mask": batch["mask"]}, steps=2).shape == (2, channels, 16, 16)
    z = system.encode(batch["image"])
    mean = system.codes.vae.encode(batch["image"]).mean
    torch.testing.assert_close(z * system.codes.scale.std, mean)


def test_a_given_autoencoder_of_monai_is_of_volumes(monai_vae, vae):
    system = built((8, 6, 10), channels=1, vae=monai_vae, classes=("a", "b"))
    assert system.shape == (3, 2, 2, 3)
    batch = {"image": torch.randn(2, 1, 8, 6, 10), "label": torch.tensor([0, 1])}
    assert system.loss(batch, noise=Noise(0, range(2)))["loss"].isfinite().all()
    assert system.generate(2, condition={"label": batch["label"]}, steps=2).shape == (2, 1, 8, 6, 10)
    with pytest.raises(WrongUse, match="autoencoder in 3 dimensions; this data has 2"):
        built(channels=1, vae=monai_vae)
    with pytest.raises(WrongUse, match="autoencoder in 2 dimensions; this data has 3"):
        built((8, 8, 8), channels=1, vae=vae)
    with pytest.raises(WrongUse, match="takes 3 channels; this data has 2"):
        built(channels=2, vae=vae)


def test_the_paper_is_the_model_of_churches():
    """32 x 32 x 4 codes of 256 x 256 pictures, and 294 M weights of the denoiser (table 12)."""
    small = {"base": 8, "code_base": 8, "attention": ()}
    assert LDM(LDMConfig(preset="paper", **small), DataSpec(channels=3, size=(256, 256))).shape == (4, 32, 32)
    with torch.device("meta"):
        network = unet(LDMConfig(preset="paper"), 4, (32, 32))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(294e6, rel=0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"network": "uvit"}, "network"), ({"condition": "text"}, "condition"), ({"sampler": "ddimm"}, "did you mean"),
     ({"code": 0}, "code"), ({"vae": "/nowhere"}, "no config.json")],
    ids=str,
)  # fmt: skip
def test_wrong_options_say_what_would_be_right(options, said):
    with pytest.raises(WrongUse, match=said):
        LDM(parse(LDMConfig, options), DataSpec(channels=3, size=(16, 16)))


@pytest.mark.slow
def test_it_learns_codes_and_what_it_is_told():
    """Against the autoencoder as it began, and against pictures that ignore what they are told: contrast 0."""
    data = discs(256)
    held = {name: value[192:] for name, value in data.items()}
    known = {name: value[:192] for name, value in data.items()}
    for told in ("mask", "label", "caption"):
        torch.manual_seed(0)
        spec = DataSpec(channels=3, size=(16, 16), classes=COLOURS, mask_classes=2, captions=WORDS)
        system = LDM(LDMConfig(**{**TINY, "base": 16, "code_base": 16}, condition=told), spec).eval()
        before = (system.decode(system.encode(held["image"])) - held["image"]).abs().mean()
        trained(system, known, steps=250)
        after = (system.decode(system.encode(held["image"])) - held["image"]).abs().mean()
        assert after < 0.3 * before
        made = system.generate(32, condition={told: held[told][:32]}, steps=8)
        if told == "mask":
            # Of the ground's sign, which the model chooses, a disc is the opposite.
            inside, ground = held["mask"][:32] == 1, made[:, 0].mean(dim=(1, 2), keepdim=True).sign()
            disc = -ground * made[:, 0]
            assert disc[inside].mean() - disc[~inside].mean() > 0.5
        else:
            red = made[:, 0].mean(dim=(1, 2)) < made[:, 2].mean(dim=(1, 2))
            assert (red == (held["label"][:32] == 0)).float().mean() > 0.9
