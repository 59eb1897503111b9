"""The networks of other libraries, and ours, at one shape and at most 5 % apart in parameters.

The shape is 64x64x3 with multipliers (1, 2, 2, 4), two residual blocks a level, and attention with heads of 32
channels at 16x16. Each library's own block is kept as it is. **The rule of widths:** every network is built with the
base width asked for; where its parameters then differ from ours by more than 5 %, it gets the even width nearest
to ours instead. Both counts and the operations of one forward pass stand in the results. denoising-diffusion-pytorch
has linear attention at every level that has no full attention; there is no way to leave it out.

denoising-diffusion-pytorch imports torchvision, ema_pytorch and pytorch_fid at its top, for data loading and training
that are not measured here. Where these are not installed, empty modules stand in for them while it is imported, and
are taken away again.
"""

import contextlib
import importlib
import importlib.util
import itertools
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inkwash.nets.unet import UNet

MULTIPLIERS = (1, 2, 2, 4)
TOLERANCE = 0.05
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
OURS = "Inkwash"
# What a user of the library gets: `inkwash.load` leaves weights as they are and the network turns its activations;
# `inkwash.train` lays weights and pictures out channels last.
OUR_LAYOUT = {"forward": "channels first", "training step": "channels last"}
Forward = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Network:
    """One library's network.

    Attributes:
        forward: `(module, z, t (B,)) -> output`.
        base: its width.
        gflop: of a forward pass of one item, multiplications and additions counted.
    """

    library: str
    module: nn.Module
    forward: Forward
    base: int
    parameters: int
    gflop: float

    def laid_out(self, layout: str) -> "Network":
        """The same with its weights in that layout, in place."""
        self.module.to(memory_format=LAYOUTS[layout])
        return self


def ours(base: int) -> nn.Module:
    return UNet(3, 3, base=base, multipliers=MULTIPLIERS, blocks=2, attention=(False, False, True, False))


def diffusers(base: int) -> nn.Module:
    from diffusers import UNet2DModel

    down, attending = ["DownBlock2D"] * 4, "AttnDownBlock2D"
    down[2] = attending
    return UNet2DModel(
        sample_size=64,
        block_out_channels=tuple(base * m for m in MULTIPLIERS),
        down_block_types=tuple(down),
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        attention_head_dim=32,
    )


def monai(base: int) -> nn.Module:
    from monai.networks.nets import DiffusionModelUNet

    return DiffusionModelUNet(
        spatial_dims=2,
        in_channels=3,
        out_channels=3,
        num_res_blocks=2,
        channels=tuple(base * m for m in MULTIPLIERS),
        attention_levels=(False, False, True, False),
        num_head_channels=32,
        use_flash_attention=True,
    )


def guided_diffusion(base: int) -> nn.Module:
    from guided_diffusion.unet import UNetModel

    return UNetModel(
        image_size=64,
        in_channels=3,
        model_channels=base,
        out_channels=3,
        num_res_blocks=2,
        attention_resolutions=(4,),
        channel_mult=MULTIPLIERS,
        num_head_channels=32,
        use_scale_shift_norm=True,
    )


def denoising_diffusion_pytorch(base: int) -> nn.Module:
    with _stand_ins():
        unet = importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch").Unet
    full = (False, False, True, False)
    module: nn.Module = unet(base, dim_mults=MULTIPLIERS, full_attn=full, flash_attn=True)
    return module


_STAND_INS = {
    "torchvision": ("transforms", "utils"),
    "ema_pytorch": ("EMA",),
    "pytorch_fid": (),
    "pytorch_fid.fid_score": ("calculate_frechet_distance",),
    "pytorch_fid.inception": ("InceptionV3",),
}


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    absent = [name for name in _STAND_INS if importlib.util.find_spec(name.partition(".")[0]) is None]
    for name in absent:
        module = types.ModuleType(name)
        for attribute in _STAND_INS[name]:
            setattr(module, attribute, None)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


# Module to import, how to build it, how it is called.
_LIBRARIES: dict[str, tuple[str, Callable[[int], nn.Module], Forward]] = {
    OURS: ("inkwash", ours, lambda module, z, t: module(z, t)),
    "diffusers": ("diffusers", diffusers, lambda module, z, t: module(z, t, return_dict=False)[0]),
    "MONAI": ("monai", monai, lambda module, z, t: module(z, t)),
    "denoising-diffusion-pytorch": (
        "denoising_diffusion_pytorch",
        denoising_diffusion_pytorch,
        lambda module, z, t: module(z, t),
    ),
    "guided-diffusion": ("guided_diffusion", guided_diffusion, lambda module, z, t: module(z, t)),
}


def libraries() -> list[str]:
    """Those that are installed, ours first."""
    return [name for name, (module, _, _) in _LIBRARIES.items() if importlib.util.find_spec(module) is not None]


def build(library: str, base: int, *, seed: int = 0) -> Network:
    """The network of `library` that compares to ours of width `base`.

    Raises:
        ValueError: no width brings it within 5 % of our parameters.
    """
    _, make, forward = _LIBRARIES[library]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        aim = _count(OURS, base)
        width = base
        if abs(_count(library, base) / aim - 1) > TOLERANCE:
            widths = [base + 2 * step for step in range(-(base // 4), base // 2 + 1)]
            width = min(widths, key=lambda w: abs(_count(library, w) - aim))
        torch.manual_seed(seed)
        module = make(width)
    parameters = sum(p.numel() for p in module.parameters())
    if abs(parameters / aim - 1) > TOLERANCE:
        raise ValueError(f"{library} has {parameters} parameters at width {width} and Inkwash {aim}: over 5 % apart")
    return Network(library, module, forward, width, parameters, _gflop(module, forward))


def _count(library: str, base: int) -> int:
    """Parameters at a width, without making them; more than any where the width does not do."""
    try:
        with torch.device("meta"):
            return sum(p.numel() for p in _LIBRARIES[library][1](base).parameters())
    except ValueError:
        return sys.maxsize


def _gflop(module: nn.Module, forward: Forward) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward(module, torch.zeros(1, 3, 64, 64), torch.zeros(1))
    return float(counter.get_total_flops()) / 1e9


class Training:
    """One library's training step as fast as its users get it: the loss's gradient, fused AdamW, an average.

    The average is `inkwash.training.ema` for ours, diffusers' own `EMAModel` for its network, and torch's for the
    others, whose own take one parameter at a time; all update the parameters as a list (foreach).
    """

    def __init__(self, network: Network, batch: int, layout: str, *, side: int = 64, seed: int = 1) -> None:
        self.network = network.laid_out(layout)
        module = network.module.train()
        made = torch.Generator().manual_seed(seed)
        shape = (batch, 3, side, side)
        self.z = torch.randn(shape, generator=made).to(memory_format=LAYOUTS[layout])
        self.target = torch.randn(shape, generator=made).to(memory_format=LAYOUTS[layout])
        self.t = torch.randint(1, 1000, (batch,), generator=made).float()
        self.optimizer = torch.optim.AdamW(module.parameters(), 1e-4, fused=True)
        self.average = _average(network)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        output = self.network.forward(self.network.module, self.z, self.t)
        nn.functional.mse_loss(output, self.target).backward()
        self.optimizer.step()
        self.average()


def _average(network: Network) -> Callable[[], Any]:
    module = network.module
    if network.library == OURS:
        from inkwash.training.ema import Averages

        averages, steps = Averages(module, (0.05,)), itertools.count(1)
        return lambda: averages.update(next(steps))
    if network.library == "diffusers":
        from diffusers.training_utils import EMAModel

        ema = EMAModel(module.parameters(), foreach=True)
        return lambda: ema.step(module.parameters())
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    averaged = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9999))
    return lambda: averaged.update_parameters(module)


class Sampling:
    """One library's forward pass in sampling: no gradients, one time for the batch."""

    def __init__(self, network: Network, batch: int, layout: str, *, side: int = 64, seed: int = 1) -> None:
        self.network = network.laid_out(layout)
        network.module.eval()
        made = torch.Generator().manual_seed(seed)
        self.z = torch.randn(batch, 3, side, side, generator=made).to(memory_format=LAYOUTS[layout])
        self.t = torch.full((1 if network.library == OURS else batch,), 500.0)

    def __call__(self) -> Tensor:
        with torch.no_grad():
            return self.network.forward(self.network.module, self.z, self.t)
