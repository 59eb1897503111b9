"""What a data set is made of, as far as a system needs to know to be built for it."""

from pydantic import BaseModel, ConfigDict, Field

from inkwash.data.captions import Captions


class DataSpec(BaseModel):
    """The shape of one item of a data set.

    Attributes:
        channels: 1 for grey, 3 for colour; other numbers where an array holds other channels.
        size: the spatial size, `(H, W)`.
        classes: names of the image classes, `label` counts them from 0; None where images have no label.
        mask_classes: number of mask classes, the background (class 0) among them; None where there is no mask.
        pairs: whether there is a measured picture beside each clean one.
        captions: the words of captions; None where pictures have none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int
    size: tuple[int, ...]
    classes: tuple[str, ...] | None = None
    mask_classes: int | None = None
    pairs: bool = Field(default=False, exclude_if=lambda value: not value)
    captions: Captions | None = Field(default=None, exclude_if=lambda value: value is None)
