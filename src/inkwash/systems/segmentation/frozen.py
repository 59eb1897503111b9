"""Trained diffusion models as they are looked at for their attention: runs of ours, and Stable Diffusion."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from inkwash import systems
from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.adapters.stable_diffusion import StableDiffusion
from inkwash.nets.attention_maps import Attention, Recording
from inkwash.systems import bundled, recipes
from inkwash.systems.base import Generator
from inkwash.training.options import parse
from inkwash.training.run import Run

# Of Stable Diffusion's schedule; entry k is t = (k + 1) / 1000.
_STEPS = 1000


class KeptRun(BaseModel):
    """A trained generator, as `config.yaml` of the segmenter that looks at it keeps it: its run folder may go.

    Attributes:
        run: where it lay when the segmenter was made.
        system, config, spec: what it is.
        weights: the run folder that its weights are still to be read from; later the segmenter's own hold them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    system: str
    config: dict[str, Any]
    spec: DataSpec
    weights: Path | None = Field(None, exclude=True)

    @classmethod
    def of(cls, folder: str) -> "KeptRun":
        """The generator in a run folder, or in `bundled:NAME`; `WrongUse` where it holds none."""
        name = folder.removeprefix("bundled:")
        path = bundled.run_of(name) if name != folder else Path(folder)
        if path is None:
            raise WrongUse(f"{folder}: no model of that name is bundled")
        run = Run.open(path)
        kind = systems.get(run.system)
        if not issubclass(kind, Generator):
            raise WrongUse(f"{folder} is a run of {run.system}, which does {kind.task}: a generator is wanted")
        return cls(run=folder, system=run.system, config=run.config, spec=run.spec, weights=run.path)

    def generator(self) -> Generator:
        """The generator itself."""
        kind = systems.get(self.system)
        made = kind(parse(kind.Config, self.config, where=f"the model {self.run}"), self.spec)
        assert isinstance(made, Generator)
        if self.weights is not None:
            Run.open(self.weights).load_weights(made)
        return made


class Frozen(nn.Module, ABC):
    """A diffusion model whose attention is looked at.

    Attributes:
        name: what it is called in messages.
    """

    name: str

    @abstractmethod
    def look(
        self, image: Float[Tensor, "n c h w"], t: float, *, noise: Noise | None, finest: int
    ) -> list[Attention]:
        """The self-attention of one evaluation.

        Args:
            image: in [-1, 1].
            t: the time that the network is told.
            noise: with it the image is noised as the model knows it at `t`; without, it is shown clean.
            finest: maps with a longer side are left out.
        """

    def found(self, recording: Recording, size: tuple[int, ...], finest: int) -> list[Attention]:
        """What was recorded; `WrongUse` where it is nothing."""
        if not recording.found:
            raise WrongUse(
                f"{self.name} has no self-attention on maps of at most {finest} a side for pictures of "
                f"{' x '.join(map(str, size))}: train one with --set attention=32,16,8, or raise finest"
            )
        return recording.found


class FrozenGenerator(Frozen):
    """A generator of ours, without its condition."""

    def __init__(self, generator: Generator, *, name: str) -> None:
        super().__init__()
        self.generator, self.name = generator, name

    @torch.no_grad()
    def look(
        self, image: Float[Tensor, "n c h w"], t: float, *, noise: Noise | None, finest: int
    ) -> list[Attention]:
        denoiser = self.generator.denoiser
        z = image if noise is None else denoiser.corruption.sample(image, t, noise=noise)
        with Recording(tuple(image.shape[2:]), finest=finest) as recording:
            denoiser(z, t)
        return self.found(recording, tuple(image.shape[2:]), finest)


class FrozenStableDiffusion(Frozen):
    """Stable Diffusion, which looks at codes of images."""

    def __init__(self, model: StableDiffusion) -> None:
        super().__init__()
        self.model, self.name = model, model.name
        # The model's weights are no parameters of this module: this one tells the device.
        self.here = nn.Parameter(torch.empty(0), requires_grad=False)
        self.corruption = recipes.schedule("scaled-linear", steps=_STEPS, shift=1.0, data_mean=0.0, data_std=1.0)

    @torch.no_grad()
    def look(
        self, image: Float[Tensor, "n c h w"], t: float, *, noise: Noise | None, finest: int
    ) -> list[Attention]:
        z = self.model.encode(image)
        z = z if noise is None else self.corruption.sample(z, t, noise=noise)
        size = tuple(z.shape[2:])
        with Recording(size, finest=finest, context=self.model.context.shape[1]) as recording:
            self.model(z, t * _STEPS - 1)
        return self.found(recording, size, finest)

