"""Start-up: seconds until the command line answers, and what an import costs beyond torch's own.

Whole processes, one after the other in rounds; bytecode is cached beforehand, as for a user who has run it once.
"""

import subprocess
import sys
from pathlib import Path

from support.arguments import parse
from support.record import Row, Target, write
from support.timing import Spread, interleaved

PROGRAM = Path(sys.executable).with_name("inkwash")


def main() -> None:
    options = parse(__doc__)
    commands = {
        "nothing": [sys.executable, "-c", "pass"],
        "help": [str(PROGRAM), "--help"],
        "list": [str(PROGRAM), "list", "--json"],
        "torch": [sys.executable, "-c", "import torch"],
        "inkwash": [sys.executable, "-c", "import torch, inkwash"],
        "inkwash, all of it": [sys.executable, "-c", "import torch, inkwash; inkwash.load; inkwash.sample"],
        "diffusers": [sys.executable, "-c", "import torch, diffusers; diffusers.UNet2DModel; diffusers.DDIMScheduler"],
        "MONAI": [sys.executable, "-c", "import torch, monai.networks.nets, monai.networks.schedulers"],
    }
    calls = {name: lambda command=command: _run(command) for name, command in commands.items()}
    times = interleaved(calls, 2 if options.quick else 7)
    over = {name: _over(times.rounds[name], times.rounds["torch"]) for name in ("inkwash", "inkwash, all of it")}
    peers = {name: _over(times.rounds[name], times.rounds["torch"]).median for name in ("diffusers", "MONAI")}
    rows = [
        Row(
            measure="inkwash --help",
            ours=times["help"].median,
            unit="s",
            target=Target("ours", 0.3),
            note=f"Python itself: {times['nothing'].median:.3f} s",
        ),
        Row(measure="inkwash list --json", ours=times["list"].median, unit="s"),
        Row(
            measure="import inkwash, over import torch",
            ours=over["inkwash"].median,
            unit="s",
            target=Target("ours", 0.2),
            note=f"import torch: {times['torch'].median:.2f} s",
        ),
        Row(
            measure="inkwash with load and sample, over import torch",
            ours=over["inkwash, all of it"].median,
            unit="s",
            peers=peers,
        ),
    ]
    write("startup", "Start-up", rows, options.out, about=str(__doc__))


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _over(values: list[float], base: list[float]) -> Spread:
    return Spread.of([a - b for a, b in zip(values, base, strict=True)])


if __name__ == "__main__":
    main()
