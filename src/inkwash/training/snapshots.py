"""Averages kept over a training, and any other average recombined from them afterwards.

Karras et al. 2024 (EDM2), section 3.2 and appendix C: the profile wanted is fitted by a linear combination of the
profiles that were kept, least squares in time, and the weights are combined alike.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float64
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inkwash.atomic import write_tensors
from inkwash.errors import WrongUse
from inkwash.training.ema import Averages, exponent
from inkwash.training.options import TrainOptions

_STORED = {"fp16": torch.float16, "fp32": torch.float32}

Gather = Callable[[dict[str, Tensor]], dict[str, Tensor] | None]
"""Whole tensors from the shares of all processes; None where another process writes them."""


class Snapshots:
    """Keeps the averages at `options.snapshots` evenly spread moments, the last of them the end.

    Args:
        folder: where they lie, one file for each profile and moment.
        fraction: of the budget that was used when the training began or went on.
    """

    def __init__(self, folder: Path, options: TrainOptions, fraction: float) -> None:
        self.folder, self.options = folder, options
        self.taken = _count(fraction, options)

    def at(self, step: int) -> bool:
        """Whether one is due after `step` steps, where steps are what is counted."""
        steps, count = self.options.steps, self.options.snapshots
        return steps is not None and step * count // steps > (step - 1) * count // steps

    def keep(self, averages: Averages, step: int, fraction: float, gather: Gather = dict) -> None:
        """Write the averages after `step` steps, if it is time."""
        due = _count(fraction, self.options)
        if due <= self.taken:
            return
        self.taken = due
        dtype = _STORED[self.options.snapshot_precision]
        trained = set(averages.names)
        for std in self.options.ema:
            state = gather(averages.state(std))
            if state is None:
                continue
            self.folder.mkdir(exist_ok=True)
            parts = {f"average/{n}": t.to(dtype) for n, t in state.items() if n in trained}
            parts |= {f"as it is/{n}": t for n, t in state.items() if n not in trained}
            path = self.folder / f"step-{step:08d}-ema-{std}.safetensors"
            write_tensors(path, parts, {"step": str(step), "std": str(std)})


def _count(fraction: float, options: TrainOptions) -> int:
    """How many are due; 29/100 of 100 is 28.999999999999996."""
    return math.floor(fraction * options.snapshots + 1e-9)


def inner(step: int, gamma: float, other_step: int, other_gamma: float) -> float:
    """The inner product of two unit profiles `p(tau) = (tau/t)^gamma` on [0, t], scaled to norm 1 (EDM2, eq. 151)."""
    first = min(step, other_step)
    norm = math.sqrt((2 * gamma + 1) / step) * math.sqrt((2 * other_gamma + 1) / other_step)
    return norm * first * (first / step) ** gamma * (first / other_step) ** other_gamma / (gamma + other_gamma + 1)


def coefficients(kept: Sequence[tuple[int, float]], step: int, std: float) -> Float64[Tensor, "n"]:
    """How much of each kept average makes up the average of width `std` after `step` steps.

    Args:
        kept: step and relative width of each.
    """
    gammas = [exponent(width) for _, width in kept]
    gamma = exponent(std)
    size = len(kept)
    gram = torch.tensor(
        [[inner(kept[i][0], gammas[i], kept[j][0], gammas[j]) for j in range(size)] for i in range(size)],
        dtype=torch.float64,
    )
    wanted = torch.tensor([inner(kept[i][0], gammas[i], step, gamma) for i in range(size)], dtype=torch.float64)
    solution = torch.linalg.pinv(gram, hermitian=True, rtol=1e-12) @ wanted
    # From profiles of norm 1 to averages, whose profiles have the integral 1.
    norms = torch.tensor([_norm(t, g) for (t, _), g in zip(kept, gammas)], dtype=torch.float64)
    return solution * _norm(step, gamma) / norms


def _norm(step: int, gamma: float) -> float:
    """Of the profile `(gamma + 1) tau^gamma / t^(gamma + 1)`."""
    return (gamma + 1) / math.sqrt((2 * gamma + 1) * step)


def reconstruct(paths: Sequence[Path], std: float, *, step: int | None = None) -> dict[str, Tensor]:
    """The state with the average of width `std`, recombined from snapshots.

    Args:
        paths: the snapshot files, of any widths and moments.
        std: the relative width wanted; within the widths that were tracked the fit is closest.
        step: the moment wanted; the last one that was kept when None.

    Raises:
        WrongUse: there are no snapshots, or one of the files is not a snapshot.
    """
    kept = [_moment(path) for path in paths]
    if not kept:
        raise WrongUse("there are no snapshots to recombine: train with --set snapshots=16")
    last = max(range(len(kept)), key=lambda i: kept[i][0])
    total: dict[str, Tensor] = {}
    for index, factor in enumerate(coefficients(kept, kept[last][0] if step is None else step, std).tolist()):
        with safe_open(paths[index], framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                part, name = key.split("/", 1)
                if part == "average":
                    total[name] = total.get(name, 0) + factor * file.get_tensor(key).float()
                elif index == last:
                    total[name] = file.get_tensor(key)
    return total


def _moment(path: Path) -> tuple[int, float]:
    """The step and the width of a snapshot file."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
        return int(facts["step"]), float(facts["std"])
    except (KeyError, ValueError):
        raise WrongUse(f"{path} is not a snapshot: it does not say of which step and width it is") from None
    except (OSError, SafetensorError) as error:
        raise WrongUse(f"{path} cannot be read ({error}): copy it again") from None
