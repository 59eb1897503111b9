"""A system and a data set small enough to train in milliseconds."""

from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.training import Run, TrainOptions


class TinyConfig(BaseModel):
    width: int = 8


class Tiny(nn.Module):
    """Predicts the noise in a noisy image, with every kind of state: a buffer, a frozen parameter, drop-out."""

    name = "tiny"

    def __init__(self, width: int = 8, dropout: float = 0.0, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = TinyConfig(width=width)
        self.network = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.SiLU(), nn.Dropout(dropout),
            nn.Conv2d(width, channels, 3, padding=1),
        )
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scale", torch.ones(()))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Tensor]:
        x = batch["image"]
        eps = noise.normal(tuple(x.shape[1:]), "corrupt", device=x.device)
        t = noise.uniform((), "time").to(x.device)[:, None, None, None]
        error = (self.network(x * (1 - t) + eps * t) * self.frozen - eps).square().flatten(1).mean(dim=1)
        if self.training:
            self.seen += 1
        return {"loss": error, "late": error * (t.flatten() > 0.5)}


class Squares:
    """`count` images, each of one shade."""

    def __init__(self, count: int = 10, size: int = 8, channels: int = 1) -> None:
        self.count = count
        self.spec = DataSpec(channels=channels, size=(size, size))
        self.fingerprint = f"squares-{count}-{size}"

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        shade = indices.float() / self.count * 2 - 1
        return {"image": shade[:, None, None, None].expand(-1, self.spec.channels, *self.spec.size).contiguous()}


def begin(path: Path, system: Tiny, images: Squares, options: TrainOptions, *, overwrite: bool = False) -> Run:
    """A new run of the two."""
    return Run.create(
        path,
        system=system.name,
        config=system.config,
        spec=images.spec,
        data={"path": "squares", "fingerprint": images.fingerprint},
        options=options,
        overwrite=overwrite,
    )
