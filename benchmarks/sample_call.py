"""A whole `sample` call at equal error: networks of equal size, each library with its best solver.

How many evaluations each needs is read off the digits mixture, where the error is known (linear schedule): diffusers'
best setting of 10 evaluations, and the fewest with which a tuned walk of ours is as near to the exact flow. Then both
draw pictures of 64x64 with a U-Net of base 64: diffusers its `UNet2DModel` (the faster layout) under that scheduler,
ours the `UNet` under a walk of as many steps, with the layers replaced that pay (the default), and with ONNX Runtime.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from support import digits, oracle, peers, schedulers
from support.arguments import parse
from support.peers import OURS
from support.record import Row, Target, write
from support.timing import interleaved
from torch import Tensor, nn

from inkwash.api.export import write_network
from inkwash.api.onnx_network import OnnxNetwork
from inkwash.api.quantise import Call
from inkwash.corruption.gaussian import Linear
from inkwash.corruption.noise import Noise
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.nets.accelerate import accelerate
from inkwash.sampling.loop import walk
from inkwash.sampling.tuned import Tuned

BUDGET = 10
# A third of diffusers' time.
LEAST = 3.0


def main() -> None:
    options = parse(__doc__)
    base, side, batches, rounds = (32, 16, (1,), 1) if options.quick else (64, 64, (1, 4), 5)
    corruption = digits.SCHEDULES["linear"]
    starts = digits.starts(count=64) if options.quick else digits.starts()
    true = digits.truth(corruption, starts, 60 if options.quick else 400)
    theirs = dict(oracle.of_diffusers("linear", starts, true, BUDGET))
    best = min(theirs, key=theirs.__getitem__)
    for ours in range(1, BUDGET + 1):
        times = oracle.tuned(corruption, starts, true, ours, quick=options.quick)
        if times[0] <= theirs[best]:
            break
    words = f"{ours} evaluations (error {times[0]:.3f}) beside {BUDGET} (diffusers {best}, {theirs[best]:.3f})"
    rows = [row for batch in batches for row in measured(base, side, batch, rounds, best, times[2], words)]
    write("sample_call", "A whole sample call at equal error", rows, options.out, about=str(__doc__))


def measured(
    base: int, side: int, batch: int, rounds: int, setting: str, places: tuple[float, ...], words: str
) -> list[Row]:
    make = dict(schedulers.settings("linear"))[setting]
    steps = schedulers.evaluated(make, BUDGET)
    start = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
    layouts = {layout: peers.build("diffusers", base).laid_out(layout).module.eval() for layout in peers.LAYOUTS}
    first = interleaved({name: _theirs(network, make(), steps, start) for name, network in layouts.items()}, 1)
    network = peers.build(OURS, base).module.eval()
    t = torch.full((1,), 500.0)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        write_network(network, Call(torch.randn(2, 3, side, side), t, {}), [], Path(folder) / "plain.onnx")
        forms = {
            "replaced layers": accelerate(network, start, t).network,
            "onnx": OnnxNetwork(Path(folder) / "plain.onnx", network, []),
        }
        calls: dict[str, Callable[[], object]] = {
            "diffusers": _theirs(layouts[first.fastest(*layouts)], make(), steps, start),
            **{name: _ours(form, places, batch, (3, side, side)) for name, form in forms.items()},
        }
        times = interleaved(calls, rounds)
    return [
        Row(
            measure=f"{name}, batch {batch}",
            ours=times[name].median * 1000,
            unit="ms",
            peers={f"diffusers {setting}": times["diffusers"].median * 1000},
            ratio=times.ratio("diffusers", name),
            target=Target("ratio", LEAST),
            note=words,
        )
        for name in forms
    ]


def _theirs(network: nn.Module, scheduler: Any, steps: int, start: Tensor) -> Callable[[], object]:
    def run() -> Tensor:
        with torch.no_grad():
            return schedulers.draw(scheduler, steps, start, lambda z, t, _: network(z, t, return_dict=False)[0])

    return run


def _ours(network: nn.Module, places: tuple[float, ...], batch: int, shape: tuple[int, ...]) -> Callable[[], object]:
    denoiser = GaussianDenoiser(network, Linear())
    # The time of a step does not depend on its weights.
    solver = Tuned(places, tuple((1.0, *[0.1] * (i + 1)) for i in range(len(places) - 1)))

    def run() -> Tensor:
        noise = Noise(0, range(batch))
        z = denoiser.corruption.prior(shape, noise=noise)
        for step in walk(denoiser, solver, solver.grid, z, noise=noise):
            z = step.z
        return z

    return run


if __name__ == "__main__":
    main()
