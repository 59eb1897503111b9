"""LoRA: a trained generator taught a handful of new pictures by matrices of low rank beside its weights.

Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022 (arXiv 2106.09685), by the library peft (see
`inkwash.nets.low_rank`). The prior is frozen; what is learned is hundreds of kilobytes, begins at nothing, and is
counted by `--adapter-weight` when it is drawn from: 0 is the prior, above 1 exaggerates.

The run holds the adapters and a fingerprint of the prior, whose folder is needed to use it. `merge` gives the prior
with the adapters in its weights, and `export` writes them as peft does.

Departures. The paper adapts the attention of language models, its queries and values most of all: here queries, keys
and values are one matrix, which is adapted with the one behind attention. In the preset `quick` the convolutions are
adapted too, since our U-Nets have attention at their coarse levels alone, and what makes pictures of one kind look
different from those of another is fine; `paper` leaves them out. `alpha` is the rank unless it is said, so an addition
counts once, and the learning rate does the rest (their section 4.1). What is trained, and on what objective, is the
prior's own; of a model of codes the autoencoder is frozen too, and the mean code is learned from.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.adapters.frozen import fingerprint_of
from inkwash.nets.low_rank import LowRank
from inkwash.systems import frozen_prior
from inkwash.systems.base import Generator, GeneratorConfig, filled
from inkwash.systems.frozen_prior import OnPrior
from inkwash.systems.kept_run import KeptRun

_PRIORS = ("sampler", "sampling_steps", "guidance", "drop_condition")


class LoRAConfig(GeneratorConfig):
    """Options of LoRA; how it is drawn from is the prior's, where nothing else is said."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"convolutions": False}}

    preset: str = Field("quick", description="what the options below start from: quick or paper")
    prior: str | None = Field(None, description="the trained generator that is adapted: a run folder, or bundled:NAME")
    rank: int = Field(8, ge=1, description="of the matrices that are added")
    alpha: float | None = Field(None, gt=0, description="an addition counts alpha / rank; the rank by default")
    convolutions: bool = Field(True, description="adapt convolutions too, and not attention alone")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        values = filled(cls.presets, values)
        # A run has them all: its prior is opened when it is built.
        if values.get("prior") is None or all(name in values for name in _PRIORS):
            return values
        kept = frozen_prior.asked(values["prior"])
        assert kept is not None
        folder = kept.run if kept.run.startswith("bundled:") else str(Path(kept.run).resolve())
        return {**frozen_prior.taken(kept, *_PRIORS), **values, "prior": folder}


class LoRA(OnPrior):
    """A frozen generator and its adapters: whatever it is told, and however it is trained, is the prior's own.

    Raises:
        WrongUse: there is no prior or it was moved, it makes other pictures, or is told other masks or classes.
    """

    name = "lora"
    title = "a trained generator, frozen, taught new pictures by small adapters"
    reads = "lora"
    paper = "Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, arXiv 2106.09685"
    task = "generation"
    Config = LoRAConfig
    told: ClassVar[tuple[Literal["label", "mask", "measured", "caption"], ...]] = ("label", "mask", "caption")
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "warmup": 20, "ema": (0.10, 0.05)},
        "paper": {"learning_rate": 2e-4, "decay": "linear"},
    }
    config: LoRAConfig

    def __init__(self, config: LoRAConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        kept = frozen_prior.needed(_opened(config.prior), spec, system=self.name)
        prior = kept.build()
        assert isinstance(prior, Generator)
        if isinstance(prior, LoRA):
            raise WrongUse(f"the prior {kept.run} is adapters itself, of {prior.config.prior}: give that one as prior")
        _check_told(prior, spec, kept.run)
        self.stand_on(prior)
        alpha = float(config.rank) if config.alpha is None else config.alpha
        prior.denoiser.network = LowRank(
            prior.denoiser.network,
            rank=config.rank,
            alpha=alpha,
            convolutions=config.convolutions,
            fingerprint=fingerprint_of(prior),
            name=f"the prior {kept.run}",
        )
        prior.denoiser.drop = config.drop_condition
        self.denoiser, self.spec, self.told = prior.denoiser, prior.spec, prior.told

    def known(self, spec: DataSpec) -> DataSpec:
        # Asked before there is a prior, and after.
        return self.prior.known(spec) if "_apart" in self.__dict__ else super().known(spec)

    def condition(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.prior.condition(batch)

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        return super().loss(batch, noise=noise) if self.latent else self.prior.loss(batch, noise=noise)

    def merge(self) -> Generator:
        """The prior with the adapters, as they are weighed now, in its weights: a generator of the prior's own kind."""
        network = self._adapted()
        kept = frozen_prior.asked(self.config.prior)
        assert kept is not None
        merged = kept.build()
        assert isinstance(merged, Generator)
        merged.denoiser.network = network.merged()
        return merged.to(next(self.parameters()).device).train(self.training)

    def export(self, folder: str | Path) -> None:
        """Write the adapters in peft's format: `adapter_config.json` and `adapter_model.safetensors`."""
        self._adapted().export(Path(folder))

    def _adapted(self) -> LowRank:
        network = self.denoiser.network
        if not isinstance(network, LowRank):
            raise WrongUse(f"a {type(network).__name__} stands in the place of the adapters: load the run anew")
        return network


def _opened(prior: str | None) -> KeptRun | None:
    try:
        return frozen_prior.asked(prior)
    except WrongUse as error:
        raise WrongUse(f"{error}; it is the prior of adapters: put it back, or mend their config.yaml") from None


def _check_told(prior: Generator, spec: DataSpec, run: str) -> None:
    """Raises `WrongUse` where these pictures don't come with what the prior is told."""
    type(prior).check(spec)
    theirs = prior.spec
    if theirs.mask_classes and theirs.mask_classes != spec.mask_classes:
        raise WrongUse(f"the prior {run} is told {theirs.mask_classes} mask classes, and these are {spec.mask_classes}")
    if theirs.classes and spec.classes and theirs.classes != spec.classes:
        known, found = ", ".join(theirs.classes), ", ".join(spec.classes)
        raise WrongUse(f"the prior {run} knows the classes {known}, and these are of {found}: leave classes out")
    if theirs.captions and spec.captions and theirs.captions != spec.captions:
        raise WrongUse(f"the prior {run} reads captions of other words than these: leave captions out")
    if theirs.classes and not spec.classes and prior.denoiser.drop == 0.0:
        raise WrongUse(f"the prior {run} is always told a class, and these pictures have none: it needs drop_condition")
    if theirs.captions and not spec.captions and prior.denoiser.drop == 0.0:
        raise WrongUse(f"the prior {run} is always told a caption, and these have none: it needs drop_condition")
