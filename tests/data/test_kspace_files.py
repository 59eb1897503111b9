"""k-space files in the forms that people have, and wrong ones: each is one clear line."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inkwash.data.kspace import open_kspace
from inkwash.data.picture import Unreadable
from inkwash.errors import WrongUse

h5py = pytest.importorskip("h5py")

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>40</x><y>24</y><z>1</z></matrixSize>
<fieldOfView_mm><x>80</x><y>36</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>20</x><y>32</y><z>1</z></matrixSize>
<fieldOfView_mm><x>40</x><y>48</y><z>5</z></fieldOfView_mm></reconSpace>
</encoding></ismrmrdHeader>"""


def samples(*lead: int, size: tuple[int, int] = (40, 24)) -> np.ndarray:
    """Strong in the middle, as k-space of pictures is."""
    random = np.random.default_rng(0)
    values = random.normal(size=(*lead, *size, 2)).astype(np.float32).view(np.complex64)[..., 0]
    values[..., size[0] // 2, size[1] // 2] = 50
    return values


def fastmri(path: Path, **more: Any) -> Path:
    """A file as fastMRI's are."""
    with h5py.File(path, "w") as file:
        for name, value in {"kspace": samples(3, 4), **more}.items():
            file.create_dataset(name, data=value)
    return path


def test_fastmri_of_several_coils(tmp_path: Path) -> None:
    mask = np.zeros(24, np.float32)
    mask[::2] = 1
    kspace = samples(3, 4)
    kspace[..., 20:] = 0
    rss = np.ones((3, 20, 24), np.float32)
    path = fastmri(tmp_path / "a.h5", kspace=kspace, mask=mask, ismrmrd_header=HEADER, reconstruction_rss=rss)
    with open_kspace(path) as found:
        assert (found.slices, found.coils, found.size) == (3, 4, (40, 24))
        # Cut to what the header says, no axis beyond what there is.
        assert found.picture == (20, 24)
        assert found.spacing == (5.0, 2.0, 1.5)
        assert found.reference is not None
        assert found.reference.shape == (3, 20, 24)
        one = found.slice(1)
    # What the mask hides is hidden, and what is padded was not acquired, whatever the mask says.
    wanted = (mask > 0) & (np.arange(24) < 20)
    np.testing.assert_array_equal(one.mask, np.broadcast_to(wanted, (40, 24)))
    np.testing.assert_array_equal(one.samples, kspace[1] * wanted)
    assert one.maps is None


def test_fastmri_of_one_coil(tmp_path: Path) -> None:
    with open_kspace(fastmri(tmp_path / "a.h5", kspace=samples(3))) as found:
        assert (found.slices, found.coils, found.size, found.picture) == (3, 1, (40, 24), (40, 24))
        assert found.spacing is None
        assert found.slice(2).samples.shape == (1, 40, 24)


def test_arrays(tmp_path: Path) -> None:
    maps = samples(4)
    np.savez(tmp_path / "a.npz", kspace=samples(4), mask=np.ones((40, 24), bool), maps=maps)
    np.save(tmp_path / "b.npy", samples(2, 4).astype(np.complex128))
    np.save(tmp_path / "c.npy", samples())
    with open_kspace(tmp_path / "a.npz") as found:
        assert (found.slices, found.coils) == (1, 4)
        np.testing.assert_array_equal(found.slice(0).maps, maps)
    with open_kspace(tmp_path / "b.npy") as found:
        assert (found.slices, found.coils) == (2, 4)
        assert found.slice(1).samples.dtype == np.complex64
        assert found.slice(1).key != found.slice(0).key
    with open_kspace(tmp_path / "c.npy") as found:
        assert (found.slices, found.coils) == (1, 1)


def test_the_acquired_samples_alone(tmp_path: Path) -> None:
    mask = np.random.default_rng(1).random((40, 24)) < 0.3
    mask[20, 12] = True
    kspace = samples(4) * mask
    np.savez(tmp_path / "a.npz", samples=kspace[:, mask], mask=mask, shape=np.array([4, 40, 24]))
    with open_kspace(tmp_path / "a.npz") as found:
        one = found.slice(0)
    np.testing.assert_array_equal(one.samples, kspace)
    np.testing.assert_array_equal(one.mask, mask)


def cut_short(path: Path) -> Path:
    fastmri(path)
    path.write_bytes(path.read_bytes()[:3000])
    return path


def written(save: Callable[..., None], name: str, *args: Any, **arrays: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save(folder / name, *args, **arrays)
        return folder / name

    return write


def nan() -> np.ndarray:
    found = samples(2, 4)
    found[0, 0, 3, 3] = np.nan
    return found


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "none": (lambda folder: folder / "a.h5", "does not exist"),
    "empty": (lambda folder: (folder / "a.h5", (folder / "a.h5").write_bytes(b""))[0], "is empty"),
    "text": (lambda folder: (folder / "a.h5", (folder / "a.h5").write_text("hello"))[0], "no HDF5 file"),
    "short": (lambda folder: cut_short(folder / "a.h5"), "damaged, cut short or no"),
    "no kspace": (lambda folder: fastmri_without(folder / "a.h5"), "holds no kspace: it holds volume"),
    "real": (lambda folder: fastmri(folder / "a.h5", kspace=np.ones((2, 20, 20))), "k-space is complex"),
    "axes": (lambda folder: fastmri(folder / "a.h5", kspace=samples()), r"\(slices, coils, H, W\) or \(slices, H, W\)"),
    "small": (written(np.save, "a.npy", samples(4, size=(8, 40))), "at least 16"),
    "other": (lambda folder: (folder / "a.mat", (folder / "a.mat").write_bytes(b"x"))[0], "is no file of k-space"),
    "pickled": (written(np.save, "a.npy", np.array([{}], object)), "pickled objects"),
    "zip": (lambda folder: (folder / "a.npz", (folder / "a.npz").write_bytes(b"PK\3\4no"))[0], "damaged, cut short"),
    "mask": (written(np.savez, "a.npz", kspace=samples(4), mask=np.ones((12, 24))), r"a mask of shape \(12, 24\)"),
    "grey mask": (written(np.savez, "a.npz", kspace=samples(4), mask=np.full(24, 0.5)), "other values than 0 and 1"),
    "maps": (written(np.savez, "a.npz", kspace=samples(4), maps=samples(3)), r"complex, \(4, 40, 24\) or"),
    "scattered": (written(np.savez, "a.npz", samples=samples(4)), r"samples are \(coils, N\)"),
    "nan": (written(np.save, "a.npy", nan()), "slice 1 of 2 holds samples that are not finite"),
    "zeros": (written(np.save, "a.npy", 0 * samples(4)), "holds nothing"),
    "hidden": (written(np.savez, "a.npz", kspace=samples(4), mask=np.zeros(24)), "holds nothing"),
    "corner": (written(np.save, "a.npy", np.fft.ifftshift(samples(4), (1, 2))), r"largest sample at \(0, 0\)"),
    "header": (lambda folder: fastmri(folder / "a.h5", ismrmrd_header="<ismrmrd"), "no ISMRMRD header"),
}


def fastmri_without(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("volume", data=np.ones((2, 20, 20)))
    return path


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_one_line(wrong: str, tmp_path: Path) -> None:
    write, message = WRONG[wrong]
    with pytest.raises(Unreadable, match=message) as error, open_kspace(write(tmp_path)) as found:
        found.slice(0)
    assert "\n" not in str(error.value)


def test_a_missing_library_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fastmri(tmp_path / "a.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(WrongUse, match="read with h5py, which is not installed"), open_kspace(tmp_path / "a.h5"):
        pass
