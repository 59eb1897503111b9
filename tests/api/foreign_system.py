"""A generator of somebody else's, as it would come through an entry point: its own config and network, no embedding."""

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from inkwash.corruption.gaussian import Flow
from inkwash.data.spec import DataSpec
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.denoise.parameterization import Velocity
from inkwash.systems.base import Generator, GeneratorConfig


class ForeignConfig(GeneratorConfig):
    sampler: str = "flow-euler"
    sampling_steps: int = 8
    guidance: float = 1.0
    drop_condition: float = 0.0
    width: int = Field(4, description="channels")


class Plain(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1)
        )

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.layers(z) + t.reshape(-1, 1, 1, 1) / 1000
        return out


class Foreign(Generator):
    name = "foreign"
    title = "somebody else's"
    reads = "foreign"
    paper = "Somebody, Something, somewhere"
    task = "generation"
    Config = ForeignConfig
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, config: ForeignConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.denoiser = GaussianDenoiser(Plain(spec.channels, config.width), Flow(), Velocity())

    def condition(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}
