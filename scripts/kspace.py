"""One slice of measured k-space reconstructed by several ways, beside a reference: a table for docs/restoration.md.

    python scripts/kspace.py RUN FILE [--keep 1 0.5 0.25] [--phase 1.5] [--draws 4] [--steps 20] [--seed 0]

Nothing is simulated. FILE is read as by `inkwash predict --operator kspace` and holds a `reference`. A row for each of
`--keep`: all samples of the middle without gaps, and that part of those outside it, drawn at random. Sensitivities,
phase and noise are estimated from what is kept.

Weights never see the reference: a tenth of the samples that are kept outside the middle is hidden, each weight is tried
on the rest, and the one whose image predicts the hidden samples best is taken to what was kept.

PSNR, of the largest value of the reference, and SSIM are of the head alone, after the affine map of intensities that
comes nearest to the reference there: its units are other ones, and it was made of other samples of the same scan.
"""

import argparse
import datetime
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage.metrics import structural_similarity
from torch import Tensor

from inkwash.api.runs import generator
from inkwash.corruption.noise import Noise
from inkwash.data.kspace import AcquiredSlice, open_kspace
from inkwash.operators.calibration import middle
from inkwash.systems.restoration.classical import classical
from inkwash.systems.restoration.kspace import Calibrated
from inkwash.systems.restoration.restorer import restore

HIDDEN = 0.1
# A head is brighter than this part of its brightest tissue.
DARK = 0.15
Image = Float[Tensor, "h w"]
Way = Callable[[Calibrated, float], Float[Tensor, "d h w"]]
"""From what was acquired, and a weight, to draws of the image in units of its scale."""


def chosen(mask: Bool[Tensor, "h w"], keep: float, seed: int) -> Bool[Tensor, "h w"]:
    """The middle, and that part of what was acquired outside it."""
    high, wide = mask.shape
    h, w = middle(mask)
    inside = torch.zeros_like(mask)
    inside[high // 2 - h // 2 : high // 2 + h // 2 + 1, wide // 2 - w // 2 : wide // 2 + w // 2 + 1] = True
    drawn = Noise(seed, [0]).uniform((high, wide), "kept")[0] < keep
    return mask & (inside | drawn)


def calibrated(acquired: AcquiredSlice, mask: Bool[Tensor, "h w"], phase: float | None) -> Calibrated:
    return Calibrated.of(torch.from_numpy(acquired.samples) * mask, mask, phase=phase)


def unexplained(x: Image, seen: Calibrated, whole: AcquiredSlice, hidden: Bool[Tensor, "h w"]) -> float:
    """What an image leaves of hidden samples, over the noise."""
    samples = torch.from_numpy(whole.samples) * hidden
    return replace(seen, samples=samples, mask=hidden).misfit(x[None, None], seen.white)


def classically(name: str) -> Way:
    def way(seen: Calibrated, weight: float) -> Tensor:
        measurement, y = seen.against(seen.white)
        return classical(name).restore(measurement, y, weight)[0]

    return way


def head(reference: Image) -> Bool[Tensor, "h w"]:
    bright = reference.numpy() > DARK * np.quantile(reference.numpy(), 0.99)
    parts, _ = ndimage.label(ndimage.binary_fill_holes(bright))
    return torch.from_numpy(parts == np.bincount(parts.ravel())[1:].argmax() + 1)


def likeness(x: Image, reference: Image, inside: Bool[Tensor, "h w"]) -> tuple[float, float]:
    """PSNR and SSIM."""
    columns = torch.stack([x[inside], torch.ones(int(inside.sum()))], dim=1).double()
    slope, offset = torch.linalg.lstsq(columns, reference[inside][:, None].double()).solution.flatten()
    fitted, peak = slope * x.double() + offset, float(reference[inside].max())
    error = (fitted - reference)[inside].square().mean()
    _, similar = structural_similarity(reference.double().numpy(), fitted.numpy(), data_range=peak, full=True)
    return float(10 * torch.log10(peak**2 / error)), float(similar[inside.numpy()].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("file", type=Path)
    parser.add_argument("--keep", type=float, nargs="+", default=[1.0, 0.5, 0.25])
    parser.add_argument("--samplers", nargs="*", default=["diffpir", "pigdm"])
    parser.add_argument("--phase", default="1.5", help="pixels that the phase is blurred by, or none")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    system, phase = generator(args.run), None if args.phase == "none" else float(args.phase)
    with open_kspace(args.file) as file:
        acquired = file.slice(0)
        if file.reference is None:
            parser.error(f"{args.file} holds no reference")
        reference = torch.from_numpy(file.reference[0])
    inside, whole = head(reference), torch.from_numpy(acquired.mask)

    def sampled(by: str, draws: int) -> Way:
        how = {"by": by, "steps": args.steps, "draws": draws, "seed": args.seed, "first": acquired.key}

        def way(seen: Calibrated, weight: float) -> Tensor:
            return restore(system, *seen.against(seen.white), strength=weight, **how).draws[0, :, 0]

        return way

    ways: dict[str, tuple[Way, Way, tuple[float, ...]]] = {
        "zero-filled": (*[lambda seen, weight: seen.zero_filled(seen.white)[0]] * 2, (1.0,)),
        "SENSE": (*[classically("tikhonov")] * 2, (0.3, 1.0, 3.0, 10.0, 30.0)),
        "total variation": (*[classically("tv")] * 2, (0.1, 0.3, 1.0, 3.0, 10.0)),
        **{by: (sampled(by, 1), sampled(by, args.draws), (0.1, 0.3, 1.0, 3.0)) for by in args.samplers},
    }
    print(f"`python scripts/kspace.py {shlex.join(sys.argv[1:])}`, {datetime.date.today()}, "
          f"{torch.get_num_threads()} threads\n")  # fmt: skip
    print("| acquired | way | PSNR | SSIM | one draw | hidden samples, over the noise | weight | s |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|")
    for keep in args.keep:
        mask = chosen(whole, keep, args.seed)
        hidden = mask & ~chosen(mask, 1 - HIDDEN, args.seed + 1)
        seen, part = (calibrated(acquired, some, phase) for some in (mask, mask & ~hidden))
        for name, (trial, way, weights) in ways.items():
            left = {w: unexplained(trial(part, w)[0], part, acquired, hidden) for w in weights}
            weight = min(left, key=left.__getitem__)
            start = time.perf_counter()
            found = way(seen, weight)
            seconds = time.perf_counter() - start
            psnr, ssim = likeness(found.mean(dim=0), reference, inside)
            one = f"{likeness(found[0], reference, inside)[0]:.2f}" if len(found) > 1 else ""
            tuned = f"{weight:g}" if len(weights) > 1 else ""
            cells = [f"{mask.float().mean():.1%}", name, f"{psnr:.2f}", f"{ssim:.3f}", one, f"{left[weight]:.2f}"]
            print("|", " | ".join([*cells, tuned, f"{seconds:.1f}"]), "|", flush=True)


if __name__ == "__main__":
    main()
