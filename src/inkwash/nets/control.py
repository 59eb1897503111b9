"""A frozen U-Net steered by a trainable copy of its encoder (Zhang, Rao & Agrawala 2023, section 3).

With `F` the network and `Z` convolutions of size 1 that start at zero, the paper's equation 2 is

    y = F(x) + Z2(F_copy(x + Z1(c))),

for the encoder and the middle of a U-Net: the copy's feature maps enter the skip connections and the middle of the
frozen decoder (their figure 3). All that is added is zero until it is trained, so a training begins at the frozen
network.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from inkwash.errors import WrongUse
from inkwash.nets.blocks import CONV, Downsample, activate, zeroed
from inkwash.nets.border import join
from inkwash.nets.patched import Patched, fold
from inkwash.nets.unet import Stage, UNet
from inkwash.nets.weighed import Weighed


class ControlBranch(nn.Module):
    """The trainable copy: the encoder and the middle of `base`, a condition encoder, and the zero convolutions.

    Args:
        base: is copied as it is, and left alone.
        channels: of the condition, which has the size of the network's input.
        width: channels of the condition encoder, four 3x3 convolutions of which the last starts at zero (Z1).
    """

    def __init__(self, base: UNet, channels: int, width: int) -> None:
        super().__init__()
        conv = CONV[base.spatial]
        self.spatial, self.channels_in, self.image = base.spatial, base.channels_in, base.image
        self.checkpointing = base.checkpointing
        self.embedding, self.enter = copy.deepcopy(base.embedding), copy.deepcopy(base.enter)
        self.down, self.middle = copy.deepcopy(base.down), copy.deepcopy(base.middle)
        self.requires_grad_(True)
        stages = [part for part in (*self.down, *self.middle) if isinstance(part, Stage)]
        self.shares = base.shares[: len(stages)]
        # The rows of the encoder and the middle come first in the product that all modulations are made by.
        self.modulation = nn.Linear(base.modulation.in_features, sum(self.shares))
        with torch.no_grad():
            self.modulation.weight.copy_(base.modulation.weight[: sum(self.shares)])
            self.modulation.bias.copy_(base.modulation.bias[: sum(self.shares)])
        first = base.enter.out_channels
        self.hint = nn.Sequential(
            conv(channels, width, 3, padding=1), nn.SiLU(),
            conv(width, width, 3, padding=1), nn.SiLU(),
            conv(width, width, 3, padding=1), nn.SiLU(),
            zeroed(conv(width, first, 3, padding=1)),
        )  # fmt: skip
        widths = [first, *(_width(part) for part in self.down)]
        self.zeros = nn.ModuleList(zeroed(conv(w, w, 1)) for w in (*widths, widths[-1]))

    def forward(
        self,
        z: Float[Tensor, "b _ ..."],
        t: Float[Tensor, "..."],
        hint: Float[Tensor, "b c ..."],
        *,
        label: Int64[Tensor, "..."] | None = None,
        vector: Float[Tensor, "..."] | None = None,
        context: Float[Tensor, "..."] | None = None,
        image: Float[Tensor, "_ _ ..."] | None = None,
    ) -> list[Tensor]:
        """What is added to each skip connection of the base, from the finest on, and last to its middle."""
        x = join(z, image, spatial=self.spatial, channels=self.channels_in, image_channels=self.image)
        embedding = activate(self.embedding(z, t, label, vector))
        todo = iter(self.modulation(embedding).split(self.shares, dim=1))
        last = self.spatial == 2 and not (z.device.type == "cpu" and torch.is_grad_enabled())
        layout = torch.channels_last if last else torch.contiguous_format
        x = self.enter(x.contiguous(memory_format=layout))
        x = x + self.hint(hint.to(z.dtype).contiguous(memory_format=layout))
        kept = [x]
        for part in self.down:
            x = self._run(part, x, next(todo), context) if isinstance(part, Stage) else part(x)
            kept.append(x)
        for part in self.middle:
            x = self._run(part, x, next(todo), context)
        return [zero(feature) for zero, feature in zip(self.zeros, (*kept, x), strict=True)]

    def _run(self, stage: nn.Module, x: Tensor, modulation: Tensor, context: Tensor | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, x, modulation, context, use_reentrant=False)
        return stage(x, modulation, context)


def _width(part: nn.Module) -> int:
    """The channels of what a part of the encoder makes."""
    if isinstance(part, Downsample):
        return part.conv.out_channels
    assert isinstance(part, Stage)
    return part.block.norm_out.num_channels


class Controlled(Weighed):
    """A frozen U-Net, on patches or not, and its control branch: called as the U-Net, with a picture of the condition.

    The condition comes first in `image`, `(B, channels + passed, *size)`; where it is missing it is zeros.

    Args:
        base: is frozen.
        channels: of the condition.
        width: channels of the condition encoder.
        passed: channels of `image` that are the base's own, and its last ones: the estimate of a network that is shown
            its own. What else the base takes as image is told nothing.

    Raises:
        WrongUse: the base is not a U-Net of ours.
    """

    def __init__(self, base: nn.Module, channels: int, *, width: int, passed: int = 0) -> None:
        super().__init__()
        network = base.network if isinstance(base, Patched) else base
        if not isinstance(network, UNet):
            raise WrongUse(f"a {type(network).__name__} has no encoder to copy: the prior's network must be our U-Net")
        self.patch = base.patch if isinstance(base, Patched) else 1
        cells = self.patch**network.spatial
        self.channels, self.passed, self.untold = channels, passed, network.image // cells - passed
        self.branch = ControlBranch(network, channels * cells, width)
        self.base = base.requires_grad_(False)

    def weigh(self, weight: float) -> None:
        self.weight = weight

    def train(self, mode: bool = True) -> "Controlled":
        # What is frozen does not drop out either.
        super().train(mode)
        self.base.eval()
        return self

    def forward(
        self,
        z: Float[Tensor, "b _ ..."],
        t: Float[Tensor, "..."],
        *,
        image: Float[Tensor, "b _ ..."] | None = None,
        label: Int64[Tensor, "..."] | None = None,
        vector: Float[Tensor, "..."] | None = None,
        context: Float[Tensor, "..."] | None = None,
        **more: Any,
    ) -> Float[Tensor, "b out ..."]:
        """As the base's own; `more` is handed to it.

        Raises:
            WrongUse: a shape is not what the network was built for.
        """
        told = {"label": label, "vector": vector, "context": context}
        hint, image = self._split(z, image)
        if self.weight == 0.0:
            return self.base(z, t, image=image, **told, **more)
        inner = [None if x is None else self._folded(x) for x in (z, hint, image)]
        residuals: Sequence[Tensor] = self.branch(inner[0], t, inner[1], image=inner[2], **told)
        if self.weight != 1.0:
            residuals = [residual * self.weight for residual in residuals]
        return self.base(z, t, image=image, residuals=residuals, **told, **more)

    def _folded(self, x: Tensor) -> Tensor:
        return x if self.patch == 1 else fold(x, self.patch)

    def _split(self, z: Tensor, image: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The condition, and what the base takes as image."""
        hint = z.new_zeros(z.shape[0], self.channels, *z.shape[2:])
        if image is None:
            return hint, None
        if image.shape[1] != self.passed:
            wanted = (z.shape[0], self.channels + self.passed, *z.shape[2:])
            if tuple(image.shape) != wanted:
                raise WrongUse(f"image of shape {tuple(image.shape)}: with this z the network takes {wanted}")
            hint, image = image[:, : self.channels], image[:, self.channels :]
        if not self.passed:
            return hint, None
        return hint, torch.cat((z.new_zeros(z.shape[0], self.untold, *z.shape[2:]), image), dim=1)
