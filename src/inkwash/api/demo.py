"""`inkwash.demo`: the whole path on the bundled pictures, from a model to a report."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from inkwash.api.describe import find
from inkwash.api.evaluate import measuring
from inkwash.api.folder import empty_folder
from inkwash.api.page import SHOWN, page
from inkwash.api.progress import Progress
from inkwash.api.runs import generator
from inkwash.api.train import training
from inkwash.corruption.noise import Noise
from inkwash.evaluation import pictures
from inkwash.evaluation.report import Command, Strip
from inkwash.systems.base import Generator
from inkwash.systems.bundled import run_of
from inkwash.systems.restoration.measurements import measurement
from inkwash.systems.restoration.restorer import restore
from inkwash.systems.segmentation.zero_shot import ZeroShot, ZeroShotConfig
from inkwash.training.run import Run

SYSTEM, DATA = "polyp-ddpm", "bundled:retina"
COUNT = 64
RESTORE = "inkwash predict bundled:ddpm-retina FILE --operator denoise:noise=25 --out restored"
# What a model of retinas is a prior for: each is undone without any training, by that sampler.
MEASUREMENTS = {
    "denoise:noise=25": "ddrm",
    "inpaint:hide=box,share=0.4": "ddrm",
    "sr:factor=4": "ddrm",
    "light:gain=0.4,veil=0.1,noise=2": "unimie",
}


def demonstrating(out: str | Path = "runs/demo") -> Iterator[Progress]:
    """`demo`, saying where it is; the last report carries the path of `report.html`."""
    out = empty_folder(out)
    model = run_of("polyp-ddpm-retina")
    if model is None:
        model = out / "run"
        for step in training(SYSTEM, DATA, out=model, minutes=2):
            yield replace(step, result=None)
    run, system, collection = Run.open(model), generator(model), find(DATA)
    last = None
    for last in measuring(system, SYSTEM, collection, n=COUNT, folder=model):
        yield replace(last, result=None)
    assert last is not None
    measured = last.result
    for i, image in enumerate(measured.drawn):
        facts = {"system": SYSTEM, "run": run.path.name, "seed": 0, "item": i}
        pictures.save(image, out / "drawn" / f"{i:05d}.png", facts=facts)
    commands = [
        Command("What is this folder, and what can be trained on it?", f"inkwash data {DATA}"),
        Command("Train a model like this one", f"inkwash train {SYSTEM} {DATA} --out runs/retina --minutes 10"),
        Command("Draw from held-out masks", f"inkwash sample runs/retina -n 16 --condition {DATA} --out pictures"),
        Command("Measure it", f"inkwash evaluate runs/retina {DATA}"),
        Command("Restore pictures, a model of such pictures being what is known of them", RESTORE),
        Command("The same on your own pictures", f"inkwash train {SYSTEM} FOLDER --out runs/mine --minutes 10"),
    ]
    title = "Retinas that were never photographed"
    report = page(measured, run, command="inkwash demo", commands=commands, title=title)
    strips, prior = list(report.strips), run_of("ddpm-retina")
    restorer = system if prior is None else generator(prior)
    for index, (text, by) in enumerate(MEASUREMENTS.items()):
        yield Progress(f"restoring {text}", index, len(MEASUREMENTS))
        strips += _restored(restorer, measured.real[:SHOWN], text, by)
    yield Progress("looking for segments", 0, 1)
    strips.append(_segmented(model, system, measured.real[:SHOWN]))
    report = replace(report, strips=strips)
    yield Progress("writing", 1, 1, result=report.write(out / "report.html"))


def _restored(system: Generator, x: Float[Tensor, "n c h w"], text: str, by: str) -> list[Strip]:
    """Real pictures as they were measured, and as the model restores them."""
    asked = measurement(text, tuple(x.shape[1:]))
    y = asked.take(x, noise=Noise(0, range(len(x))))
    found = restore(system, asked, y, by=by, steps=20, draws=2)
    # Light is shown as it is: the operator's own inverse would know the gain and the veil, which the sampler finds.
    seen = y if by == "unimie" else asked.first_guess(y)
    return [
        Strip(f"real ones, measured as {text}", seen.clamp(-1, 1)),
        Strip("restored by a model of retinas, which was never taught to", found.estimate),
    ]


def _segmented(run: Path, system: Generator, x: Float[Tensor, "n c h w"]) -> Strip:
    """Real pictures in segments of what attends to the same in the model."""
    finder = ZeroShot(ZeroShotConfig.model_validate({"model": str(run), "segments": 4}), system.spec)
    return Strip(
        "real ones, in segments of what the model attends to", pictures.overlay(x, finder.segments(x).index + 1)
    )


def demo(out: str | Path = "runs/demo") -> Path:
    """Draw new pictures from held-out masks with the bundled model, measure them, and write a report.

    Where no model is bundled one is trained for two minutes first.

    Args:
        out: a new folder.

    Returns:
        The path of `report.html`.
    """
    *_, last = demonstrating(out)
    path: Path = last.result
    return path
