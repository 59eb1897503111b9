"""One image segmented: the procedure of the paper, and the same network asked less often.

Each system is trained once, and its masks are then found in two ways: as its paper or its published code finds them,
draw after draw, and as here, with all draws in one batch. The time is that of one image; the Dice is the mean over
held-out images, the same for both ways. SDSeg is its own paper's one step: it stands beside the 50 DDIM steps that
latent diffusion takes.

`--runs FOLDER` measures runs that are there, named SYSTEM or SYSTEM-anything, as `inkwash compare` leaves them in its
folder `runs`, on `--data`; otherwise each is trained on the bundled retinas.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from support.arguments import parser
from support.record import Row, Target, write
from support.timing import interleaved
from torch import Tensor

import inkwash
from inkwash.api.describe import find
from inkwash.data import ImageSet
from inkwash.evaluation.segmentation.cases import measure
from inkwash.systems.segmenter import Segmenter


@dataclass(frozen=True)
class Procedure:
    """How masks are found: `draws` of them, each in `steps` evaluations of the network."""

    sampler: str
    steps: int
    draws: int = 1

    def __str__(self) -> str:
        return f"{self.sampler}, {self.steps} x {self.draws}"


DDIM = "ddim@uniform"
ANCESTRAL = "ddpm@uniform"
# What is published, and what is measured beside it.
PROCEDURES = {
    "ensemdiff": (Procedure(ANCESTRAL, 1000, 5), Procedure("ddim", 10)),
    "medsegdiff": (Procedure(ANCESTRAL, 1000, 5), Procedure("ddim", 10)),
    "hidiff": (Procedure("ddpm", 10), Procedure("ddpm", 1)),
    "ldseg": (Procedure(DDIM, 15), Procedure(DDIM, 1)),
    "sdseg": (Procedure(DDIM, 50), Procedure(DDIM, 1)),
}
# The published MedSegDiff takes so long that more is asked of it.
LEAST = {"medsegdiff": 100.0}
USUAL = 10.0


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--runs", type=Path, help="folder of trained runs; without it each system is trained")
    made.add_argument("--data", default="bundled:retina", help="what they were trained on (bundled:retina)")
    made.add_argument("--minutes", type=float, default=3.0, help="of training each, without --runs")
    made.add_argument("--cases", type=int, default=12, help="held-out images that Dice is the mean of")
    options = made.parse_args()
    cases, rounds = (2, 1) if options.quick else (options.cases, 3)
    rows, data = [], find(options.data)
    with tempfile.TemporaryDirectory() as folder:
        for system, (published, ours) in PROCEDURES.items():
            run = None if options.runs is None else next(iter(sorted(options.runs.glob(f"{system}*"))), None)
            if run is None:
                if options.runs is not None:
                    print(f"{options.runs} holds no run of {system}: left out")
                    continue
                run, minutes = Path(folder) / system, {"steps": 5} if options.quick else {"minutes": options.minutes}
                inkwash.train(system, options.data, out=run, **minutes)
            model = inkwash.load(run)
            images = data.images("test", model.spec.size, channels=model.spec.channels)
            slow = Procedure(published.sampler, min(published.steps, 20), 2) if options.quick else published
            rows.append(measured(system, model, images, slow, ours, cases, rounds))
    title = "One image segmented, beside the procedure of the paper"
    write("segmenting", title, rows, options.out, about=str(__doc__))


def measured(
    system: str, model: Segmenter, images: ImageSet, published: Procedure, ours: Procedure, cases: int, rounds: int
) -> Row:
    some = torch.linspace(0, len(images) - 1, min(cases, len(images))).round().long()
    one = images.batch(some[:1])["image"]
    calls: dict[str, Callable[[], object]] = {
        "published": lambda: after_one_another(model, one, published),
        "ours": lambda: model.segment(one, sampler=ours.sampler, steps=ours.steps, draws=ours.draws),
    }
    times = interleaved(calls, rounds, warmup=0)
    dice = {name: overlap(model, images, some, way) for name, way in {"published": published, "ours": ours}.items()}
    return Row(
        measure=system,
        ours=times["ours"].median * 1000,
        unit="ms",
        peers={str(published): times["published"].median * 1000},
        ratio=times.ratio("published", "ours"),
        target=Target("ratio", LEAST.get(system, USUAL)),
        note=f"{ours}; Dice {dice['ours']:.3f} beside {dice['published']:.3f}",
        detail={"dice": dice, "cases": len(some)},
    )


def after_one_another(model: Segmenter, image: Tensor, way: Procedure) -> Tensor:
    """The mean of draws that are each a batch of their own, as published code has them."""
    drawn = [
        model.segment(image, sampler=way.sampler, steps=way.steps, draws=1, seed=draw).probability
        for draw in range(way.draws)
    ]
    return torch.stack(drawn).mean(dim=0)


def overlap(model: Segmenter, images: ImageSet, some: Tensor, way: Procedure) -> float:
    """Mean Dice of these images; draws are folded, which changes no mask."""
    given = images.batch(some)
    found = model.segment(given["image"], sampler=way.sampler, steps=way.steps, draws=way.draws, first=some)
    names = [images.names[i] for i in some.tolist()]
    cases = measure(names, found.probability, found.uncertainty, found.masks, given["mask"])
    return cases.values["Dice"].nanmean().item()


if __name__ == "__main__":
    main()
