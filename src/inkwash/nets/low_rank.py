"""A frozen network whose weights are changed by matrices of low rank (Hu et al. 2022), by the library peft.

A matrix `W` of the network acts as `W + weight (alpha / rank) B A` with `A` `(rank, inputs)` drawn and `B`
`(outputs, rank)` zero at first (their equation 3, section 4.1), so a training begins at the network exactly. Of a
convolution `A` is one of the same kernel with `rank` outputs and `B` one of size 1.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from inkwash.atomic import write_tensors
from inkwash.errors import WrongUse
from inkwash.nets.adapters.base import require
from inkwash.nets.adapters.frozen import fingerprint_of
from inkwash.nets.attention import CrossAttention, SelfAttention
from inkwash.nets.blocks import CONV, Upsample
from inkwash.nets.weighed import Weighed

# What peft calls a set of adapters, of which there is one here, and how it marks their weights.
_SET, _MARK = "default", ".lora_"


class LowRank(Weighed):
    """A frozen network and its low-rank additions: called as the network itself.

    The state holds the additions and a fingerprint of what they were learned on, not the network's weights.

    Args:
        network: is frozen, and changed: its layers are replaced by peft's.
        rank: of an addition.
        alpha: an addition counts `alpha / rank`.
        convolutions: add to convolutions too, and not to attention alone.
        name: of the network, for messages.
        fingerprint: of all that the additions were learned on; of the network's weights by default.

    Attributes:
        fingerprint: the same, 64 bits. A state with another one is refused.

    Raises:
        WrongUse: peft is missing, or the network has nothing to add to.
    """

    fingerprint: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        rank: int,
        alpha: float,
        convolutions: bool,
        name: str,
        fingerprint: Int64[Tensor, ""] | None = None,
    ) -> None:
        super().__init__()
        peft = require("peft", "adapters")
        self.register_buffer("fingerprint", fingerprint_of(network) if fingerprint is None else fingerprint)
        self.name = name
        places = targets(network, convolutions=convolutions)
        if not places:
            raise WrongUse(f"{name} has no attention to adapt: --set convolutions=true adapts its convolutions")
        self.peft = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=places)
        self.network = peft.inject_adapter_in_model(self.peft, network)
        self.register_state_dict_post_hook(_leave_out)
        self.register_load_state_dict_pre_hook(_put_back)

    def forward(self, z: Float[Tensor, "b ..."], t: Float[Tensor, "..."], **condition: Any) -> Float[Tensor, "b ..."]:
        out: Tensor = self.network(z, t, **condition)
        return out

    def weigh(self, weight: float) -> None:
        self.weight = weight
        for layer in _layers(self.network).values():
            layer.set_scale(_SET, weight)

    def train(self, mode: bool = True) -> "LowRank":
        # What is frozen does not drop out, and the additions have no drop-out.
        return super().train(False)

    def merged(self) -> nn.Module:
        """A copy of the network with the additions, as they are weighed now, in its weights; without peft."""
        network = copy.deepcopy(self.network)
        for place, layer in _layers(network).items():
            plain = layer.get_base_layer()
            # peft's own merging knows no convolutions of size 1 in three dimensions (0.21).
            thin, wide = layer.lora_A[_SET].weight, layer.lora_B[_SET].weight
            added = (wide.flatten(1) @ thin.flatten(1)).reshape(plain.weight.shape)
            with torch.no_grad():
                plain.weight.add_(added, alpha=layer.scaling[_SET])
            parent, _, last = place.rpartition(".")
            setattr(network.get_submodule(parent), last, plain)
        del network.peft_config
        return network.requires_grad_(True)

    def export(self, folder: Path) -> None:
        """Write the additions as peft does, `adapter_config.json` and `adapter_model.safetensors`, to a folder.

        `peft.PeftModel.from_pretrained(network, folder)` adds them to the network that they were trained on.
        """
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(self.network, adapter_name=_SET)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"base_model.model.{name}": value.detach().cpu().contiguous() for name, value in state.items()}
        write_tensors(folder / "adapter_model.safetensors", tensors)
        self.peft.save_pretrained(str(folder))


def targets(network: nn.Module, *, convolutions: bool) -> list[str]:
    """The names of the layers that are added to: those into and out of attention, and convolutions where asked."""
    found: list[str] = []
    # An upsampling reads the weight of its convolution, which would pass the addition by.
    read = {id(module.conv) for module in network.modules() if isinstance(module, Upsample)}
    for name, module in network.named_modules():
        if isinstance(module, SelfAttention | CrossAttention):
            found += [f"{name}.{part}" for part, layer in module.named_children() if isinstance(layer, nn.Linear)]
        elif convolutions and isinstance(module, tuple(CONV.values())) and id(module) not in read:
            found.append(name)
    return found


def _layers(network: nn.Module) -> dict[str, Any]:
    """The layers of peft, by their place."""
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in network.named_modules() if isinstance(module, LoraLayer)}


def _leave_out(module: LowRank, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}network.") and _MARK not in name]:
        del state[name]


def _put_back(module: LowRank, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    found = state.get(f"{prefix}fingerprint")
    if found is not None and not torch.equal(found.cpu(), module.fingerprint.cpu()):
        raise WrongUse(f"{module.name} is not what these adapters were trained on: its weights have changed since")
    for name, value in module.network.state_dict(prefix=f"{prefix}network.").items():
        if _MARK not in name:
            state[name] = value
