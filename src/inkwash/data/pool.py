"""A small pool of threads; Pillow decodes and resizes outside of Python's global lock."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice


def spread(work: Callable[[int], None], indices: Iterable[int]) -> Iterator[int]:
    """Do `work(i)` for every index; yields how many are done. Stopped half-way it starts nothing more."""
    threads = min(4, len(os.sched_getaffinity(0)))
    queue = iter(indices)
    done = 0
    # Pillow warns of what is reported here by name: odd EXIF, many pixels.
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore")
        waiting = {pool.submit(work, i) for i in islice(queue, 4 * threads)}
        while waiting:
            future = next(as_completed(waiting))
            waiting.remove(future)
            future.result()
            waiting |= {pool.submit(work, i) for i in islice(queue, 1)}
            done += 1
            yield done
