"""U-Nets of the diffusers library."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.nets.adapters.base import Adapter, require

_KNOWN = ("UNet2DModel", "UNet2DConditionModel")


class DiffusersUNet(Adapter):
    """A `UNet2DModel` or `UNet2DConditionModel`; `context` becomes its `encoder_hidden_states`.

    `label` becomes its `class_labels`, as does `vector` where these are projections (`class_embed_type`).

    Args:
        unet: the module.
        image: how many of its input channels, the last ones, are a condition.
        none: the label that it was trained to take as "no label".

    Raises:
        WrongUse: it is of another class, or wants conditions that the border has no name for.
    """

    def __init__(self, unet: Any, *, image: int = 0, none: int | None = None) -> None:
        kind, config = type(unet).__name__, getattr(unet, "config", None)
        if kind not in _KNOWN or config is None:
            raise WrongUse(f"{kind} is no network of diffusers that can be adapted: {' or '.join(_KNOWN)} can")
        added, projected = config.get("addition_embed_type"), config.get("encoder_hid_dim_type")
        if added is not None or projected not in (None, "text_proj"):
            raise WrongUse(f"this {kind} wants added conditions (as SDXL and IP-Adapter do), which have no place here")
        context = config.get("encoder_hid_dim") or config.get("cross_attention_dim") or 0
        if not isinstance(context, int):
            raise WrongUse(f"this {kind} attends to contexts of several widths, {tuple(context)}; one can be adapted")
        classes, vector = _classes(unet, config)
        # The conditional one passes the size of every level on; the other one doubles and cannot meet an odd size.
        multiple = 2 ** (len(config["block_out_channels"]) - 1) if kind == "UNet2DModel" else 1
        super().__init__(
            unet,
            spatial=2,
            channels_in=config["in_channels"],
            image=image,
            classes=classes,
            none=none,
            vector=vector,
            context=context,
            multiple=multiple,
        )

    def _evaluate(
        self, x: Tensor, t: Tensor, label: Tensor | None, vector: Tensor | None, context: Tensor | None
    ) -> Tensor:
        told = {"class_labels": label if vector is None else vector, "return_dict": False}
        if context is not None:
            told["encoder_hidden_states"] = context
        return self.network(x, t, **told)[0]


def _classes(unet: Any, config: Mapping[str, Any]) -> tuple[int, int]:
    """The number of labels and the size of the vector that `class_labels` stands for."""
    kind = config["class_embed_type"]
    if kind is None:
        return config["num_class_embeds"] or 0, 0
    if kind == "identity":
        return 0, unet.time_embedding.linear_2.out_features
    if kind in ("projection", "simple_projection"):
        return 0, config["projection_class_embeddings_input_dim"]
    raise WrongUse(f"class_embed_type {kind!r} has no place here: labels, identity and projections have")


def load(folder: str | Path, *, image: int = 0, none: int | None = None) -> DiffusersUNet:
    """The network that `save_pretrained` wrote to `folder` (of a whole pipeline: its `unet` folder), in `eval` mode.

    Raises:
        WrongUse: diffusers is missing, or the folder holds no network that can be adapted.
    """
    folder = Path(folder)
    try:
        kind = json.loads((folder / "config.json").read_text())["_class_name"]
    except (OSError, ValueError, KeyError) as error:
        raise WrongUse(f"{folder}: no config.json of a network; of a whole pipeline give its unet folder") from error
    if kind not in _KNOWN:
        raise WrongUse(f"{folder}: holds a {kind}; {' or '.join(_KNOWN)} can be adapted")
    diffusers = require("diffusers", "diffusers")
    try:
        unet = getattr(diffusers, kind).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise WrongUse(f"{folder}: {str(error).splitlines()[0]}") from error
    return DiffusersUNet(unet, image=image, none=none)
