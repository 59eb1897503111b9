r"""I2SB: a bridge from the degraded image to the clean one.

Liu, Vahdat, Huang, Theodorou, Nie & Anandkumar, "I2SB: image-to-image Schroedinger bridge", ICML 2023 (arXiv
2302.05872). What the paper changes is the corruption: it ends not in noise but in the degraded image, `z_t = (1 - t) x
+ t y + scale sqrt(t (1 - t)) eps` in the time of the bridge (eq. 11), so that sampling starts from what was measured.
The kernel back, eq. 4, is the bridge's between `x` and `z_t`. With a scale of 0 it is the ODE of section 3.4.

Departures: the network predicts the clean image, where the paper predicts `(z_t - x) / sigma_t`, a weighting of the
same error; times are drawn evenly in the bridge's own, where the paper's symmetric betas dwell at the ends; the
degraded image is what the measurement gives without a prior, for any operator. In the preset `quick` on 2x2 patches.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from inkwash.corruption.bridge import Bridge
from inkwash.corruption.noise import Noise
from inkwash.corruption.posterior import Point
from inkwash.data.spec import DataSpec
from inkwash.sampling.grid import Grid
from inkwash.systems.restoration.paired import PairedConfig, looked_at, network
from inkwash.systems.restoration.supervised import Supervised


class I2SBConfig(PairedConfig):
    """Options of I2SB."""

    bridge: float = Field(0.3, ge=0, description="standard deviation of the bridge's noise; 0 is a straight line")
    sampling_steps: int = Field(5, ge=1, description="evaluations of the network an image")


class I2SB(Supervised):
    """Draws of what may lie behind a measurement, beginning from it."""

    name = "i2sb"
    title = "images from measurements, over a bridge that begins in them"
    reads = "i2sb"
    paper = "Liu et al., I2SB: image-to-image Schroedinger bridge, ICML 2023, arXiv 2302.05872"
    Config = I2SBConfig
    draws_images = True
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {"quick": {"learning_rate": 1e-3, "ema": (0.10, 0.05)}}
    config: I2SBConfig

    def __init__(self, config: I2SBConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.network = network(config, spec)
        self.bridge = Bridge(config.bridge)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        x = batch["image"]
        y = self.guessed(batch, noise)
        t = noise.spread("time")
        z = self.bridge.towards(y).sample(x, t, noise=noise)
        return {"loss": (self._clean(z, y, t) - x).square().flatten(1).mean(dim=1)}

    def _clean(self, z: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """What is believed to lie at the bridge's clean end: what is missing from the measurement, added to it."""
        return y + looked_at(self.network, z, y, t, self.spec.size)

    def estimate(
        self, guess: Float[Tensor, "n c ..."], *, noise: Noise, steps: int | None = None
    ) -> tuple[Float[Tensor, "n c ..."], int]:
        count = self.config.sampling_steps if steps is None else steps
        path = noise.path(tuple(guess.shape[1:]), dtype=guess.dtype, device=guess.device)
        bridge, z = self.bridge.towards(guess), guess
        for t, s in Grid.uniform(count):
            mean = self._clean(z, guess, torch.tensor([t], dtype=torch.float64)).clamp(-1, 1)
            z = bridge.step_back(z, Point(mean), t, s, path=path)
        return z, count
