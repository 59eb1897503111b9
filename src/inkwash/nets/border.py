"""The border of every network: what is handed in is checked once, and pictures are joined to `z`.

A network is called as `network(z, t, *, label=None, vector=None, context=None, image=None)`; the shapes are in
`docs/architecture.md`. A condition that the network was not built for is refused, never ignored.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkwash.errors import WrongUse


def join(
    z: Float[Tensor, "_ _ ..."],
    image: Float[Tensor, "_ _ ..."] | None,
    *,
    spatial: int,
    channels: int,
    image_channels: int,
) -> Float[Tensor, "b c *spatial"]:
    """`z` with `image` behind it along the channels, `(B, channels + image_channels, *spatial)`.

    An image of None is one of zeros, which is what "no condition" means.

    Raises:
        WrongUse: `z` or `image` has another number of dimensions or channels, or they differ in size.
    """
    if z.ndim != spatial + 2 or z.shape[1] != channels or 0 in z.shape:
        axes = ", ".join(["B", str(channels), *"DHW"[3 - spatial :]])
        raise WrongUse(f"z of shape {tuple(z.shape)}: this network takes ({axes}), no axis empty")
    if image_channels == 0:
        if image is not None:
            raise WrongUse("image given to a network that was built without it")
        return z
    expected = (z.shape[0], image_channels, *z.shape[2:])
    if image is None:
        image = z.new_zeros(expected)
    elif tuple(image.shape) != expected:
        raise WrongUse(f"image of shape {tuple(image.shape)}: with this z the network takes {expected}")
    return torch.cat((z, image.to(z.dtype)), dim=1)


def check_time(z: Float[Tensor, "_ _ ..."], t: Float[Tensor, "..."]) -> None:
    """Raises WrongUse unless `t` is `(B,)` or `(1,)`."""
    if t.ndim != 1 or t.shape[0] not in (1, z.shape[0]):
        raise WrongUse(f"t of shape {tuple(t.shape)}: it is ({z.shape[0]},), one time an item, or (1,) for all")


def check_condition(name: str, value: Tensor | None, shape: tuple[int | None, ...], *, built: bool) -> None:
    """Raises WrongUse if a condition is not of `shape` (None is any length), or the network has no place for it."""
    if value is None:
        return
    if not built:
        raise WrongUse(f"{name} given to a network that was built without it")
    if value.ndim != len(shape) or any(s not in (None, have) for s, have in zip(shape, value.shape)):
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise WrongUse(f"{name} of shape {tuple(value.shape)}: the network takes ({wanted})")


def check_label(label: Int64[Tensor, "..."] | None, batch: int, *, classes: int, none: bool) -> None:
    """Raises WrongUse unless each of `batch` labels is in 0 .. classes - 1, or is -1 where the network has a `none`."""
    check_condition("label", label, (batch,), built=classes > 0)
    # On an accelerator looking at the values would stop it; the embedding asserts there.
    if label is None or label.device.type != "cpu" or torch.compiler.is_compiling():
        return
    lowest = -1 if none else 0
    if ((label < lowest) | (label >= classes)).any():
        hint = ", or -1 for none" if none else "; it has no label for none"
        raise WrongUse(f"labels {label.tolist()}: this network knows 0 to {classes - 1}{hint}")


def check_size(z: Float[Tensor, "_ _ ..."], multiple: int) -> None:
    """Raises WrongUse unless every side of `z` is a multiple of `multiple`."""
    if any(side % multiple for side in z.shape[2:]):
        raise WrongUse(f"size {tuple(z.shape[2:])}: every side must be a multiple of {multiple} for this network")
