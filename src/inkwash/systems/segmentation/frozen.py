"""Trained diffusion models as they are looked at for their attention: runs of ours, and Stable Diffusion."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.nets.adapters.stable_diffusion import StableDiffusion
from inkwash.nets.attention_maps import Attention, Recording
from inkwash.systems import recipes
from inkwash.systems.base import Generator

# Of Stable Diffusion's schedule; entry k is t = (k + 1) / 1000.
_STEPS = 1000


class Frozen(nn.Module, ABC):
    """A diffusion model whose attention is looked at.

    Attributes:
        name: what it is called in messages.
    """

    name: str

    @abstractmethod
    def look(
        self, image: Float[Tensor, "n c h w"], t: float, *, noise: Noise | None, finest: int
    ) -> list[Attention]:
        """The self-attention of one evaluation.

        Args:
            image: in [-1, 1].
            t: the time that the network is told.
            noise: with it the image is noised as the model knows it at `t`; without, it is shown clean.
            finest: maps with a longer side are left out.
        """

    def found(self, recording: Recording, size: tuple[int, ...], finest: int) -> list[Attention]:
        """What was recorded; `WrongUse` where it is nothing."""
        if not recording.found:
            raise WrongUse(
                f"{self.name} has no self-attention on maps of at most {finest} a side for pictures of "
                f"{' x '.join(map(str, size))}: train one with --set attention=32,16,8, or raise finest"
            )
        return recording.found


class FrozenGenerator(Frozen):
    """A generator of ours, without its condition."""

    def __init__(self, generator: Generator, *, name: str) -> None:
        super().__init__()
        self.generator, self.name = generator, name

    @torch.no_grad()
    def look(
        self, image: Float[Tensor, "n c h w"], t: float, *, noise: Noise | None, finest: int
    ) -> list[Attention]:
        denoiser = self.generator.denoiser
        z = image if noise is None else denoiser.corruption.sample(image, t, noise=noise)
        with Recording(tuple(image.shape[2:]), finest=finest) as recording:
            denoiser(z, t)
        return self.found(recording, tuple(image.shape[2:]), finest)


class FrozenStableDiffusion(Frozen):
    """Stable Diffusion, which looks at codes of images."""

    def __init__(self, model: StableDiffusion) -> None:
        super().__init__()
        self.model, self.name = model, model.name
        # The model's weights are no parameters of this module: this one tells the device.
        self.here = nn.Parameter(torch.empty(0), requires_grad=False)
        self.corruption = recipes.schedule("scaled-linear", steps=_STEPS, shift=1.0, data_mean=0.0, data_std=1.0)

    @torch.no_grad()
    def look(
        self, image: Float[Tensor, "n c h w"], t: float, *, noise: Noise | None, finest: int
    ) -> list[Attention]:
        z = self.model.encode(image)
        z = z if noise is None else self.corruption.sample(z, t, noise=noise)
        size = tuple(z.shape[2:])
        with Recording(size, finest=finest, context=self.model.context.shape[1]) as recording:
            self.model(z, t * _STEPS - 1)
        return self.found(recording, size, finest)

