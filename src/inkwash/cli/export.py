"""`inkwash export`."""

from pathlib import Path

from inkwash.cli.number import Whole
from inkwash.cli.output import output
from inkwash.cli.progress import follow


def export(
    run: Path,
    /,
    *,
    onnx: bool = False,
    int8: bool = False,
    condition: str | None = None,
    floor: float = 30.0,
    seed: Whole = 0,
    json: bool = False,
) -> None:
    """Write the network of a run for ONNX Runtime, for sample and evaluate with --backend onnx or int8.

    $ inkwash export runs/polyp
    $ inkwash export runs/polyp --onnx --int8

    Pictures are drawn with it beside torch's before it is kept: in float32 they are the same within 0.001, in eight
    bits they reach the floor, or nothing is written.

    Args:
        run: a run folder that inkwash train wrote.
        onnx: in float32; this is what is written when neither is said.
        int8: in eight bits, calibrated along walks of the run.
        condition: a caption, masks in a file, a folder or a data set, or a class; the training data's by default.
        floor: the least peak signal-to-noise ratio, in decibels, of pictures in eight bits to those in float32.
        seed: of the pictures that are drawn for it.
        json: print one JSON document.
    """
    from inkwash.api.export import exporting

    job = exporting(run, onnx=onnx or not int8, int8=int8, condition=condition, floor=floor, seed=seed)
    output(follow(job), json=json)
