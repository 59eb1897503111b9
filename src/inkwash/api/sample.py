"""`inkwash.sample`: new images from a trained run, written as PNG files that say how they were made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inkwash.api import backends, conditions
from inkwash.api.folder import check_empty, empty_folder
from inkwash.api.progress import Progress
from inkwash.api.runs import generator, processes
from inkwash.errors import WrongUse
from inkwash.evaluation import pictures
from inkwash.training.run import Run


def sampling(
    run: str | Path,
    n: int,
    *,
    out: str | Path,
    condition: str | None = None,
    seed: int = 0,
    batch: int = 16,
    backend: str | None = None,
    **how: Any,
) -> Iterator[Progress]:
    """`sample`, saying where it is; the last report carries the paths.

    Started by `torchrun`, each process draws its share; the pictures are those that one process draws.
    """
    if n < 1:
        raise WrongUse(f"-n is the number of images, at least 1, not {n}")
    check_empty(Path(out))
    system = generator(run)
    backend = backend or backends.default(system, run, how)
    backends.prepare(system, run, backend)
    told = conditions.of_text(Run.open(run), system, condition)
    group = processes()
    share, rest = divmod(n, group.num_processes)
    rank = group.process_index
    first, count = rank * share + min(rank, rest), share + (rank < rest)
    way = system.way(**how)
    facts = {"system": system.name, "run": str(run), **way.told, "backend": backend, "seed": seed}

    draws = system.draw(n, condition=told, first=first, count=count, seed=seed, batch=batch, **way.told)
    folder, paths = None, []
    for draw in draws:
        done = draw.first - first
        if draw.finished:
            folder = folder or empty_folder(out, group)
            for i, image in enumerate(draw.step.z.cpu()):
                path = folder / f"{draw.first + i:05d}.png"
                pictures.save(image, path, facts={**facts, "item": draw.first + i})
                paths.append(path)
            done += draw.count
        yield Progress("drawing", done, count, note=f"step {draw.step.index + 1} of {draw.step.total}")
    if folder is None:
        empty_folder(out, group)  # a process without a share still keeps step with the others
    group.wait_for_everyone()
    yield Progress("drawing", count, count, result=paths)


def sample(run: str | Path, n: int, *, out: str | Path, **options: Any) -> list[Path]:
    """Draw `n` new images from a run and write them as PNG files.

    Image `i` depends on the seed, `i` and its condition alone: not on `batch`, `n`, or the number of processes.

    Args:
        run: a run folder.
        out: a folder that is empty or doesn't exist yet.
        **options: `condition`, masks (a file, a folder, a data set) or a class; `seed` (0); `batch` (16); `backend`,
            what computes the network: `torch`, `compile`, `onnx` or `int8`; and how to draw, as `Generator.way` takes
            it: `steps`, evaluations of the network an image; `sampler`, a solver or solver@grid; `guidance` and its
            `interval`; `cache`.

    Raises:
        WrongUse: something handed in can't be used; nothing was written.
    """
    *_, last = sampling(run, n, out=out, **options)
    paths: list[Path] = last.result
    return paths
