"""The U-Net of MONAI, for images and volumes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.nets.adapters.base import Adapter, require
from inkwash.nets.adapters.weights import read_weights


class MonaiUNet(Adapter):
    """A `monai.networks.nets.DiffusionModelUNet`, 2-D or 3-D; `label` becomes its `class_labels`.

    Args:
        unet: the module.
        image: how many of its input channels, the last ones, are a condition.
        none: the label that it was trained to take as "no label".

    Raises:
        WrongUse: it is of another class.
    """

    def __init__(self, unet: Any, *, image: int = 0, none: int | None = None) -> None:
        if type(unet).__name__ != "DiffusionModelUNet":
            raise WrongUse(f"{type(unet).__name__} is no network of MONAI that can be adapted: DiffusionModelUNet can")
        entry = unet.conv_in.conv.weight
        cross = [m.to_k.in_features for n, m in unet.named_modules() if n.endswith("attn2") and hasattr(m, "to_k")]
        super().__init__(
            unet,
            spatial=entry.ndim - 2,
            channels_in=entry.shape[1],
            image=image,
            classes=unet.num_class_embeds or 0,
            none=none,
            context=cross[0] if cross else 0,
            multiple=2 ** (len(unet.down_blocks) - 1),
        )

    def _evaluate(
        self, x: Tensor, t: Tensor, label: Tensor | None, vector: Tensor | None, context: Tensor | None
    ) -> Tensor:
        return self.network(x, t, context=context, class_labels=label)


def load(path: str | Path, config: Mapping[str, Any], *, image: int = 0, none: int | None = None) -> MonaiUNet:
    """The network with the weights of a file, in `eval` mode.

    Args:
        path: `.safetensors` or `.pt`, the network's state dict.
        config: the arguments of `DiffusionModelUNet` that it was built with; the file does not hold them.

    Raises:
        WrongUse: MONAI is missing, or the file or the config is not such a network's.
    """
    state = read_weights(path)
    nets = require("monai.networks.nets", "medical")
    try:
        unet = nets.DiffusionModelUNet(**config)
        unet.load_state_dict(state)
    except (TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise WrongUse(f"{path}: with this config these are no weights of a DiffusionModelUNet: {why}") from error
    return MonaiUNet(unet.eval(), image=image, none=none)
