"""A forward pass in sampling with everything that Inkwash offers, beside the fastest peer as its users get it.

Ours: the plain network; its convolutions replaced where that was measured to pay (`--backend torch`, the default on a
processor); torch.compile; ONNX Runtime in float32 and in eight bits. Peers are eager, in the faster of both layouts.
Errors are those of one output, relative to its largest value (replaced layers, ONNX) or root mean square (int8: random
weights and noise, every convolution but the outer two; what a run's own pictures lose is measured by `inkwash export`).
"""

import logging
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from support import peers
from support.arguments import parse
from support.peers import OURS, Sampling
from support.record import Row, Target, write
from support.timing import interleaved
from torch import Tensor, nn

from inkwash.api.export import write_network
from inkwash.api.onnx_network import OnnxNetwork
from inkwash.api.quantise import Call, Quantiser
from inkwash.nets.accelerate import Accelerated, accelerate

# By base width and batch, the least times the fastest peer.
LEAST = {
    (128, 1): {"replaced": 1.5},
    (64, 1): {"onnx": 1.6, "int8": 2.4},
    (64, 4): {"onnx": 1.2, "int8": 1.7},
}


def main() -> None:
    options = parse(__doc__, full="base 128 at batch 4, and torch.compile")
    cases = [(32, 1, 2)] if options.quick else [(64, 1, 15), (64, 4, 9), (128, 1, 9)]
    if not options.quick and options.full:
        cases.append((128, 4, 5))
    side = 16 if options.quick else 64
    compiled = not options.quick and options.full
    rows = [row for base, batch, rounds in cases for row in measured(base, batch, rounds, side, compiled=compiled)]
    write("inference", "A forward pass with every option", rows, options.out, about=str(__doc__))


def measured(base: int, batch: int, rounds: int, side: int, *, compiled: bool) -> list[Row]:
    calls: dict[str, Callable[[], object]] = {}
    for library in peers.libraries():
        if library == OURS:
            continue
        found = {layout: Sampling(peers.build(library, base), batch, layout, side=side) for layout in peers.LAYOUTS}
        times = interleaved(found, rounds=2)
        calls[library] = found[times.fastest(*found)]
    plain = Sampling(peers.build(OURS, base), batch, "channels first", side=side)
    network = _awake(plain.network.module)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        ours, errors, notes = _ours(network, plain.z, plain.t, Path(folder), compiled=compiled)
        calls |= {name: _call(module, plain.z, plain.t) for name, module in ours.items()}
        times = interleaved(calls, rounds)
    others = [name for name in calls if name not in ours]
    best = times.fastest(*others)
    return [
        Row(
            measure=f"{name}, base {base}, batch {batch}",
            ours=times[name].median * 1000,
            unit="ms",
            peers={other: times[other].median * 1000 for other in others},
            ratio=times.ratio(best, name),
            target=Target("ratio", LEAST[base, batch][name]) if name in LEAST.get((base, batch), {}) else None,
            note=notes.get(name, "") + (f"error {errors[name]:.1e}" if name in errors else ""),
            detail={"side": side, "rounds": rounds, "least ms": {n: times.least(n) * 1000 for n in calls}},
        )
        for name in ours
    ]


def _ours(
    network: nn.Module, z: Tensor, t: Tensor, folder: Path, *, compiled: bool
) -> tuple[dict[str, nn.Module], dict[str, float], dict[str, str]]:
    """The same network in every form, the error of each, and what is to say of it."""
    expected = network(z, t)
    replaced: Accelerated = accelerate(network, z, t)
    forms: dict[str, nn.Module] = {"plain": network, "replaced": replaced.network}
    if compiled:
        forms["compile"] = torch.compile(network, dynamic=False, options={"freezing": True})
    logging.disable(logging.WARNING)
    calls = [Call(torch.randn(z.shape), t, {}) for _ in range(3)]
    write_network(network, Call(torch.randn(2, *z.shape[1:]), t, {}), [], folder / "plain.onnx")
    forms["onnx"] = exact = OnnxNetwork(folder / "plain.onnx", network, [])
    quantiser = Quantiser(folder / "plain.onnx", exact, calls, folder)
    quantiser.write(folder / "int8.onnx", [*quantiser.convolutions][1:-1])
    forms["int8"] = OnnxNetwork(folder / "int8.onnx", network, [])
    largest = expected.abs().max()
    errors = {name: float((form(z, t) - expected).abs().max() / largest) for name, form in forms.items()}
    gap = forms["int8"](z, t) - expected
    errors["int8"] = math.sqrt(float(gap.square().mean() / expected.square().mean()))
    del errors["plain"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(replaced.layers.items()))
    return forms, errors, {"replaced": f"{kinds}; "}


def _awake(network: nn.Module) -> nn.Module:
    """Layers that start at zero filled, so that an error has somewhere to show."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return network.eval()


def _call(module: nn.Module, z: Tensor, t: Tensor) -> Callable[[], object]:
    def run() -> Tensor:
        with torch.no_grad():
            return module(z, t)

    return run


if __name__ == "__main__":
    main()
