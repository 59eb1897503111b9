"""Codes of masks: of a small autoencoder that is trained along, or of Stable Diffusion's, which is given."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.nets.adapters.autoencoder_kl import FrozenKL
from inkwash.nets.autoencoder import Autoencoder, Levels
from inkwash.nets.scale import Scale
from inkwash.systems import masks
from inkwash.systems.segmentation.losses import dice_and_cross_entropy

# Items that the scale of an autoencoder in training is measured over: long enough to be steady, short enough to follow.
_HORIZON = 1000


@dataclass(frozen=True)
class Coded:
    """What a denoiser is trained on.

    Attributes:
        code: of each item, without a gradient, at the scale of the noise.
        label: the class that it is of, where a code is of one class.
        loss: what the autoencoder is trained on; `terms` are its parts.
    """

    code: Float[Tensor, "b d ..."]
    label: Int64[Tensor, "b"] | None = None
    loss: Float[Tensor, "b"] | None = None
    terms: dict[str, Float[Tensor, "b"]] = field(default_factory=dict)


class TrainedCodes(nn.Module):
    """A small variational autoencoder of masks, one code for all classes.

    It is trained in every step beside the denoiser, which sees its codes without a gradient: it learns nothing of the
    denoiser. So there is no first part of a training whose length would have to be known: minutes and steps, resuming
    and several processes are as for any system.

    Args:
        channels: of a code.
        divergence: weight of the divergence from the standard normal, beside the loss of the mask.
    """

    passes = 1

    def __init__(self, levels: Levels, classes: int, *, channels: int, divergence: float) -> None:
        super().__init__()
        self.classes, self.channels, self.divergence = classes, channels, divergence
        self.autoencoder = Autoencoder(levels, masks.channels(classes), classes, code=channels, kl=True)
        self.scale = Scale(_HORIZON)

    def size_of(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size of a code of a mask of this size."""
        return self.autoencoder.levels.size_of(size)

    def learn(self, mask: Int64[Tensor, "b *size"], noise: Noise) -> Coded:
        """Codes of these masks, and how well the autoencoder gives the masks back."""
        code = self.autoencoder.encode(masks.encode(mask, self.classes))
        drawn = code.sample(noise)
        logits = self.autoencoder.decode(drawn, tuple(mask.shape[1:]))
        terms = {"reconstruction": dice_and_cross_entropy(logits, mask), "divergence": code.divergence()}
        loss = terms["reconstruction"] + self.divergence * terms["divergence"]
        return Coded(self.scale(drawn.detach().float()), None, loss, terms)

    def read(self, code: Float[Tensor, "n d ..."], size: tuple[int, ...]) -> Float[Tensor, "n k ..."]:
        """Class probabilities."""
        return self.autoencoder.decode(self.scale.back(code), size).softmax(dim=1)


class GivenCodes(nn.Module):
    """Codes of a frozen autoencoder of pictures: a mask is the picture of one class, 1 where it is and -1 elsewhere.

    Of two classes one picture says all. Of more, each class is a picture, and in training each item is one of them,
    by chance.
    """

    def __init__(self, vae: FrozenKL, classes: int) -> None:
        super().__init__()
        self.classes, self.channels = classes, vae.channels
        self.passes = masks.channels(classes)
        self.vae = vae
        self.scale = Scale()

    def size_of(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size of a code of a mask of this size."""
        return self.vae.size_of(size)

    def learn(self, mask: Int64[Tensor, "b *size"], noise: Noise) -> Coded:
        """Codes of these masks."""
        pictures, label = masks.encode(mask, self.classes), None
        if self.passes > 1:
            chosen = (noise.uniform((), "class", dtype=torch.float64) * self.classes).long()
            label = chosen.to(mask.device)
            pictures = pictures[torch.arange(len(mask), device=mask.device), label][:, None]
        return Coded(self.scale(self.vae.encode(pictures).sample(noise).float()), label)

    def read(self, code: Float[Tensor, "m d ..."], size: tuple[int, ...]) -> Float[Tensor, "n k ..."]:
        """Class probabilities; the codes of one item's classes lie one after the other."""
        mean = self.vae.decode(self.scale.back(code), size).mean(dim=1)
        return masks.probabilities(mean.unflatten(0, (-1, self.passes)))
