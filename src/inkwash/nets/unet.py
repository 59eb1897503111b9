"""The U-Net, for signals, images and volumes (Ho et al. 2020; Dhariwal & Nichol 2021)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from inkwash.errors import WrongUse
from inkwash.nets.attention import CrossAttention, SelfAttention
from inkwash.nets.blocks import CONV, Attended, Downsample, Norm, ResBlock, Upsample, activate, zeroed
from inkwash.nets.border import check_condition, join
from inkwash.nets.embedding import Embedding
from inkwash.nets.reuse import Reuse, rows_of


class Stage(nn.Module):
    """A residual block and, where asked, attention among the positions and to the context."""

    def __init__(
        self,
        spatial: int,
        inputs: int,
        outputs: int,
        *,
        attention: bool,
        head_channels: int,
        context: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.block = ResBlock(spatial, inputs, outputs, dropout)
        self.attention: Attended | None = None
        self.cross: Attended | None = None
        if attention:
            among = SelfAttention(outputs, head_channels)
            zeroed(among.out)
            self.attention = Attended(outputs, among)
        if attention and context:
            towards = CrossAttention(outputs, context, head_channels)
            zeroed(towards.out)
            self.cross = Attended(outputs, towards)

    def forward(
        self,
        x: Float[Tensor, "b i *spatial"],
        modulation: Float[Tensor, "_ o2"],
        context: Float[Tensor, "b l d"] | None,
    ) -> Float[Tensor, "b o *spatial"]:
        x = self.block(x, modulation)
        if self.attention is not None:
            x = self.attention(x)
        if self.cross is not None and context is not None:
            x = self.cross(x, context)
        return x


class UNet(nn.Module):
    """One U-Net for 1-D, 2-D and 3-D data of any size, odd sizes and a single pixel included.

    Each level halves the size, rounding up; on the way back it is doubled and cropped to the size it had.
    Inside, the layout is whichever is faster, whatever that of `z`; a two-dimensional result has that of `z`.

    Args:
        channels_in: channels of `z`.
        channels_out: channels of the result; twice `channels_in` with learned variance.
        spatial: 1, 2 or 3.
        base: channels of the first level, even.
        multipliers: channels of each level as a multiple of `base`, from the finest.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention: for each level, whether its positions attend to one another; the middle does if any level does.
        head_channels: channels of an attention head; divides the channels of every level that attends.
        classes: labels are 0 .. classes - 1, or -1 for none; 0 for a network without labels.
        vector: size of the condition vector; 0 for none.
        context: channels D of the context `(B, L, D)`, attended to wherever there is attention; 0 for none.
        image: channels of the image concatenated to `z`; 0 for none.
        dropout: in [0, 1), before the second convolution of each block. It draws from torch's global generator.
        checkpointing: recompute each stage in the backward pass instead of keeping what it computed.

    Raises:
        WrongUse: an argument is out of range, or `attention` and `multipliers` differ in length.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        spatial: int = 2,
        base: int = 64,
        multipliers: Sequence[int] = (1, 2, 2, 4),
        blocks: int = 2,
        attention: Sequence[bool] = (False, False, True, False),
        head_channels: int = 32,
        classes: int = 0,
        vector: int = 0,
        context: int = 0,
        image: int = 0,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if spatial not in CONV:
            raise WrongUse(f"spatial is 1, 2 or 3, not {spatial}")
        if len(attention) != len(multipliers):
            raise WrongUse(f"{len(attention)} levels in attention, {len(multipliers)} in multipliers: one each")
        if min(channels_in, channels_out, base, blocks, len(multipliers), *multipliers) < 1 or base % 2:
            raise WrongUse("channels, multipliers and blocks are at least 1, and base is even")
        if min(context, image) < 0 or not 0 <= dropout < 1:
            raise WrongUse(f"context {context} and image {image} are 0 or more, dropout {dropout} in [0, 1)")
        if context and not any(attention):
            raise WrongUse("a context is attended to where there is attention: set attention for a level")
        self.spatial, self.channels_in, self.image, self.context = spatial, channels_in, image, context
        self.checkpointing, self.blocks = checkpointing, blocks
        self.widths = tuple(base * m for m in multipliers)

        def stage(inputs: int, outputs: int, attends: bool) -> Stage:
            return Stage(
                spatial,
                inputs,
                outputs,
                attention=attends,
                head_channels=head_channels,
                context=context,
                dropout=dropout,
            )

        self.embedding = Embedding(4 * base, frequencies=base, classes=classes, vector=vector)
        self.enter = CONV[spatial](channels_in + image, base, 3, padding=1)
        levels = [(base * m, bool(a)) for m, a in zip(multipliers, attention)]

        self.down = nn.ModuleList()
        kept, width = [base], base
        for level, (outputs, attends) in enumerate(levels):
            if level > 0:
                self.down.append(Downsample(spatial, width))
                kept.append(width)
            for _ in range(blocks):
                self.down.append(stage(width, outputs, attends))
                kept.append(width := outputs)

        self.middle = nn.ModuleList([stage(width, width, any(attention)), stage(width, width, False)])

        self.up = nn.ModuleList()
        for level, (outputs, attends) in reversed([*enumerate(levels)]):
            for _ in range(blocks + 1):
                self.up.append(stage(width + kept.pop(), outputs, attends))
                width = outputs
            if level > 0:
                self.up.append(Upsample(spatial, width))

        self.norm = Norm(width)
        self.leave = zeroed(CONV[spatial](width, channels_out, 3, padding=1))

        # The modulations of all blocks come from one product instead of one each.
        stages = [part for part in (*self.down, *self.middle, *self.up) if isinstance(part, Stage)]
        self.shares = [2 * part.block.norm_out.num_channels for part in stages]
        self.modulation = nn.Linear(4 * base, sum(self.shares))
        if spatial == 2:  # the order in which the kernels want the weights of few positions
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(
        self,
        z: Float[Tensor, "b _ ..."],
        t: Float[Tensor, "..."],
        *,
        label: Int64[Tensor, "..."] | None = None,
        vector: Float[Tensor, "..."] | None = None,
        context: Float[Tensor, "..."] | None = None,
        image: Float[Tensor, "_ _ ..."] | None = None,
        reuse: Reuse | None = None,
        features: list[Tensor] | None = None,
        residuals: Sequence[Tensor] | None = None,
    ) -> Float[Tensor, "b out ..."]:
        """The network's output, `(B, channels_out, *spatial)`, in the layout of `z`.

        Args:
            reuse: answers for the levels below the finest.
            features: the last feature map of every level on the way up is appended to it, coarsest first; not where
                a level is answered for by `reuse`.
            residuals: what is added to each skip connection, from the finest on, and last to what the middle made: as
                `inkwash.nets.control` makes them.

        Raises:
            WrongUse: a shape is not what the network was built for, or a condition is one it has no place for.
        """
        x = join(z, image, spatial=self.spatial, channels=self.channels_in, image_channels=self.image)
        check_condition("context", context, (z.shape[0], None, self.context), built=self.context > 0)
        embedding = activate(self.embedding(z, t, label, vector))
        shares = self.modulation(embedding).split(self.shares, dim=1)

        # Two-dimensional convolutions are faster channels last, but for their gradients on the CPU.
        last = self.spatial == 2 and not (z.device.type == "cpu" and torch.is_grad_enabled())
        x = self.enter(x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format))
        kept, down, up = [x], [*self.down][: self.blocks], [*self.up][-self.blocks - 1 :]
        for part, share in zip(down, shares):
            x = self._run(part, x, share, context)
            kept.append(x)
        deeper = None if residuals is None else residuals[len(kept) :]
        if reuse is None:
            x = self._coarser(x, shares, context, features=features, residuals=deeper)
        else:
            finest = x
            x = reuse(
                lambda rows: self._coarser(finest, shares, context, rows, residuals=deeper),
                entered=kept[0],
                first=kept[1],
            )
        if residuals is not None:
            kept = [skip + residual for skip, residual in zip(kept, residuals)]
        for part, share in zip(up, shares[-len(up) :]):
            x = self._run(part, torch.cat((x, kept.pop()), dim=1), share, context)
        if features is not None:
            features.append(x)
        x = self.leave(activate(self.norm(x)))
        was_last = self.spatial == 2 and z.is_contiguous(memory_format=torch.channels_last)
        return x.contiguous(memory_format=torch.channels_last if was_last else torch.contiguous_format)

    def _coarser(
        self,
        x: Tensor,
        shares: Sequence[Tensor],
        context: Tensor | None,
        rows: Tensor | None = None,
        features: list[Tensor] | None = None,
        residuals: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """What all levels below the finest make of `x`, of these rows of it."""
        if rows is not None:
            x, context = x[rows], None if context is None else context[rows]
        size, kept = x.shape[2:], []
        todo = iter([rows_of(share, rows) for share in shares[self.blocks :]])
        for part in [*self.down][self.blocks :]:
            x = self._run(part, x, next(todo), context) if isinstance(part, Stage) else part(x)
            kept.append(x)
        for part in self.middle:
            x = self._run(part, x, next(todo), context)
        if residuals is not None:
            *skips, middle = [rows_of(residual, rows) for residual in residuals]
            kept, x = [skip + residual for skip, residual in zip(kept, skips, strict=True)], x + middle
        for part in [*self.up][: -self.blocks - 1]:
            if isinstance(part, Stage):
                x = self._run(part, torch.cat((x, kept.pop()), dim=1), next(todo), context)
            else:
                if features is not None:
                    features.append(x)
                x = part(x, kept[-1].shape[2:] if kept else size)
        return x

    def _run(self, stage: nn.Module, x: Tensor, modulation: Tensor, context: Tensor | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, x, modulation, context, use_reentrant=False)
        return stage(x, modulation, context)
