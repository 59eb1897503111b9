"""Every posterior sampler beside the exact posterior, on data for which it is a formula: `docs/posteriors.md`.

    python scripts/posteriors.py [--draws N]

The prior is the mixture of 20 normals fitted to 8x8 digits (benchmarks/support/digits.py), known exactly, and so is
`p(x | y)` under a linear measurement. A sampler is asked for draws for a few measurements of held-out digits; what is
compared is their mean and their covariance. Also for data of one normal, where more of them are exact.
"""

import argparse
import datetime
import json
import math
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from support import digits  # noqa: E402

from inkwash.corruption.gaussian import Gaussian, Linear  # noqa: E402
from inkwash.corruption.noise import Noise  # noqa: E402
from inkwash.denoise.exact import GaussianMixture  # noqa: E402
from inkwash.operators import base  # noqa: E402
from inkwash.operators.mask import Identity, Masked, half  # noqa: E402
from inkwash.operators.separable import blurred, resized  # noqa: E402
from inkwash.sampling.ancestral import Ancestral  # noqa: E402
from inkwash.sampling.grid import Grid  # noqa: E402
from inkwash.sampling.loop import walk  # noqa: E402
from inkwash.systems.restoration.methods import METHODS, Problem  # noqa: E402

SHAPE = (1, 8, 8)
OPERATORS: dict[str, base.Linear] = {
    "denoise": Identity(SHAPE),
    "half hidden": Masked(SHAPE, half(SHAPE)),
    "2 x smaller": resized(SHAPE, 2, "box"),
    "blurred by 1": blurred(SHAPE, 1.0),
}
NOISES = (0.05, 0.5)


def matrix(operator: base.Linear) -> Tensor:
    """What becomes of every unit vector, `(m, n)`; rows that measure nothing left out."""
    n = math.prod(operator.shape)
    return operator(torch.eye(n, dtype=torch.float64).reshape(n, *operator.shape)).flatten(1).T


def priors(corruption: Gaussian) -> dict[str, GaussianMixture]:
    """The digits, and one normal of their mean and covariance."""
    weights, means, covariances = digits.mixture()
    whole = GaussianMixture(weights, means.reshape(-1, *SHAPE), corruption, covariances=covariances)
    mean, covariance = whole.moments()
    one = GaussianMixture(torch.ones(1), mean.reshape(1, *SHAPE), corruption, covariances=covariance[None])
    return {"digits": whole, "one normal": one}


def measured(
    name: str, prior: GaussianMixture, operator: base.Linear, std: float, count: int, cases: int
) -> Iterator[dict[str, Any]]:
    """One row for each sampler: errors of mean and covariance, mean over the cases."""
    a = matrix(operator)
    x = prior.sample(noise=Noise(11, range(cases)))
    y = operator(x) + std * Noise(12, range(cases)).normal(operator.measured, "y", dtype=torch.float64)
    exact = [prior.given(a, row.flatten(), std) for row in y]
    walks: dict[str, int] = {"exact": 200}
    walks |= {key: m.steps for key, m in METHODS.items() if isinstance(operator, m.needs)}
    for key, steps in walks.items():
        start, rows = time.perf_counter(), []
        for case, posterior in enumerate(exact):
            noise = Noise(case + 1, range(count))
            if key == "exact":
                z = posterior.corruption.prior(SHAPE, noise=noise, dtype=torch.float64)
                *_, last = walk(posterior, Ancestral(), Grid.log_snr(posterior.corruption, steps), z, noise=noise)
            else:
                rows_y = y[case : case + 1].expand(count, *operator.measured)
                guess = operator.inverse(rows_y, std**2)
                *_, last = METHODS[key].restore(Problem(prior, operator, rows_y, std, guess, noise))
            rows.append(compared(last.z.flatten(1), *posterior.moments()))
        yield {
            "prior": name,
            "noise": std,
            "sampler": key,
            "evaluations": last.total,
            **{k: sum(row[k] for row in rows) / cases for k in rows[0]},
            "worst": max(row["deviations"] for row in rows),
            "seconds": (time.perf_counter() - start) / cases,
        }


def compared(draws: Tensor, mean: Tensor, covariance: Tensor) -> dict[str, float]:
    """The distance of the means, in the posterior's standard deviations, root mean square over its axes; the total
    variance over the exact one; the relative Frobenius error of the covariance; the largest deviation of a mean from
    the exact one in standard errors, along the axes of the covariance."""
    values, axes = torch.linalg.eigh(covariance)
    found = torch.cov(draws.T)
    off = (draws.mean(0) - mean) @ axes
    spread = values.clamp(min=1e-12).sqrt()
    return {
        "mean": float(off.norm() / values.sum().sqrt()),
        "variance": float(found.trace() / covariance.trace()),
        "covariance": float((found - covariance).norm() / covariance.norm()),
        "deviations": float((off.abs() / spread * math.sqrt(len(draws))).max()),
    }


def page(rows: list[dict[str, Any]], made: str) -> str:
    """The tables as Markdown."""
    lines = [
        "# Posterior samplers, measured",
        "",
        "Each sampler beside the exact posterior `p(x | y)`, on data for which both the prior's denoiser and the "
        "posterior are formulas: a mixture of 20 normals fitted to 8x8 digits, and one normal of the same mean and "
        "covariance. *Mean* is the distance from the mean of the draws to the exact one over the posterior's own "
        "standard deviation (root of its total variance); *variance* the total variance of the draws over the exact "
        "one, 1 being right; *covariance* the relative error of the whole matrix. `exact` samples the posterior's own "
        "formula, and shows what is left to chance: its means lie within 5 standard errors along every axis.",
        "",
        made,
    ]
    for prior in dict.fromkeys(row["prior"] for row in rows):
        for operator in dict.fromkeys(row["operator"] for row in rows):
            lines += ["", f"## {prior}, {operator}", ""]
            lines.append("| sampler | evaluations |" + "".join(" mean | variance | covariance |" for _ in NOISES))
            lines.append("|---|--:|" + "--:|--:|--:|" * len(NOISES))
            some = [row for row in rows if row["prior"] == prior and row["operator"] == operator]
            for sampler in dict.fromkeys(row["sampler"] for row in some):
                cells = ""
                for std in NOISES:
                    row = next(r for r in some if r["sampler"] == sampler and r["noise"] == std)
                    cells += f" {row['mean']:.3f} | {row['variance']:.3f} | {row['covariance']:.3f} |"
                lines.append(f"| {sampler} | {row['evaluations']} |{cells}")
            lines.append("")
            lines.append(f"Three columns for noise of {NOISES[0]}, three for {NOISES[1]}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    for name, prior in priors(Linear(data_mean=0.0, data_std=1.0)).items():
        for operator_name, operator in OPERATORS.items():
            for std in NOISES:
                for row in measured(name, prior, operator, std, options.draws, options.cases):
                    rows.append({"operator": operator_name, **row})
                    print(json.dumps(rows[-1]), flush=True)
    made = (
        f"Made by `python scripts/posteriors.py --draws {options.draws} --cases {options.cases}` on "
        f"{datetime.date.today().isoformat()}, CPU, {platform.machine()}, torch {torch.__version__}, float64."
    )
    (options.out / "posteriors.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (options.out / "posteriors.md").write_text(page(rows, made), encoding="utf-8")


if __name__ == "__main__":
    main()
