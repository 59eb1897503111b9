"""Codes of images and volumes: of an autoencoder that is trained along, or of one that is given and stays as it is."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.nets.adapters import autoencoder_kl, monai_autoencoder
from inkwash.nets.adapters.autoencoder_kl import FrozenKL
from inkwash.nets.adapters.monai_autoencoder import FrozenMonaiKL
from inkwash.nets.autoencoder import Autoencoder, Levels
from inkwash.nets.scale import Scale

# Items that the scale of an autoencoder in training is measured over: long enough to be steady, short enough to follow.
_HORIZON = 1000


@dataclass(frozen=True)
class Coded:
    """What a denoiser is trained on.

    Attributes:
        code: of each item, without a gradient, at the scale of the noise.
        terms: what the autoencoder is trained on, `loss` being minimised; none where it is given.
    """

    code: Float[Tensor, "b d ..."]
    terms: dict[str, Float[Tensor, "b"]] = field(default_factory=dict)


class TrainedCodes(nn.Module):
    """A variational autoencoder that is trained beside the denoiser, which sees its codes without a gradient.

    Args:
        channels: of an image.
        code: channels of a code.
        divergence: weight of the divergence from the standard normal, beside the absolute error of the image; both are
            means over their numbers.
    """

    def __init__(self, levels: Levels, channels: int, *, code: int, divergence: float) -> None:
        super().__init__()
        self.channels, self.divergence, self.factor = code, divergence, levels.factor
        self.autoencoder = Autoencoder(levels, channels, channels, code=code, kl=True)
        self.scale = Scale(_HORIZON)

    def size_of(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size of the code of an image of this size."""
        return self.autoencoder.levels.size_of(size)

    def learn(self, image: Float[Tensor, "b c *size"], noise: Noise) -> Coded:
        """Codes of these images, and how well the autoencoder gives them back."""
        code = self.autoencoder.encode(image)
        drawn = code.sample(noise)
        back = self.autoencoder.decode(drawn, tuple(image.shape[2:]))
        terms = {"reconstruction": (back - image).abs().flatten(1).mean(dim=1), "divergence": code.divergence()}
        terms["loss"] = terms["reconstruction"] + self.divergence * terms["divergence"]
        return Coded(self.scale(drawn.detach().float()), terms)

    @torch.no_grad()
    def encode(self, image: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d ..."]:
        """The mean code of images, at the scale of the noise."""
        return self.scale.of(self.autoencoder.encode(image).mean)

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "b d ..."], size: tuple[int, ...]) -> Float[Tensor, "b c ..."]:
        """The image of this size that a code stands for."""
        return self.autoencoder.decode(self.scale.back(z), size)


class GivenCodes(nn.Module):
    """Codes of a frozen autoencoder. Grey images are copied to the channels that it takes, whose mean is read back.

    Args:
        channels: of an image.

    Raises:
        WrongUse: the autoencoder is of pictures and the images are volumes, or the other way round; or it takes another
            number of channels.
    """

    def __init__(self, vae: FrozenKL | FrozenMonaiKL, channels: int, spatial: int) -> None:
        super().__init__()
        if vae.spatial != spatial:
            raise WrongUse(f"vae={vae.name} is an autoencoder in {vae.spatial} dimensions; this data has {spatial}")
        if channels not in (1, vae.pictures):
            raise WrongUse(f"vae={vae.name} takes {vae.pictures} channels; this data has {channels}")
        self.grey = channels == 1
        self.channels, self.factor = vae.channels, vae.factor
        self.vae = vae
        self.scale = Scale()

    def size_of(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size of the code of an image of this size."""
        return self.vae.size_of(size)

    def learn(self, image: Float[Tensor, "b c *size"], noise: Noise) -> Coded:
        """Codes of these images."""
        return Coded(self.scale(self.vae.encode(image).sample(noise).float()))

    def encode(self, image: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d ..."]:
        """The mean code of images, at the scale of the noise."""
        return self.scale.of(self.vae.encode(image).mean)

    def decode(self, z: Float[Tensor, "b d ..."], size: tuple[int, ...]) -> Float[Tensor, "b c ..."]:
        """The image of this size that a code stands for."""
        made = self.vae.decode(self.scale.back(z), size)
        return made.mean(dim=1, keepdim=True) if self.grey else made


def given(path: str, channels: int, spatial: int) -> GivenCodes:
    """Codes of the autoencoder at `path`: a folder of diffusers, or a file of weights of MONAI.

    Raises:
        WrongUse: there is none, or it is not for such images.
    """
    place = Path(path).expanduser()
    vae = monai_autoencoder.load(place) if place.is_file() else autoencoder_kl.load(place)
    return GivenCodes(vae, channels, spatial)
