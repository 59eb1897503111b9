"""`inkwash restore`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from inkwash.cli.number import Sides, Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def restore(
    path: Path,
    /,
    *,
    operators: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    methods: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    out: Path,
    size: Sides | None = None,
    split: Literal["train", "val", "test", "all"] = "test",
    number: Annotated[Whole | None, Parameter(name=["--number", "-n"])] = None,
    draws: Whole = 4,
    steps: Whole | None = None,
    seed: Whole = 0,
    batch: Whole = 8,
    skip_bad: bool = False,
    json: bool = False,
) -> None:
    """Measure ways to restore images on the same measurements of the same images.

    $ inkwash restore photographs/ --operators denoise:noise=25 --methods bm3d nlm tv wavelet --out runs/denoised
    $ inkwash restore knees/ --operators sr:factor=4 blur:sigma=2 --methods tv diffpir@runs/prior ddrm@runs/prior \\
        --out runs/restored
    $ inkwash restore oct/ --methods median nlm tv runs/dncnn ddrm@runs/prior --out runs/oct

    The last one has pictures as they were measured, in oct/noisy/, beside clean ones by the same names, in oct/clean/.

    Operators: denoise, measured, inpaint, sr, blur, motion, mri, ct, jpeg, light, phase, each with options and noise,
    NAME:key=value,...; module:function, which makes one of a shape, and module:function,noise=5.

    Methods: none, median, gaussian, bm3d, nlm, tv, wavelet, tikhonov, bicubic, lanczos, linear, mirror, zero-filled;
    SAMPLER@RUN with the samplers diffpir, ddrm, ddnm, pigdm, dps, mcg, red-diff, repaint, one-step, unimie;
    model.onnx; module:function.

    Args:
        path: a folder, a zip, an .npz or a list of clean images; bundled:retina.
        operators: how they are measured; pictures measured and clean are taken as they are.
        methods: what restores them.
        out: a new folder; the tables are in it, and report.html.
        size: side of the images in pixels, or height,width; larger ones are shrunk, and cut to the shape; 64 by
            default. Measured ones are whole by default, and are cut into tiles of it.
        split: which images.
        number: how many; all by default.
        draws: images drawn by posterior samplers, whose mean is the estimate.
        steps: evaluations of the network a draw; each sampler's own number by default.
        seed: of the measurements' noise and of the draws.
        batch: images at a time.
        skip_bad: leave out files that cannot be used instead of stopping.
        json: print one JSON document.
    """
    from inkwash.api.restore import comparing

    sides = size[0] if size and len(size) == 1 else size
    job = comparing(
        path, operators, methods, out=out, size=sides, split=split, number=number, draws=draws, steps=steps,
        seed=seed, batch=batch, skip_bad=skip_bad,
    )  # fmt: skip
    output(follow(job), json=json)
