"""How the steps of a training are worked off so that they keep to a limit on memory, and lose the least time.

The items of a step never change: it is the same run, up to the order in which sums are taken. What changes is into how
many parts they are cut (accumulation), and whether activations are kept or computed a second time (checkpointing).
Parts that are too small for the hardware cost time as well, so where smaller parts turn out slower than larger ones
both ways are tried, and the faster is taken.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from inkwash.errors import WrongUse
from inkwash.memory.amount import at_least, words
from inkwash.memory.fit import BEYOND, Trial, best, needed, search, target
from inkwash.training.options import TrainOptions

# Smaller parts count as slower where an item takes this much longer in them.
_SLOWER = 1.15
# Checkpointing must win by this factor: two readings of a clock differ by less.
_CLEARLY = 1.05

Measure = Callable[[int, bool], Trial]


@dataclass(frozen=True)
class Plan:
    """The choice.

    Attributes:
        options: those of the training, with `accumulation` and `checkpointing` as chosen.
        part: items that are worked off at once, in each process.
        peak: bytes in use at most, as measured.
        limit: in bytes.
    """

    options: TrainOptions
    part: int
    peak: int
    limit: int

    def __str__(self) -> str:
        parts, items = self.options.accumulation, "1 item" if self.part == 1 else f"{self.part} items"
        work = f"a step in {parts} parts of {items}" if parts > 1 else f"a step of {items} at once"
        how = "checkpointing" if self.options.checkpointing else "no checkpointing"
        free = words(self.limit - target(self.limit))
        return f"{work}, {how}: {words(self.peak)} of {words(self.limit)}, {free} are kept free"


def planning(
    measure: Measure,
    options: TrainOptions,
    limit: int,
    *,
    processes: int = 1,
    switchable: bool = True,
    held: int = 0,
    advice: str = "",
) -> Generator[tuple[bool, Trial], None, Plan]:
    """Every trial with whether it was one of checkpointing; returns the plan.

    Args:
        measure: the peak and the seconds of a part of some items, without checkpointing and with it.
        options: `accumulation` is the fewest parts, and `checkpointing` is kept where it is on.
        limit: in bytes.
        switchable: whether the system can do checkpointing.
        held: bytes that the program and the data take without a model, for the message.
        advice: what would make the model smaller, for the message.

    Raises:
        WrongUse: not even one item at a time fits, or the batch does not divide.
    """
    share, rest = divmod(options.batch, processes)
    parts = [share // n for n in range(options.accumulation, share + 1) if share % n == 0]
    if rest or not parts:
        raise WrongUse(
            f"batch = {options.batch} does not divide into {processes} processes with {options.accumulation} "
            "accumulated parts each or more"
        )
    plain: list[Trial] = []
    twice: list[Trial] = []
    if not options.checkpointing:
        for trial in search(lambda part: measure(part, False), parts, limit):
            plain.append(trial)
            yield False, trial
    chosen = best(plain, limit)
    if options.checkpointing or (switchable and _doubtful(chosen, plain, max(parts))):
        for trial in search(lambda part: measure(part, True), parts, limit):
            twice.append(trial)
            yield True, trial
    other = best(twice, limit)
    faster = chosen is None or (other is not None and _pace(other) * _CLEARLY < _pace(chosen))
    taken = other if faster else chosen
    if taken is None:
        raise _refusal(min((*plain, *twice), key=lambda trial: trial.peak), twice, options, limit, held, advice)
    update = {"accumulation": share // taken.size, "checkpointing": options.checkpointing or taken is other}
    return Plan(options.model_copy(update=update), taken.size, taken.peak, limit)


def _pace(trial: Trial) -> float:
    """Seconds an item."""
    return trial.seconds / trial.size


def _doubtful(chosen: Trial | None, trials: Sequence[Trial], whole: int) -> bool:
    """Whether larger parts, which checkpointing makes room for, could be faster by more than it costs."""
    if chosen is None or chosen.size == whole:
        return chosen is None
    smaller = [trial for trial in trials if trial.size < chosen.size]
    if not smaller:
        return True
    return _pace(max(smaller, key=lambda trial: trial.size)) > _SLOWER * _pace(chosen)


def _refusal(
    least: Trial, twice: Sequence[Trial], options: TrainOptions, limit: int, held: int, advice: str
) -> WrongUse:
    how = " with checkpointing" if least in twice else ""
    items = "one item at a time" if least.size == 1 else f"{least.size} items at a time"
    if least.peak >= BEYOND:
        return WrongUse(f"memory {options.memory}: {items}{how} takes more than there is on this machine{advice}")
    return WrongUse(
        f"memory {options.memory} ({words(limit)}): {items}{how} takes {words(least.peak)}, {words(held)} of it the "
        f"program and the data: the least that fits is --memory {at_least(needed(least.peak))}{advice}"
    )
