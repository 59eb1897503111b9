"""A network made faster for inference on a processor: its convolutions measured, and replaced where that pays."""

import copy
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.nets import packed
from inkwash.nets.blocks import Upsample
from inkwash.nets.packed import Packed, PackedUpsample
from inkwash.nets.winograd import Winograd

# What replaces a layer must be faster by this factor: below it the times of two calls can't be told apart.
MARGIN = 1.04
_ROUNDS = 3
# Below this many multiplications no layer is worth measuring.
_LEAST = 3e6
# More items than these take as long each.
_ITEMS = 4

Choices = MutableMapping[str, str]


@dataclass
class Accelerated:
    """What `accelerate` made.

    Attributes:
        network: called as the one it was made from, under `torch.no_grad()`; the one it was made from is untouched.
        layers: how many layers were replaced, by what they were replaced with.
        difference: the largest difference of an output from the plain network's, as a share of the largest output.
    """

    network: nn.Module
    layers: dict[str, int] = field(default_factory=dict)
    difference: float = 0.0


def accelerate(
    network: nn.Module,
    z: Float[Tensor, "b c ..."],
    t: Float[Tensor, "_"],
    *,
    choices: Choices | None = None,
    **condition: Tensor | None,
) -> Accelerated:
    """A copy of `network` that gives the same up to rounding, faster for inputs of these shapes.

    Two-dimensional convolutions on a processor in float32 are replaced; anything else is left as it is. The copy has no
    gradients, and keeps the replaced weights outside of `state_dict`.

    Args:
        z, t, condition: an input as in use, of which a few items are looked at; other shapes are right as well, but
            were not measured.
        choices: what was measured before, by layer and shape; what is measured now is added.
    """
    choices = {} if choices is None else choices
    made = Accelerated(network)
    if z.device.type != "cpu" or z.dtype != torch.float32 or not packed.available():
        return made
    z, t = z[:_ITEMS], t[:_ITEMS]
    condition = {name: value if value is None else value[:_ITEMS] for name, value in condition.items()}
    with torch.inference_mode():
        seen, expected = _inputs(network, z, t, condition)
        replaced: dict[int, nn.Module] = {}
        for module, x in seen.items():
            name, kinds = _candidates(module, x)
            if name not in choices and kinds:
                choices[name] = _fastest(module, kinds, x)
            kind = choices.get(name, "")
            if kind in kinds:
                replaced[id(module)] = kinds[kind]()
                made.layers[kind] = made.layers.get(kind, 0) + 1
        # The copy shares every other weight with the original.
        shared = {id(p): p for p in [*network.parameters(), *network.buffers()]}
        made.network = copy.deepcopy(network, {**shared, **replaced})
        got = made.network(z, t, **condition)
    made.difference = ((got - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
    return made


def _inputs(
    network: nn.Module, z: Tensor, t: Tensor, condition: dict[str, Tensor | None]
) -> tuple[dict[nn.Module, Tensor], Tensor]:
    """What each layer that could be replaced is given, and the network's output."""
    seen: dict[nn.Module, Tensor] = {}
    inside = {id(module.conv) for module in network.modules() if isinstance(module, Upsample)}
    # Low-rank additions are thin, and peft reads the type of their weights.
    inside |= {id(module) for name, module in network.named_modules() if ".lora_" in name}

    def note(module: nn.Module, given: tuple[Any, ...]) -> None:
        seen[module] = torch.empty_like(given[0])

    hooks = [
        module.register_forward_pre_hook(note)
        for module in network.modules()
        if (isinstance(module, Upsample) and module.spatial == 2)
        or (type(module) is nn.Conv2d and id(module) not in inside)
    ]
    try:
        return seen, network(z, t, **condition)
    finally:
        for hook in hooks:
            hook.remove()


def _candidates(module: nn.Module, x: Tensor) -> tuple[str, dict[str, Callable[[], nn.Module]]]:
    """The layer in words, and what could stand in its place."""
    conv = module.conv if isinstance(module, Upsample) else module
    assert isinstance(conv, nn.Conv2d)
    layout = "last" if x.is_contiguous(memory_format=torch.channels_last) else "first"
    words = [*x.shape, conv.out_channels, *conv.kernel_size, *conv.stride, layout]
    name = f"{type(module).__name__} {' '.join(map(str, words))}"
    work = x[:, 0].numel() * conv.weight.numel() / (conv.stride[0] * conv.stride[1])
    if work < _LEAST or conv.weight.dtype != torch.float32 or conv.padding_mode != "zeros":
        return name, {}
    if isinstance(module, Upsample):
        return name, {"packed": lambda: PackedUpsample(module, x.shape)}
    if isinstance(conv.padding, str):
        return name, {}
    kinds: dict[str, Callable[[], nn.Module]] = {"packed": lambda: Packed(conv, x.shape)}
    plain = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
    if plain == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and min(conv.in_channels, conv.out_channels) >= 32:
        kinds["winograd"] = lambda: Winograd(conv, x.shape)
    return name, kinds


def _fastest(module: nn.Module, kinds: dict[str, Callable[[], nn.Module]], x: Tensor) -> str:
    """The name of the fastest, "" for the layer itself."""
    x = torch.randn_like(x)
    arguments = ((2 * x.shape[2], 2 * x.shape[3]),) if isinstance(module, Upsample) else ()
    layers = {"": module, **{name: make() for name, make in kinds.items()}}
    least = dict.fromkeys(layers, float("inf"))
    # Another process's work does not count, where there is one thread whose own time can be read.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    for layer in layers.values():
        layer(x, *arguments)
    for _ in range(_ROUNDS):
        for name, layer in layers.items():
            start = clock()
            layer(x, *arguments)
            least[name] = min(least[name], clock() - start)
    best = min(least, key=lambda name: least[name])
    return best if least[best] * MARGIN < least[""] else ""
