"""`--memory` of drawing: how many pictures at a time, and tiles where not even one fits.

Pictures don't depend on how many are drawn at a time. In the order of what it costs: fewer at a time; then the network
without the copies of its weights that make it faster; then tiles, the largest that fit, which make other pictures and
are named in what is written down.
"""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Generator as Job
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from inkwash.api import backends
from inkwash.api.progress import Progress
from inkwash.errors import Failed, WrongUse
from inkwash.memory import heap, machine
from inkwash.memory.amount import at_least, words
from inkwash.memory.exhaustion import exhausted
from inkwash.memory.fence import fence
from inkwash.memory.fit import BEYOND, Trial, best, needed, search, target
from inkwash.memory.meter import meter
from inkwash.sampling.tiled import grid_of
from inkwash.systems.base import Generator, Way
from inkwash.training.processes import from_all, together

STAGE = "measuring memory"
# Steps that are looked at: multistep solvers keep what the first one made.
_STEPS = 2
# Sides below which a tile shows too little of a picture.
_LEAST_TILE = 32
# Tiles to choose from, as parts of the longest side.
_PARTS = (0.75, 0.5, 0.375, 0.25, 0.1875, 0.125)


@dataclass(frozen=True)
class Room:
    """How the pictures are drawn within a limit.

    Attributes:
        batch: pictures at a time.
        tile: the side of the tiles, None where a whole picture fits.
        lean: whether the network draws without the copies of its weights that make it faster.
        limit, peak: bytes allowed, and measured to be in use.
    """

    batch: int
    limit: int
    peak: int
    tile: int | None = None
    lean: bool = False

    def __str__(self) -> str:
        tiles = f", in tiles of {self.tile}, which makes other pictures" if self.tile else ""
        free = words(self.limit - target(self.limit))
        return f"{self.batch} at a time{tiles}: {words(self.peak)} of {words(self.limit)}, {free} are kept free"


def room(
    system: Generator,
    memory: str,
    *,
    count: int,
    batch: int,
    condition: Mapping[str, Tensor],
    how: Mapping[str, Any],
) -> Job[Progress, None, Room]:
    """Measures the first steps of a drawing, and returns how to draw.

    Args:
        memory: the limit, as `inkwash.memory.amount.parse` takes it.
        count: pictures to be drawn by this process.
        batch: the most at a time.
        condition, how: as `Generator.draw` takes them; a `tile` among them is kept.

    Raises:
        WrongUse: nothing that could be chosen fits; the line says the least that would.
    """
    device = next(system.parameters()).device
    limit = machine.limit(memory, device)
    most = max(1, min(batch, count))
    sizes = [*(2**k for k in range(most.bit_length()) if 2**k < most), most]
    tried: list[Trial] = []

    def trial(size: int, tile: int | None = None, lean: bool = False) -> Trial:
        told = dict(how) if tile is None else {**how, "tile": tile, "overlap": None}
        return _trial(system, size, condition, told, device, lean)

    yield Progress(STAGE, 0, note="one picture first")
    whole = []
    for found in search(trial, sizes, limit):
        whole.append(found)
        yield _told(found, f"{found.size} at a time", [*tried, *whole])
    tried += whole
    chosen = best(whole, limit)
    made = None if chosen is None else Room(chosen.size, limit, chosen.peak)
    tiles: list[Trial] = []
    if made is None and backends.leaner(system):
        found = trial(1, lean=True)
        tried.append(found)
        yield _told(found, "1 at a time, plainly", tried)
        if best([found], limit):
            made = Room(1, limit, found.peak, lean=True)
    # A cache of what the network saw last can't tell tiles apart.
    cached = any(kind in str(how.get("cache")) for kind in ("deep", "first-block"))
    if made is None and how.get("tile") is None and backends.any_size(system) and not cached:
        sides = {side * side: side for side in _sides(system)}
        # Tiles are tried by their area, which is what they take.
        for found in search(lambda area: _of(trial(1, sides[area], True), area), [*sides], limit) if sides else ():
            tiles.append(found)
            yield _told(found, f"1 at a time in tiles of {sides[found.size]}", [*tried, *tiles])
        tried += tiles
        if (largest := best(tiles, limit)) is not None:
            made = Room(1, limit, largest.peak, sides[largest.size], True)
    with together():
        if made is None:
            raise _refusal(memory, limit, min(tried, key=lambda found: found.peak), device, bool(tiles))
        backends.forget(system)
    made = _agreed(made)
    yield Progress(STAGE, len(tried), len(tried), note=str(made))
    return made


def planned(
    system: Generator,
    way: Way,
    memory: str | None,
    *,
    count: int,
    batch: int,
    condition: Mapping[str, Tensor],
    seed: int,
    how: Mapping[str, Any],
) -> Job[Progress, None, tuple[Way, int, Room | None]]:
    """The way to draw, the pictures at a time, and the room they were chosen for: as asked where there is no limit.

    Args:
        way: what was asked for, and `how` the options that it was made from.
        memory, count, batch, condition: as of `room`, which says what is raised.
    """
    if memory is None:
        return way, batch, None
    made = yield from room(
        system, memory, count=count, batch=batch, condition=condition, how={**way.told, "seed": seed}
    )
    return system.way(**{**how, "tile": made.tile or how.get("tile")}), made.batch, made


@contextmanager
def kept_to(system: Generator, made: Room | None) -> Iterator[None]:
    """Draws as `made` says inside, and as before afterwards."""
    with ExitStack() as stack:
        if made is not None and made.lean:
            stack.enter_context(backends.plain(system))
        yield


def advice(memory: str | None, batch: int, tile: int | None, size: int) -> str:
    """What to say where drawing took too much memory."""
    if batch > 1:
        return f"--batch {batch // 2} draws fewer at a time" + ("" if memory else ", --memory 80% chooses how many")
    smaller = (tile or size) // 2
    return f"{'a higher --memory' if memory else 'a machine with more memory'} or --tile {smaller} makes room"


@contextmanager
def advised(say: Callable[[], str]) -> Iterator[None]:
    """Memory that runs out inside is a failure in one line, with where things stand and what to do."""
    try:
        yield
    except Exception as error:
        if not exhausted(error):
            raise
        raise Failed(f"out of memory: {say()}") from error


def _trial(
    system: Generator,
    size: int,
    condition: Mapping[str, Tensor],
    how: Mapping[str, Any],
    device: torch.device,
    lean: bool,
) -> Trial:
    """The peak of the first steps of `size` pictures. The network is made ready anew, for pictures of this many."""

    def work() -> None:
        for draw in islice(system.draw(size, condition=dict(condition), batch=size, **how), _STEPS):
            last = draw
        # What a code is decoded in may be more than a step.
        _ = last.pictures

    backends.forget(system)
    with ExitStack() as stack:
        if lean:
            stack.enter_context(backends.plain(system))
        stack.enter_context(heap.eager(device.type == "cpu"))
        try:
            with fence(device):
                return Trial(size, meter(device).of(work))
        except Exception as error:
            if not exhausted(error):
                raise
            return Trial(size, BEYOND)


def _of(found: Trial, size: int) -> Trial:
    return Trial(size, found.peak)


def _told(found: Trial, what: str, tried: list[Trial]) -> Progress:
    return Progress(STAGE, len(tried), note=f"{what}: {'no room' if found.peak >= BEYOND else words(found.peak)}")


def _sides(system: Generator) -> list[int]:
    """Tiles to choose from: parts of the picture on the network's own grid."""
    longest, (_, grid) = max(system.spec.size), grid_of(system.denoiser.network)
    grid *= system.factor
    sides = {int(longest * part) // grid * grid for part in _PARTS}
    return sorted(side for side in sides if _LEAST_TILE <= side < longest)


def _agreed(made: Room) -> Room:
    """With several processes the tiles are the same in all of them, for pictures depend on those: the smallest."""
    tiles = [tile for tile in from_all(made.tile) if tile is not None]
    return replace(made, tile=min(tiles)) if tiles else made


def _refusal(memory: str, limit: int, least: Trial, device: torch.device, tiles: bool) -> WrongUse:
    one = "one picture at a time" + (", even in tiles," if tiles else "")
    if least.peak >= BEYOND:
        return WrongUse(f"memory {memory}: {one} takes more than there is on this machine")
    held = words(machine.held(device))
    return WrongUse(
        f"memory {memory} ({words(limit)}): {one} takes {words(least.peak)}, {held} of it the program "
        f"and the model: the least that fits is --memory {at_least(needed(least.peak))}"
    )
