"""Small convolutional autoencoders, for signals, images and volumes of any size.

What diffusion in a latent space needs: an encoder to a *code* of a fraction of the side, a decoder back, and codes of
the scale of the noise. The blocks are those of the U-Net without its time. As there, each level halves the size,
rounding up, and on the way back it is doubled and cropped to the size it had; only patches fill up what they don't
divide.

With `kl=True` the autoencoder is variational (Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014; for
latent diffusion Rombach et al., CVPR 2022, appendix G): the encoder gives a normal distribution of each number of the
code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.nets.attention import SelfAttention
from inkwash.nets.blocks import CONV, Attended, Downsample, Norm, ResBlock, Upsample, activate, zeroed
from inkwash.nets.patched import fold, unfold

# Variances beyond these say nothing more, and overflow in half precision.
_LOG_VAR = (-30.0, 20.0)


def standardise(z: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
    """Each item with mean 0 and variance 1 over its channels and positions; a constant item becomes 0."""
    return F.layer_norm(z, z.shape[1:])


@dataclass(frozen=True)
class Levels:
    """The shape of an encoder, and of the decoder that is its mirror.

    Args:
        spatial: 1, 2 or 3.
        base: channels of the first level.
        multipliers: channels of each level as a multiple of `base`, from the finest; between two the size halves.
        blocks: residual blocks a level.
        attention: for each level, whether its positions attend to one another; none by default.
        head_channels: channels of an attention head; divides the channels of every level that attends.
        patch: side of the patches that the picture is folded into first, which cost `patch^-spatial` as much.
        dropout: in [0, 1), before the second convolution of each block. It draws from torch's global generator.

    Raises:
        WrongUse: an argument is out of range, or `attention` and `multipliers` differ in length.
    """

    spatial: int
    base: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention: tuple[bool, ...] = ()
    head_channels: int = 16
    patch: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.spatial not in CONV:
            raise WrongUse(f"spatial is 1, 2 or 3, not {self.spatial}")
        if min(self.base, self.blocks, self.patch, len(self.multipliers), *self.multipliers) < 1:
            raise WrongUse("base, multipliers, blocks and patch are at least 1, and there is at least one level")
        if not 0 <= self.dropout < 1:
            raise WrongUse(f"dropout is in [0, 1), not {self.dropout}")
        if len(self.attention) not in (0, len(self.multipliers)):
            raise WrongUse(f"{len(self.attention)} levels in attention, {len(self.multipliers)} in multipliers")

    def __len__(self) -> int:
        return len(self.multipliers)

    @property
    def factor(self) -> int:
        """How many times shorter the side of a code is."""
        return self.patch * 2 ** (len(self) - 1)

    def size_of(self, size: Sequence[int], level: int | None = None) -> tuple[int, ...]:
        """The size at a level, counted from 0, of a picture of this size; of its code by default."""
        factor = self.factor if level is None else self.patch * 2**level
        return tuple(-(-side // factor) for side in size)

    def stages(self, level: int, inputs: int) -> "list[_Stage]":
        """The residual blocks of a level, the first of which takes so many channels."""
        width, attends = self.base * self.multipliers[level], bool(self.attention) and self.attention[level]
        return [_Stage(self, width if block else inputs, width, attends) for block in range(self.blocks)]


class _Stage(nn.Module):
    """A residual block and, where asked, attention among the positions."""

    def __init__(self, levels: Levels, inputs: int, outputs: int, attends: bool) -> None:
        super().__init__()
        self.block = ResBlock(levels.spatial, inputs, outputs, levels.dropout)
        self.attention: Attended | None = None
        if attends:
            among = SelfAttention(outputs, levels.head_channels)
            zeroed(among.out)
            self.attention = Attended(outputs, among)

    def forward(self, x: Float[Tensor, "b i *size"]) -> Float[Tensor, "b o *size"]:
        x = self.block(x)
        return x if self.attention is None else self.attention(x)


class Encoder(nn.Module):
    """From a picture, `(B, channels_in, *size)`, to its code, `(B, channels_out, *levels.size_of(size))`."""

    def __init__(self, levels: Levels, channels_in: int, channels_out: int) -> None:
        super().__init__()
        conv = CONV[levels.spatial]
        self.levels = levels
        self.enter = conv(channels_in * levels.patch**levels.spatial, levels.base, 3, padding=1)
        parts: list[nn.Module] = []
        width = levels.base
        for level, multiplier in enumerate(levels.multipliers):
            if level > 0:
                parts.append(Downsample(levels.spatial, width))
            parts.extend(levels.stages(level, width))
            width = levels.base * multiplier
        self.parts = nn.ModuleList(parts)
        self.norm = Norm(width)
        self.leave = conv(width, channels_out, 3, padding=1)

    def forward(self, x: Float[Tensor, "b i *size"]) -> Float[Tensor, "b o *code"]:
        x = self.enter(fold(x, self.levels.patch))
        for part in self.parts:
            x = part(x)
        return self.leave(activate(self.norm(x)))


class Decoder(nn.Module):
    """From a code to a picture of a given size: the mirror of `Encoder`."""

    def __init__(self, levels: Levels, channels_in: int, channels_out: int) -> None:
        super().__init__()
        conv = CONV[levels.spatial]
        self.levels = levels
        width = levels.base * levels.multipliers[-1]
        self.enter = conv(channels_in, width, 3, padding=1)
        parts: list[nn.Module] = []
        for level in reversed(range(len(levels))):
            parts.extend(levels.stages(level, width))
            width = levels.base * levels.multipliers[level]
            if level > 0:
                parts.append(Upsample(levels.spatial, width))
        self.parts = nn.ModuleList(parts)
        self.norm = Norm(width)
        self.leave = conv(width, channels_out * levels.patch**levels.spatial, 3, padding=1)

    def forward(self, z: Float[Tensor, "b i *code"], size: tuple[int, ...]) -> Float[Tensor, "b o ..."]:
        """The picture of this size.

        Raises:
            WrongUse: the code of a picture of this size has another size.
        """
        if tuple(z.shape[2:]) != self.levels.size_of(size):
            expected = self.levels.size_of(size)
            raise WrongUse(f"a code of size {tuple(z.shape[2:])}: that of a picture of size {size} is {expected}")
        x, level = self.enter(z), len(self.levels) - 1
        for part in self.parts:
            if isinstance(part, Upsample):
                level -= 1
                x = part(x, self.levels.size_of(size, level))
            else:
                x = part(x)
        return unfold(self.leave(activate(self.norm(x))), self.levels.patch, size)


@dataclass(frozen=True)
class Code:
    """What an encoder says: a normal distribution of each number, or, without a variance, the numbers themselves."""

    mean: Float[Tensor, "b c *size"]
    log_var: Float[Tensor, "b c *size"] | None = None

    @classmethod
    def of(cls, moments: Float[Tensor, "b cc *size"]) -> "Code":
        """From means and log-variances along the channels, as encoders give them."""
        mean, log_var = moments.chunk(2, dim=1)
        return cls(mean, log_var.clamp(*_LOG_VAR))

    def sample(self, noise: Noise) -> Float[Tensor, "b c *size"]:
        """One code for each item; the mean where there is no variance."""
        if self.log_var is None:
            return self.mean
        fresh = noise.normal(tuple(self.mean.shape[1:]), "code", dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + torch.exp(self.log_var / 2) * fresh

    def divergence(self) -> Float[Tensor, "b"]:
        """From the standard normal, nats, mean over the numbers of a code (Kingma & Welling 2014, appendix B).

        Raises:
            WrongUse: there is no variance.
        """
        if self.log_var is None:
            raise WrongUse("a code without a variance diverges from nothing: make the autoencoder with kl=True")
        nats = (self.mean.square() + self.log_var.exp() - 1 - self.log_var) / 2
        return nats.flatten(1).mean(dim=1)


class Autoencoder(nn.Module):
    """An encoder and its decoder.

    Args:
        channels_in, channels_out: of the picture handed in and of the one that comes back (logits of classes, say).
        code: channels of the code.
        kl: the encoder gives a normal distribution, which `Code.divergence` holds against the standard normal.
    """

    def __init__(self, levels: Levels, channels_in: int, channels_out: int, *, code: int, kl: bool = False) -> None:
        super().__init__()
        self.levels, self.kl = levels, kl
        self.encoder = Encoder(levels, channels_in, code * (2 if kl else 1))
        self.decoder = Decoder(levels, code, channels_out)

    def encode(self, x: Float[Tensor, "b i *size"]) -> Code:
        """The code of a picture."""
        made = self.encoder(x)
        return Code.of(made) if self.kl else Code(made)

    def decode(self, z: Float[Tensor, "b c *code"], size: tuple[int, ...]) -> Float[Tensor, "b o ..."]:
        """The picture of this size that a code stands for."""
        made: Tensor = self.decoder(z, size)
        return made
