"""Where the time of the U-Nets goes: `benchmarks/results/profile.md`, by torch's profiler.

Self time of the operators of a forward pass and of a training step, ours and other libraries', in the layouts that
`benchmarks/unet.py` settled on, so that it shows what is left to gain beside the convolutions, which all of them leave
to the same library.
"""

import json
import sys
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from support import peers  # noqa: E402
from support.peers import OURS, Sampling, Training  # noqa: E402
from support.record import conditions  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
# What an operator's name begins with, after `aten::`.
GROUPS = {
    "convolutions": ("mkldnn_conv", "convolution", "slow_conv", "thnn_conv", "_nnpack"),
    "products, attention": ("mm", "addmm", "bmm", "baddbmm", "_scaled_dot", "scaled_dot", "_flash", "softmax"),
    "normalisation": ("native_group_norm", "native_layer_norm", "native_batch_norm", "var_mean", "rms_norm"),
    "activations": ("silu", "gelu", "sigmoid"),
    "copies, layout": ("copy_", "clone", "contiguous", "cat", "to_", "_to_copy", "upsample", "pad", "constant_pad"),
    "optimiser, average": ("_fused_adam", "_foreach", "lerp"),
}
ROUNDS = 5


def main() -> None:
    """Measure, write the table and print it."""
    unet = json.loads((RESULTS / "unet.json").read_text(encoding="utf-8"))
    rows = {row["measure"]: row for row in unet["rows"]}
    where = conditions()
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    parts = [
        "# Where the time of a U-Net goes",
        f"Written by `scripts/profile_networks.py`: ours and the fastest peer of `unet.json`, 64 x 64, base 64; self "
        f"time of torch's operators, mean of {ROUNDS} calls. {where['device']}, {where['threads']} threads, "
        f"{where['date']}. {versions}.",
    ]
    for kind, words in ((Sampling, "forward"), (Training, "training step")):
        for batch in (1, 4):
            row = rows[f"{words}, base 64, batch {batch}"]
            best = min(row["peers"], key=row["peers"].__getitem__)
            shares = {}
            for library in (OURS, best):
                call = kind(peers.build(library, 64), batch, row["detail"]["layout"][library], side=64)
                shares[library] = profiled(call)
            parts.append(section(f"{words}, batch {batch}", shares))
    text = "\n\n".join(parts) + "\n"
    (RESULTS / "profile.md").write_text(text, encoding="utf-8")
    print(text)


def profiled(call: Sampling | Training) -> dict[str, float]:
    """Milliseconds of a call by group."""
    for _ in range(2):
        call()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(ROUNDS):
            call()
    spent = dict.fromkeys([*GROUPS, "all else"], 0.0)
    for event in found.key_averages():
        spent[group_of(event.key)] += event.self_cpu_time_total / 1000 / ROUNDS
    return spent


def group_of(name: str) -> str:
    """The group of an operator."""
    short = name.removeprefix("aten::")
    return next((group for group, heads in GROUPS.items() if short.startswith(heads)), "all else")


def section(title: str, shares: dict[str, dict[str, float]]) -> str:
    """A table of the groups, with each library's milliseconds and share."""
    lines = [f"| | {' | '.join(shares)} |", f"|---|{'--:|' * len(shares)}"]
    for group in [*GROUPS, "all else"]:
        cells = [f"{spent[group]:.1f} ms ({spent[group] / sum(spent.values()):.0%})" for spent in shares.values()]
        lines.append(f"| {group} | {' | '.join(cells)} |")
    lines.append(f"| sum | {' | '.join(f'{sum(spent.values()):.1f} ms' for spent in shares.values())} |")
    return f"## {title}\n\n" + "\n".join(lines)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
