"""One drawn image as a file: a picture as PNG, a volume as NIfTI."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inkwash.api.describe import plan_of
from inkwash.atomic import atomic
from inkwash.data.volumes import nifti
from inkwash.data.volumes.geometry import UPRIGHT
from inkwash.data.volumes.libraries import library
from inkwash.evaluation import pictures
from inkwash.training.run import Run

# What a NIfTI header has room for.
_WORDS = 79


def spacing_of(run: Run) -> tuple[float, float, float]:
    """Millimetres between the voxels of what a run draws; 1 where its data did not say."""
    plan = plan_of(run)
    return (1.0, 1.0, 1.0) if plan is None or plan.spacing is None else plan.spacing


def write(
    image: Float[Tensor, "c *size"],
    place: Path,
    *,
    facts: Mapping[str, object],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write a picture as `place.png`, or a volume as `place.nii.gz`, whole or not at all.

    A volume is float32 in [-1, 1], its axes (D, H, W) lying feet first, nose up, the patient's left on the right, as it
    was learned from.

    Args:
        place: without an ending.
        facts: how it was made, written into the file; of a volume as much as there is room for.
        spacing: of a volume, millimetres along (D, H, W).

    Raises:
        Failed: the disk refuses.
    """
    if image.ndim == 3:
        return pictures.save(image, place.with_name(f"{place.name}.png"), facts=facts)
    header = library("nibabel").Nifti1Header()
    header.set_data_shape(image.shape[:0:-1])
    header.set_xyzt_units("mm")
    affine = (UPRIGHT @ np.diag([*spacing, 1.0]))[:, [2, 1, 0, 3]]
    header.set_sform(affine, code="aligned")
    header["pixdim"][1:4] = spacing[::-1]
    header["descrip"] = ", ".join(f"{name} {value}" for name, value in facts.items()).encode()[:_WORDS]
    path, draft = place.with_name(f"{place.name}.nii.gz"), place.with_name(f".{place.name}.nii.gz")
    parts = image.detach().to("cpu", torch.float32).clamp(-1, 1).numpy()
    with atomic(path) as temporary:
        try:
            nifti.write(draft, header, "float32", len(parts), parts)
            os.replace(draft, temporary)
        finally:
            draft.unlink(missing_ok=True)
    return path


def shown(images: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c h w"]:
    """Pictures as they are, and of volumes the slice in the middle."""
    return images if images.ndim == 4 else images.select(2, images.shape[2] // 2)
