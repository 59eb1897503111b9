"""Peak memory of calls in a fresh process: `python support/peak.py LIBRARY BASE LAYOUT BATCH SIDE THREADS`, JSON out.

What is counted is resident memory over that of the process with the network built and nothing run: activations,
scratch space, and in training the gradients, the optimiser's state and the average.
"""

import ctypes
import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def peaks(library: str, base: int, layout: str, batch: int, side: int) -> dict[str, float]:
    """MiB above the weights, of two forward passes and of two training steps, and of the weights themselves."""
    import torch

    numbers = [str(base), layout, str(batch), str(side), str(torch.get_num_threads())]
    command = [sys.executable, __file__, library, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def resident(field: str) -> float:
    """MiB: `VmRSS` now, or `VmHWM` at most since the last reset."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def restart() -> None:
    """`VmHWM` begins again from here, with what is not used given back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _above(make: Callable[[], Callable[[], object]]) -> float:
    restart()
    before = resident("VmRSS")
    call = make()
    call()
    call()
    return resident("VmHWM") - before


def main() -> None:
    library, layout = sys.argv[1], sys.argv[3]
    base, batch, side, threads = (int(sys.argv[i]) for i in (2, 4, 5, 6))
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import torch

    from support.peers import Sampling, Training, build

    torch.set_num_threads(threads)
    network = build(library, base).laid_out(layout)
    # What a library imports at its first training step is no memory of the step: that of another network pays for it.
    Training(build(library, 32), 1, layout, side=16)()
    forward = _above(lambda: Sampling(network, batch, layout, side=side))
    training = _above(lambda: Training(network, batch, layout, side=side))
    weights = sum(p.numel() * p.element_size() for p in network.module.parameters()) / 2**20
    print(json.dumps({"weights": weights, "forward": forward, "training step": training}))


if __name__ == "__main__":
    main()
