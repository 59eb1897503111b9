"""What a process needs to train a large network: `shares.py WIDTH DEPTH SHARD`, JSON out of the last process.

Resident memory at the peak of the second step, above that of the process before the network was built. The last process
tells it: the first also gathers what is saved, and keeps the network that was handed in.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from peak import resident, restart
from torch import Tensor, nn

from inkwash.corruption.gaussian import Cosine
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Velocity
from inkwash.nets.dit import DiT
from inkwash.training import Run, TrainOptions, fit
from inkwash.training.processes import processes


class Transformer(nn.Module):
    """A diffusion transformer that denoises, and nothing else."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.denoiser = GaussianDenoiser(DiT(3, 3, width=width, depth=depth), Cosine(), Velocity())

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Tensor]:
        return {"loss": self.denoiser.loss(batch["image"], noise=noise)}


class Grey:
    """Two pictures of one shade, so small that activations don't count."""

    spec, fingerprint = DataSpec(channels=3, size=(8, 8)), "grey"

    def __len__(self) -> int:
        return 2

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        return {"image": torch.zeros(len(indices), 3, 8, 8)}


def main() -> None:
    width, depth, shard = (int(word) for word in sys.argv[1:])
    processes()
    before = resident("VmRSS")
    system: Any = Transformer(width, depth)
    weights = sum(p.numel() for p in system.parameters())
    options = TrainOptions(steps=3, batch=2, shard=bool(shard), preview_every=None, precision="fp32")
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(
            Path(folder) / "run", system="transformer", config=options, spec=Grey.spec, data={}, options=options
        )
        for progress in fit(system, Grey(), run, options):
            if progress.step == 1:
                restart()
            if progress.step == 2:
                break
        if processes().is_last_process:
            print(json.dumps({"weights": weights, "MiB": resident("VmHWM") - before}))


if __name__ == "__main__":
    main()
