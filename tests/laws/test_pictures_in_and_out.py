"""What happens to pictures between the disk and a number: resizing, scaling, folding, reading."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peers import Peer, beside
from PIL import Image
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.data import open_collection
from inkwash.data.augment import Augment
from inkwash.errors import WrongUse
from inkwash.evaluation import features, pictures
from inkwash.nets.patched import Patched


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def _checkerboard() -> Tensor:
    i = torch.arange(200)
    return (1.0 - 2.0 * ((i[:, None] + i) % 2)).reshape(1, 1, 200, 200)


def check_fine_texture_does_not_fold(record, **peers: Peer) -> None:
    """A checkerboard of single pixels is grey from afar."""
    small = features.resize(_checkerboard(), 64)
    record("a checkerboard of 200 pixels shrunk to 64, spread of what should be grey", small.std().item(), 0.02,
           pitfall=23, peers=beside(peers))  # fmt: skip


def _torch_folds() -> float:
    return F.interpolate(_checkerboard(), (64, 64), mode="bilinear", align_corners=False).std().item()


def test_fine_texture_does_not_fold(record_law) -> None:
    check_fine_texture_does_not_fold(record_law, torch=_torch_folds)


def _folder(path: Path, *, changed: int = 0) -> Path:
    """Four pictures that hold each of the 256 levels once; `changed` is added to one pixel of the last."""
    path.mkdir()
    for k in range(4):
        levels = np.roll(np.arange(256, dtype=np.uint8), 31 * k).reshape(16, 16)
        if k == 3:
            levels[0, 0] += changed
        Image.fromarray(levels).save(path / f"{k}.png")
    return path


def check_statistics_are_of_this_data(record, folder: Path, **peers: Peer) -> None:
    """The key of everything remembered of a set: one level of one pixel changes it, another place does not."""
    same, copy, other = (
        open_collection(_folder(folder / name, changed=changed)).images("all", 16).fingerprint
        for name, changed in (("a", 0), ("b", 0), ("c", 1))
    )
    record("the fingerprint of a set is that of a copy, and not that of one with a pixel changed by one level",
           same == copy != other, True, pitfall=23, peers=beside(peers))  # fmt: skip


def test_statistics_are_of_this_data(record_law, tmp_path: Path) -> None:
    check_statistics_are_of_this_data(record_law, tmp_path)


def check_levels_survive(record, folder: Path, **peers: Peer) -> None:
    """From the file into [-1, 1] and back to 8 bits."""
    path = _folder(folder / "levels")
    batch = open_collection(path).images("all", 16).batch(torch.arange(4))["image"]
    lost = sum(
        int((np.asarray(pictures.to_pil(image)).astype(int) != np.asarray(Image.open(path / f"{k}.png"))).sum())
        for k, image in enumerate(batch)
    )
    record("no latents yet, so of pixels: values that change on the way into the model's units and back, of 1024",
           lost, 0, pitfall=24, peers=beside(peers))  # fmt: skip


def _diffusers_levels() -> int:
    from diffusers.image_processor import VaeImageProcessor

    processor = VaeImageProcessor(vae_scale_factor=1, do_convert_grayscale=True)
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (back,) = processor.postprocess(processor.preprocess(Image.fromarray(levels)), output_type="pil")
    return 4 * int((np.asarray(back) != levels).sum())


def test_levels_survive(record_law, tmp_path: Path) -> None:
    check_levels_survive(record_law, tmp_path, diffusers=_diffusers_levels)


class _Matrix(nn.Module):
    """A network that multiplies the channels by a matrix."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, z: Tensor, t: Tensor, *, image: Tensor | None = None) -> Tensor:
        return torch.einsum("ij,bj...->bi...", self.matrix, z)


def check_the_fold_has_its_adjoint(record, **peers: Peer) -> None:
    """<A x, y> = <x, A' y> for a matrix on patches and its transpose, which holds if fold and unfold are adjoint."""
    matrix = Noise(0, [0]).normal((12, 12), "matrix", dtype=torch.float64)[0]
    x, y = (Noise(0, range(2)).normal((3, 8, 6), name, dtype=torch.float64) for name in "xy")
    ahead, back = (Patched(_Matrix(m), 2)(v, torch.zeros(1)) for m, v in ((matrix, x), (matrix.T, y)))
    gap = ((ahead * y).sum() - (x * back).sum()).abs() / (ahead.norm() * y.norm())
    record("<A x, y> = <x, A' y> for the fold into patches, relative difference", gap.item(), 1e-12, pitfall=26,
           peers=beside(peers))  # fmt: skip


def test_the_fold_has_its_adjoint(record_law) -> None:
    check_the_fold_has_its_adjoint(record_law)


def check_resampling_has_its_adjoint(record, **peers: Peer) -> None:
    """<A x, y> = <x, A' y> with A' what autograd sends back, for the augmentation and for the resizing of features."""
    augment = Augment(rotate=30.0, scale=(0.7, 1.4), translate=0.2)
    maps = {
        "augment": lambda x: augment({"image": x}, Noise(1, range(len(x))))["image"],
        "resize": lambda x: features.resize(x, 5),
    }
    worst = 0.0
    for apply in maps.values():
        x = Noise(2, range(2)).normal((1, 9, 11), "x", dtype=torch.float64).requires_grad_()
        ahead = apply(x)
        y = Noise(2, range(2)).normal(tuple(ahead.shape[1:]), "y", dtype=torch.float64)
        (back,) = torch.autograd.grad(ahead, x, y)
        worst = max(worst, (((ahead * y).sum() - (x * back).sum()).abs() / (ahead.norm() * y.norm())).item())
    record("<A x, y> = <x, A' y> for augmentation and resizing (A' by autograd), relative difference", worst, 1e-12,
           pitfall=26, peers=beside(peers))  # fmt: skip


def test_resampling_has_its_adjoint(record_law) -> None:
    """No measurement operators exist yet, and none that are complex; these are the linear maps there are."""
    check_resampling_has_its_adjoint(record_law)


def check_volumes_are_refused(record, folder: Path, **peers: Peer) -> None:
    """A file with an affine is turned away by name, so no affine can be lost."""
    path = folder / "volumes"
    path.mkdir()
    for name in ("scan.nii", "scan.nii.gz", "slice.dcm", "scan.nrrd"):
        (path / name).write_bytes(b"\0" * 400)
    try:
        open_collection(path).images("all", 16)
        refused = False
    except WrongUse:
        refused = True
    record("not yet: no volumes are read; .nii, .nii.gz, .dcm and .nrrd are refused, so no affine is lost", refused,
           True, pitfall=27, peers=beside(peers))  # fmt: skip


def test_volumes_are_refused(record_law, tmp_path: Path) -> None:
    check_volumes_are_refused(record_law, tmp_path)
