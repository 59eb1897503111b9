"""A trained generator in a run folder, made in no time, and data to adapt it to."""

from pathlib import Path

import numpy as np
import torch
from disc_masks import discs
from tiny_system import TINY, randomised

from inkwash import systems
from inkwash.data.spec import DataSpec
from inkwash.systems.base import Generator
from inkwash.training import Run, TrainOptions
from inkwash.training.options import parse


def write_prior(folder: Path, *, system: str = "ddpm", spec: DataSpec | None = None, **options) -> Generator:
    """A run folder of a generator of grey pictures of 16 pixels a side, no layer left at zero; and that generator."""
    torch.manual_seed(0)
    kind = systems.get(system)
    config = parse(kind.Config, {**TINY, "sampling_steps": 4, **options})
    spec = DataSpec(channels=1, size=(16, 16)) if spec is None else spec
    made = randomised(kind(config, spec))
    assert isinstance(made, Generator)
    run = Run.create(
        folder, system=system, config=config, spec=made.spec, data={"path": "discs"}, options=TrainOptions(steps=1)
    )
    run.save_weights(made.state_dict())
    return made


def write_discs(path: Path, count: int = 12) -> Path:
    """Grey pictures of discs brighter than their ground, with masks, as an npz file."""
    image, mask = discs(count)
    grey = ((image[:, 0].clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    np.savez(path, images=grey, masks=mask.byte().numpy(), split=np.arange(count) >= count - 4)
    return path
