"""A trained generator that another stands on and never changes: what may be one, and what is taken from it."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.base import Denoiser
from inkwash.errors import WrongUse
from inkwash.systems.base import Generator
from inkwash.systems.kept_run import KeptRun


class OnPrior(Generator):
    """A generator that stands on a frozen one. What is noised, and how it is made a picture again, is the prior's."""

    volumes = True

    def stand_on(self, prior: Generator) -> None:
        """Freeze the prior, and work on what it works on."""
        # In a tuple: whose weights are this one's too is for each to say.
        self._apart = (prior.requires_grad_(False).eval(),)
        self.latent, self.factor = prior.latent, prior.factor

    @property
    def prior(self) -> Generator:
        """The prior, its denoiser as it is used here."""
        return self._apart[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.prior.shape

    def encode(self, image: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d ..."]:
        with torch.no_grad():
            return self.prior.encode(image)

    def decode(self, z: Float[Tensor, "b d ..."]) -> Float[Tensor, "b c ..."]:
        return self.prior.decode(z)

    def limited(self, denoiser: Denoiser) -> Denoiser:
        return self.prior.limited(denoiser)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        code = self.encode(batch["image"])
        return {"loss": self.denoiser.loss(code, noise=noise, **self.condition(batch))}

    def train(self, mode: bool = True) -> "OnPrior":
        super().train(mode)
        for part in self._frozen():
            part.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "OnPrior":
        for part in self._frozen():
            if part not in self._modules.values():
                part._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    def _frozen(self) -> list[nn.Module]:
        """What the prior has besides its denoiser."""
        return [part for name, part in self.prior.named_children() if name != "denoiser"]


def asked(value: Any) -> KeptRun | None:
    """What an option `prior` says, for validators: a run folder or `bundled:NAME` read, and what was read before."""
    if value is None or isinstance(value, KeptRun):
        return value
    if isinstance(value, dict):
        return KeptRun(**value)
    kept = KeptRun.of(str(value), Generator, "a prior is a generator")
    if kept.config.get("student", "none") != "none":
        raise WrongUse(f"{value} is a student of few steps: give the run that it was distilled from as prior")
    return kept


def taken(kept: KeptRun, *names: str) -> dict[str, Any]:
    """The options of these names that the prior has."""
    return {name: kept.config[name] for name in names if name in kept.config}


def needed(prior: KeptRun | None, spec: DataSpec, *, system: str) -> KeptRun:
    """The prior, where it makes pictures like these.

    Raises:
        WrongUse: there is none, or its pictures have other channels or another size.
    """
    if prior is None:
        raise WrongUse(f"{system} stands on a trained generator: --set prior=RUN, its run folder, or bundled:NAME")
    theirs = prior.spec
    for what, has, wanted, hint in (
        ("channels", spec.channels, theirs.channels, "take a prior of such pictures"),
        ("pixels", _sides(spec), _sides(theirs), f"train with --size {_sides(theirs).replace(' x ', ',')}"),
    ):
        if has != wanted:
            raise WrongUse(f"the prior {prior.run} makes pictures of {wanted} {what}, and these have {has}: {hint}")
    return prior


def _sides(spec: DataSpec) -> str:
    sides = spec.size[:1] if len(set(spec.size)) == 1 and len(spec.size) == 2 else spec.size
    return " x ".join(map(str, sides))
