"""The U-Net beside those of other libraries: a forward pass as in sampling, and a whole training step.

Every library is first timed channels first and channels last, and goes on with the layout that is faster. Ours goes on
with the layout that the library itself uses: `inkwash.load` leaves weights channels first (the network turns its own
activations), `inkwash.train` lays both out channels last. The ratio is that of the fastest peer's time to ours, round
by round; where the peer does more operations than we do for the same parameters, the GFLOP/s say so.
"""

from support import peers
from support.arguments import parse
from support.peers import OUR_LAYOUT, OURS, Sampling, Training
from support.record import Row, Target, write
from support.timing import Times, interleaved

WORDS = {Sampling: "forward", Training: "training step"}
LEAST = {Sampling: 1.2, Training: 1.25}


def main() -> None:
    options = parse(__doc__, full="training at base 128")
    if options.quick:
        cases = [(Sampling, 32, 1, 2), (Training, 32, 1, 2)]
    else:
        cases = [(Sampling, 64, 1, 21), (Sampling, 64, 4, 11), (Training, 64, 1, 11), (Training, 64, 4, 7)]
        cases += [(Sampling, 128, 1, 11)]
        if options.full:
            cases += [(Sampling, 128, 4, 7), (Training, 128, 1, 7)]
    side = 16 if options.quick else 64
    rows = [measured(kind, base, batch, rounds, side=side) for kind, base, batch, rounds in cases]
    write("unet", "The U-Net, time", rows, options.out, about=str(__doc__))


def measured(kind: type[Sampling] | type[Training], base: int, batch: int, rounds: int, *, side: int) -> Row:
    calls: dict[str, Sampling | Training] = {}
    layouts: dict[str, str] = {}
    tried: dict[str, dict[str, float]] = {}
    for library in peers.libraries():
        found = {layout: kind(peers.build(library, base), batch, layout, side=side) for layout in peers.LAYOUTS}
        times = interleaved(found, rounds=2)
        layout = OUR_LAYOUT[WORDS[kind]] if library == OURS else times.fastest(*found)
        calls[library], layouts[library] = found[layout], layout
        tried[library] = {name: times.least(name) for name in found}
    times = interleaved(calls, rounds)
    others = [name for name in calls if name != OURS]
    best = times.fastest(*others) if others else None
    passes = 3 * batch if kind is Training else batch  # a backward pass is two forward passes
    speed = {name: call.network.gflop * passes / times[name].median for name, call in calls.items()}
    words = f"{WORDS[kind]}, base {base}, batch {batch}"
    return Row(
        measure=words,
        ours=times[OURS].median * 1000,
        unit="ms",
        peers={name: times[name].median * 1000 for name in others},
        ratio=None if best is None else times.ratio(best, OURS),
        target=None if base != 64 else Target("ratio", LEAST[kind]),
        note=_note(times, speed, best, layouts, side),
        detail={
            "side": side,
            "rounds": rounds,
            "layout": layouts,
            "base": {name: call.network.base for name, call in calls.items()},
            "parameters": {name: call.network.parameters for name, call in calls.items()},
            "gflop of a pass": {name: call.network.gflop for name, call in calls.items()},
            "gflop/s": speed if side == 64 else {},
            "least ms": {name: times.least(name) * 1000 for name in calls},
            "first tries, ms": {name: {k: v * 1000 for k, v in found.items()} for name, found in tried.items()},
        },
    )


def _note(times: Times, speed: dict[str, float], best: str | None, layouts: dict[str, str], side: int) -> str:
    if best is None or side != 64:
        return ""
    same = speed[OURS] / speed[best]
    least = times.least(best) / times.least(OURS)
    return (
        f"{speed[OURS]:.0f} GFLOP/s, {best} ({layouts[best]}) {speed[best]:.0f}: {same:.2f} times at equal operations; "
        f"ratio of the least times {least:.2f}"
    )


if __name__ == "__main__":
    main()
