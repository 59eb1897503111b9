"""Somebody else's module, used as it is: its weights are in no state, and a fingerprint of them is.

Such a module is hundreds of megabytes large and never trained here. So neither optimizer nor averages nor checkpoints
see its weights, and a run keeps 64 bits that say which they were.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from inkwash.errors import WrongUse


class Frozen(nn.Module):
    """Holds a module that is never trained; it moves with what holds it and is always in evaluation mode.

    Args:
        module: is frozen.
        name: where it is from, for messages.

    Attributes:
        fingerprint: of its weights, 64 bits. A state with another one is refused.
    """

    fingerprint: Tensor

    def __init__(self, module: nn.Module, *, name: str) -> None:
        super().__init__()
        # In a tuple, where torch does not look for parameters.
        self._held = (module.eval().requires_grad_(False),)
        self.name = name
        self.register_buffer("fingerprint", fingerprint_of(module))

    @property
    def held(self) -> Any:
        """The module."""
        return self._held[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Frozen":
        self._held[0]._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        found = state.get(f"{prefix}fingerprint")
        if found is not None and not torch.equal(found.cpu(), self.fingerprint.cpu()):
            raise WrongUse(
                f"{self.name}: these are not the weights it was trained with; give the file or the folder that was used"
            )
        super()._load_from_state_dict(state, prefix, *rest)


def fingerprint_of(module: nn.Module) -> Tensor:
    """64 bits of the digest of all weights."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
    return torch.tensor(int.from_bytes(digest.digest(), "little", signed=True))
