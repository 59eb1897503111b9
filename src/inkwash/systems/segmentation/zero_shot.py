"""ADZUS: segments from the self-attention of a frozen diffusion model, without a label.

Hamrani & Godavarty, "Self-attention diffusion models for zero-shot biomedical image segmentation", Bioengineering 2025
(arXiv 2503.18170). The image is shown to a trained denoiser once, and what its positions attend to is kept: maps of all
resolutions are brought together, averaged around a grid of anchors, and merged while their symmetric divergence is
below a threshold (see `merging`); the segment of a pixel is the merged map that is largest there. The stages are those
of DiffSeg (Tian et al., CVPR 2024, arXiv 2308.12469). `segments` returns them, as many as the image has.

No code of the paper is known. Where it is silent the text of DiffSeg is followed; at what time the network is asked
(step 300), the threshold (0.9) and the anchors (16 x 16) of the preset `paper` are DiffSeg's.

**Names.** Neither paper says which segment is the lesion: DiffSeg matches segments to the true mask, which is no
segmentation but a bound on one. Here a rule that needs no label takes one segment for the foreground (`naming`), or a
linear read-out of a segment's colour and place is learned from masks, by cross-entropy and Dice (`naming=learned`),
which any number of classes needs. The match with the truth is `oracle`, and nothing else calls it.

Departures.
- The model may be any run of an image generator here whose U-Net attends, besides a Stable Diffusion of versions 1 and
  2. With `model=own`, the default, a denoiser is trained on the images alone, never on their masks: there are then
  images to train on, but still no labels.
- In the preset `quick` the threshold is in median divergences of an image (`relative`) and `segments` bounds how many
  there are, the two most alike being merged further: divergences of a small model are a hundredth of Stable
  Diffusion's, and a threshold in nats would have to be found for each model. `paper` has neither.
- Several `times` may be asked, their maps averaged, and the image may be `noised` as the model knows it, where the
  paper shows it clean, at one time.
- The code of Stable Diffusion is the mean one. k-means (`refine`) is of the maps of all positions, and off.
- A round of merging goes through what is left in turn and removes what it merges, so that no map counts twice.
- Two dimensions only: attention among the positions of a volume does not fit a memory.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.nets.adapters import stable_diffusion
from inkwash.systems.base import Generator
from inkwash.systems.generation.ddpm import DDPM, DDPMConfig
from inkwash.systems.kept_run import KeptRun
from inkwash.systems.segmentation import merging, naming
from inkwash.systems.segmentation.frozen import Frozen, FrozenGenerator, FrozenStableDiffusion
from inkwash.systems.segmentation.losses import soft_dice
from inkwash.systems.segmentation.merging import Segments
from inkwash.systems.segmentation.network import Integers, NetworkConfig
from inkwash.systems.segmenter import Segmentation, Segmenter
from inkwash.training.options import listed

# What describes the denoiser that is trained here, and nothing else.
_NETWORK = ("base", "multipliers", "blocks", "attention", "patch", "dropout")

Time = Annotated[float, Field(gt=0, le=1)]


def _model(value: Any) -> Any:
    """Names as they are, and a run folder read."""
    if isinstance(value, dict | KeptRun) or value == "own" or stable_diffusion.is_folder(str(value)):
        return value if isinstance(value, dict | KeptRun) else str(value)
    return KeptRun.of(str(value), Generator, "a generator is wanted")


class ZeroShotConfig(NetworkConfig):
    """Options of ADZUS; those of the network are of the denoiser that is trained with `model=own`."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "threshold": 0.9,
            "relative": False,
            "segments": None,
        }
    }

    model: Annotated[str | KeptRun, BeforeValidator(_model)] = Field(
        "own", description="whose attention: own (trained on the images), the run of a generator, or a Stable Diffusion"
    )
    attention: Integers = Field((32, 16, 8), description="sides of the feature maps that have attention")
    prompt: str = Field("", description="text that a Stable Diffusion is told")
    times: Annotated[tuple[Time, ...], BeforeValidator(listed)] = Field(
        (0.301,), min_length=1, description="when the network is asked, in (0, 1]; one evaluation each"
    )
    noised: bool = Field(False, description="noise the image as the model knows it then, instead of showing it clean")
    finest: int = Field(64, ge=2, description="longest side of the maps that are used")
    anchors: int = Field(16, ge=2, description="anchors along a side, from which proposals grow")
    threshold: float = Field(0.3, ge=0, description="divergence below which maps are merged; 0 merges none")
    relative: bool = Field(True, description="the threshold is in median divergences of an image, else in nats")
    rounds: int = Field(3, ge=1, description="of merging, the averaging around anchors being the first")
    segments: int | None = Field(2, ge=2, description="most segments of an image; null leaves it to the threshold")
    refine: int = Field(0, ge=0, description="rounds of k-means over all maps, from the segments on")
    naming: Literal["border", "centre", "bright", "dark", "contrast", "learned"] = Field(
        "border",
        description="which segment is the foreground: the one least at the frame, nearest the middle, brightest, "
        "darkest, of the most different colour; learned: from masks, for any number of classes",
    )
    smallest: float = Field(0.01, ge=0, le=1, description="share of the image that a rule's foreground has at least")
    largest: float = Field(0.9, ge=0, le=1, description="share of the image that a rule's foreground has at most")
    data_mean: float = Field(0.0, description="mean of the training pixels; measured by train")
    data_std: float = Field(1.0, gt=0, description="standard deviation of the training pixels; measured by train")

    @model_validator(mode="after")
    def _sound(self) -> "ZeroShotConfig":
        if self.model != "own":
            for name in _NETWORK:
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} describes a denoiser that is trained here: leave it out, or model=own")
        if self.prompt and not isinstance(self.model, str):
            raise ValueError("a prompt is told to a Stable Diffusion: this model takes no text")
        if self.prompt and self.model == "own":
            raise ValueError("a prompt is told to a Stable Diffusion: give its folder as model")
        if self.smallest >= self.largest:
            raise ValueError(f"smallest {self.smallest:g} is not below largest {self.largest:g}: nothing would fit")
        return self


class ZeroShot(Segmenter):
    """Segments of what attends to the same, and a name for them."""

    name = "zero-shot"
    title = "segments from the attention of a frozen diffusion model, without labels"
    reads = "adzus"
    paper = "Hamrani & Godavarty, Self-Attention Diffusion Models for Zero-Shot Biomedical Image Segmentation, 2025"
    Config = ZeroShotConfig
    training_presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"learning_rate": 1e-3, "ema": (0.10, 0.05)},
        "paper": {"learning_rate": 1e-3},
    }
    config: ZeroShotConfig

    def __init__(self, config: ZeroShotConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        learned = config.naming == "learned"
        if learned and not self.spec.mask_classes:
            raise WrongUse("naming=learned learns from masks, and this data has none: name by a rule, naming=border")
        if not learned and self.classes != 2:
            raise WrongUse(
                f"naming={config.naming} tells a foreground from a background; these masks have {self.classes} "
                "classes: naming=learned names any number"
            )
        self.frozen = self._frozen(config)
        self.read_out: nn.Linear | None = None
        if learned:
            self.read_out = nn.Linear(3 * spec.channels + 3, self.classes)

    def _frozen(self, config: ZeroShotConfig) -> Frozen:
        blind = self.spec.model_copy(update={"mask_classes": None})
        if config.model == "own":
            told = {name: getattr(config, name) for name in (*_NETWORK, "data_mean", "data_std")}
            return FrozenGenerator(DDPM(DDPMConfig(drop_condition=0.0, **told), blind), name="the model trained here")
        if isinstance(config.model, KeptRun):
            theirs = config.model.spec
            if (theirs.channels, len(theirs.size)) != (blind.channels, 2):
                raise WrongUse(
                    f"{config.model.run} makes pictures of {theirs.channels} channels, and these have {blind.channels}"
                )
            built = config.model.build()
            assert isinstance(built, Generator)
            made: Frozen = FrozenGenerator(built, name=config.model.run)
        else:
            model = stable_diffusion.load(config.model, prompt=config.prompt)
            if blind.channels not in (1, model.vae.pictures):
                raise WrongUse(
                    f"{model.name} takes pictures of {model.vae.pictures} channels or 1; these have {blind.channels}"
                )
            made = FrozenStableDiffusion(model)
        return made.requires_grad_(False).eval()

    @classmethod
    def check(cls, spec: DataSpec) -> None:
        if len(spec.size) != 2:
            raise WrongUse(f"{cls.name} finds segments in pictures; this data has {len(spec.size)} dimensions")

    @property
    def classes(self) -> int:
        return self.spec.mask_classes or 2

    def train(self, mode: bool = True) -> "ZeroShot":
        super().train(mode)
        if self.config.model != "own":
            self.frozen.eval()
        return self

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Float[Tensor, "b"]]:
        """Of the denoiser that is trained here, without masks, and of the read-out, where there is either."""
        terms: dict[str, Tensor] = {}
        if isinstance(self.frozen, FrozenGenerator) and self.config.model == "own":
            terms["denoising"] = self.frozen.generator.loss({"image": batch["image"]}, noise=noise)["loss"]
        if self.read_out is not None:
            # The denoiser draws from `noise` for the same purposes.
            *_, (_, _, segments) = self._segmenting(batch["image"], Noise(~noise.seed, noise.items))
            truth = naming.target(segments, batch["mask"], self.classes)
            logits = self._numbers(segments, batch["image"])
            # Few segments are of the foreground alone: by cross-entropy without the overlap none would be named so.
            overlap = soft_dice(naming.probabilities(segments, logits.softmax(dim=2)), batch["mask"])
            terms["naming"] = overlap - (truth * logits.log_softmax(dim=2)).sum(dim=(1, 2))
        if not terms:
            raise WrongUse(f"{self.name} has nothing to learn with a model that is given and a rule that names")
        return {"loss": torch.stack([*terms.values()]).sum(dim=0), **terms}

    def believe(
        self, image: Float[Tensor, "n c ..."], *, noise: Noise, steps: int | None = None, **how: Any
    ) -> Iterator[tuple[int, int, Float[Tensor, "n k ..."]]]:
        total = len(self.config.times)
        if how or steps not in (None, total):
            asked = ", ".join(how) or f"{steps} steps"
            raise WrongUse(f"{self.name} asks the network at the {total} times of its options: it takes no {asked}")
        for index, _, segments in self._segmenting(image, noise):
            with torch.no_grad():
                yield index, total, naming.probabilities(segments, self._names(segments, image))

    def _draws(self, draws: int | None) -> int:
        wanted = super()._draws(draws)
        return wanted if self.config.noised else 1

    def segments(
        self, image: Float[Tensor, "b c h w"], *, seed: int = 0, first: int = 0
    ) -> Segments:
        """The segments of a batch of images, which have no names.

        Args:
            image: in [-1, 1], of any size.
            first: the number of the first image, which its noise is keyed by where it is noised.
        """
        image = image.to(next(self.parameters()).device)
        noise = Noise(seed, torch.arange(first, first + len(image)))
        *_, (_, _, segments) = self._segmenting(image, noise)
        return segments

    def oracle(
        self, image: Float[Tensor, "b c h w"], mask: Int64[Tensor, "b h w"], *, seed: int = 0, first: int = 0
    ) -> Segmentation:
        """What the segments are worth if the truth names them: each class is the segment that overlaps it best.

        It looks at the mask, so what it gives is an evaluation and no segmentation. All classes count alike, with the
        background: a rule may do better on the foreground alone. The arguments are those of `segments`.
        """
        segments = self.segments(image, seed=seed, first=first)
        names = naming.matched(segments, mask.to(segments.share.device), self.classes)
        probability = naming.probabilities(segments, names).cpu()
        return Segmentation(probability, probability[:, None], len(self.config.times))

    @torch.no_grad()
    def _segmenting(
        self, image: Float[Tensor, "n c h w"], noise: Noise
    ) -> Iterator[tuple[int, int, Segments]]:
        config, total = self.config, len(self.config.times)
        mean: Tensor | None = None
        for index, t in enumerate(config.times):
            found = self.frozen.look(image, t, noise=noise if config.noised else None, finest=config.finest)
            maps, grid = merging.aggregate(found)
            mean = maps if mean is None else mean + (maps - mean) / (index + 1)
            yield index, total, self._merged(mean, grid, tuple(image.shape[2:]))

    def _merged(self, maps: Float[Tensor, "n p p"], grid: tuple[int, ...], size: tuple[int, ...]) -> Segments:
        config = self.config
        at = merging.anchors(grid, config.anchors).to(maps.device)
        unit = merging.typical(maps, at) if config.relative else torch.ones_like(maps[:, :1, :1])
        proposals = merging.propose(maps, at, config.threshold * unit)
        for _ in range(config.rounds - 1):
            proposals = merging.merge(proposals, config.threshold * unit)
        if config.segments is not None:
            proposals = merging.fewer(proposals, config.segments)
        shown = merging.refine(maps, proposals, config.refine) if config.refine else proposals.maps
        return merging.spread(shown, proposals.alive, grid, size)

    def _names(self, segments: Segments, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n s k"]:
        if self.read_out is not None:
            return self._numbers(segments, image).softmax(dim=2)
        config, described = self.config, naming.Description.of(segments, image)
        return naming.foreground(described, config.naming, smallest=config.smallest, largest=config.largest)

    def _numbers(self, segments: Segments, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n s k"]:
        """Logits of the classes of each segment."""
        assert self.read_out is not None
        logits: Tensor = self.read_out(naming.Description.of(segments, image).numbers())
        return logits
