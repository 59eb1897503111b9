"""Windows, their blending and resampling, with MONAI and torch as referees."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_scans import affine, body, rotation, write_nifti
from monai.inferers import sliding_window_inference

from inkwash.data.picture import Unreadable
from inkwash.data.scratch import Scratch
from inkwash.data.volumes.geometry import Turn
from inkwash.data.volumes.opening import open_volume
from inkwash.data.volumes.outcome import Outcome
from inkwash.data.volumes.plan import Intensity, Plan
from inkwash.data.volumes.resample import Axis, resample, whole
from inkwash.data.volumes.scene import Back, Scene
from inkwash.data.windows import Blend, cover, padded
from inkwash.errors import Failed

STAY = Turn((0, 1, 2), (False, False, False))


def field(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def softmax_of_place(x: torch.Tensor) -> torch.Tensor:
    """Two class probabilities that depend on where a voxel lies in its window."""
    place = torch.linspace(-1, 1, x[0, 0].numel()).reshape(x.shape[2:])
    return torch.stack([x[:, 0] + place, x[:, 0] * place], 1).softmax(1)


def blended(x: torch.Tensor, window, overlap: float, folder) -> torch.Tensor:
    starts = cover(tuple(x.shape[2:]), window, overlap)
    blend = Blend(tuple(x.shape[2:]), window, 2, folder, alone=len(starts) == 1)
    slices = []
    for start in starts:
        part = x[(..., *(slice(s, s + w) for s, w in zip(start, window, strict=True)))]
        slices += blend.add(start, softmax_of_place(part)[0])
    return torch.stack([*slices, *blend.finish(x.shape[2])], 1)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("window", [(4, 6, 8), (11, 6, 5), (1, 13, 17), (5, 13, 17), (11, 13, 17)])
def test_blending_is_that_of_monai(window, overlap, tmp_path):
    x = field(1, 1, 11, 13, 17)
    theirs = sliding_window_inference(x, window, 1, softmax_of_place, overlap=overlap, mode="gaussian")
    ours = blended(x, window, overlap, tmp_path)
    torch.testing.assert_close(ours, theirs[0], atol=1e-5, rtol=1e-5)


def test_slices_are_handed_out_as_soon_as_they_are_final(tmp_path):
    blend, out = Blend((20, 4, 4), (8, 4, 4), 2, tmp_path, alone=False), []
    for start in cover((20, 4, 4), (8, 4, 4), 0.5):
        out.append(len(list(blend.add(start, torch.full((2, 8, 4, 4), 0.5)))))
    assert out == [0, 4, 4, 4]
    assert len(list(blend.finish(20))) == 8


@pytest.mark.parametrize("size", [(11, 13, 17), (4, 40, 9)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_windows_cover_everything_in_the_order_of_their_slices(size, overlap):
    starts, seen = cover(size, (4, 9, 9), overlap), np.zeros(size, int)
    for d, h, w in starts:
        seen[d : d + 4, h : h + 9, w : w + 9] += 1
    assert seen.min() >= 1
    assert all(a[0] <= b[0] for a, b in pairwise(starts))


def test_small_arrays_are_filled_up_about_their_middle():
    assert padded((5, 20, 7), (8, 16, 8)) == ((8, 20, 8), (1, 0, 0))


@pytest.mark.parametrize(("inputs", "outputs"), [(17, 9), (9, 17), (13, 13), (5, 64), (64, 5), (1, 3), (3, 1)])
def test_fitting_an_axis_is_torchs_antialiased_interpolation(inputs, outputs):
    x = field(1, 3, 4, inputs)
    _, _, weights = Axis.fitted(inputs, outputs).weights(0, outputs)
    ours = x if weights is None else x @ weights.T
    theirs = F.interpolate(x, (4, outputs), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_parts_of_a_result_are_those_of_the_whole():
    axis, x = Axis.spaced(40, 1.5, 1.1), field(40)
    _, _, weights = axis.weights(0, axis.outputs)
    everything = weights @ x
    for first, last in [(0, 5), (7, 30), (axis.outputs - 3, axis.outputs)]:
        low, high, part = axis.weights(first, last)
        torch.testing.assert_close(part @ x[low:high], everything[first:last], atol=1e-5, rtol=1e-5)


def test_a_ramp_stays_where_it_is():
    """Linear interpolation about the middle keeps a linear function, away from the edges."""
    axis = Axis.spaced(50, 2.0, 1.3)
    _, _, weights = axis.weights(0, axis.outputs)
    at = (torch.arange(axis.outputs) - (axis.outputs - 1) / 2) * 1.3 / 2.0 + 24.5
    torch.testing.assert_close((weights @ torch.arange(50.0))[2:-2], at[2:-2], atol=1e-4, rtol=0)


def test_spacings_that_are_rounded_are_the_same():
    assert Axis.spaced(40, 1.0, 1.0005).same
    assert not Axis.spaced(40, 1.0, 1.01).same


class TestScratch:
    def test_it_holds_what_was_written(self, tmp_path):
        scratch = Scratch((70, 60, 300), "float32", tmp_path)
        with scratch.mapped() as array:
            assert not array.any()
            array[3:5, 7] = 2.5
        with scratch.mapped() as array:
            assert array.sum() == 2.5 * 2 * 300
        assert list(tmp_path.iterdir()) == []

    def test_its_pages_are_given_back(self, tmp_path):
        """Resident memory after writing 64 MB through it."""

        def resident() -> int:
            return int(open("/proc/self/statm").read().split()[1]) * 4096

        scratch, before = Scratch((64, 1 << 18), "float32", tmp_path), resident()
        for row in range(64):
            with scratch.mapped() as array:
                array[row] = row
        with scratch.mapped() as array:
            assert array[:, 5].tolist() == list(range(64))
        assert resident() - before < 16 << 20

    def test_no_room(self, tmp_path):
        with pytest.raises(Failed, match=r"no room for .* GiB of intermediate results"):
            Scratch((1 << 15, 1 << 15, 1 << 15), "float32", tmp_path)


def scene_of(path, plan, size, folder, channels=1) -> Scene:
    scene = Scene(open_volume([path]), plan, size, channels, folder)
    for _ in scene.fill():
        pass
    return scene


FIXED = (Intensity(rule="fixed", low=0, high=1000),)


@pytest.mark.parametrize("spacing", [(1.5, 1.0, 1.0), (2.0, 0.8, 1.3), (0.7, 3.0, 0.9)])
@pytest.mark.parametrize("turn", [None, rotation(0.2, 0.1, -0.3) @ np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])])
def test_windows_are_parts_of_the_scan_resampled_whole(spacing, turn, tmp_path):
    image, _ = body((24, 20, 16))
    path = write_nifti(tmp_path / "x.nii.gz", image, affine((1, 1, 1.5), turn))
    scene = scene_of(path, Plan(spacing=spacing, intensity=FIXED), (10, 12, 12), tmp_path)
    values = torch.from_numpy(scene.turn(open_volume([path]).read()).copy())
    everything = resample((values / 1000).clamp(0, 1), whole(scene.axes)) * 2 - 1
    filled = torch.full((1, *scene.size), -1.0)
    place = tuple(slice(b, b + n) for b, n in zip(scene.before, scene.shape, strict=True))
    filled[(0, *place)] = everything[0]
    for start in cover(scene.size, scene.window, 0.5):
        part = filled[(..., *(slice(s, s + w) for s, w in zip(start, scene.window, strict=True)))]
        torch.testing.assert_close(scene.read(start), part, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(16, 20, 24), (30, 31, 32), (4, 8, 8)])
def test_what_goes_in_comes_back(size, tmp_path):
    """A scan that is as the network wants it, filled up or not, returns voxel by voxel."""
    image, _ = body((24, 20, 16))
    path = write_nifti(tmp_path / "x.nii.gz", image, affine((1, 1, 1), np.diag([-1.0, -1.0, 1.0])))
    scene = scene_of(path, Plan(spacing=(1, 1, 1), intensity=FIXED), size, tmp_path)
    starts = cover(scene.size, scene.window, 0.5)
    blend = Blend(scene.size, scene.window, 2, tmp_path, alone=len(starts) == 1)
    outcome, back = Outcome(scene.stored, scene.turn, 2, tmp_path), scene.back()

    def put(made) -> None:
        for final in back.add(made):
            outcome.put(final)

    for start in starts:
        p = (scene.read(start) + 1) / 2
        for made in blend.add(start, torch.cat([1 - p, p])):
            put(made)
    for made in blend.finish(scene.size[0]):
        put(made)
    expected = (image.T / 1000).clip(0, 1)
    found = outcome.whole()
    np.testing.assert_allclose(found["probability"], expected, atol=1.5 / 65535)
    assert np.array_equal(found["mask"], expected > 0.5)
    p = np.clip(expected, 1e-9, 1 - 1e-9)
    np.testing.assert_allclose(found["uncertainty"], -(p * np.log2(p) + (1 - p) * np.log2(1 - p)), atol=2e-3)
    assert outcome.counts == [int((expected <= 0.5).sum()), int((expected > 0.5).sum())]


def test_the_way_back_is_torchs_interpolation():
    axes = (Axis.fitted(9, 6), Axis.fitted(20, 11), Axis.fitted(13, 17))
    p = field(3, 6, 11, 17).softmax(0)
    back, slices = Back(axes), []
    for d in range(6):
        slices += back.add(p[:, d])
    in_plane = torch.stack(
        [F.interpolate(q[None], (20, 13), mode="bilinear", antialias=True, align_corners=False)[0] for q in p]
    )
    along = F.interpolate(
        in_plane.permute(0, 2, 3, 1).reshape(1, 3, -1, 6), (20 * 13, 9), mode="bilinear", antialias=True,
        align_corners=False,
    )  # fmt: skip
    expected = along[0].reshape(3, 20, 13, 9).permute(0, 3, 1, 2)
    torch.testing.assert_close(torch.stack(slices, 1), expected / expected.sum(0), atol=1e-5, rtol=1e-5)


def test_several_classes_and_their_entropy(tmp_path):
    p = field(4, 5, 6, 7).softmax(0)
    outcome = Outcome((5, 6, 7), STAY, 4, tmp_path)
    for d in range(5):
        outcome.put(p[:, d])
    found = outcome.whole()
    assert np.array_equal(found["mask"], p.argmax(0).numpy())
    np.testing.assert_allclose(found["probability"], p.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["uncertainty"], (-(p * p.log()).sum(0) / math.log(4)).numpy(), atol=1e-5)
    fullest = int((p.argmax(0) > 0).sum((1, 2)).argmax())
    assert outcome.fullest() == fullest
    assert np.array_equal(outcome.slice(fullest)["mask"], found["mask"][fullest])


def test_percentiles_are_of_the_scan(tmp_path):
    image, _ = body((24, 20, 16))
    path = write_nifti(tmp_path / "x.nii.gz", image, affine())
    scene = scene_of(path, Plan(spacing=(1, 1, 1)), (16, 20, 24), tmp_path)
    low, high = np.percentile(image.astype(np.float32), [0.5, 99.5])
    values = scene.turn(image.T.astype(np.float32)[None])
    expected = ((values - low) / (high - low)).clip(0, 1) * 2 - 1
    np.testing.assert_allclose(scene.read((0, 0, 0)).numpy(), expected, atol=1e-5)


def test_other_channels_are_refused(tmp_path):
    path = write_nifti(tmp_path / "x.nii.gz", np.stack([body()[0]] * 2, -1))
    with pytest.raises(Unreadable, match="has 2 channels, and the model was trained on 1"):
        Scene(open_volume([path]), Plan(), (8, 8, 8), 1, tmp_path)


def test_the_key_is_of_the_voxels_alone(tmp_path):
    image, _ = body()
    paths = [write_nifti(tmp_path / name, image) for name in ("a.nii", "b.nii.gz")]
    other = image.copy()
    other[1, 2, 3] += 1
    paths.append(write_nifti(tmp_path / "c.nii", other))
    a, b, c = (scene_of(path, Plan(), (8, 8, 8), tmp_path).key for path in paths)
    assert a == b != c
    assert 0 <= a < 1 << 40
