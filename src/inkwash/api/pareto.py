"""`inkwash.pareto`: which way to draw is worth its time, over solvers, grids, steps, caches and backends."""

import datetime
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inkwash.api import backends, conditions
from inkwash.api.describe import find, licence, looking
from inkwash.api.evaluate import CHUNK, held_out
from inkwash.api.folder import empty_folder
from inkwash.api.onnx_network import facts
from inkwash.api.pareto_report import Pareto, Setting, page
from inkwash.api.progress import Progress
from inkwash.api.runs import generator
from inkwash.atomic import write_text
from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse
from inkwash.evaluation import features
from inkwash.evaluation.fidelity import frechet
from inkwash.evaluation.front import Distance, distance, front
from inkwash.systems import settings
from inkwash.systems.base import Generator
from inkwash.systems.settings import Best
from inkwash.training.run import Run

SAMPLERS = ("dpm++2m", "unipc", "ddim")
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
CACHES = ("deep:2", "deep:3", "first-block:0.1")
SHOWN = 8
FEWEST = 16
# From here on there are enough steps for an evaluation to resemble the one before.
_CACHED_FROM = 6
# A student that draws in more evaluations than it was made for is tried with as many, twice and four times as many.
_DOUBLED = (1, 2, 4)


@dataclass(frozen=True)
class _Drawn:
    """The pictures of a setting."""

    told: dict[str, Any]
    run: str
    backend: str
    stochastic: bool
    pictures: Tensor
    seconds: float
    distance: Distance
    fid: float


def comparing(
    run: str | Path,
    path: str | Path,
    *,
    out: str | Path | None = None,
    number: int = 96,
    budget: float | None = None,
    steps: Sequence[int] = STEPS,
    samplers: Sequence[str] = SAMPLERS,
    caches: Sequence[str] = CACHES,
    students: Sequence[str | Path] = (),
    guidance: float | None = None,
    batch: int = 16,
    seed: int = 0,
    store: bool = True,
    skip_bad: bool = False,
) -> Iterator[Progress]:
    """`pareto`, saying where it is; the last report carries a `Pareto`."""
    if number < FEWEST or batch < 1:
        raise WrongUse(f"--number is at least {FEWEST} pictures and --batch at least 1, not {number} and {batch}")
    if budget is not None and budget <= 0:
        raise WrongUse(f"--budget is seconds an image, above 0, not {budget:g}")
    if not steps or min(steps) < 1:
        raise WrongUse(f"--steps are numbers of evaluations, 1 or more, not {list(steps)}")
    folder = Run.open(run)
    target = empty_folder(out if out is not None else folder.path / "pareto")
    system = generator(run)
    others = {str(student): generator(student) for student in students}
    for name, student in others.items():
        if student.spec != system.spec or student.config.student == "none":
            raise WrongUse(f"{name} is not a student of {run}: give run folders that inkwash distil made from it")
    for count in steps:  # what can't be drawn is said before anything is
        system.way(steps=count, guidance=guidance, cache="none", sampler="ddim")
    for sampler in samplers:
        system.way(steps=max(2, *steps), sampler=sampler, guidance=guidance, cache="none")
    for cache in caches:
        system.way(cache=cache)

    collection = find(path, skip_bad=skip_bad, like=folder)
    yield from looking(collection)
    split, real = held_out(collection, system)
    train = collection.images("train", system.spec.size, channels=system.spec.channels)
    if system.known(real.spec) != system.spec:
        raise WrongUse(f"{path} does not fit {run}: it was trained on data with other channels, masks or classes")
    order = Noise(seed, range(len(real))).uniform((), "order", dtype=torch.float64).argsort()
    told = conditions.of_images(system, real, order[torch.arange(number) % len(real)])
    embed = features.get("compact")
    wanted = {"train": train, "held out": real}
    vectors = {}
    for done, (which, images) in enumerate(wanted.items()):
        yield Progress("real pictures", done, len(wanted), note=which)
        chunks = torch.arange(len(images)).split(CHUNK)
        vectors[which] = features.extract(embed, [images.batch(chunk)["image"] for chunk in chunks])
    floor = distance(vectors["held out"], vectors["train"]).value

    def drawn(system: Generator, name: str, how: dict[str, Any], backend: str) -> _Drawn:
        way = system.way(**how)
        # A student draws as it learned to, which is short.
        warm = way.told if system.config.student != "none" else {**way.told, "steps": 2, "sampler": "ddim"}
        system.generate(min(batch, number), condition=told, seed=seed, batch=batch, **warm)
        parts, least, start = [], float("inf"), time.perf_counter()
        for draw in system.draw(number, condition=told, seed=seed, batch=batch, **way.told):
            if draw.finished:
                parts.append(draw.pictures.float().cpu())
                now = time.perf_counter()
                least, start = min(least, (now - start) / draw.count), now
        made = torch.cat(parts)
        found = features.extract(embed, made.split(CHUNK))
        count = min(number, len(vectors["held out"]))
        return _Drawn(
            told=way.told,
            run=name,
            backend=backend,
            stochastic=way.solver.stochastic,
            pictures=made,
            seconds=least,
            distance=distance(found, vectors["train"]),
            fid=frechet(vectors["train"], found[:count]),
        )

    results: list[_Drawn] = []

    def step(stage: str, todo: Sequence[tuple[Generator, str, dict[str, Any], str]]) -> Iterator[Progress]:
        for done, (kind, name, how, backend) in enumerate(todo):
            note = f"{how['sampler']} {how['steps']}" + (f" {how['cache']}" if how["cache"] != "none" else "")
            yield Progress(stage, done, len(todo), note=note)
            results.append(drawn(kind, name, how, backend))
        yield Progress(stage, len(todo), len(todo))

    own = backends.prepare(system, run)
    weight = system.way().guidance if guidance is None else guidance
    plain = {"guidance": weight, "cache": "none"}
    pairs = [(name, count) for name in samplers for count in steps if _possible(own, name, count)]
    pairs += [("tuned", walk.steps) for walk in own.settings.tuned if walk.guidance == weight]
    ways = [{**plain, "sampler": name, "steps": count} for name, count in pairs]
    yield from step("solvers and steps", [(own, str(run), how, "torch") for how in ways])
    base = [result.told for result in _best(results) if result.told["steps"] >= _CACHED_FROM]
    cached = [{**how, "cache": cache} for how in base for cache in caches]
    yield from step("caches", [(own, str(run), how, "torch") for how in cached])
    exported = [kind for kind, flag in (("onnx", "float32"), ("int8", "int8")) if flag in facts(folder.path)]
    kept = [result.told for result in _best(results) if result.told["cache"] == "none"]
    for kind in exported:
        other = backends.prepare(generator(run), run, kind)
        yield from step(f"backend {kind}", [(other, str(run), how, kind) for how in kept])
    for name, student in others.items():
        # Guidance is folded into a student: it draws as it was distilled.
        other = backends.prepare(student, name)
        yield from step(f"student {name}", [(other, name, how, "torch") for how in _learned(student)])

    made = _settings(results, str(run))
    on_front = front([(found.seconds, found.kid) for found in made])
    made = [found.model_copy(update={"front": flag}) for found, flag in zip(made, on_front, strict=True)]
    chosen = choose(made, budget)
    stored = store and chosen is not None and made[chosen].run == str(run)
    answer = Pareto(
        run=str(run),
        data=f"{path} ({split} held out)",
        number=number,
        batch=batch,
        seed=seed,
        budget=budget,
        device=f"{next(system.parameters()).device}, {torch.get_num_threads()} threads",
        floor=floor,
        settings=made,
        chosen=chosen,
        stored=stored,
        report=str(target / "report.html"),
    )
    shown = [result.pictures[:SHOWN] for result in results]
    page(answer, shown, folder.system, licence(str(path))).write(target / "report.html")
    write_text(target / "pareto.json", answer.model_dump_json(indent=2) + "\n")
    if stored:
        assert chosen is not None
        _store(folder.path, made[chosen], answer)
    yield Progress("choosing", 1, 1, result=answer)


def pareto(run: str | Path, path: str | Path, **options: Any) -> Pareto:
    """Draw the same pictures in many ways, and say which way is worth its time.

    Solvers and grids at many numbers of steps; then caches and exported networks for the best of them; then students.
    The fastest setting that can't be told from the best one is stored as the run's default.

    Args:
        run: a run folder.
        path: the data: what held-out conditions are taken from, and whose training pictures are compared with.
        **options: `out`, a folder for the report (pareto/ in the run folder); `number` of pictures for each setting
            (96); `budget` in seconds an image; `steps`, `samplers`, `caches` to try; `students`, run folders distilled
            from this run; `guidance`; `batch` (16); `seed` (0); `store`, whether the choice becomes the default (true);
            `skip_bad`.

    Raises:
        WrongUse: something handed in can't be used.
    """
    *_, last = comparing(run, path, **options)
    result: Pareto = last.result
    return result


def choose(found: Sequence[Setting], budget: float | None) -> int | None:
    """The place of the setting to use: the fastest whose quality can't be told from the best that keeps the budget.

    Two settings can't be told apart where the difference of their distances is below twice its standard error.
    """
    within = [i for i, setting in enumerate(found) if budget is None or setting.seconds <= budget]
    if not within:
        return None
    best = min(within, key=lambda i: found[i].kid)
    as_good = [i for i in within if found[i].kid - found[best].kid <= 2 * found[i].error]
    return min(as_good, key=lambda i: found[i].seconds)


def _possible(system: Generator, sampler: str, steps: int) -> bool:
    """Whether a solver can walk in so few evaluations."""
    try:
        system.way(sampler=sampler, steps=steps, cache="none")
    except WrongUse:
        return False
    return True


def _learned(student: Generator) -> list[dict[str, Any]]:
    """The ways of drawing that a student was taught: by its own solver, in its own number of evaluations or more."""
    own = student.config.sampling_steps
    counts = [own] if student.config.student == "progressive" else [own * times for times in _DOUBLED]
    return [student.way(steps=count, cache="none").told for count in counts]


def _best(results: Sequence[_Drawn]) -> list[_Drawn]:
    """Those on the front so far."""
    flags = front([(result.seconds, result.distance.value) for result in results])
    return [result for result, flag in zip(results, flags, strict=True) if flag]


def _settings(results: Sequence[_Drawn], run: str) -> list[Setting]:
    nearest = min((result.distance for result in results), key=lambda found: found.value)
    walks = [
        result
        for result in results
        if (result.run, result.backend, result.told["cache"], result.stochastic) == (run, "torch", "none", False)
    ]
    longest = max(walks, key=lambda result: result.told["steps"], default=None)
    made = []
    for result in results:
        excess, error = result.distance.excess(nearest)
        gap = None
        if longest is not None and result.run == run and not result.stochastic:
            gap = (result.pictures - longest.pictures).square().mean().sqrt().item()
        made.append(
            Setting(
                run=result.run,
                sampler=result.told["sampler"],
                steps=result.told["steps"],
                cache=result.told["cache"],
                backend=result.backend,
                kid=result.distance.value,
                excess=excess,
                error=error,
                fid=result.fid,
                gap=gap,
                seconds=result.seconds,
            )
        )
    return made


def _store(run: Path, setting: Setting, answer: Pareto) -> None:
    reason = (
        f"inkwash pareto {answer.run} on {answer.data}, {datetime.date.today().isoformat()}: KID {setting.kid:.4f}, "
        f"{setting.excess:+.4f} +- {setting.error:.4f} to the best, {setting.seconds * 1000:.1f} ms an image"
    )
    best = Best(
        steps=setting.steps, sampler=setting.sampler, cache=setting.cache, backend=setting.backend, reason=reason
    )
    settings.read(run).model_copy(update={"best": best}).write(run)
