"""A limit on memory while work goes on under it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inkwash.errors import Failed
from inkwash.memory import heap, machine
from inkwash.memory.amount import words
from inkwash.memory.meter import Meter, meter


class Watch:
    """The peak since a moment, held against a limit.

    Attributes:
        text: the limit as it was written; None for none.
        limit: in bytes.
    """

    def __init__(self, text: str | None, limit: int | None, meter: Meter) -> None:
        self.text, self.limit, self.meter = text, limit, meter

    def peak(self) -> int:
        """The most bytes in use so far."""
        return self.meter.peak()

    def over(self) -> bool:
        """Whether the limit was passed at any time."""
        return self.limit is not None and self.peak() > self.limit

    def check(self, advice: str) -> None:
        """Raises `Failed`, with the advice, where the limit was passed."""
        if self.over():
            raise Failed(f"{self}: {advice}")

    def __str__(self) -> str:
        return f"{words(self.peak())} of memory in use, over the limit of {self.text}"


@contextmanager
def watch(text: str | None, device: torch.device | None = None) -> Iterator[Watch]:
    """Watch a limit, written as `amount.parse` takes it.

    A CUDA device refuses whatever goes over it. On a processor what is freed inside is given back at once.
    """
    counted = meter(device)
    limit = None if text is None else machine.limit(text, device)
    if limit is not None:
        counted.reset()
    card = device if limit is not None and device is not None and device.type == "cuda" else None
    if card is not None and limit is not None:
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / machine.total(card)), card)
    try:
        with heap.eager(limit is not None and card is None):
            yield Watch(text, limit, counted)
    finally:
        if card is not None:
            torch.cuda.set_per_process_memory_fraction(1.0, card)
