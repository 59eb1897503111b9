"""Peak memory above the weights, of a forward pass and of a training step, beside other libraries.

Each network is built in a process of its own; what is counted is resident memory from when it is built to the peak of
two calls. Of a training step that includes the gradients, the optimiser's state and the average. Every library is
measured channels first and channels last and keeps the leaner layout; ours is measured in the layout it uses itself.
"""

import statistics

from support.arguments import parse
from support.peak import peaks
from support.peers import LAYOUTS, OUR_LAYOUT, OURS, libraries
from support.record import Row, Target, write
from support.timing import Spread


def main() -> None:
    options = parse(__doc__)
    base, side, repeats = (32, 16, 1) if options.quick else (64, 64, 2)
    batches = (1,) if options.quick else (1, 4)
    rows = [row for batch in batches for row in measured(base, batch, side, repeats)]
    write("memory", "Peak memory above the weights", rows, options.out, about=str(__doc__))


def measured(base: int, batch: int, side: int, repeats: int) -> list[Row]:
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in libraries()}
    for library in found:
        for layout in LAYOUTS:
            found[library][layout] = [peaks(library, base, layout, batch, side) for _ in range(repeats)]
    rows = []
    for kind in OUR_LAYOUT:
        used = {
            name: OUR_LAYOUT[kind] if name == OURS else min(layouts, key=lambda v: _median(layouts[v], kind))
            for name, layouts in found.items()
        }
        values = {name: [run[kind] for run in found[name][layout]] for name, layout in used.items()}
        middle = {name: statistics.median(runs) for name, runs in values.items()}
        others = {name: value for name, value in middle.items() if name != OURS}
        best = min(others, key=others.__getitem__) if others else None
        ratios = [peer / our for peer, our in zip(sorted(values[best]), sorted(values[OURS]))] if best else []
        rows.append(
            Row(
                measure=f"{kind}, base {base}, batch {batch}",
                ours=middle[OURS],
                unit="MiB",
                peers=others,
                ratio=Spread.of(ratios) if best else None,
                target=Target("ratio", 1.0),
                detail={
                    "layout": used,
                    "weights": {name: found[name][layout][0]["weights"] for name, layout in used.items()},
                    "all": {n: {v: [r[kind] for r in runs] for v, runs in g.items()} for n, g in found.items()},
                },
            )
        )
    return rows


def _median(runs: list[dict[str, float]], kind: str) -> float:
    return statistics.median(run[kind] for run in runs)


if __name__ == "__main__":
    main()
