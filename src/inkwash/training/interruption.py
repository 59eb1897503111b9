"""Being asked to stop: by a person (SIGINT), or by what shares out the machines (SIGTERM, and SIGUSR1 under Slurm)."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptions() -> Iterator[list[str]]:
    """A list that takes the name of the first such signal; the second has its usual effect.

    Outside the main thread, where signals cannot be caught, it stays empty.
    """
    names: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield names
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}

    def note(number: int, frame: Any) -> None:
        names.append(signal.Signals(number).name)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield names
    finally:
        restore()
