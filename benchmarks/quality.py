"""Error per network evaluation against the exact probability flow, on data whose denoiser is a formula.

The digits mixture (support/digits.py): 1024 fixed start noises, root mean square per pixel to where the probability
flow takes them. diffusers is tried in every deterministic solver and grid that it has, ours in every hand-made one; the
best of each is compared. `tuned` is what `inkwash tune` makes: the times and weights of one walk, fitted to a fine walk
of other noise. The last columns show where the limit lies: what the best weights reach on the tuned grid when they are
fitted to the very starts that are measured.
"""

from collections.abc import Iterator

from support import digits, oracle
from support.arguments import parse
from support.record import Row, Target, write
from support.timing import Spread

from inkwash.corruption.gaussian import Gaussian

EVALUATIONS = (5, 8, 10)
# Two times fewer than diffusers' best is what is aimed at.
AIM = 2.0


def main() -> None:
    options = parse(__doc__)
    schedules = {"linear": digits.SCHEDULES["linear"]} if options.quick else digits.SCHEDULES
    rows = [row for name, corruption in schedules.items() for row in measured(name, corruption, quick=options.quick)]
    write("quality", "Error per evaluation, exact denoiser", rows, options.out, about=str(__doc__))


def measured(schedule: str, corruption: Gaussian, *, quick: bool) -> Iterator[Row]:
    starts = digits.starts(count=64) if quick else digits.starts()
    true = digits.truth(corruption, starts, 60 if quick else 400)
    for budget in EVALUATIONS[:1] if quick else EVALUATIONS:
        theirs = dict(oracle.of_diffusers(schedule, starts, true, budget))
        by_hand = dict(oracle.by_hand(corruption, starts, true, budget))
        tuned, limit, places = oracle.tuned(corruption, starts, true, budget, quick=quick)
        best, own = min(theirs, key=theirs.__getitem__), min(by_hand, key=by_hand.__getitem__)
        yield Row(
            measure=f"{schedule}, {budget} evaluations, tuned",
            ours=tuned,
            unit="",
            peers={f"diffusers {best}": theirs[best]},
            ratio=Spread.of([theirs[best] / tuned]),
            target=Target("ratio", AIM),
            note=f"by hand {by_hand[own]:.3f} ({own}); the limit of these {budget} times: {limit:.3f}",
            detail={"diffusers": theirs, "by hand": by_hand, "limit": limit, "times": places},
        )
        yield Row(
            measure=f"{schedule}, {budget} evaluations, by hand",
            ours=by_hand[own],
            unit="",
            peers={f"diffusers {best}": theirs[best]},
            ratio=Spread.of([theirs[best] / by_hand[own]]),
            note=own,
        )


if __name__ == "__main__":
    main()
