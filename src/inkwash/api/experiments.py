"""The experiments of `inkwash analyse`: one network trained in several ways, and what each misses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from inkwash import systems
from inkwash.api.analysis import FIGURES, Trained
from inkwash.api.comparison.divisions import Division
from inkwash.api.given import AUGMENTS, augmentation, of, pairs
from inkwash.api.plain import plain
from inkwash.api.progress import Progress
from inkwash.api.runs import load
from inkwash.api.segmenting import Segmented, segmenting
from inkwash.api.train import training
from inkwash.corruption.noise import Noise
from inkwash.data import Augment
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.errors import unknown
from inkwash.evaluation.segmentation import table
from inkwash.evaluation.segmentation.cases import Cases
from inkwash.evaluation.segmentation.levels import errors, of_noise
from inkwash.evaluation.segmentation.rounds import Rounds
from inkwash.systems.base import Generator
from inkwash.systems.segmentation.mask_diffusion import MaskDiffusion, MaskDiffusionConfig
from inkwash.systems.segmentation.ottl import E2, EXPERIMENTS, Experiment
from inkwash.systems.segmenter import Segmenter
from inkwash.training.options import TrainOptions, parse

# Close together where masks are nearly clean: there the loss turns. At t = 1 nothing but the prior is left to tell.
TIMES = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, *(k / 20 for k in range(2, 20)), 0.98)
SHOWN = 64
# What the systems would choose for themselves, each in its own way: the same for all, so that only the task differs.
# The noise is the one that the papers have: what another does is the question.
_SAME = {"learning_rate": 1e-3, "ema": "0.05,0.1", "preview_every": None, "shift": 1.0, "sampling_steps": 10}
_APART = ("preset", "data_mean", "data_std", "blind", "steps", "minutes", "batch", "seed")


def told(given: Mapping[str, Any] | Sequence[str], *, steps: int | None, minutes: float | None) -> dict[str, Any]:
    """What all experiments are told with `--set`, the rest of it filled in.

    Raises:
        WrongUse: an option that there is not, that may not differ, or that has no such value.
    """
    said = pairs(given)
    known = {*MaskDiffusionConfig.model_fields, *TrainOptions.model_fields, *AUGMENTS} - set(_APART)
    for key in said:
        if key not in known:
            raise unknown("option of the experiments", key, known)
    moved = augmentation({k: v for k, v in said.items() if k in AUGMENTS})
    options = {**_SAME, **{k: plain(v) for k, v in {**asdict(Augment()), **asdict(moved)}.items()}}
    options |= {k: v for k, v in said.items() if k not in AUGMENTS}
    parse(TrainOptions, {**of(TrainOptions, options), "steps": steps, "minutes": minutes}, where="experiments")
    for experiment in EXPERIMENTS:
        kind = systems.get(experiment.system)
        parse(kind.Config, {**of(kind.Config, options), **experiment.options}, where=experiment.name)
    return options


def plan(options: Mapping[str, Any], schedule: str, shift: float) -> list[Experiment]:
    """The experiments; that with the suggested noise after E2, unless E2 has it already."""
    e1, e2, *rest = EXPERIMENTS
    better = Experiment("E2*", "as E2, with the suggested noise", E2.system, {"schedule": schedule, "shift": shift})
    mine = parse(MaskDiffusionConfig, of(MaskDiffusionConfig, options))
    return [e1, e2, *([better] if (mine.schedule, mine.shift) != (schedule, shift) else []), *rest]


def working(
    experiment: Experiment,
    options: Mapping[str, Any],
    division: Division,
    path: str | Path,
    out: Path,
    *,
    budget: Mapping[str, Any],
    size: int | tuple[int, ...],
    batch: int,
    seed: int,
    command: str,
) -> Iterator[Progress]:
    """Train one experiment and measure it; the last report carries a `Trained`.

    Args:
        options: as `told` gives them.
        out: the folder that its run is made in.
        budget: `steps` or `minutes`.
        command: what makes all of this again.
    """
    kind = systems.get(experiment.system)
    foreign = MaskDiffusionConfig.model_fields.keys() - kind.Config.model_fields.keys()
    own = {**{k: v for k, v in options.items() if k not in foreign}, **experiment.options}
    run = out / experiment.name.lower().replace("*", "-suggested")
    trained = None
    for report in training(
        experiment.system,
        path,
        out=run,
        size=size,
        batch=batch,
        seed=seed,
        set=own,
        collection=division.collection,
        command=command,
        **budget,
    ):
        trained = report.result
        yield replace(report, stage=f"{experiment.name} {report.stage}", result=None)
    assert trained is not None
    system = load(run)
    images = division.collection.images(division.split, system.spec.size, channels=system.spec.channels)
    figures: dict[str, float] = {}
    if isinstance(system, Segmenter):
        last = None
        for last in segmenting(system, images, torch.arange(len(images)), seed=seed):
            yield replace(last, stage=f"{experiment.name} {last.stage}", result=None)
        assert last is not None
        found: Segmented = last.result
        figures = measured(found.cases)
    losses: list[float] = []
    variance = None
    if isinstance(system, MaskDiffusion | Generator):
        items = torch.linspace(0, len(images) - 1, min(SHOWN, len(images))).round().long()
        device = next(system.parameters()).device
        shown = {name: value.to(device) for name, value in images.batch(items).items()}
        x = system.encode(shown["image"]) if isinstance(system, Generator) else system.diffused(shown, system.spec)
        variance = x.var(dim=(0, *range(2, x.ndim)), correction=0).mean().item()
        for done, loss in enumerate(_losses(system, x, shown, Noise(seed, items)), start=1):
            losses.append(loss)
            yield Progress(f"{experiment.name} losses", done, len(TIMES))
    denoiser = cast(GaussianDenoiser, getattr(system, "denoiser", None))
    times = TIMES if losses else ()
    result = Trained(
        name=experiment.name,
        about=experiment.about,
        system=experiment.system,
        options=[f"{key}={plain(value)}" for key, value in experiment.options.items()],
        run=str(run),
        parameters=sum(parameter.numel() for parameter in system.parameters()),
        steps=trained.metrics()[-1]["step"],
        figures=figures,
        times=list(times),
        log_snr=[denoiser.corruption.at(t).log_snr for t in times],
        data_error=losses,
        variance=variance,
        noise_error=[of_noise(denoiser, loss, t) for loss, t in zip(losses, times, strict=True)],
    )
    yield Progress(f"{experiment.name} done", 1, 1, result=result)


def measured(cases: Cases) -> dict[str, float]:
    """The figures of a table."""
    return {metric.name: metric.value for metric in table.rows(Rounds.of([cases])) if metric.name in FIGURES}


def _losses(
    system: MaskDiffusion | Generator, x: Tensor, batch: dict[str, Tensor], noise: Noise
) -> Iterator[float]:
    """The mean error of the clean data `x` of a batch at each of `TIMES`."""
    condition = system.condition(batch["image"]) if isinstance(system, MaskDiffusion) else system.condition(batch)
    for error in errors(system.denoiser, x, TIMES, noise=noise, **condition):
        yield error.mean().item()
