"""What the adapters of other libraries' networks share: the border."""

from abc import ABC, abstractmethod
from importlib import import_module
from types import ModuleType

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from inkwash.errors import WrongUse
from inkwash.nets.border import check_condition, check_label, check_size, check_time, join


def require(package: str, extra: str) -> ModuleType:
    """The imported package, or WrongUse with the command that installs it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise WrongUse(f"{package} cannot be imported ({error}): pip install 'inkwash[{extra}]'") from error


class Adapter(nn.Module, ABC):
    """Another library's network behind the border of ours.

    Times are handed through: the clock's value is the whole-number timestep that published checkpoints know.
    Conditions that the network cannot do without are asked for.

    Args:
        network: the wrapped module.
        spatial: its spatial dimensions.
        channels_in: all channels that it takes, those of `image` included.
        image: how many of them, the last ones, are the condition's.
        classes: its labels are 0 .. classes - 1; 0 for none.
        none: the label among them that stands for "no label"; None if there is none, and -1 is refused.
        vector: size of the condition vector; 0 for none.
        context: channels D of the context `(B, L, D)`; 0 for none.
        multiple: what every side must be a multiple of.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        spatial: int,
        channels_in: int,
        image: int = 0,
        classes: int = 0,
        none: int | None = None,
        vector: int = 0,
        context: int = 0,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        if not 0 <= image < channels_in:
            raise WrongUse(f"image has {image} of the network's {channels_in} input channels: z needs at least one")
        if none is not None and not 0 <= none < classes:
            raise WrongUse(f"none={none} is not a label of the network, which knows {classes}")
        self.network = network
        self.spatial, self.channels_in, self.image, self.multiple = spatial, channels_in - image, image, multiple
        self.classes, self.none, self.vector, self.context = classes, none, vector, context

    def forward(
        self,
        z: Float[Tensor, "b _ ..."],
        t: Float[Tensor, "..."],
        *,
        label: Int64[Tensor, "..."] | None = None,
        vector: Float[Tensor, "..."] | None = None,
        context: Float[Tensor, "..."] | None = None,
        image: Float[Tensor, "_ _ ..."] | None = None,
    ) -> Float[Tensor, "b _ ..."]:
        """The network's output.

        Raises:
            WrongUse: a shape is not the network's, a condition is one that it has no place for, or is missing.
        """
        x = join(z, image, spatial=self.spatial, channels=self.channels_in, image_channels=self.image)
        check_size(z, self.multiple)
        check_time(z, t)
        batch = z.shape[0]
        if label is None and self.none is not None:
            label = torch.full((batch,), self.none, device=z.device)
        check_label(label, batch, classes=self.classes, none=self.none is not None)
        if label is not None and self.none is not None:
            label = torch.where(label < 0, self.none, label)
        check_condition("vector", vector, (batch, self.vector), built=self.vector > 0)
        check_condition("context", context, (batch, None, self.context), built=self.context > 0)
        for name, size, given in (
            ("label", self.classes, label),
            ("vector", self.vector, vector),
            ("context", self.context, context),
        ):
            if size and given is None:
                raise WrongUse(f"this network was trained with a {name} and cannot do without: pass {name}=")
        return self._evaluate(x, t.to(z.device).expand(batch), label, vector, context)

    @abstractmethod
    def _evaluate(
        self, x: Tensor, t: Tensor, label: Tensor | None, vector: Tensor | None, context: Tensor | None
    ) -> Tensor:
        """The wrapped network at `x`, `image` included, and `t`, `(B,)`."""
