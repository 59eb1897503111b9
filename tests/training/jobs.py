"""Trainings as jobs, done by the processes that there are: `jobs.py '[{"run": ..., "kind": ...}, ...]'`.

The networks are ours, small: every part of them that can be shared among processes is there.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from standin import Squares, Tiny, TinyConfig, begin
from torch import Tensor, nn

from inkwash.atomic import write_tensors
from inkwash.corruption.gaussian import Cosine
from inkwash.corruption.noise import Noise
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Velocity
from inkwash.denoise.times import Importance, LowDiscrepancy
from inkwash.nets.dit import DiT
from inkwash.nets.unet import UNet
from inkwash.training import Progress, Run, TrainOptions, fit, loop
from inkwash.training.processes import processes

OPTIONS = {"steps": 12, "batch": 8, "warmup": 3, "learning_rate": 3e-3, "log_every": 1, "precision": "fp32", "seed": 1}


class Denoising(nn.Module):
    """A network that is called twice a step (self-conditioning); the U-Net's times have state that lies in buffers."""

    name = "tiny"

    def __init__(self, kind: str, checkpointing: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = TinyConfig()
        parts: dict[str, Any] = {"head_channels": 8, "image": 1, "checkpointing": checkpointing}
        network: nn.Module
        if kind == "unet":
            network = UNet(1, 1, base=8, multipliers=(1, 2), blocks=1, attention=(False, True), **parts)
        else:
            network = DiT(1, 1, width=24, depth=3, **parts)
        for parameter in network.parameters():
            # Branches that start at zero would hide for a step what goes wrong inside of them.
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
        times = Importance(bins=2) if kind == "unet" else LowDiscrepancy()
        self.denoiser = GaussianDenoiser(network, Cosine(), Velocity(), times=times, self_conditioning=True)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Tensor]:
        return {"loss": self.denoiser.loss(batch["image"] * self.frozen[0], noise=noise)}


def do(
    run: Path,
    kind: str,
    *,
    checkpointing: bool = False,
    resume: bool = False,
    until: int | None = None,
    emulated: bool = False,
    **more: Any,
) -> list[Progress]:
    """Train, and leave off after `until` steps without a word; what is shown lies in `shown-STEP.safetensors`.

    Args:
        emulated: compute in bf16 even where it is emulated.
    """
    options = TrainOptions(**{**OPTIONS, **more})
    system = Tiny() if kind == "tiny" else Denoising(kind, checkpointing)
    images = Squares()
    here = Run.resume(run) if resume else begin(run, system, images, options)
    before, said = loop.bf16, []
    if emulated:
        loop.bf16 = lambda precision, device, spatial: True
    for progress in fit(system, images, here, options, resume=resume):
        said.append(progress)
        if progress.preview_due and processes().is_main_process:
            assert not system.training
            name = f"shown-{progress.step}{'-finished' * progress.finished}.safetensors"
            write_tensors(run / name, system.state_dict())
        if progress.step == until:
            break
    loop.bf16 = before
    return said


if __name__ == "__main__":
    for job in json.loads(sys.argv[1]):
        do(Path(job.pop("run")), job.pop("kind"), **job)
