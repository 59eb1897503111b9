"""A chain of three classes, where every marginal is known."""

import torch
from peers import Peer, beside

from inkwash.corruption.categorical import CategoricalCorruption
from inkwash.corruption.noise import Noise
from inkwash.denoise.exact import ExactCategorical
from inkwash.sampling.ancestral import Ancestral
from inkwash.sampling.grid import Grid
from inkwash.sampling.loop import walk

ITEMS = 20_000


def check_jumps(record, **peers: Peer) -> None:
    """Walked back in 5 uneven steps: at each of them the classes are as frequent as forward in time."""
    frequent, target = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.1, 0.2, 0.7]).double()
    corruption = CategoricalCorruption.marginal(target)
    denoiser, noise = ExactCategorical(frequent, torch.arange(3)[:, None], corruption), Noise(7, range(ITEMS))
    z, grid, worst = corruption.prior((1,), noise=noise), Grid.of([1.0, 0.7, 0.6, 0.3, 0.1, 0.0]), 0.0
    for step in walk(denoiser, Ancestral(), grid, z, noise=noise):
        keep = 1 - step.s
        due = keep * frequent + (1 - keep) * target
        found = torch.bincount(step.z.flatten(), minlength=3) / ITEMS
        worst = max(worst, ((found - due).abs() / (due * (1 - due) / ITEMS).sqrt()).max().item())
    record("three classes walked back: frequencies at every step, worst deviation in standard errors", worst, 4.0,
           pitfall=25, peers=beside(peers))  # fmt: skip


def test_jumps(record_law) -> None:
    check_jumps(record_law)
