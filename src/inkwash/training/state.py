"""All that a training has learned at a moment, as tensors: from the shares of all processes, and back to them.

The tensors are whole whatever the processes: `model/...`, `ema/<std>/...`, `optimizer/<parameter>/...`. So a checkpoint
of two processes that share the weights can be gone on with by one, or by four that don't.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from inkwash.training.checkpoint import Checkpoint, load_optimizer, optimizer_tensors
from inkwash.training.distribution import Whole
from inkwash.training.ema import Averages
from inkwash.training.processes import tell


def collect(spread: Whole, averages: Averages, optimizer: torch.optim.Optimizer) -> dict[str, Tensor] | None:
    """The tensors of a checkpoint in the first process, None in the others. All processes call it."""
    moments = _each(optimizer_tensors(optimizer), spread.whole)
    parts = {"model": spread.system.state_dict(), "ema": averages.tensors(), "optimizer": moments}
    return spread.gather({f"{part}/{name}": tensor for part, found in parts.items() for name, tensor in found.items()})


def restore(
    found: Checkpoint | None, spread: Whole, averages: Averages, optimizer: torch.optim.Optimizer
) -> None:
    """Take over what `collect` gave. All processes call it; the first alone must have `found`."""

    def told(part: str) -> dict[str, Tensor]:
        return found.part(part) if found is not None else {}

    places = spread.system.state_dict()
    for name, tensor in tell(told("model")):
        spread.put(places[name], tensor)
    averages.restart()
    for name, tensor in tell(told("ema")):
        averages.load({name: tensor})
    moments: dict[str, Tensor] = {}
    for name, tensor in tell(told("optimizer")):
        moments |= _each({name: tensor}, spread.share)
    load_optimizer(optimizer, moments)


def _each(moments: dict[str, Tensor], change: Callable[[int, Tensor], Tensor]) -> dict[str, Tensor]:
    """`parameter/name` by the parameter's number; a count of steps belongs to no row of it."""
    return {n: change(int(n.split("/")[0]), tensor) if tensor.ndim else tensor for n, tensor in moments.items()}
