"""Gradient checkpointing switched on and off in a network that is built already.

Chen et al., "Training deep nets with sublinear memory cost", 2016: activations are computed a second time in the
backward pass instead of being kept. Weights, results and gradients stay what they are.
"""

from torch import nn

_FLAG = "checkpointing"


def switchable(module: nn.Module) -> bool:
    """Whether anything in `module` can be switched."""
    return any(_own(part) or _foreign(part) for part in module.modules())


def switch(module: nn.Module, on: bool) -> None:
    """Switch every network in `module` that has checkpointing: ours, third parties' alike, and those of diffusers."""
    for part in module.modules():
        if _own(part):
            setattr(part, _FLAG, on)
        elif _foreign(part):
            getattr(part, f"{'enable' if on else 'disable'}_gradient_checkpointing")()


def _own(part: nn.Module) -> bool:
    return isinstance(getattr(part, _FLAG, None), bool)


def _foreign(part: nn.Module) -> bool:
    # Every model of diffusers has the methods; this says whether they do anything.
    return bool(getattr(part, "_supports_gradient_checkpointing", False))
