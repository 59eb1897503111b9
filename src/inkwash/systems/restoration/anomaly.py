"""Anomalies: what a model of healthy images changes in an image.

Two ways. *Partial*: noised part of the way and denoised again, several times; what is fine or rare does not come back
(Wyatt et al. 2022, "AnoDDPM"; Gaussian noise does as well). *Counterfactual*: taken up to noise without a condition, by
DDIM backwards, and down again as the healthy class, with guidance (Wolleb et al. 2022, "Diffusion models for medical
anomaly detection"; Sanchez et al. 2022, "What is healthy?").
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.sampling.edit import sdedit
from inkwash.sampling.guidance.cfg import cfg
from inkwash.sampling.guidance.threshold import clip
from inkwash.sampling.inversion import invert
from inkwash.sampling.loop import walk
from inkwash.systems import recipes
from inkwash.systems.base import Generator, keyed
from inkwash.systems.restoration.anoddpm import AnoDDPM


@dataclass(frozen=True)
class Anomaly:
    """What is unlike healthy images in a batch.

    Attributes:
        healthy: the images as they would be, mean of the draws, `(B, C, *size)`.
        map: how far they are from that, root mean square over draws and channels, `(B, *size)`, at least 0.
        evaluations: of the network for an image, all draws together.
    """

    healthy: Float[Tensor, "b c ..."]
    map: Float[Tensor, "b ..."]
    evaluations: int

    @property
    def score(self) -> Float[Tensor, "b"]:
        """Of an image: the mean square of its map."""
        return self.map.square().flatten(1).mean(dim=1)


def partial(
    system: Generator,
    x: Float[Tensor, "b c ..."],
    *,
    strength: float = 0.25,
    steps: int = 20,
    draws: int = 4,
    seed: int = 0,
    first: int = 0,
) -> Iterator[tuple[int, int, Anomaly | None]]:
    """Noised to the time `strength` and denoised again, yielding `(index, total, None)`, at last with the answer.

    Args:
        steps: evaluations of the network a draw, all of them below `strength`.
        draws: walks of each image, with different noise.
        first: the number of the first image, which its noise is keyed by.
    """
    system.check_pixels("a map of what is unlike healthy")
    if draws < 1 or steps < 1 or not 0.0 < strength <= 1.0:
        raise WrongUse(f"needs draws and steps of at least 1 and 0 < strength <= 1, not {draws}, {steps}, {strength}")
    noise: Noise = Noise(seed, keyed(first, len(x), draws))
    if isinstance(system, AnoDDPM):
        noise = system.noised(noise)
    rows = x.repeat_interleave(draws, dim=0)
    # As many steps over the whole as leaves the ones that were asked for below the strength.
    solver, grid = recipes.sampler("ddpm", system.denoiser.corruption, max(1, round(steps / strength)))
    step = None
    for step in sdedit(clip()(system.denoiser), solver, grid, rows, strength=strength, noise=noise):
        yield step.index, step.total, None
    assert step is not None
    found = step.z.unflatten(0, (len(x), draws))
    off = (found - x[:, None]).square().mean(dim=(1, 2)).sqrt()
    yield step.total - 1, step.total, Anomaly(found.mean(dim=1).cpu(), off.cpu(), step.total * draws)


def counterfactual(
    system: Generator,
    x: Float[Tensor, "b c ..."],
    healthy: int,
    *,
    strength: float = 0.5,
    steps: int = 50,
    guidance: float = 3.0,
) -> Iterator[tuple[int, int, Anomaly | None]]:
    """Up to the time `strength` without a condition, and down as the class `healthy`; yields as `partial` does.

    Args:
        healthy: the number of the class.
        guidance: weight of the class on the way down.
    """
    system.check_pixels("a map of what is unlike healthy")
    if steps < 1 or not 0.0 < strength <= 1.0:
        raise WrongUse(f"needs steps of at least 1 and 0 < strength <= 1, not {steps} and {strength}")
    if not system.spec.classes or system.config.drop_condition == 0.0:
        raise WrongUse(
            "a counterfactual needs a model of classes that was trained without them part of the time: "
            "inkwash train ddpm DATA --set drop_condition=0.1, where DATA has classes"
        )
    solver, grid = recipes.sampler("ddim@uniform", system.denoiser.corruption, max(1, round(steps / strength)))
    below = grid.start_at(strength)
    none = torch.full((len(x),), -1, device=x.device)
    total = 2 * len(below)
    z = x
    for up in invert(system.denoiser, below, x, label=none):
        z = up.z
        yield up.index, total, None
    told = torch.full((len(x),), healthy, device=x.device)
    noise = Noise(0, range(len(x)))
    for down in walk(clip()(cfg(guidance)(system.denoiser)), solver, below, z, noise=noise, label=told):
        z = down.z
        yield len(below) + down.index, total, None
    off = (z - x).square().mean(dim=1).sqrt()
    # With guidance the way down asks twice.
    yield total - 1, total, Anomaly(z.cpu(), off.cpu(), 3 * len(below))
