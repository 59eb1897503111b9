"""Autoencoders of MONAI, of images and volumes: its `AutoencoderKL`, used as it is."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from inkwash.errors import WrongUse
from inkwash.nets.adapters.base import require
from inkwash.nets.adapters.frozen_autoencoder import FrozenAutoencoder
from inkwash.nets.adapters.weights import read_weights
from inkwash.nets.autoencoder import Code


class FrozenMonaiKL(FrozenAutoencoder):
    """A frozen `monai.networks.nets.AutoencoderKL`, 2-D or 3-D.

    Args:
        vae: the module.
        name: where it is from, for messages.

    Raises:
        WrongUse: it is of another class, or its pictures come back with other channels.
    """

    def __init__(self, vae: Any, *, name: str = "the autoencoder") -> None:
        kind = type(vae).__name__
        if kind != "AutoencoderKL" or not hasattr(vae, "quant_conv_mu"):
            raise WrongUse(f"{name} is {kind}: an AutoencoderKL of MONAI can be used")
        enter, leave = (
            next(p for n, p in part.named_parameters() if p.ndim > 2 and n.startswith(start))
            for part, start in ((vae.encoder, "blocks.0."), (vae.decoder, f"blocks.{len(vae.decoder.blocks) - 1}."))
        )
        if enter.shape[1] != leave.shape[0]:
            raise WrongUse(f"{name} takes {enter.shape[1]} channels and gives {leave.shape[0]}: they must be the same")
        super().__init__(vae, name=name)
        self.spatial, self.channels, self.pictures = enter.ndim - 2, int(vae.latent_channels), int(enter.shape[1])
        self.factor = 2 ** (len(vae.encoder.channels) - 1)

    def coded(self, x: Tensor) -> Code:
        mean, std = self.held.encode(x)
        return Code(mean, 2 * std.log())

    def decoded(self, z: Tensor) -> Tensor:
        made: Tensor = self.held.decode(z)
        return made


def load(path: str | Path) -> FrozenMonaiKL:
    """The autoencoder whose weights are in a file, `.safetensors` or `.pt`, and whose arguments are beside it.

    Args:
        path: `x.safetensors` beside `x.json`, which holds the arguments of `AutoencoderKL` by name. A bundle's
            `_target_` among them must name that class.

    Raises:
        WrongUse: MONAI is missing, or the file or its arguments are not such an autoencoder's.
    """
    path = Path(path)
    state, beside = read_weights(path), path.with_suffix(".json")
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WrongUse(f"{path}: {beside.name} beside it must hold the arguments of MONAI's AutoencoderKL") from error
    if not isinstance(told, dict):
        raise WrongUse(f"{beside}: holds no arguments by name")
    kind = str(told.pop("_target_", "AutoencoderKL"))
    if kind.rpartition(".")[2] != "AutoencoderKL":
        raise WrongUse(f"{beside}: describes a {kind}; an AutoencoderKL can be used")
    nets = require("monai.networks.nets", "medical")
    try:
        vae = nets.AutoencoderKL(**told)
        vae.load_state_dict(state)
    except (TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise WrongUse(f"{path}: with {beside.name} these are no weights of an AutoencoderKL: {why}") from error
    return FrozenMonaiKL(vae, name=str(path))
