"""Autoencoders of the diffusers library: Stable Diffusion's `AutoencoderKL`, used as it is."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets.adapters.base import require
from inkwash.nets.adapters.frozen_autoencoder import FrozenAutoencoder
from inkwash.nets.autoencoder import Code
from inkwash.nets.patched import fill


class FrozenKL(FrozenAutoencoder):
    """A frozen `AutoencoderKL`.

    Args:
        vae: the module.
        name: where it is from, for messages.

    Attributes:
        scaling: what its codes are multiplied by for a denoiser.

    Raises:
        WrongUse: it is no AutoencoderKL, or its pictures come back with other channels.
    """

    spatial = 2

    def __init__(self, vae: Any, *, name: str = "the autoencoder") -> None:
        kind, config = type(vae).__name__, getattr(vae, "config", {})
        if kind != "AutoencoderKL" or config["in_channels"] != config["out_channels"]:
            raise WrongUse(f"{name} is {kind}: an AutoencoderKL that gives back the channels it takes can be used")
        super().__init__(vae, name=name)
        self.channels, self.pictures = int(config["latent_channels"]), int(config["in_channels"])
        self.factor = 2 ** (len(config["block_out_channels"]) - 1)
        self.scaling = float(config["scaling_factor"])

    def coded(self, x: Tensor) -> Code:
        said = self.held.encode(x, return_dict=False)[0]
        return Code(said.mean, said.logvar)

    def decoded(self, z: Tensor) -> Tensor:
        made: Tensor = self.held.decode(z, return_dict=False)[0]
        return made

    def image_encoder(self, channels: int, *, dropout: float) -> "ImageEncoder":
        """A new encoder of images that is trained, and begins as this one's.

        Args:
            channels: of the images.
            dropout: in its residual blocks.
        """
        return ImageEncoder(self.held, channels, self.factor, dropout)


class ImageEncoder(nn.Module):
    """From images to codes: a copy of an autoencoder's encoder, and a 1x1 convolution that begins as its mean.

    The mean at the autoencoder's own scale of images (`scaling_factor`), which is about that of the noise. Images of a
    single channel are copied to those it takes; other numbers go through a 1x1 convolution first.
    """

    def __init__(self, vae: Any, channels: int, factor: int, dropout: float) -> None:
        super().__init__()
        pictures, codes = int(vae.config["in_channels"]), int(vae.config["latent_channels"])
        self.factor = factor
        self.enter: nn.Module | None = None
        if channels not in (1, pictures):
            self.enter = nn.Conv2d(channels, pictures, 1)
        self.pictures = pictures
        self.encoder = copy.deepcopy(vae.encoder).requires_grad_(True)
        for module in self.encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        weight, bias = torch.eye(codes, 2 * codes)[:, :, None, None], torch.zeros(codes)
        if vae.quant_conv is not None:
            weight, bias = vae.quant_conv.weight[:codes], vae.quant_conv.bias[:codes]
        scale = float(vae.config["scaling_factor"])
        self.leave = nn.Conv2d(2 * codes, codes, 1)
        self.leave.weight = nn.Parameter(scale * weight.detach())
        self.leave.bias = nn.Parameter(scale * bias.detach())

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        x = fill(image, self.factor)
        x = x.expand(-1, self.pictures, -1, -1) if self.enter is None else self.enter(x)
        made: Tensor = self.leave(self.encoder(x))
        return made


def load(folder: str | Path) -> FrozenKL:
    """The autoencoder that `save_pretrained` wrote to `folder` (of a whole pipeline: its `vae` folder).

    Weights are read from safetensors alone, so nothing in them is run.

    Raises:
        WrongUse: diffusers is missing, or the folder holds no AutoencoderKL.
    """
    folder = Path(folder)
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WrongUse(f"{folder}: no config.json of an autoencoder; of a pipeline give its vae folder") from error
    if kind != "AutoencoderKL":
        raise WrongUse(f"{folder}: holds a {kind}; an AutoencoderKL can be used")
    diffusers = require("diffusers", "diffusers")
    try:
        # Not a fast but patchy loading, whose initial weights would be left where the file lacks some.
        vae = diffusers.AutoencoderKL.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise WrongUse(f"{folder}: {str(error).splitlines()[0]}") from error
    return FrozenKL(vae, name=str(folder))
