r"""IR-SDE: a mean-reverting process from the clean image to the degraded one with some noise, walked back.

Luo, Gustafsson, Zhao, Sjoelund & Schoen, "Image restoration with mean-reverting stochastic differential equations",
ICML 2023 (arXiv 2301.11699). What the paper changes is the corruption (`corruption/mean_reverting.py`): the end is `y +
level eps`, and sampling starts there. The network sees `z_t - y` beside `y`, and the time. Its loss is the paper's
maximum-likelihood objective: with `z*_s` the most likely state one step before, given the clean image,

    | step(z_t, network) - z*_s |,    z*_s = y + a (z_t - y) + b (x - y),

an absolute error, the mean over pixels, at times drawn evenly from the table of 100, all with the same weight. Where
the step is exact, it is `step(z_t) = z*_s` with the believed image in place of `x`, so that the loss is the error of
that image times `b`, or that of the noise times `level (1 - A^2) / (A sqrt(1 - B^2))`, with A, B the shares of `x - y`
that are left over the step and in all: not even weights, but those that the walk feels.

In `paper` the network predicts the noise, the step is the Euler step of the reverse SDE that the paper walks by, in
100 steps, and the loss is the distance of that from `z*_s`, as in the authors' published code. In `quick` the network
predicts the clean image, on 2x2 patches, because minutes are too few to know the noise as well as it must be known (at
the end an error of 0.001 in it is one of 0.016 in the image), and the step is the exact draw from `q(z_s | z_t, x)`,
because Euler's is only right where it is short and 5 steps are taken; the authors' code has had a walk by the posterior
beside the other since 2024. What is trained is the step that is walked: from t to t - 1 / sampling_steps, which in
`paper` is the neighbour in the table. Theirs learns from patches of 128 pixels (`--size 128`), 4 a batch.

Departures: the U-Net of the house (normalised in groups, without attention, its widest level 512 and not 1024
channels); what is believed is held to [-1, 1]; the last step draws no noise (its deviation would be a fiftieth of the
level); a constant learning rate, where theirs is halved three times; the degraded image is what the measurement gives
without a prior, for any operator. The paper's numbers of equations and its own table of settings could not be read:
what is said here of it was taken from that code.
"""

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from inkwash.corruption.gaussian import expand
from inkwash.corruption.mean_reverting import MeanReverting
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.data.spec import DataSpec
from inkwash.sampling.grid import Grid
from inkwash.systems.base import filled
from inkwash.systems.restoration.paired import PairedConfig, looked_at, network
from inkwash.systems.restoration.supervised import Supervised


class IRSDEConfig(PairedConfig):
    """Options of IR-SDE."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "predict": "eps",
            "walk": "euler",
            "base": 64,
            "multipliers": (1, 2, 4, 8),
            "blocks": 2,
            "patch": 1,
            "sampling_steps": 100,
        }
    }
    preset: str = Field("quick", description="what the options below start from: quick or paper")
    end_noise: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="standard deviation of the noise at the end, of 255 levels"
    )
    predict: Literal["x", "eps"] = Field("x", description="what the network predicts: the clean image or the noise")
    walk: Literal["exact", "euler"] = Field("exact", description="how a step is taken: drawn exactly, or by Euler")
    sampling_steps: int = Field(5, ge=1, description="evaluations of the network an image")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        return filled(cls.presets, values)


class IRSDE(Supervised):
    """Draws of what may lie behind a measurement, beginning from it and some noise."""

    name = "ir-sde"
    title = "images from measurements, over a process that reverts to them"
    reads = "ir-sde"
    paper = (
        "Luo et al., Image restoration with mean-reverting stochastic differential equations, ICML 2023, "
        "arXiv 2301.11699"
    )
    Config = IRSDEConfig
    draws_images = True
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.10, 0.05)},
        "paper": {"learning_rate": 1e-4, "batch": 4, "warmup": 0, "decay": "constant"},
    }
    config: IRSDEConfig

    def __init__(self, config: IRSDEConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.network = network(config, spec)
        self.process = MeanReverting(2 * config.end_noise / 255)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        x = batch["image"]
        y = self.guessed(batch, noise)
        process, table = self.process.towards(y), self.process.steps
        t = (table * noise.spread("time")).ceil() / table
        s = (t - 1 / self.config.sampling_steps).clamp(min=0)
        z = process.sample(x, t, noise=noise)
        step = process.optimum if self.config.walk == "exact" else process.euler
        error = step(z, self._clean(z, y, t), t, s) - process.optimum(z, x, t, s)
        return {"loss": error.abs().flatten(1).mean(dim=1)}

    def _clean(self, z: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """The clean image that is believed in: `y` and what is missing from it, or what remains without the noise."""
        found = looked_at(self.network, z - y, y, t, self.spec.size)
        if self.config.predict == "x":
            return y + found
        return y + (z - y - expand(self.process.spread(t), z) * found) / expand(self.process.kept(t), z)

    def estimate(
        self, guess: Float[Tensor, "n c ..."], *, noise: Noise, steps: int | None = None
    ) -> tuple[Float[Tensor, "n c ..."], int]:
        count = self.config.sampling_steps if steps is None else steps
        shape, process = tuple(guess.shape[1:]), self.process.towards(guess)
        path = noise.path(shape, dtype=guess.dtype, device=guess.device)
        back = process.step_back if self.config.walk == "exact" else process.euler_back
        z = process.prior(shape, noise=noise, dtype=guess.dtype, device=guess.device)
        for t, s in Grid.uniform(count):
            mean = self._clean(z, guess, torch.tensor([t], dtype=torch.float64)).clamp(-1, 1)
            z = back(z, Point(mean), t, s, path=path)
        return z, count
