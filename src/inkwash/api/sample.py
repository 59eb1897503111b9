"""`inkwash.sample`: new images from a trained run, written as files that say how they were made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inkwash.api import backends, conditions, drawing_plan, drawn
from inkwash.api.folder import check_empty, empty_folder, made
from inkwash.api.progress import Progress
from inkwash.api.runs import generator, opened
from inkwash.errors import WrongUse
from inkwash.memory.amount import parse
from inkwash.memory.watch import watch
from inkwash.training.processes import by_first, from_all, share, together


def sampling(
    run: str | Path,
    n: int,
    *,
    out: str | Path,
    condition: str | None = None,
    first: int = 0,
    seed: int = 0,
    batch: int = 16,
    memory: str | None = None,
    backend: str | None = None,
    **how: Any,
) -> Iterator[Progress]:
    """`sample`, saying where it is; the last report carries the paths.

    Started by `torchrun`, each process draws its share; the pictures are those that one process draws.
    """
    if n < 1 or first < 0:
        raise WrongUse(f"-n is the number of images, at least 1, and --first a number from 0, not {n} and {first}")
    if memory is not None:
        parse(memory)
    with together():
        check_empty(Path(out))
        system, spacing = generator(run), drawn.spacing_of(opened(run))
        backend = backend or backends.default(system, run, how)
        backends.prepare(system, run, backend)
        told = conditions.of_text(opened(run), system, condition, first + n)
        way = system.way(**how)
    before, count = share(n)
    start = first + before
    way, batch, room = yield from drawing_plan.planned(
        system, way, memory, count=count, batch=batch, condition=told, seed=seed, how=how
    )
    facts = {"system": system.name, "run": str(run), **way.told, "backend": backend, "seed": seed}

    draws = system.draw(first + n, condition=told, first=start, count=count, seed=seed, batch=batch, **way.told)
    folder: Path | None = None
    paths: list[Path] = []
    advice = f"{drawing_plan.advice(memory, batch, way.tile, max(system.spec.size))}; choose a new folder"
    with (
        drawing_plan.kept_to(system, room),
        watch(memory, next(system.parameters()).device) as used,
        drawing_plan.advised(lambda: f"{len(paths)} of {count} pictures are in {out}: {advice}"),
    ):
        for draw in draws:
            done = draw.first - start
            if draw.finished:
                folder = folder or _opened(out)
                for i, image in enumerate(draw.pictures.cpu()):
                    told_of = {**facts, "item": draw.first + i}
                    paths.append(drawn.write(image, folder / f"{draw.first + i:05d}", facts=told_of, spacing=spacing))
                done += draw.count
                used.check(f"{len(paths)} of {count} pictures are in {out}: {advice}")
            yield Progress("drawing", done, count, note=f"step {draw.step.index + 1} of {draw.step.total}")
    if folder is None:
        _opened(out)  # a process without a share still keeps step with the others
    everything = [path for others in from_all(paths) for path in others]
    yield Progress("drawing", count, count, result=everything)


def _opened(out: str | Path) -> Path:
    """The folder, made where it is missing: on hosts without a common disk it is each host's own."""
    by_first(lambda: empty_folder(out))
    return made(Path(out))


def sample(run: str | Path, n: int, *, out: str | Path, **options: Any) -> list[Path]:
    """Draw `n` new images from a run and write them: pictures as PNG files, volumes as NIfTI.

    Image `i` depends on the seed, `i` and its condition alone: not on `batch`, `n`, or the number of processes.

    Args:
        run: a run folder.
        out: a folder that is empty or doesn't exist yet.
        **options: `condition`, masks (a file, a folder, a data set) or a class; `first`, the number of the first image
            (0); `seed` (0); `batch` (16); `memory`, a limit such as "4GB" or "80%" that chooses a smaller batch, and
            tiles where one image does not fit; `backend`, what computes the network: `torch`, `compile`, `onnx` or
            `int8`; and how to draw, as `Generator.way` takes it: `steps`, evaluations of the network an image;
            `sampler`, a solver or solver@grid; `guidance` and its `interval`; `cache`; `tile` and `overlap`.

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
        Failed: memory ran out, or went over `memory`; the images that were finished are there.
    """
    *_, last = sampling(run, n, out=out, **options)
    paths: list[Path] = last.result
    return paths
