"""How long a training lasts, the learning rate meanwhile, and what is done now and then."""

import math

from inkwash.training.options import TrainOptions, cadence


def learning_rate(options: TrainOptions, step: int, fraction: float) -> float:
    """The learning rate of one step.

    Linear warm-up times the decay: cosine (Loshchilov & Hutter 2017, eq. 5, without restarts) and linear fall to
    zero with the fraction of the budget that is used; inverse-sqrt falls with the steps after the warm-up
    (Vaswani et al. 2017, sec. 5.3), so the budget need not be known.

    Args:
        step: counted from 0.
        fraction: of the budget, in [0, 1].
    """
    warm = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    if options.decay == "cosine":
        decay = (1 + math.cos(math.pi * fraction)) / 2
    elif options.decay == "linear":
        decay = 1 - fraction
    elif options.decay == "inverse-sqrt":
        reference = max(options.warmup, 1)
        decay = math.sqrt(reference / max(step + 1, reference))
    else:
        decay = 1.0
    return options.learning_rate * warm * decay


class Budget:
    """How much of the steps and the minutes is used.

    The clock is read only now and then (`read`) and the time between is reckoned from the pace, so all processes
    agree on it, and steps alone decide where only steps are given.
    """

    def __init__(self, options: TrainOptions, step: int, seconds: float) -> None:
        self.steps = options.steps
        self.limit = math.inf if options.minutes is None else options.minutes * 60
        self.step, self.seconds = step, seconds
        self.pace: float | None = None

    def read(self, step: int, seconds: float) -> None:
        """The clock says `seconds` after `step` steps."""
        if step > self.step:
            pace = (seconds - self.seconds) / (step - self.step)
            self.pace = pace if self.pace is None else (self.pace + pace) / 2
        self.step, self.seconds = step, seconds

    def reckoned(self, step: int) -> float:
        """Seconds used after `step` steps."""
        return self.seconds + (step - self.step) * (self.pace or 0.0)

    def fraction(self, step: int) -> float:
        """The used part of the budget, in [0, 1]."""
        used = max(step / self.steps if self.steps else 0.0, self.reckoned(step) / self.limit)
        return min(used, 1.0)

    def over(self, step: int) -> bool:
        """Whether it is used up, as of the last reading."""
        return (self.steps is not None and step >= self.steps) or self.seconds >= self.limit

    def look(self, step: int) -> bool:
        """Whether the clock must be read after `step` steps, lest the time run out unseen.

        Half of what was left at the last reading is waited for, so that a slow step is noticed before the end.
        """
        if math.isinf(self.limit):
            return False
        return self.pace is None or self.reckoned(step + 1) - self.seconds > (self.limit - self.seconds) / 2

    def left(self, step: int) -> float | None:
        """Seconds that remain; None while the pace is unknown."""
        if self.pace is None:
            return None if math.isinf(self.limit) else self.limit - self.seconds
        left = self.limit - self.reckoned(step)
        return max(0.0, left if self.steps is None else min(left, (self.steps - step) * self.pace))


class Due:
    """Whether it is time again for something that is done every so many steps, or every so many seconds.

    Args:
        every: as in the options; None is never.
        seconds: used when the training began or went on.
    """

    def __init__(self, every: str | None, seconds: float) -> None:
        self.steps, self.seconds = (None, math.inf) if every is None else cadence(every)
        self.last = seconds

    def at(self, step: int) -> bool:
        """Whether it is due after `step` steps, where steps are what is counted."""
        return self.steps is not None and step % self.steps == 0

    def __call__(self, step: int, seconds: float) -> bool:
        """Whether it is due now; then the next time is counted from now."""
        if seconds - self.last >= self.seconds:
            self.last = seconds
            return True
        return self.at(step)
