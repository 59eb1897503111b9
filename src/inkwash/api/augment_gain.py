"""What drawn pictures are worth: a segmenter trained on real ones, on drawn ones, and on both."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int, Int64
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from inkwash import systems
from inkwash.api.progress import Progress
from inkwash.api.restoration_table import Figure
from inkwash.api.segmenting import Segmented, segmenting
from inkwash.data import ImageSet
from inkwash.data.spec import DataSpec
from inkwash.errors import WrongUse
from inkwash.evaluation.report import Section
from inkwash.evaluation.segmentation.rounds import Rounds
from inkwash.evaluation.statistics import bootstrap, paired
from inkwash.systems.segmenter import Segmenter
from inkwash.training import TrainOptions, fit
from inkwash.training.options import parse
from inkwash.training.run import Run

KINDS = ("real", "drawn", "both")


class Gain(BaseModel):
    """Dice of the same segmenter on the held-out real pictures, by what it was trained on.

    Attributes:
        dice: by `real`, `drawn`, `both`, mean over cases.
        gain: of both over real alone, mean of the differences case by case.
        p: of no difference, signed ranks.
        steps: of each training, the same for all.
    """

    model_config = ConfigDict(extra="forbid")

    segmenter: str
    steps: int
    cases: int
    pictures: dict[str, int]
    dice: dict[str, Figure]
    gain: Figure
    p: float

    def __str__(self) -> str:
        each = ", ".join(f"{kind} {self.dice[kind].mean:.3f}" for kind in KINDS)
        return (
            f"Dice of {self.segmenter} on {self.cases} held-out real pictures, trained for {self.steps} steps: {each}; "
            f"both over real {self.gain.mean:+.3f} [{self.gain.low:+.3f}, {self.gain.high:+.3f}], p = {self.p:.2g}"
        )

    def section(self) -> Section:
        """The table of a page."""
        rows = [
            [kind, str(self.pictures[kind]), f"{d.mean:.3f}", f"{d.low:.3f} to {d.high:.3f}"]
            for kind, d in self.dice.items()
        ]
        return Section("What they are worth", text=str(self), columns=["trained on", "pictures", "Dice", "95 %"],
        rows=rows)


@dataclass
class Pictures:
    """Pictures with masks as the training loop asks for them: real ones, then drawn ones."""

    spec: DataSpec
    fingerprint: str
    real: ImageSet | None
    image: Float[Tensor, "n c h w"]
    mask: Int64[Tensor, "n h w"]

    def __len__(self) -> int:
        return (0 if self.real is None else len(self.real)) + len(self.image)

    def batch(self, indices: Int[Tensor, "b"]) -> dict[str, Tensor]:
        """These pictures."""
        count = 0 if self.real is None else len(self.real)
        found = {"image": torch.empty(len(indices), *self.image.shape[1:]),
                 "mask": torch.empty(len(indices), *self.mask.shape[1:], dtype=torch.int64)}  # fmt: skip
        ours = indices >= count
        found["image"][ours], found["mask"][ours] = self.image[indices[ours] - count], self.mask[indices[ours] - count]
        if self.real is not None and bool((~ours).any()):
            given = self.real.batch(indices[~ours])
            for name in found:
                found[name][~ours] = given[name]
        return found


def checked(name: str) -> type[Segmenter]:
    """The segmenter of this name; `WrongUse` where it is none."""
    kind = systems.get(name)
    if not issubclass(kind, Segmenter):
        known = ", ".join(systems.names("segmentation"))
        raise WrongUse(f"{name} does {kind.task}: gains are measured with a segmenter, {known}")
    return kind


def gaining(
    name: str,
    train: ImageSet,
    real: ImageSet,
    image: Float[Tensor, "n c h w"],
    mask: Int64[Tensor, "n h w"],
    *,
    steps: int,
    seed: int,
    folder: Path,
) -> Iterator[Progress]:
    """Train and measure three times; the last report carries the `Gain`.

    All three see the same number of batches of the same size, in equal orders, and are measured on `real`.
    """
    kind = checked(name)
    none = image[:0], mask[:0]
    sets = {
        "real": Pictures(train.spec, f"{train.fingerprint}-real", train, *none),
        "drawn": Pictures(train.spec, f"{train.fingerprint}-drawn", None, image, mask),
        "both": Pictures(train.spec, f"{train.fingerprint}-both", train, image, mask),
    }
    suited = kind.training_presets.get("quick", {})
    kept = {k: v for k, v in suited.items() if k in TrainOptions.model_fields}
    options = parse(TrainOptions, {**kept, "steps": steps, "seed": seed})
    dice = {}
    for which, pictures in sets.items():
        torch.manual_seed(seed)
        system = kind(kind.Config(), train.spec)
        run = Run.create(
            folder / which, system=name, config=system.config, spec=train.spec, options=options,
            data={"path": which, "licence": None, "fingerprint": pictures.fingerprint, "pictures": len(pictures),
                  "masks": None if train.table is None else train.table.model_dump(mode="json"), **train.recorded,
                  "augment": {}, "command": "inkwash augment --measure"},
        )  # fmt: skip
        for at in fit(system, pictures, run, options):
            yield Progress(f"training on {which}", at.step, steps, rate=at.rate, seconds_left=at.seconds_left)
        last = None
        for last in segmenting(system.eval(), real, torch.arange(len(real)), seed=seed):
            yield replace(last, stage=f"measuring {which}", result=None)
        assert last is not None
        found: Segmented = last.result
        dice[which] = Rounds.of([found.cases]).cases("Dice")
    more = paired(dice["both"], dice["real"])
    assert more is not None
    known = {which: values[~values.isnan()] for which, values in dice.items()}
    yield Progress(
        "measuring", 1, 1,
        result=Gain(
            segmenter=name, steps=steps, cases=more.count,
            pictures={which: len(pictures) for which, pictures in sets.items()},
            dice={which: Figure.of(bootstrap(values)) for which, values in known.items()},
            gain=Figure(mean=round(more.mean, 4), low=round(more.low, 4), high=round(more.high, 4)), p=more.p,
        ),
    )  # fmt: skip
