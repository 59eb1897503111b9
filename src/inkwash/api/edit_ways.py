"""The ways to edit a picture, each a walk or several: `EDITS`, by name."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.evaluation.restoration import psnr
from inkwash.nets.alignment import aligned
from inkwash.sampling.ddim import DDIM
from inkwash.sampling.edict import Edict, even
from inkwash.sampling.edit import led, sdedit, slerp
from inkwash.sampling.grid import Grid
from inkwash.sampling.guidance.base import Guidance
from inkwash.sampling.guidance.control import for_share, side_by_side
from inkwash.sampling.guidance.nulls import null_guided
from inkwash.sampling.inversion import invert
from inkwash.sampling.loop import walk
from inkwash.sampling.null_text import null_text
from inkwash.sampling.repaint import repaint
from inkwash.systems.base import Generator, Way

_MOST = 50
_ITERATIONS = 10


Steps = Iterator[tuple[int, int, str]]
"""Where a way is: step, of how many, and what it does."""


@dataclass(frozen=True)
class Asked:
    """One edit, everything read and checked.

    Attributes:
        way: how the model draws, guided; `unguided` believes as it does without guidance.
        x, other: what is noised of the picture handed in, for each that is made, and of the one to go to.
        source, target: what the picture handed in is told, and what is made of it.
        steps: that were asked for.
        words: of the captions of source and target, by number; none where they have no captions.
        share: of the steps in which what is made attends as the picture handed in.
    """

    system: Generator
    way: Way
    unguided: Denoiser
    x: Float[Tensor, "n c ..."]
    noise: Noise
    source: dict[str, Any]
    target: dict[str, Any]
    steps: int | None
    strength: float
    weight: float
    share: float
    words: tuple[list[int], list[int]]
    other: Float[Tensor, "1 c ..."] | None
    known: Bool[Tensor, "1 h w"] | None


def _sdedit(asked: Asked, made: dict[str, Any]) -> Steps:
    way = asked.way
    for step in sdedit(
        way.denoiser, way.solver, way.grid, asked.x, strength=asked.strength, noise=asked.noise, **asked.target
    ):
        yield step.index, step.total, "redrawing"
    made.update(pictures=step.z, evaluations=step.total * way.solver.evaluations)


def _inpaint(asked: Asked, made: dict[str, Any]) -> Steps:
    way = asked.way
    assert asked.known is not None
    corruption = asked.system.denoiser.corruption
    z = corruption.prior(tuple(asked.x.shape[1:]), noise=asked.noise, device=asked.x.device)
    for step in repaint(
        way.denoiser, way.solver, way.grid, z, asked.x, asked.known, noise=asked.noise,
        jump=max(1, len(way.grid) // 5), resample=5, **asked.target,
    ):  # fmt: skip
        yield step.index, step.total, "filling in"
    made.update(pictures=step.z, evaluations=step.total * way.solver.evaluations)


def _invert(asked: Asked, made: dict[str, Any]) -> Steps:
    edict = _edict(asked)
    x = asked.x[:1].double()
    source, target = ({k: v[:1] for k, v in told.items()} for told in (asked.source, asked.target))
    total = 3 * len(edict.grid)
    for top in edict.up(x, **source):
        yield top.index, total, "inverting"
    for back in edict.down(top.z, top.other, **source):
        yield len(edict.grid) + back.index, total, "coming back"
    for found in edict.down(top.z, top.other, **target):
        yield 2 * len(edict.grid) + found.index, total, "redrawing"
    made.update(pictures=found.z.float(), evaluations=2 * 2 * len(edict.grid))
    made["round trip"] = _trip(asked, back.z)


def _attention(asked: Asked, made: dict[str, Any]) -> Steps:
    """Up as `_invert`; down both at once, so that the source's way down is its round trip too."""
    edict, x = _edict(asked), asked.x[:1].double()
    pair = _pair(asked)
    total = 2 * len(edict.grid)
    for top in edict.up(x, **{name: value[:1] for name, value in pair.items()}):
        yield top.index, total, "inverting"
    both = Edict(_control(asked, edict.grid, pair)(asked.way.denoiser), edict.grid, dtype=torch.float32)
    for found in both.down(top.z.repeat(2, 1, 1, 1), top.other.repeat(2, 1, 1, 1), **pair):
        yield len(edict.grid) + found.index, total, "redrawing"
    made.update(pictures=found.z[1:].float(), evaluations=3 * 2 * len(edict.grid))
    made["round trip"] = _trip(asked, found.z[:1])


def _null_text(asked: Asked, made: dict[str, Any]) -> Steps:
    """DDIM's inversion without guidance; the nulls by which a guided walk returns; then both at once, as `_attention`.

    How far DDIM's own round trip under guidance comes back is measured before.
    """
    grid, x, weight = _even(asked), asked.x[:1], asked.way.guidance
    pair, noise = _pair(asked), Noise(0, range(2))
    source = {name: value[:1] for name, value in pair.items()}
    path, steps = [x], len(grid)
    for up in invert(asked.unguided, grid, x, **source):
        path.insert(0, up.z)
        yield up.index, 4 * steps, "inverting"
    for plain in walk(asked.way.denoiser, DDIM(), grid, path[0], noise=noise, **source):
        yield steps + plain.index, 4 * steps, "coming back"
    # Adam's rate is that of a text's embedding; what a label embeds in has larger numbers.
    rate = 0.01 if "context" in pair else 0.1
    denoiser = asked.system.denoiser
    for kept in null_text(
        denoiser, grid, path, weight=weight, iterations=_ITERATIONS, rate=rate, limited=asked.system.limited, **source
    ):
        yield 2 * steps + kept.index, 4 * steps, "finding nulls"
    guided = asked.system.limited(null_guided(weight, kept.nulls, _control(asked, grid, pair))(denoiser))
    for found in walk(guided, DDIM(), grid, path[0].repeat(2, 1, 1, 1), noise=noise, **pair):
        yield 3 * steps + found.index, 4 * steps, "redrawing"
    # A step up is one; nulls take one with the condition, and those of Adam's way and where it arrives without; the
    # last walk takes two of each.
    made.update(pictures=found.z[1:], evaluations=steps * (1 + 1 + _ITERATIONS + 2 + 4))
    made["round trip"], made["without nulls"] = _trip(asked, found.z[:1]), _trip(asked, plain.z)


def _control(asked: Asked, grid: Grid, pair: dict[str, Any]) -> Guidance:
    """Words that differ between two captions are swapped, new ones keep their own attention."""
    context, (source, target) = pair.get("context"), asked.words
    # A published encoder of texts cuts words into tokens of its own.
    known = context is not None and len(source) == len(target) == context.shape[1]
    return for_share(grid, asked.share, pair, aligned(source, target, swap=True) if known else None)


def _pair(asked: Asked) -> dict[str, Any]:
    """What a source and its target are told."""
    return side_by_side(*({name: rows[:1] for name, rows in told.items()} for told in (asked.source, asked.target)))


def _trip(asked: Asked, back: Float[Tensor, "1 c ..."]) -> float | None:
    """PSNR of the picture that came back; None where it is not a number."""
    came, went = (asked.system.decode(z.float()) for z in (back, asked.x[:1]))
    trip = float(psnr(came, went))
    return None if math.isnan(trip) else round(min(trip, 999.0), 2)


def _interpolate(asked: Asked, made: dict[str, Any]) -> Steps:
    assert asked.other is not None
    edict, count = _edict(asked), len(asked.x)
    both = torch.cat([asked.x[:1], asked.other]).double()
    source = {k: v[:1].expand(2, *v.shape[1:]) for k, v in asked.source.items()}
    total = 2 * len(edict.grid)
    for top in edict.up(both, **source):
        yield top.index, total, "inverting"
    weights = torch.linspace(0, 1, count).tolist()
    z = torch.cat([slerp(top.z[:1], top.z[1:], weight) for weight in weights])
    other = torch.cat([slerp(top.other[:1], top.other[1:], weight) for weight in weights])
    for found in edict.down(z, other, **asked.source):
        yield len(edict.grid) + found.index, total, "redrawing"
    made.update(pictures=found.z.float(), evaluations=2 * 2 * len(edict.grid))


def _towards(asked: Asked, made: dict[str, Any]) -> Steps:
    way, size = asked.way, tuple(asked.x.shape[1:])
    z = asked.system.denoiser.corruption.prior(size, noise=asked.noise, device=asked.x.device)
    for drawn in walk(way.denoiser, way.solver, way.grid, z, noise=asked.noise, **asked.target):
        yield drawn.index, 2 * drawn.total, "drawing"
    noise = Noise(asked.noise.seed + 1, asked.noise.items)
    for step in led(
        way.denoiser, way.solver, way.grid, drawn.z, asked.x, weight=asked.weight, strength=asked.strength,
        noise=noise, **asked.target,
    ):  # fmt: skip
        yield drawn.total + step.index, drawn.total + step.total, "leading"
    made.update(pictures=step.z, evaluations=(drawn.total + step.total) * way.solver.evaluations)


def _edict(asked: Asked) -> Edict:
    return Edict(asked.way.denoiser, _even(asked), dtype=torch.float32)


def _even(asked: Asked) -> Grid:
    """As many steps as the papers take, if nothing was said, and not as many as the model draws well in: what EDICT
    makes in 20 under guidance is noise."""
    return even(asked.system.denoiser.corruption, min(asked.steps or _MOST, _MOST))


EDITS: dict[str, Callable[[Asked, dict[str, Any]], Steps]] = {
    "sdedit": _sdedit,
    "inpaint": _inpaint,
    "invert": _invert,
    "attention": _attention,
    "null-text": _null_text,
    "interpolate": _interpolate,
    "towards": _towards,
}
