"""Batches made ready while the one before is worked on."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(prepare: Callable[[int], Item], first: int, workers: int) -> Iterator[Item]:
    """`prepare(first)`, `prepare(first + 1)`, ... without end, the next ones in the making in `workers` threads."""
    if workers == 0:
        yield from map(prepare, itertools.count(first))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batch")
    try:
        waiting: deque[Future[Item]] = deque(pool.submit(prepare, n) for n in range(first, first + workers))
        for n in itertools.count(first + workers):
            waiting.append(pool.submit(prepare, n))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
