"""The diffusion transformer, for signals, images and volumes (Peebles & Xie 2023)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from inkwash.errors import WrongUse, unknown
from inkwash.nets.attention import CrossAttention, Rotation, SelfAttention, heads_of
from inkwash.nets.blocks import CONV, activate, zeroed
from inkwash.nets.border import check_condition, check_size, join
from inkwash.nets.embedding import Embedding
from inkwash.nets.positions import Positions, Rotary, SinCos
from inkwash.nets.reuse import Deep, Reuse, rows_of

_POSITIONS: dict[str, type[Positions]] = {"rotary": Rotary, "sincos": SinCos}


def modulate(
    x: Float[Tensor, "b n c"], shift: Float[Tensor, "_ c"], scale: Float[Tensor, "_ c"]
) -> Float[Tensor, "b n c"]:
    """`norm(x) (1 + scale) + shift`, the layer norm having no weights of its own."""
    if scale.shape[0] == 1:  # shared by the batch, it is an affine map that the norm's own kernel applies
        return F.layer_norm(x, x.shape[-1:], 1 + scale[0], shift[0], eps=1e-6)
    return torch.addcmul(shift[:, None], F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale[:, None])


class Block(nn.Module):
    """Attention, then a perceptron, each normalised, modulated and gated by the condition ("adaLN-Zero", figure 3).

    Attention to a context stands between them, ungated and starting at zero (Chen et al. 2024, PixArt-alpha, 2.3).
    """

    def __init__(self, width: int, head_channels: int, context: int, ratio: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(width, head_channels)
        self.cross = CrossAttention(width, context, head_channels) if context else None
        if self.cross is not None:
            zeroed(self.cross.out)
        self.perceptron = nn.Sequential(
            nn.Linear(width, ratio * width),
            nn.GELU(approximate="tanh"),
            nn.Dropout(dropout),
            nn.Linear(ratio * width, width),
        )

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        modulation: Float[Tensor, "_ c6"],
        context: Float[Tensor, "b l d"] | None,
        rotation: Rotation | None,
    ) -> Float[Tensor, "b n c"]:
        shift_a, scale_a, gate_a, shift_p, scale_p, gate_p = modulation.chunk(6, dim=1)
        x = torch.addcmul(x, gate_a[:, None], self.attention(modulate(x, shift_a, scale_a), rotation))
        if self.cross is not None and context is not None:
            x = x + self.cross(F.layer_norm(x, x.shape[-1:], eps=1e-6), context)
        return torch.addcmul(x, gate_p[:, None], self.perceptron(modulate(x, shift_p, scale_p)))


class DiT(nn.Module):
    """A transformer on patches of 1-D, 2-D or 3-D data of any size that the patch divides.

    Args:
        channels_in: channels of `z`.
        channels_out: channels of the result; twice `channels_in` with learned variance.
        spatial: 1, 2 or 3.
        patch: side of a patch.
        width: channels of a token.
        depth: number of blocks.
        head_channels: channels of an attention head; divides `width`.
        ratio: hidden channels of a block's perceptron as a multiple of `width`.
        positions: `rotary`, or `sincos` as published.
        classes, vector, context, image, checkpointing: as for the U-Net.
        dropout: in [0, 1), inside each perceptron. It draws from torch's global generator.

    Raises:
        WrongUse: an argument is out of range.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        spatial: int = 2,
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        head_channels: int = 64,
        ratio: int = 4,
        positions: str = "rotary",
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
        if min(channels_in, channels_out, patch, width, depth, ratio) < 1:
            raise WrongUse("channels, patch, width, depth and ratio are at least 1")
        if min(context, image) < 0 or not 0 <= dropout < 1:
            raise WrongUse(f"context {context} and image {image} are 0 or more, dropout {dropout} in [0, 1)")
        if positions not in _POSITIONS:
            raise unknown("positions", positions, _POSITIONS)
        heads_of(width, head_channels)
        self.spatial, self.patch, self.channels_in, self.channels_out = spatial, patch, channels_in, channels_out
        self.width, self.head_channels, self.image, self.context = width, head_channels, image, context
        self.positions = _POSITIONS[positions]()
        self.checkpointing = checkpointing
        smallest = torch.zeros(1)
        self.positions.added((1,) * spatial, width, smallest)
        self.positions.rotation((1,) * spatial, head_channels, smallest)

        self.embedding = Embedding(width, frequencies=256, classes=classes, vector=vector)
        self.enter = CONV[spatial](channels_in + image, width, patch, stride=patch)
        self.blocks = nn.ModuleList(Block(width, head_channels, context, ratio, dropout) for _ in range(depth))
        # The modulations of all blocks and of the last norm come from one product.
        self.shares = [6 * width] * depth + [2 * width]
        self.modulation = zeroed(nn.Linear(width, sum(self.shares)))
        self.leave = zeroed(nn.Linear(width, channels_out * patch**spatial))

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
    ) -> Float[Tensor, "b out ..."]:
        """The network's output, `(B, channels_out, *spatial)`.

        Args:
            reuse: answers for what the blocks after the first add.

        Raises:
            WrongUse: a shape is not what the network was built for, the patch does not divide the size, or a
                condition is one that the network has no place for.
        """
        x = join(z, image, spatial=self.spatial, channels=self.channels_in, image_channels=self.image)
        check_size(z, self.patch)
        check_condition("context", context, (z.shape[0], None, self.context), built=self.context > 0)
        embedding = activate(self.embedding(z, t, label, vector))
        *shares, last = self.modulation(embedding).split(self.shares, dim=1)

        x = self.enter(x)
        grid = tuple(x.shape[2:])
        x = x.flatten(2).transpose(1, 2)
        places = self.positions.added(grid, self.width, x)
        if places is not None:
            x = x + places
        rotation = self.positions.rotation(grid, self.head_channels, x)
        first, *rest = zip(self.blocks, shares)
        entered, x = x, self._run([first], x, context, rotation)
        if reuse is None:
            x = self._run(rest, x, context, rotation)
        else:
            x = x + reuse(self._added(rest, x, context, rotation), entered=entered, first=x)
        return self._unfold(self.leave(modulate(x, *last.chunk(2, dim=1))), grid)

    def _run(
        self,
        blocks: Sequence[tuple[nn.Module, Tensor]],
        x: Tensor,
        context: Tensor | None,
        rotation: Rotation | None,
    ) -> Tensor:
        for block, share in blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, share, context, rotation, use_reentrant=False)
            else:
                x = block(x, share, context, rotation)
        return x

    def _added(
        self,
        blocks: Sequence[tuple[nn.Module, Tensor]],
        x: Tensor,
        context: Tensor | None,
        rotation: Rotation | None,
    ) -> Deep:
        """What these blocks add to `x`, as a function of the rows that it is wanted for."""

        def added(rows: Tensor | None) -> Tensor:
            here = x if rows is None else x[rows]
            told = context if context is None else rows_of(context, rows)
            return self._run([(block, rows_of(share, rows)) for block, share in blocks], here, told, rotation) - here

        return added

    def _unfold(self, tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Tokens `(B, N, C * patch^d)` back to a map: (B, *grid, C, *patch) to (B, C, grid x patch, ...)."""
        d = self.spatial
        x = tokens.unflatten(2, (self.channels_out, *[self.patch] * d)).unflatten(1, grid)
        order = [0, d + 1, *(axis for i in range(d) for axis in (1 + i, d + 2 + i))]
        return x.permute(order).reshape(-1, self.channels_out, *(side * self.patch for side in grid))
