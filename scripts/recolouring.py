"""The skin tone of emoji changed by a model of images alone, beside maps of colours: a table for docs/restoration.md.

    python scripts/recolouring.py prepare PACK out.npz
    inkwash train ddpm out.npz --out RUN --size 32 --minutes 20 --set predict=edm ...
    python scripts/recolouring.py measure PACK RUN [--steps 50] [--share 0.4] [--guidance 1]

PACK holds `noto_emoji32_base.npz` and `noto_emoji32_tones.npz` with their `_meta.tsv.gz`. Of the emoji that come in
tones, 30 are held out in all their colours, and of the others 170 (to be filled in). The model learns six classes: 0
without a tone, 1 to 5 the tones. It is asked to turn each held-out yellow one into each tone, and what was drawn by
the artist is the truth. A map of colours, fitted to the pairs of each tone that were not held out, does so without
looking at where a pixel lies.
"""

import argparse
import csv
import datetime
import gzip
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.api.runs import generator
from inkwash.corruption.noise import Noise
from inkwash.evaluation.restoration import psnr
from inkwash.sampling.edict import Edict, even
from inkwash.sampling.edit import sdedit
from inkwash.sampling.guidance.control import after, controlled
from inkwash.systems import recipes
from inkwash.systems.base import Generator

HELD_TONED, HELD_OTHERS, TONES = 30, 170, 5
Images = Float[Tensor, "n c h w"]


class Pack:
    """The emoji, and which of them are held out."""

    def __init__(self, folder: Path) -> None:
        def read(name: str) -> tuple[np.ndarray, list[dict[str, str]]]:
            with gzip.open(folder / f"noto_emoji32_{name}_meta.tsv.gz", "rt") as lines:
                rows = list(csv.DictReader(lines, delimiter="\t"))
            return np.load(folder / f"noto_emoji32_{name}.npz")["image"], rows

        self.base, bases = read("base")
        self.tones, toned = read("tones")
        order = np.random.default_rng(0)
        kinds = sorted({row["base"] for row in toned})
        held = set(order.permutation(kinds)[:HELD_TONED].tolist())
        others = [i for i, row in enumerate(bases) if row["base"] not in kinds]
        self.place = {row["base"]: i for i, row in enumerate(bases)}
        self.tone = {(row["base"], int(row["tone"])): i for i, row in enumerate(toned)}
        self.held, self.known = sorted(held), sorted(set(kinds) - held)
        self.held_others = sorted(order.permutation(others)[:HELD_OTHERS].tolist())

    def pairs(self, kinds: list[str], tone: int) -> tuple[Images, Images]:
        """Yellow ones, and the same in this tone."""
        yellow = self.base[[self.place[kind] for kind in kinds]]
        return _images(yellow), _images(self.tones[[self.tone[kind, tone] for kind in kinds]])


def _images(pixels: np.ndarray) -> Images:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def prepare(pack: Pack, out: Path) -> None:
    """The data in the MedMNIST layout; the held-out ones are its test split."""
    test = [pack.place[kind] for kind in pack.held] + pack.held_others
    train = sorted(set(range(len(pack.base))) - set(test))
    toned = [(tone, pack.tone[kind, tone]) for kind in pack.known for tone in range(TONES)]
    images = np.concatenate([pack.base[train], pack.tones[[i for _, i in toned]]])
    labels = np.array([0] * len(train) + [1 + tone for tone, _ in toned])[:, None]
    with open(out, "wb") as file:
        np.savez(
            file, train_images=images, train_labels=labels,
            test_images=pack.base[test], test_labels=np.zeros((len(test), 1), dtype=int),
        )  # fmt: skip


def colour_map(yellow: Images, toned: Images, order: int) -> Callable[[Images], Images]:
    """The map of colours of this order, 1 affine or 2 quadratic, of least squares over all pixels of these pairs."""

    def terms(x: Images) -> Float[Tensor, "m k"]:
        colours = x.permute(0, 2, 3, 1).reshape(-1, 3).double()
        squares = [colours[:, i] * colours[:, j] for i in range(3) for j in range(i, 3)] if order == 2 else []
        return torch.stack([torch.ones(len(colours), dtype=torch.float64), *colours.T, *squares], dim=1)

    weights = torch.linalg.lstsq(terms(yellow), toned.permute(0, 2, 3, 1).reshape(-1, 3).double()).solution

    def mapped(x: Images) -> Images:
        n, _, high, wide = x.shape
        return (terms(x) @ weights).reshape(n, high, wide, 3).permute(0, 3, 1, 2).float().clamp(-1, 1)

    return mapped


def inverted(system: Generator, x: Images, tone: int, steps: int, guidance: float, share: float) -> Images:
    """Up as yellow, down as the tone (EDICT), attending for this share of the steps where the yellow ones attend."""
    grid, n = even(system.denoiser.corruption, steps), len(x)
    source, target = torch.zeros(n, dtype=torch.long), torch.full((n,), 1 + tone)
    *_, top = Edict(system.way(guidance=1.0).denoiser, grid, dtype=torch.float32).up(x.double(), label=source)
    kept = controlled(n, among=after(grid, share)) if share > 0 else lambda denoiser: denoiser
    down = Edict(kept(system.way(guidance=guidance).denoiser), grid, dtype=torch.float32)
    both = torch.cat([source, target])
    *_, found = down.down(top.z.repeat(2, 1, 1, 1), top.other.repeat(2, 1, 1, 1), label=both)
    return found.z[n:].float().clamp(-1, 1)


def redrawn(system: Generator, x: Images, tone: int, steps: int, guidance: float, strength: float) -> Images:
    """SDEdit: noised part of the way, and denoised as the tone."""
    way = system.way(guidance=guidance)
    solver, grid = recipes.sampler("dpm++2m", system.denoiser.corruption, steps)
    *_, last = sdedit(way.denoiser, solver, grid, x, strength=strength, noise=Noise(0, range(len(x))),
                      label=torch.full((len(x),), 1 + tone))  # fmt: skip
    return last.z.clamp(-1, 1)


def measure(pack: Pack, system: Generator, steps: int, share: float, guidance: float) -> None:
    """PSNR in decibels to what was drawn, by tone and over all."""
    ways: dict[str, Callable[[Images, int], Images]] = {
        "as it is": lambda x, tone: x,
        "affine map of colours": lambda x, tone: colour_map(*pack.pairs(pack.known, tone), 1)(x),
        "quadratic map of colours": lambda x, tone: colour_map(*pack.pairs(pack.known, tone), 2)(x),
        "SDEdit, 0.4": lambda x, tone: redrawn(system, x, tone, steps, guidance, 0.4),
        "SDEdit, 0.6": lambda x, tone: redrawn(system, x, tone, steps, guidance, 0.6),
        "inversion": lambda x, tone: inverted(system, x, tone, steps, guidance, 0.0),
        f"inversion, attention kept for {share:g}": lambda x, tone: inverted(system, x, tone, steps, guidance, share),
    }
    print("| | light | medium-light | medium | medium-dark | dark | all |\n|---|--:|--:|--:|--:|--:|--:|")
    for name, way in ways.items():
        values = []
        for tone in range(TONES):
            x, true = pack.pairs(pack.held, tone)
            # Some look the same in all tones: there is nothing to change in them.
            differ = (x != true).flatten(1).any(dim=1)
            values.append(float(psnr(way(x[differ], tone), true[differ]).mean()))
        print("|", " | ".join([name, *(f"{v:.2f}" for v in values), f"{np.mean(values):.2f}"]), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("prepare", "measure"))
    parser.add_argument("pack", type=Path)
    parser.add_argument("path")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--share", type=float, default=0.4)
    parser.add_argument("--guidance", type=float, default=1.0)
    args = parser.parse_args()
    pack = Pack(args.pack)
    if args.what == "prepare":
        prepare(pack, Path(args.path))
        return
    print(f"`python scripts/recolouring.py {shlex.join(sys.argv[1:])}`, {datetime.date.today()}\n")
    with torch.no_grad():
        measure(pack, generator(args.path), args.steps, args.share, args.guidance)


if __name__ == "__main__":
    main()
