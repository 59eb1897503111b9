"""Checkpoints of OpenAI's guided-diffusion (Dhariwal & Nichol 2021), and of the many projects that grew from it.

The network is written here and read off the checkpoint: its names and shapes say where the blocks, the attention
and the resampling are. Only how channels are shared among attention heads is not in the file.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets.adapters.base import Adapter
from inkwash.nets.adapters.weights import read_weights
from inkwash.nets.embedding import sinusoid

State = dict[str, Tensor]


def _part(state: State, prefix: str) -> State:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _conv(state: State, name: str, stride: int = 1) -> nn.Conv2d:
    outputs, inputs, side, _ = state[f"{name}.weight"].shape
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2)


def _norm(state: State, name: str) -> nn.GroupNorm:
    return nn.GroupNorm(32, len(state[f"{name}.weight"]))


def _linear(state: State, name: str) -> nn.Linear:
    outputs, inputs = state[f"{name}.weight"].shape
    return nn.Linear(inputs, outputs)


class _ResBlock(nn.Module):
    """A residual block that may halve or double the size; `resample` is "down", "up" or "keep"."""

    def __init__(self, state: State, resample: str) -> None:
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(_norm(state, "in_layers.0"), nn.SiLU(), _conv(state, "in_layers.2"))
        self.emb_layers = nn.Sequential(nn.SiLU(), _linear(state, "emb_layers.1"))
        self.out_layers = nn.Sequential(
            _norm(state, "out_layers.0"), nn.SiLU(), nn.Identity(), _conv(state, "out_layers.3")
        )
        self.skip_connection = _conv(state, "skip_connection") if "skip_connection.weight" in state else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers[:2](x)
        if self.resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif self.resample == "up":
            h, x = F.interpolate(h, scale_factor=2.0), F.interpolate(x, scale_factor=2.0)
        h = self.in_layers[2](h)
        told = self.emb_layers(embedding)[:, :, None, None]
        if told.shape[1] == h.shape[1]:
            h = self.out_layers(h + told)
        else:
            scale, shift = told.chunk(2, dim=1)
            h = self.out_layers[1:](torch.addcmul(shift, self.out_layers[0](h), 1 + scale))
        return self.skip_connection(x) + h


class _Attention(nn.Module):
    """Self-attention; `split_first` is the library's `use_new_attention_order`."""

    def __init__(self, state: State, heads: int | None, head_channels: int | None, split_first: bool) -> None:
        super().__init__()
        channels = len(state["norm.weight"])
        self.heads = heads if head_channels is None else channels // head_channels
        if not self.heads or channels % self.heads or (head_channels and channels % head_channels):
            raise WrongUse(f"heads={heads}, head_channels={head_channels} don't divide {channels} channels that attend")
        self.split_first = split_first
        self.norm = _norm(state, "norm")
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        mixed = self.qkv(self.norm(x).flatten(2))
        if self.split_first:
            parts = mixed.unflatten(1, (3, self.heads, -1)).unbind(1)
        else:
            parts = mixed.unflatten(1, (self.heads, 3, -1)).unbind(2)
        q, k, v = (part.transpose(2, 3) for part in parts)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).flatten(1, 2)
        return x + self.proj_out(attended).unflatten(2, x.shape[2:])


class _Resample(nn.Module):
    """A convolution that halves the size (`op`), or doubles it first (`conv`)."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.op = _conv(state, "op", stride=2) if "op.weight" in state else None
        self.conv = _conv(state, "conv") if "conv.weight" in state else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if self.op is not None:
            return self.op(x)
        x = F.interpolate(x, scale_factor=2.0)
        return x if self.conv is None else self.conv(x)


class _Enter(nn.Conv2d):
    """The first convolution, called as the other parts are."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return super().forward(x)


class _Sequence(nn.ModuleList):
    """Parts one after the other, each told the embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for part in self:
            x = part(x, embedding)
        return x


class _UNet(nn.Module):
    """The network that a checkpoint is of, with its names."""

    def __init__(self, state: State, heads: int | None, head_channels: int | None, split_first: bool) -> None:
        super().__init__()

        def sequence(prefix: str, halves: bool) -> _Sequence:
            parts = _Sequence()
            blocks = 0
            while own := _part(state, f"{prefix}.{len(parts)}."):
                if "in_layers.0.weight" in own:
                    blocks += 1
                    # On the way up a second residual block of one sequence is the one that doubles.
                    doubles = prefix.startswith("output") and blocks == 2
                    parts.append(_ResBlock(own, "down" if halves else "up" if doubles else "keep"))
                elif "qkv.weight" in own:
                    parts.append(_Attention(own, heads, head_channels, split_first))
                elif "op.weight" in own or "conv.weight" in own:
                    parts.append(_Resample(own))
                else:
                    outputs, inputs = own["weight"].shape[:2]
                    parts.append(_Enter(inputs, outputs, 3, padding=1))
            if not parts:
                raise WrongUse(f"not a checkpoint of a guided-diffusion U-Net that resamples with weights: no {prefix}")
            return parts

        up = [sequence(f"output_blocks.{i}", False) for i in range(_count(state, "output_blocks"))]
        doubling = [i for i, parts in enumerate(up) if _doubles(parts)]
        # Levels are equally long, so the first doubling on the way up tells where each halving is on the way down.
        length = doubling[0] + 1 if doubling else len(up) + 1
        self.levels = len(doubling) + 1
        self.frequencies = state["time_embed.0.weight"].shape[1]
        down = [
            sequence(f"input_blocks.{i}", i > 0 and i % length == 0) for i in range(_count(state, "input_blocks"))
        ]
        self.time_embed = nn.Sequential(_linear(state, "time_embed.0"), nn.SiLU(), _linear(state, "time_embed.2"))
        self.label_emb = nn.Embedding(*state["label_emb.weight"].shape) if "label_emb.weight" in state else None
        self.input_blocks, self.output_blocks = nn.ModuleList(down), nn.ModuleList(up)
        self.middle_block = sequence("middle_block", False)
        self.out = nn.Sequential(_norm(state, "out.0"), nn.SiLU(), _conv(state, "out.2"))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        embedding = self.time_embed(sinusoid(t.float(), self.frequencies).to(x.dtype))
        if self.label_emb is not None:
            embedding = embedding + self.label_emb(label)
        kept = []
        for parts in self.input_blocks:
            x = parts(x, embedding)
            kept.append(x)
        x = self.middle_block(x, embedding)
        for parts in self.output_blocks:
            x = parts(torch.cat((x, kept.pop()), dim=1), embedding)
        return self.out(x)


def _count(state: State, name: str) -> int:
    return 1 + max(int(key.split(".")[1]) for key in state if key.startswith(f"{name}."))


def _doubles(parts: _Sequence) -> bool:
    return isinstance(parts[-1], _Resample) or (isinstance(parts[-1], _ResBlock) and parts[-1].resample == "up")


class GuidedUNet(Adapter):
    """The network of a guided-diffusion checkpoint, read off its state dict.

    Args:
        state: the checkpoint's tensors by name; 2-D.
        heads, head_channels: the number of attention heads (`num_heads`) or their size (`num_head_channels`):
            exactly one, if the network attends. The published 64, 256 and 512 pixel models have `head_channels=64`,
            the 128 pixel one `heads=4`.
        new_attention_order: the option of that name; of the published models only the 64 pixel one sets it.
        image: how many of the input channels, the last ones, are a condition.

    Raises:
        WrongUse: it is no such checkpoint, or the heads don't fit its channels.
    """

    def __init__(
        self,
        state: State,
        *,
        heads: int | None = None,
        head_channels: int | None = None,
        new_attention_order: bool = False,
        image: int = 0,
    ) -> None:
        if (heads is None) == (head_channels is None):
            raise WrongUse("give heads or head_channels, one of them: a checkpoint doesn't say how attention is split")
        needed = ("time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight", "out.2.weight")
        missing = [name for name in (*needed, "output_blocks.0.0.in_layers.0.weight") if name not in state]
        if missing or state["input_blocks.0.0.weight"].ndim != 4:
            why = f"no {missing[0]}" if missing else "its convolutions are not 2-D"
            raise WrongUse(f"not a checkpoint of a guided-diffusion U-Net: {why}")
        network = _UNet(state, heads, head_channels, new_attention_order)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise WrongUse(f"not a checkpoint of a guided-diffusion U-Net: {' '.join(str(error).split())}") from error
        super().__init__(
            network,
            spatial=2,
            channels_in=state["input_blocks.0.0.weight"].shape[1],
            image=image,
            classes=0 if network.label_emb is None else network.label_emb.num_embeddings,
            multiple=2 ** (network.levels - 1),
        )

    def _evaluate(
        self, x: Tensor, t: Tensor, label: Tensor | None, vector: Tensor | None, context: Tensor | None
    ) -> Tensor:
        return self.network(x, t, label)


def load(
    path: str | Path,
    *,
    heads: int | None = None,
    head_channels: int | None = None,
    new_attention_order: bool = False,
    image: int = 0,
) -> GuidedUNet:
    """The network of a checkpoint file, `.pt` or `.safetensors`, in float32 and `eval` mode.

    Raises:
        WrongUse: the file cannot be read as weights, or is no such checkpoint.
    """
    return GuidedUNet(
        read_weights(path),
        heads=heads,
        head_channels=head_channels,
        new_attention_order=new_attention_order,
        image=image,
    ).eval()
