"""One item of a collection, and what finding the items has shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# The splits by their usual names; everything else is not a split.
SPLITS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "ts"), "test"),
}


@dataclass(frozen=True)
class Item:
    """Names in the source, and what is known of the picture without opening it.

    Attributes:
        annotations: the masks of further annotators; `mask` is the first one's.
        measured: the same picture as it was measured, noisy for example; `image` is then the clean one.
        caption: what is written of it.
    """

    image: str
    mask: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    annotations: tuple[str, ...] = ()
    measured: str | None = None
    caption: str | None = None

    @property
    def masks(self) -> tuple[str, ...]:
        """The masks of all annotators, the first one's first."""
        return () if self.mask is None else (self.mask, *self.annotations)


@dataclass
class Found:
    """What a layout made of the names.

    Attributes:
        items: the pictures, in order of their names or rows.
        layout: in words.
        columns: which column (or array) was read as what, where there are columns.
        problems: (name, reason) of what can't be an item.
        unused: the other columns.
        remarks: choices that the user should know of.
        unmasked: pictures among the problems that lack nothing but a mask.
    """

    items: list[Item]
    layout: str
    columns: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unmasked: list[str] = field(default_factory=list)
