"""`inkwash distil`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inkwash.cli.number import Whole
from inkwash.cli.progress import follow


def distil(
    run: Path,
    path: Path | None = None,
    /,
    *,
    steps: Whole,
    out: Path,
    method: str | None = None,
    updates: Whole | None = None,
    minutes: float | None = None,
    guidance: float | None = None,
    batch: Whole | None = None,
    seed: Whole = 0,
    set: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    resume: bool = False,
    overwrite: bool = False,
    skip_bad: bool = False,
) -> None:
    """Teach a student to draw what a run draws, in a few evaluations of the network an image.

    $ inkwash distil runs/polyp --steps 4 --out runs/polyp-4 --minutes 10
    $ inkwash distil runs/xray --steps 1 --out runs/xray-1 --method shortcut --updates 20000

    The student is a run like any other, and draws in that many evaluations where nothing else is asked for.
    Stopped with Ctrl-C or killed, it goes on with inkwash distil RUN --steps K --out RUN2 --resume.

    Args:
        run: a run folder that inkwash train wrote.
        path: images to distil with; those that the run was trained on by default.
        steps: evaluations of the network that the student draws an image in: 1, 2, 4, ...
        out: the run folder of the student to write.
        method: progressive, the default, consistency, consistency-training or shortcut.
        updates: train for this many updates of the weights, over all rounds.
        minutes: train for this long instead.
        guidance: weight of the run's guidance to fold into the student; the run's own by default.
        batch: images an update; as the run was trained by default.
        seed: of all randomness; the same seed gives the same student.
        set: single options of the method, the training and the augmentation, key=value.
        resume: go on where the distillation in --out stopped.
        overwrite: replace the run that is in --out.
        skip_bad: leave out files that cannot be used instead of stopping.
    """
    from inkwash.api.distil import distilling

    follow(
        distilling(
            run,
            path,
            steps=steps,
            out=out,
            method=method,
            updates=updates,
            minutes=minutes,
            guidance=guidance,
            batch=batch,
            seed=seed,
            set=set,
            resume=resume,
            overwrite=overwrite,
            skip_bad=skip_bad,
        )
    )
    print(out)
