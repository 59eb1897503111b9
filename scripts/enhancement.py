"""Pictures under bad light and what UniMIE makes of them, beside affine corrections: a table for docs/restoration.md.

    python scripts/enhancement.py RUN DATA [--split test] [--size 64] [--number 16] [--draws 2]

Held-out pictures are darkened as the method takes pictures to be: `y = f x + M` in [0, 1], with one factor `f`, a veil
`M = 0.05 + 0.2 ramp` that rises smoothly from corner to corner, noise of 1 % and 8 bits. It is told nothing of them.
Beside it stand two global affine corrections: the mean and the spread of each picture brought to those of the
training pictures, and the best there is, fitted to the very picture that is looked for, which nobody has.
"""

import argparse
import datetime
import shlex
import sys

import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.api.describe import find
from inkwash.api.runs import generator
from inkwash.corruption.noise import Noise
from inkwash.evaluation.restoration import psnr, ssim
from inkwash.sampling.gaussian import gaussian
from inkwash.sampling.unimie import unimie
from inkwash.systems import recipes
from inkwash.systems.base import Generator, keyed

GAINS = (0.3, 0.4, 0.5, 0.7)
Images = Float[Tensor, "n c h w"]


def darkened(x: Images, gain: float, seed: int) -> Images:
    """In bad light, read off with noise, in 8 bits."""
    high, wide = x.shape[2:]
    ramp = torch.linspace(0.5, 1, high)[:, None] * torch.linspace(0, 1, wide)
    read = Noise(seed, range(len(x))).normal(tuple(x.shape[1:]), "read")
    light = (gain * (x + 1) / 2 + 0.05 + 0.2 * ramp + 0.01 * read).clamp(0, 1)
    return (light * 255).round() / 255 * 2 - 1


def matched(y: Images, mean: float, std: float) -> Images:
    """Each picture with this mean and spread."""
    dims = (1, 2, 3)
    return ((y - y.mean(dims, keepdim=True)) / y.std(dims, keepdim=True) * std + mean).clamp(-1, 1)


def fitted(y: Images, x: Images) -> Images:
    """The affine map of each picture that comes nearest to the true one."""
    off, wanted = (v - v.mean((1, 2, 3), keepdim=True) for v in (y, x))
    slope = (off * wanted).sum((1, 2, 3), keepdim=True) / off.square().sum((1, 2, 3), keepdim=True)
    return (slope * off + x.mean((1, 2, 3), keepdim=True)).clamp(-1, 1)


def enhanced(system: Generator, y: Images, draws: int, seed: int, steps: int) -> tuple[Images, Float[Tensor, "n"]]:
    """The mean of the draws, and the factor that was found."""
    corruption = gaussian(system.denoiser)
    noise = Noise(seed, keyed(0, len(y), draws))
    grid = recipes.GRIDS["log-snr"](corruption, steps)
    *_, last = unimie(system.denoiser, grid, y.repeat_interleave(draws, dim=0), noise=noise)
    return last.z.unflatten(0, (-1, draws)).clamp(-1, 1).mean(dim=1), last.gain.unflatten(0, (-1, draws)).mean(dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--size", default="64")
    parser.add_argument("--number", type=int, default=16)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    system = generator(args.run)
    sides = tuple(int(side) for side in args.size.split(","))
    size = sides[0] if len(sides) == 1 else sides
    images = find(args.data).images(args.split, size, fit="crop")
    learned = find(args.data).images("train", size, fit="crop")
    known = learned.batch(torch.arange(len(learned)))["image"]
    # Spread over the whole split: neighbours are often of one patient.
    chosen = torch.linspace(0, len(images) - 1, min(args.number, len(images))).long()
    x = images.batch(chosen)["image"]
    print(f"`python scripts/enhancement.py {shlex.join(sys.argv[1:])}`, {datetime.date.today()}, "
          f"{len(x)} pictures of {' x '.join(map(str, x.shape[2:]))}, {args.draws} draws of {args.steps} evaluations, "
          f"{torch.get_num_threads()} threads\n")  # fmt: skip
    print("| f | as seen | mean and spread of the training set | best affine | UniMIE | error of f | its mean |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for gain in GAINS:
        y = darkened(x, gain, args.seed)
        found, gains = enhanced(system, y, args.draws, args.seed, args.steps)
        ways = (y, matched(y, float(known.mean()), float(known.std())), fitted(y, x), found)
        cells = [f"{psnr(way, x).mean():.2f} ({ssim(way, x).mean():.3f})" for way in ways]
        off = gains / gain - 1
        print("|", " | ".join([f"{gain}", *cells, f"{off.abs().mean():.1%}", f"{off.mean():+.1%}"]), "|", flush=True)


if __name__ == "__main__":
    main()
