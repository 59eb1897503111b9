"""Which picture is for training, validation and test: a function of content, or of patient."""

import hashlib

from inkwash.data.item import Item

# Fewer pictures (or patients) than this leave a part empty too often to be worth splitting.
SMALLEST = 10
_PARTS = (("train", 0.8), ("val", 0.9), ("test", 1.0))


def assign(items: list[Item], digests: list[str]) -> tuple[list[str], str]:
    """A split for each item, and the rule in words.

    The collection's own splits are taken if it has any. Otherwise the hash of the patient or group, or of the
    picture's bytes where no group is known, falls into 80 % training, 10 % validation, 10 % test: adding,
    moving or renaming files never moves another picture to a different split.
    """
    if any(item.split for item in items):
        return [item.split or "train" for item in items], "as the collection gives them"
    grouped = any(item.group for item in items)
    keys = [f"group {item.group}" if item.group else digest for item, digest in zip(items, digests, strict=True)]
    if len(set(keys)) < SMALLEST:
        unit = "groups" if grouped else "different pictures"
        return ["train"] * len(items), f"all in train: {len(set(keys))} {unit} are too few to split"
    rule = "patient or group" if grouped else "content"
    return [_part(key) for key in keys], f"80/10/10 by the hash of the {rule}"


def _part(key: str) -> str:
    draw = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
    return next(part for part, end in _PARTS if draw < end)
