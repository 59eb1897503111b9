"""The shape of a U-Net as nnU-Net plans it: how often each axis is halved, and where kernels reach along it."""

from collections.abc import Sequence
from typing import NamedTuple

from inkwash.errors import WrongUse


class Plan(NamedTuple):
    """Kernels and strides of the stages, from the finest; the first doesn't stride.

    Attributes:
        multiples: what each side must be a multiple of.
    """

    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    multiples: tuple[int, ...]


def plan(size: Sequence[int], spacing: Sequence[float]) -> Plan:
    """Isensee et al. 2021, supplementary note 2, as version 2 of their code does it.

    An axis is halved while 4 pixels or more are left and its pixels are less than twice as large as the smallest of the
    axes that can still be halved; the last axis alone is halved only from 12. Kernels are 3 along an axis from the
    first stage at which its pixels are less than twice as large as the smallest, and 1 before.

    Pictures too small for two halvings, which nnU-Net doesn't plan for, are halved down to 2 pixels, or to 1.

    Args:
        size: in pixels.
        spacing: between their centres, along each axis.

    Raises:
        WrongUse: the picture cannot be halved twice.
    """
    for least in (4, 2, 1):
        made = _halved(size, spacing, least)
        if len(made.strides) > 2:
            return made
    raise WrongUse(f"a size of {tuple(size)} cannot be halved twice, as this network does: it needs sides of 3 pixels")


def _halved(size: Sequence[int], spacing: Sequence[float], least: int) -> Plan:
    axes = range(len(size))
    side, apart = list(size), list(spacing)
    kernel, multiples = [1] * len(size), [1] * len(size)
    kernels, strides = [], [(1,) * len(size)]
    while True:
        able = [axis for axis in axes if side[axis] >= 2 * least]
        able = [axis for axis in able if apart[axis] < 2 * min(apart[other] for other in able)]
        if not able or (len(able) == 1 and side[able[0]] < 3 * least):
            break
        kernel = [3 if kernel[axis] == 3 or apart[axis] < 2 * min(apart) else 1 for axis in axes]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in able else 1 for axis in axes))
        for axis in able:
            side[axis] = -(-side[axis] // 2)
            apart[axis] *= 2
            multiples[axis] *= 2
    return Plan((*kernels, (3,) * len(size)), tuple(strides), tuple(multiples))
