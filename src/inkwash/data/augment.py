"""Moving and turning pictures and volumes while they are trained on, each together with its mask."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from inkwash.corruption.noise import Noise
from inkwash.errors import WrongUse


@dataclass(frozen=True)
class Augment:
    """A random flip, rotation, zoom and shift of every picture, in one resampling of the batch.

    What is drawn depends on (seed, item) alone. Pictures are resampled bilinearly, masks by the nearest class;
    beyond the edge both are mirrored. Labels are left as they are. Volumes are turned within their slices, which are
    often thicker than their pixels are wide; everything else happens along all three axes. Where classes are called
    after a side of the patient, a flip calls the other side by that name: it is to be switched off.

    Attributes:
        flip: mirror left and right with probability 1/2.
        vertical: mirror top and bottom with probability 1/2.
        depth: mirror the first and the last slice of volumes with probability 1/2.
        rotate: largest angle in degrees, either way, uniform.
        scale: (smallest, largest) magnification, uniform in its logarithm.
        translate: largest shift as a part of each side, either way, uniform.
    """

    flip: bool = True
    vertical: bool = False
    depth: bool = False
    rotate: float | int = 0
    scale: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rotate <= 180:
            raise WrongUse(f"rotate is an angle from 0 to 180 degrees, not {self.rotate}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise WrongUse(f"scale is a pair of magnifications, the smaller first, not {self.scale}")
        if not 0 <= self.translate < 1:
            raise WrongUse(f"translate is a part of the side from 0 to below 1, not {self.translate}")

    def __call__(self, batch: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """Another batch with `image` `(B, C, H, W)` or `(B, C, D, H, W)`, and `measured` and `mask` moved alike.

        Args:
            batch: as an `ImageSet` gives it, on any device.
            noise: of the same batch size.
        """
        if self == Augment(flip=False):
            return batch
        image = batch["image"]
        high, wide = image.shape[-2:]
        affine = self._affine(noise, wide / high)
        if image.ndim == 5:
            affine = self._through(affine, noise)
        affine = affine.to(image.device, image.dtype)
        grid = F.affine_grid(affine, [len(affine), 1, *image.shape[2:]], align_corners=False)
        moved = dict(batch)
        moved["image"] = F.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        if "measured" in batch:
            measured = batch["measured"]
            moved["measured"] = F.grid_sample(
                measured, grid, mode="bilinear", padding_mode="reflection", align_corners=False
            )
        if "mask" in batch:
            # Class numbers are whole and small: float32 carries them exactly.
            classes = batch["mask"][:, None].to(grid.dtype)
            classes = F.grid_sample(classes, grid, mode="nearest", padding_mode="reflection", align_corners=False)
            moved["mask"] = classes[:, 0].to(batch["mask"].dtype)
        return moved

    def _affine(self, noise: Noise, aspect: float) -> Tensor:
        """From where in the source each point of the result is read, `(B, 2, 3)` in coordinates of [-1, 1].

        `aspect` = W / H: a turn is a turn in pixels, whatever the shape of the picture.
        """
        draw = noise.uniform((6,), "augment", dtype=torch.float64)
        angle = (2 * draw[:, 0] - 1) * torch.pi * self.rotate / 180
        low, high = torch.tensor(self.scale, dtype=torch.float64).log()
        zoom = (low + (high - low) * draw[:, 1]).exp()
        across = 1 - 2 * ((draw[:, 2] < 0.5) & self.flip).double()
        down = 1 - 2 * ((draw[:, 3] < 0.5) & self.vertical).double()
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        shift = (2 * draw[:, 4:] - 1) * 2 * self.translate
        x = torch.stack([across * cos, -across * sin / aspect, shift[:, 0]], dim=1)
        y = torch.stack([down * sin * aspect, down * cos, shift[:, 1]], dim=1)
        return torch.stack([x, y], dim=1)

    def _through(self, affine: Tensor, noise: Noise) -> Tensor:
        """What `_affine` does within slices, with what happens from slice to slice, `(B, 3, 4)`."""
        mirror, shift = noise.uniform((2,), "augment", "depth", dtype=torch.float64).unbind(1)
        # The zoom is that of the slices: the determinant of their turn and zoom is its inverse square.
        zoom = affine[:, :, :2].det().abs().sqrt()
        whole = affine.new_zeros(len(affine), 3, 4)
        whole[:, :2, [0, 1, 3]] = affine
        whole[:, 2, 2] = zoom * (1 - 2 * ((mirror < 0.5) & self.depth).double())
        whole[:, 2, 3] = (2 * shift - 1) * 2 * self.translate
        return whole
