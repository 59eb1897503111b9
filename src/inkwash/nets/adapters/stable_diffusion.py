"""Stable Diffusion, versions 1 and 2, used as it is: autoencoder, text encoder and U-Net from a folder of diffusers."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.nets.adapters import autoencoder_kl, clip_text, diffusers
from inkwash.nets.adapters.autoencoder_kl import FrozenKL
from inkwash.nets.adapters.diffusers import DiffusersUNet
from inkwash.nets.adapters.frozen import Frozen


class StableDiffusion(Frozen):
    """The frozen network of latent codes, told one text.

    Args:
        unet: the network.
        vae: the autoencoder.
        context: the text's embedding, `(1, L, D)`.
        name: where it is from, for messages.

    Raises:
        WrongUse: the parts don't belong together.
    """

    context: Tensor

    def __init__(
        self, unet: DiffusersUNet, vae: FrozenKL, context: Float[Tensor, "1 l d"], *, name: str = "the model"
    ) -> None:
        if unet.channels_in != vae.channels:
            raise WrongUse(f"{name}: the U-Net takes {unet.channels_in} channels, its vae gives {vae.channels}")
        if unet.context != context.shape[2]:
            raise WrongUse(f"{name}: the U-Net takes texts of width {unet.context}, not of {context.shape[2]}")
        super().__init__(unet, name=name)
        self.vae = vae
        self.register_buffer("context", context, persistent=False)

    @torch.no_grad()
    def encode(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """The mean code of images in [-1, 1], at the scale of the noise."""
        return self.vae.encode(image).mean * self.vae.scaling

    @torch.no_grad()
    def forward(self, z: Float[Tensor, "b d h w"], timestep: float) -> Float[Tensor, "b d h w"]:
        """What the U-Net makes of codes at this whole-number step (0 to 999)."""
        t = torch.full((1,), timestep, device=z.device)
        made: Tensor = self.held(z, t, context=self.context.expand(len(z), -1, -1).to(z.dtype))
        return made


def is_folder(path: str | Path) -> bool:
    """Whether this is where `save_pretrained` put a pipeline with a U-Net."""
    return (Path(path) / "unet" / "config.json").is_file()


def load(folder: str | Path, *, prompt: str = "") -> StableDiffusion:
    """The model that `save_pretrained` of a pipeline wrote to `folder`.

    Args:
        prompt: the text that it is told.

    Raises:
        WrongUse: a library is missing, or the folder lacks a part: unet, vae, text_encoder, tokenizer.
    """
    folder = Path(folder)
    for part in ("unet", "vae", "text_encoder", "tokenizer"):
        if not (folder / part).is_dir():
            raise WrongUse(f"{folder}: no folder {part}; a Stable Diffusion has unet, vae, text_encoder and tokenizer")
    return StableDiffusion(
        diffusers.load(folder / "unet"), autoencoder_kl.load(folder / "vae"), _context(folder, prompt), name=str(folder)
    )


@torch.no_grad()
def _context(folder: Path, prompt: str) -> Float[Tensor, "1 l d"]:
    """The text's embedding, filled up to the length that the network was trained with."""
    tokenizer, encoder = clip_text.parts(folder)
    length = encoder.config.max_position_embeddings
    tokens = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    states: Tensor = encoder(tokens.input_ids, return_dict=False)[0]
    return states
