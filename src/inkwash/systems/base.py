"""What a system is: one paper, made of a corruption, a denoiser and a way to use them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.denoise.base import Denoiser
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.errors import WrongUse, unknown
from inkwash.nets.weighed import Weighed
from inkwash.sampling.cache import Cache
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.cfg import cfg
from inkwash.sampling.guidance.interval import within
from inkwash.sampling.guidance.threshold import clip
from inkwash.sampling.loop import Step, walk
from inkwash.sampling.solver import Solver
from inkwash.sampling.tiled import grid_of, tiled
from inkwash.systems import recipes
from inkwash.systems.distillation.method import Student
from inkwash.systems.settings import Settings

# Draw `d` of item `i` is keyed by `i + d * _DRAWS`: it does not depend on how many draws or items there are.
_DRAWS = 1 << 40


def keyed(first: int | Sequence[int] | Int64[Tensor, "b"], count: int, draws: int) -> Int64[Tensor, "n"]:
    """What the noise of each draw of `count` items is keyed by, all draws of an item after one another.

    Args:
        first: the number of the first item, or that of each.
    """
    numbers = range(first, first + count) if isinstance(first, int) else first
    return (torch.as_tensor(numbers)[:, None] + torch.arange(draws) * _DRAWS).flatten()


class SystemConfig(BaseModel):
    """The options of a system; flags, YAML files and forms are made from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def filled(presets: Mapping[str, Mapping[str, Any]], values: dict[str, Any]) -> dict[str, Any]:
    """Options with those of their preset where they say nothing; for validators, so what is wrong is a `ValueError`."""
    preset = values.get("preset", "quick")
    if preset != "quick" and preset not in presets:
        raise ValueError(str(unknown("preset", str(preset), {"quick", *presets})))
    return {**presets.get(preset, {}), **values}


class System(nn.Module, ABC):
    """One paper.

    Attributes:
        name: what it is called on the command line.
        title: one line for lists.
        reads: the key of its paper in the reading list.
        paper: how the paper is cited.
        task: what it does: "generation", "synthesis", "segmentation", ...
        Config: its options.
        told: what it is told of an item besides the image: `label`, `mask`, `measured`, `caption`. The rest of the
            data set is nothing to it.
        training_presets: by preset, the options of a training that suit it, where they aren't the general ones.
        config, spec: the options and the data it was made for, as far as it is told of them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reads: ClassVar[str]
    paper: ClassVar[str]
    task: ClassVar[str]
    Config: ClassVar[type[SystemConfig]]
    told: ClassVar[tuple[Literal["label", "mask", "measured", "caption"], ...]] = ()
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, config: SystemConfig, spec: DataSpec) -> None:
        super().__init__()
        self.check(spec)
        self.config = config
        self.spec = self.known(spec)

    @classmethod
    def known(cls, spec: DataSpec) -> DataSpec:
        """What of a data set matters to the system."""
        fields = {
            "classes": ("label", None),
            "mask_classes": ("mask", None),
            "pairs": ("measured", False),
            "captions": ("caption", None),
        }
        return spec.model_copy(update={name: none for name, (what, none) in fields.items() if what not in cls.told})

    @classmethod
    def check(cls, spec: DataSpec) -> None:
        """Raises `WrongUse` where the data lacks what the system needs."""

    @classmethod
    def diffused(cls, batch: dict[str, Tensor], spec: DataSpec) -> Float[Tensor, "b ..."]:
        """What of a batch is destroyed and brought back: `data_mean` and `data_std` of the options are measured on it.

        Args:
            batch: as of `loss`.
        """
        return batch["image"]

    @abstractmethod
    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        """The terms of the training loss for each item, the one called `loss` being minimised.

        Args:
            batch: as an `ImageSet` gives it: `image` in [-1, 1], and `mask`, `label` where the data has them.
            noise: the randomness of these items.
        """


class GeneratorConfig(SystemConfig):
    """What every image generator can be told."""

    sampler: str = Field("dpm++2m", description=f"solver or solver@grid; solvers: {', '.join(recipes.SOLVERS)}")
    sampling_steps: int = Field(20, ge=1, description="evaluations of the network an image")
    guidance: float = Field(1.0, ge=0, description="classifier-free guidance; 1 is the plain conditional model")
    drop_condition: float = Field(0.1, ge=0, lt=1, description="share of items without condition; guidance needs some")
    student: Student = Field(
        "none", description="what inkwash distil made it: progressive, consistency or shortcut; none: it was trained"
    )


@dataclass(frozen=True)
class Draw:
    """Where a generation is: items `first` to `first + count - 1` of `total` took `step`.

    Attributes:
        decode: from what is noised to pictures.
    """

    first: int
    count: int
    total: int
    step: Step
    decode: Callable[[Tensor], Tensor]

    @property
    def finished(self) -> bool:
        """Whether `pictures` are the finished ones of these items."""
        return self.step.index == self.step.total - 1

    @property
    def pictures(self) -> Float[Tensor, "b c *size"]:
        """The pictures of these items after this step, decoded when they are asked for."""
        return self.decode(self.step.z)


@dataclass(frozen=True)
class Way:
    """How pictures are drawn: everything that was not said filled in.

    Attributes:
        denoiser: the system's, guided, its beliefs held to the range of what is noised.
        sampler: solver@grid, or "tuned".
        steps: evaluations of the network an image.
        interval: the times, clean end first, between which there is guidance.
        tile, overlap: the side of the tiles that the denoiser is asked about, and by how much they overlap; None where
            it is asked about the whole picture.
        adapter_weight: how much what was learned beside a frozen network counts.
    """

    denoiser: Denoiser
    solver: Solver
    grid: Grid
    sampler: str
    steps: int
    guidance: float
    interval: tuple[float, float] = (0.0, 1.0)
    cache: Cache = Cache()
    tile: int | None = None
    overlap: int | None = None
    adapter_weight: float = 1.0

    @property
    def told(self) -> dict[str, Any]:
        """What `Generator.way` must be told to give this again."""
        cache = str(self.cache) or "none"
        said = {"steps": self.steps, "sampler": self.sampler, "guidance": self.guidance, "cache": cache}
        interval = {} if self.interval == (0.0, 1.0) else {"interval": self.interval}
        tiles = {} if self.tile is None else {"tile": self.tile, "overlap": self.overlap}
        weight = {} if self.adapter_weight == 1.0 else {"adapter_weight": self.adapter_weight}
        return {**said, **interval, **tiles, **weight}

    def __str__(self) -> str:
        between = "" if self.interval == (0.0, 1.0) else f" at t {self.interval[0]:g} to {self.interval[1]:g}"
        cache = f", cache {self.cache}" if str(self.cache) else ""
        tiles = "" if self.tile is None else f", in tiles of {self.tile} that overlap by {self.overlap}"
        weight = "" if self.adapter_weight == 1.0 else f", adapter weight {self.adapter_weight:g}"
        return f"{self.sampler}, {self.steps} steps, guidance {self.guidance:g}{between}{cache}{tiles}{weight}"


class Generator(System):
    """A system that makes images, `(n, C, *size)` in [-1, 1].

    Picture `i` depends on the seed, `i` and its condition alone: not on `batch`, nor on `n`.

    What is noised is the picture itself, or with `latent` a code of it: `shape`, `encode`, `decode` and `limited` say
    how. Whoever walks by himself goes through these.

    Attributes:
        latent: whether what is noised is a code.
        volumes: whether it makes volumes too, and not pictures alone.
        factor: how many times shorter the side of what is noised is.
        settings: how this model is best sampled, where that was measured.
    """

    latent: ClassVar[bool] = False
    volumes: ClassVar[bool] = False
    denoiser: GaussianDenoiser
    config: GeneratorConfig
    factor: int = 1
    settings: Settings = Settings()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is noised, channels first."""
        return (self.spec.channels, *self.spec.size)

    def encode(self, image: Float[Tensor, "b c *size"]) -> Float[Tensor, "b d ..."]:
        """What is noised of pictures in [-1, 1], without randomness."""
        return image

    def decode(self, z: Float[Tensor, "b d ..."]) -> Float[Tensor, "b c ..."]:
        """The pictures that it stands for."""
        return z

    def limited(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser with its beliefs held to the range of what is noised."""
        return clip(-1.0, 1.0)(denoiser)

    def check_pixels(self, what: str) -> None:
        """Raises `WrongUse` where a code is noised: `what` is of pictures."""
        if self.latent:
            raise WrongUse(
                f"{what} needs a model of pictures, and {self.name} makes codes of them: take one that noises the "
                "picture itself, ddpm for example"
            )

    @abstractmethod
    def condition(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the denoiser is told about these items; the keys of `batch` as an `ImageSet` gives them."""

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        return {"loss": self.denoiser.loss(batch["image"], noise=noise, **self.condition(batch))}

    def way(
        self,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        interval: tuple[float, float] | None = None,
        cache: str | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        adapter_weight: float | None = None,
    ) -> Way:
        """The way to draw: what isn't said is what was measured to be best for this model, else the system's own.

        Args:
            steps: evaluations of the network an image.
            sampler: a solver, or `solver@grid`, or "tuned".
            guidance: weight of classifier-free guidance; 1 is the plain conditional model.
            interval: the times, clean end (0) first, between which there is guidance; all by default.
            cache: what is kept from one evaluation for the next, `deep:3+guidance:2` for example, or "none".
            tile: side of the tiles that the network is asked about, to save memory; it changes the pictures (see
                `sampling/tiled.py`). The whole picture by default.
            overlap: pixels by which tiles overlap; a quarter of their side by default.
            adapter_weight: how much what was learned beside a frozen prior counts, as of `weigh`: it stays so.

        Raises:
            WrongUse: no such sampler, grid or cache; steps are fewer than one step of it takes, or such as a student
                did not learn; guidance needs a model that was trained for it; `tuned` was asked for and this number of
                steps was not tuned; the network can't take such tiles, or the cache would mix them up.
        """
        if adapter_weight is not None:
            self.weigh(adapter_weight)
        best = self.settings.best
        if best is not None and steps is None and sampler is None and cache is None:
            steps, sampler, cache = best.steps, best.sampler, best.cache if tile is None else "none"
        learned = self.config.sampling_steps
        steps = learned if steps is None else steps
        if self.config.student == "progressive" and steps != learned:
            raise WrongUse(
                f"this student learned to draw in {learned} evaluations, and in {steps} its pictures are none: "
                "leave steps out, or distil another (rounds/ of its folder holds those it was halved out of)"
            )
        if self.config.student == "shortcut" and steps < learned:
            raise WrongUse(f"this student learned steps of 1/{learned} and shorter: {learned} or more, not {steps}")
        weight = self.config.guidance if guidance is None else guidance
        if weight != 1.0 and self.config.drop_condition == 0.0:
            raise WrongUse(
                f"guidance {weight} needs a model that was trained without its condition part of the time: "
                "train with --set drop_condition=0.1, or leave guidance at 1"
            )
        between = (0.0, 1.0) if interval is None else interval
        if between != (0.0, 1.0) and weight == 1.0:
            raise WrongUse(f"an interval {between} of guidance needs guidance other than 1")
        kept = recipes.cache(cache or "none")
        whole, tile, overlap = self._tiled(tile, overlap, kept)
        guided = whole if weight == 1.0 else within(cfg(weight), t=between)(whole)
        parts: dict[str, Any] = {
            "denoiser": self.limited(guided),
            "steps": steps,
            "guidance": weight,
            "interval": between,
            "cache": kept,
            "tile": tile,
            "overlap": overlap,
            "adapter_weight": next((part.weight for part in self._weighed()), 1.0),
        }
        tuned = self.settings.walk(steps, weight) if between == (0.0, 1.0) else None
        if sampler == "tuned" and tuned is None:
            known = ", ".join(f"{w.steps} steps with guidance {w.guidance:g}" for w in self.settings.tuned)
            raise WrongUse(
                f"no walk of {steps} steps with guidance {weight:g} was tuned for this model ({known or 'none was'}): "
                f"inkwash tune RUN --steps {steps}"
            )
        if tuned is not None and sampler in (None, "tuned"):
            solver = tuned.solver()
            return Way(solver=solver, grid=solver.grid, sampler="tuned", **parts)
        name = sampler or self.config.sampler
        made, grid = recipes.sampler(name, self.denoiser.corruption, steps)
        return Way(solver=made, grid=grid, sampler=name, **parts)

    def weigh(self, weight: float) -> None:
        """Count what was learned beside a frozen prior this much from now on: 1 as trained, 0 is the prior.

        Raises:
            WrongUse: nothing was; the weight is below 0 or not finite.
        """
        found = self._weighed()
        if not found:
            raise WrongUse(
                f"an adapter's weight {weight:g} is for what was learned beside a frozen prior (controlnet, lora), and "
                f"this {self.name} has nothing of the kind"
            )
        if not 0.0 <= weight < float("inf"):
            raise WrongUse(f"an adapter's weight is 0 or more, 1 as it was trained, not {weight:g}")
        for part in found:
            part.weigh(weight)

    def _weighed(self) -> list[Weighed]:
        return [part for part in self.denoiser.modules() if isinstance(part, Weighed)]

    def _tiled(
        self, tile: int | None, overlap: int | None, cache: Cache
    ) -> tuple[Denoiser, int | None, int | None]:
        """The denoiser on such tiles, with their side and overlap; itself where a picture is one tile."""
        if tile is None:
            if overlap is not None:
                raise WrongUse(f"an overlap of {overlap} is that of tiles: say their side as well, --tile")
            return self.denoiser, None, None
        grid, wanted = grid_of(self.denoiser.network)
        needed = grid * self.factor
        if tile < 1 or tile % needed:
            raise WrongUse(f"tiles have a side of {needed} pixels or a multiple of it with this model, not {tile}")
        if tile >= max(self.spec.size):
            return self.denoiser, None, None
        if cache.deep > 1 or cache.first_block > 0:
            raise WrongUse(f"cache {cache} keeps what the network saw last, another tile: leave one of them out")
        overlap = tile // 4 if overlap is None else overlap
        sides = (tile // self.factor,) * len(self.spec.size)
        apart = tiled(sides, overlap=overlap // self.factor, multiple=wanted)
        return apart(self.denoiser), tile, overlap

    def draw(
        self,
        n: int,
        *,
        condition: dict[str, Tensor] | None = None,
        seed: int = 0,
        first: int = 0,
        count: int | None = None,
        batch: int = 16,
        **how: Any,
    ) -> Iterator[Draw]:
        """Generate `n` items, one step of one batch at a time.

        Args:
            condition: `mask`, `label`: one row an item, taken in turn where there are fewer than `n`.
            first, count: the part of the `n` items to generate, for work shared between processes; all by default.
            **how: as `way` takes it.
        """
        if n < 1 or batch < 1:
            raise WrongUse(f"the number of images and the batch are at least 1, not n={n}, batch={batch}")
        way = self.way(**how)
        device = next(self.parameters()).device
        end = n if count is None else first + count
        for start in range(first, end, batch):
            items = torch.arange(start, min(start + batch, end))
            given = {k: v[items % len(v)].to(device) for k, v in (condition or {}).items()}
            told: dict[str, Any] = self.condition(given)
            noise = Noise(seed, items)
            z = self.denoiser.corruption.prior(self.shape, noise=noise, device=device)
            for step in walk(way.denoiser, way.solver, way.grid, z, noise=noise, cache=way.cache, **told):
                yield Draw(start, len(items), n, step, self.decode)

    def generate(self, n: int, **options: Any) -> Float[Tensor, "n c *size"]:
        """Generate `n` images; the options are those of `draw`."""
        return torch.cat([draw.pictures.cpu() for draw in self.draw(n, **options) if draw.finished])
