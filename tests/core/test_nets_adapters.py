"""Adapters, each against its own library's forward pass, on small random checkpoints in the real formats."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from inkwash.errors import WrongUse
from inkwash.nets.adapters import diffusers as of_diffusers
from inkwash.nets.adapters import guided_diffusion as of_guided
from inkwash.nets.adapters import monai as of_monai
from inkwash.nets.adapters.base import require
from inkwash.nets.adapters.weights import read_weights

T = torch.tensor([0.0, 731.0])


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def awake(network: nn.Module) -> nn.Module:
    """The network with no branch left at zero; norms stay near 1 so that nothing dies out."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            scaled = drawn / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.1 * drawn
            parameter.copy_(scaled + (1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0))
    return network.eval()


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 1e-2
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(1.0, theirs.abs().max().item()))


# diffusers


def plain_unet(**options) -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    return awake(
        diffusers.UNet2DModel(
            **{
                "in_channels": 3,
                "out_channels": 3,
                "block_out_channels": (16, 32),
                "layers_per_block": 1,
                "norm_num_groups": 8,
                "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
                "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
                **options,
            }
        )
    )


def conditional_unet(**options) -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    return awake(
        diffusers.UNet2DConditionModel(
            **{
                "in_channels": 4,
                "out_channels": 4,
                "block_out_channels": (16, 32),
                "layers_per_block": 1,
                "norm_num_groups": 8,
                "attention_head_dim": 2,
                "cross_attention_dim": 12,
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                **options,
            }
        )
    )


@torch.no_grad()
def test_diffusers_plain(tmp_path):
    unet = plain_unet(num_class_embeds=5)
    unet.save_pretrained(tmp_path)
    network = of_diffusers.load(tmp_path, none=4)
    z, label = noise(2, 3, 8, 12), torch.tensor([2, 0])
    same(network(z, T, label=label), unet(z, T, class_labels=label).sample)
    same(network(z, T[1:], label=label), unet(z, T[1], class_labels=label).sample)
    none = unet(z, T, class_labels=torch.tensor([4, 4])).sample
    same(network(z, T), none)
    same(network(z, T, label=torch.tensor([-1, 4])), none)


@torch.no_grad()
def test_diffusers_image():
    unet = plain_unet(in_channels=5)
    z, image = noise(2, 3, 8, 8), noise(2, 2, 8, 8, seed=2)
    network = of_diffusers.DiffusersUNet(unet, image=2)
    same(network(z, T, image=image), unet(torch.cat((z, image), 1), T).sample)
    same(network(z, T), unet(torch.cat((z, torch.zeros_like(image)), 1), T).sample)


@torch.no_grad()
def test_diffusers_conditional(tmp_path):
    unet = conditional_unet()
    unet.save_pretrained(tmp_path)
    network = of_diffusers.load(tmp_path)
    context = noise(2, 6, 12, seed=2)
    for size in ((8, 8), (7, 10)):
        z = noise(2, 4, *size)
        same(network(z, T, context=context), unet(z, T, context).sample)
    with pytest.raises(WrongUse, match="trained with a context and cannot do without"):
        network(z, T)
    with pytest.raises(WrongUse, match=r"takes \(2, any, 12\)"):
        network(z, T, context=noise(2, 6, 11))


@torch.no_grad()
def test_diffusers_vector():
    unet = conditional_unet(class_embed_type="projection", projection_class_embeddings_input_dim=9)
    z, context, vector = noise(2, 4, 8, 8), noise(2, 6, 12, seed=2), noise(2, 9, seed=3)
    network = of_diffusers.DiffusersUNet(unet)
    same(network(z, T, context=context, vector=vector), unet(z, T, context, class_labels=vector).sample)


def test_diffusers_refusals(tmp_path):
    network = of_diffusers.DiffusersUNet(plain_unet(num_class_embeds=5))
    z = noise(2, 3, 8, 8)
    with pytest.raises(WrongUse, match="every side must be a multiple of 2"):
        network(noise(2, 3, 8, 7), T, label=torch.tensor([0, 1]))
    with pytest.raises(WrongUse, match="trained with a label"):
        network(z, T)
    with pytest.raises(WrongUse, match="knows 0 to 4; it has no label for none"):
        network(z, T, label=torch.tensor([0, -1]))
    with pytest.raises(WrongUse, match="context given to a network"):
        network(z, T, label=torch.tensor([0, 1]), context=noise(2, 6, 12))
    with pytest.raises(WrongUse, match="z needs at least one"):
        of_diffusers.DiffusersUNet(plain_unet(), image=3)
    with pytest.raises(WrongUse, match="none=5 is not a label"):
        of_diffusers.DiffusersUNet(plain_unet(num_class_embeds=5), none=5)
    with pytest.raises(WrongUse, match="Linear is no network of diffusers"):
        of_diffusers.DiffusersUNet(nn.Linear(1, 1))
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    with pytest.raises(WrongUse, match="wants added conditions"):
        of_diffusers.DiffusersUNet(conditional_unet(**added, projection_class_embeddings_input_dim=16))
    with pytest.raises(WrongUse, match=r"no config\.json"):
        of_diffusers.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(WrongUse, match="holds a AutoencoderKL"):
        of_diffusers.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(WrongUse, match=str(tmp_path)):
        of_diffusers.load(tmp_path)


# MONAI

MONAI = {
    "in_channels": 2,
    "out_channels": 3,
    "num_res_blocks": 1,
    "channels": (8, 16),
    "attention_levels": (False, True),
    "norm_num_groups": 4,
    "num_head_channels": 8,
}


@pytest.mark.parametrize("spatial", [2, 3])
@torch.no_grad()
def test_monai(tmp_path, spatial):
    nets = pytest.importorskip("monai.networks.nets")
    told = {"with_conditioning": True, "cross_attention_dim": 7} if spatial == 2 else {"num_class_embeds": 3}
    config = {**MONAI, "spatial_dims": spatial, **told}
    unet = awake(nets.DiffusionModelUNet(**config))
    path = tmp_path / ("unet.pt" if spatial == 2 else "unet.safetensors")
    (torch.save if spatial == 2 else save_file)(unet.state_dict(), path)
    network = of_monai.load(path, config, image=1)
    z, image = noise(2, 1, *[8, 4, 6][:spatial]), noise(2, 1, *[8, 4, 6][:spatial], seed=2)
    context, label = noise(2, 3, 7, seed=3), torch.tensor([2, 1])
    ours = {"context": context} if spatial == 2 else {"label": label}
    theirs = {"context": context} if spatial == 2 else {"class_labels": label}
    same(network(z, T, image=image, **ours), unet(torch.cat((z, image), 1), T, **theirs))
    same(network(z, T[1:], image=image, **ours), unet(torch.cat((z, image), 1), T[1:].expand(2), **theirs))
    with pytest.raises(WrongUse, match="cannot do without"):
        network(z, T, image=image)
    with pytest.raises(WrongUse, match="multiple of 2"):
        network(z[..., 1:], T, image=image[..., 1:], **ours)


def test_monai_refusals(tmp_path):
    nets = pytest.importorskip("monai.networks.nets")
    config = {**MONAI, "spatial_dims": 2}
    path = tmp_path / "unet.safetensors"
    save_file(nets.DiffusionModelUNet(**config).state_dict(), path)
    with pytest.raises(WrongUse, match="with this config these are no weights"):
        of_monai.load(path, {**config, "channels": (8, 32)})
    with pytest.raises(WrongUse, match="with this config"):
        of_monai.load(path, {**config, "colour": "blue"})
    with pytest.raises(WrongUse, match="Linear is no network of MONAI"):
        of_monai.MonaiUNet(nn.Linear(1, 1))


# guided-diffusion: the referee is the authors' own module, as published on PyPI (guided-diffusion-sdk)

GUIDED = {
    "image_size": 16,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 6,
    "num_res_blocks": 2,
    "attention_resolutions": (2,),
    "channel_mult": (1, 2),
    "num_head_channels": 16,
}


@pytest.mark.parametrize(
    ("changed", "heads"),
    [
        ({}, {"head_channels": 16}),
        ({"use_scale_shift_norm": True, "resblock_updown": True, "num_classes": 4}, {"head_channels": 16}),
        ({"use_new_attention_order": True}, {"head_channels": 16, "new_attention_order": True}),
        ({"num_heads": 2, "num_head_channels": -1, "num_res_blocks": 1, "channel_mult": (1, 1, 2)}, {"heads": 2}),
        ({"resblock_updown": True, "channel_mult": (0.5, 1), "model_channels": 64}, {"head_channels": 16}),
        ({"channel_mult": (1,), "attention_resolutions": (1,), "num_classes": 2}, {"head_channels": 16}),
        ({"in_channels": 5}, {"head_channels": 16, "image": 2}),
    ],
)
@pytest.mark.parametrize("form", ["pt", "safetensors"])
@torch.no_grad()
def test_guided_diffusion(tmp_path, changed, heads, form):
    unet = awake(pytest.importorskip("guided_diffusion.unet").UNetModel(**{**GUIDED, **changed}))
    path = tmp_path / f"checkpoint.{form}"
    (torch.save if form == "pt" else save_file)(unet.state_dict(), path)
    network = of_guided.load(path, **heads)
    z, label = noise(2, 3, 16, 8), torch.tensor([1, 0])
    image = noise(2, 2, 16, 8, seed=2) if "image" in heads else None
    told = label if "num_classes" in changed else None
    whole = z if image is None else torch.cat((z, image), 1)
    same(network(z, T, label=told, image=image), unet(whole, T, told))


def test_guided_diffusion_refusals():
    module = pytest.importorskip("guided_diffusion.unet")
    state = module.UNetModel(**GUIDED, num_classes=4).state_dict()
    with pytest.raises(WrongUse, match="one of them"):
        of_guided.GuidedUNet(state)
    with pytest.raises(WrongUse, match="heads=7, head_channels=None don't divide"):
        of_guided.GuidedUNet(state, heads=7)
    with pytest.raises(WrongUse, match=r"no time_embed\.0\.weight"):
        of_guided.GuidedUNet({"weight": torch.zeros(1)}, heads=4)
    with pytest.raises(WrongUse, match="Unexpected key"):
        of_guided.GuidedUNet({**state, "extra": torch.zeros(1)}, head_channels=16)
    pooled = module.UNetModel(**GUIDED, conv_resample=False).state_dict()
    with pytest.raises(WrongUse, match="resamples with weights"):
        of_guided.GuidedUNet(pooled, head_channels=16)
    network = of_guided.GuidedUNet(state, head_channels=16)
    with pytest.raises(WrongUse, match="trained with a label"):
        network(noise(2, 3, 16, 16), T)
    with pytest.raises(WrongUse, match="multiple of 2"):
        network(noise(2, 3, 16, 15), T, label=torch.tensor([0, 1]))


# files


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('the file was run')",)


def test_files_of_weights(tmp_path):
    with pytest.raises(WrongUse, match="no such file"):
        read_weights(tmp_path / "none.pt")
    bomb = tmp_path / "bomb.pt"
    torch.save({"weight": Bomb()}, bomb)
    with pytest.raises(WrongUse, match="more than tensors"):
        read_weights(bomb)
    bomb.write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(WrongUse, match="nothing in it was run"):
        read_weights(bomb)
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("this is a letter, not a checkpoint")
        with pytest.raises(WrongUse, match=name):
            read_weights(tmp_path / name)
    torch.save({"weight": torch.zeros(9)}, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:200])
    with pytest.raises(WrongUse, match=r"cut\.pt"):
        read_weights(tmp_path / "cut.pt")
    torch.save({"step": 3, "model": {"weight": torch.zeros(1)}}, tmp_path / "nested.pt")
    with pytest.raises(WrongUse, match="expected tensors by name, found step, model"):
        read_weights(tmp_path / "nested.pt")


def test_missing_package_is_named():
    with pytest.raises(WrongUse, match=r"pip install 'inkwash\[medical\]'"):
        require("no_such_package_of_monai", "medical")
