"""What a user can get wrong: each gets its exit code and one line that names the thing, and nothing is written."""

import errno
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

TINY = ("--set", "base=8", "blocks=1", "multipliers=1,1", "attention=[]")
TRAIN = ("--steps", "2", "--size", "16", "--batch", "2", *TINY)


class World:
    """A folder of made-up data sets, sound ones and broken ones."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root, root / "out"
        self.random = np.random.default_rng(0)

    def picture(self, name: str, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> Path:
        """A picture of noise at `name`, its format taken from the suffix."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (*size, 3) if mode == "RGB" else size
        Image.fromarray(self.random.integers(0, 256, shape, dtype=np.uint8)).convert(mode).save(path)
        return path

    def mask(self, name: str, size: tuple[int, int] = (16, 16), *, empty: bool = False) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        classes = np.zeros(size, np.uint8)
        classes[: size[0] // 2] = 0 if empty else 255
        Image.fromarray(classes).save(path)
        return path

    def pictures(self, folder: str = "pictures", count: int = 6) -> Path:
        for i in range(count):
            self.picture(f"{folder}/{i}.png")
        return self.root / folder

    def pairs(self, folder: str = "pairs", count: int = 6, *, empty: bool = False) -> Path:
        for i in range(count):
            self.picture(f"{folder}/images/{i}.png")
            self.mask(f"{folder}/masks/{i}.png", empty=empty)
        return self.root / folder

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def train(self, system: str, data: object, *more: object) -> list[object]:
        return ["train", system, data, "--out", self.out, *TRAIN, *more]

    def sample(self, run: object, *more: object) -> list[object]:
        return ["sample", run, "-n", "2", "--steps", "2", "--out", self.out, *more]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny trained run of each system, made once."""
    from inkwash.cli import main

    root = tmp_path_factory.mktemp("trained")
    world, runs = World(root), {}

    def run(system: str) -> Path:
        if system not in runs:
            data = world.pairs(f"data-{system}") if system == "polyp-ddpm" else world.pictures(f"data-{system}")
            runs[system] = root / system
            argv = ["train", system, data, "--out", runs[system], *TRAIN]
            assert main([str(word) for word in argv]) == 0
        return runs[system]

    return run


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def check(said, world: World, code: int, *words: object) -> None:
    assert said.code == code, said
    assert said.out == ""
    assert "Traceback" not in said.err
    lines = said.err.splitlines()
    complaints = [line for line in lines if line.startswith("inkwash: ")]
    assert len(complaints) == 1, said.err
    assert lines[-1] == complaints[0], said.err
    assert not world.out.exists(), "something was written"
    for word in words:
        assert str(word).lower() in complaints[0].lower(), said.err


# The path of the data.


@pytest.mark.parametrize("verb", ["data", "train"])
def test_the_data_does_not_exist(inkwash, world, verb):
    path = world.root / "polips"
    check(inkwash(*(["data", path] if verb == "data" else world.train("ddpm", path))), world, 2, path)


@pytest.mark.parametrize("verb", ["data", "train"])
def test_the_folder_is_empty(inkwash, world, verb):
    path = world.root / "empty"
    path.mkdir()
    check(inkwash(*(["data", path] if verb == "data" else world.train("ddpm", path))), world, 2, path)


def test_the_folder_holds_no_pictures(inkwash, world):
    path = world.file("notes/readme.txt", "no pictures here").parent
    check(inkwash("data", path), world, 2, path)


def test_the_data_is_a_text_file(inkwash, world):
    path = world.file("notes.txt", "hello")
    check(inkwash("data", path), world, 2, path)


def test_the_zip_is_cut_short(inkwash, world):
    with zipfile.ZipFile(world.root / "whole.zip", "w") as archive:
        for path in sorted(world.pictures().iterdir()):
            archive.write(path, path.name)
    whole = (world.root / "whole.zip").read_bytes()
    path = world.file("cut.zip", whole[: len(whole) // 2])
    check(inkwash("data", path), world, 2, path)


def test_the_npz_holds_objects_that_are_never_unpickled(inkwash, world):
    path, mark = world.root / "bomb.npz", world.root / "exploded"
    np.savez(path, train_images=np.array([Bomb(mark)], dtype=object))
    check(inkwash(*world.train("ddpm", path)), world, 2, path)
    assert not mark.exists()


def test_the_npz_has_no_images(inkwash, world):
    path = world.root / "numbers.npz"
    np.savez(path, weights=np.zeros((3, 3)))
    check(inkwash("data", path), world, 2, path)


def test_the_list_names_a_file_that_is_not_there(inkwash, world):
    world.picture("a.png")
    path = world.file("list.csv", "image,label\na.png,0\nb.png,1\n")
    check(inkwash(*world.train("ddpm", path)), world, 2, "b.png")


def test_the_list_has_no_column_of_images(inkwash, world):
    path = world.file("list.csv", "name,age\nAda,36\n")
    check(inkwash("data", path), world, 2, path)


def test_the_list_is_empty(inkwash, world):
    check(inkwash("data", world.file("list.csv", "")), world, 2, "list.csv")


# The files in it.


def test_a_text_file_called_png(inkwash, world):
    data = world.pictures()
    world.file("pictures/liar.png", "I am text")
    check(inkwash(*world.train("ddpm", data)), world, 2, "liar.png", "--skip-bad")


def test_a_truncated_jpeg(inkwash, world):
    data = world.pictures()
    whole = world.picture("whole.jpg", (64, 64)).read_bytes()
    world.file("pictures/cut.jpg", whole[: len(whole) // 2])
    check(inkwash(*world.train("ddpm", data)), world, 2, "cut.jpg", "--skip-bad")


def test_an_empty_file(inkwash, world):
    data = world.pictures()
    world.file("pictures/nothing.png", b"")
    check(inkwash(*world.train("ddpm", data)), world, 2, "nothing.png", "--skip-bad")


def test_a_picture_of_one_pixel_is_one_and_is_remarked_on(inkwash, world):
    data = world.pictures()
    world.picture("pictures/dot.png", (1, 1))
    said = inkwash("data", data, "--json")
    assert said.code == 0
    assert "the smallest picture has 1 x 1 pixels" in json.loads(said.out)["warnings"]
    assert inkwash(*world.train("ddpm", data)).code == 0


def test_a_mask_of_another_size(inkwash, world):
    data = world.pairs()
    world.mask("pairs/masks/3.png", (8, 12))
    check(inkwash(*world.train("polyp-ddpm", data)), world, 2, "3.png", "--skip-bad")


def test_a_picture_without_its_mask(inkwash, world):
    data = world.pairs()
    (data / "masks" / "3.png").unlink()
    check(inkwash(*world.train("polyp-ddpm", data)), world, 2, "3.png", "--skip-bad")


def test_all_masks_empty(inkwash, world):
    check(inkwash(*world.train("polyp-ddpm", world.pairs(empty=True))), world, 2, "mask")


def test_every_file_bad(inkwash, world):
    data = world.file("liars/a.png", "text").parent
    world.file("liars/b.png", "text")
    check(inkwash(*world.train("ddpm", data, "--skip-bad")), world, 2, "liars")


def test_no_masks_for_a_system_that_needs_them(inkwash, world):
    check(inkwash(*world.train("polyp-ddpm", world.pictures())), world, 2, "mask")


def test_bad_files_are_counted_and_named_by_data_and_left_out_by_skip_bad(inkwash, world):
    data = world.pictures()
    world.file("pictures/liar.png", "I am text")
    said = inkwash("data", data, "--json")
    assert said.code == 0
    assert [problem["name"] for problem in json.loads(said.out)["problems"]] == ["liar.png"]
    assert inkwash(*world.train("ddpm", data, "--skip-bad")).code == 0
    assert world.out.exists()


@pytest.mark.parametrize("mode", ["I;16", "CMYK", "L", "P", "RGBA", "1"])
def test_every_common_mode_is_a_picture(inkwash, world, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    for i in range(6):
        if mode == "I;16":
            path = world.root / "modes" / f"{i}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(world.random.integers(0, 2**16, (16, 16), dtype=np.uint16)).save(path)
        else:
            world.picture(f"modes/{i}.{suffix}", mode=mode)
    said = inkwash("data", world.root / "modes", "--json")
    assert said.code == 0, said.err
    report = json.loads(said.out)
    assert (report["pictures"], report["problems"]) == (6, [])


# What is asked of train.


def test_an_unknown_system(inkwash, world):
    check(inkwash(*world.train("polyp-dpm", world.pictures())), world, 2, "did you mean 'polyp-ddpm'")


def test_an_unknown_system_shown(inkwash, world):
    check(inkwash("show", "dppm"), world, 2, "did you mean 'ddpm'")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "bsae=8"], "did you mean 'base'"),
        (["--set", "base=-3"], "base"),
        (["--set", "base=wide"], "base"),
        (["--set", "base"], "key=value"),
        (["--set", "dropout=1.5"], "dropout"),
        (["--set", "sampler=unipcc"], "did you mean 'unipc'"),
        (["--set", "schedule=cosin"], "did you mean 'cosine'"),
        (["--set", "sampler=ddim@karas"], "did you mean 'karras'"),
        (["--set", "preset=papr"], "did you mean 'paper'"),
        (["--set", "learning_rate=fast"], "learning_rate"),
        (["--steps", "0"], "steps"),
        (["--steps", "-5"], "steps"),
        (["--minutes", "0"], "minutes"),
        (["--minutes", "nan"], "minutes"),
        (["--size", "0"], "size"),
        (["--size", "1000000"], "size"),
        (["--batch", "0"], "batch"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_value_that_cannot_be(inkwash, world, more, words):
    argv = ["train", "ddpm", world.pictures(), "--out", world.out, "--size", "16", *TINY]
    argv += [] if "--steps" in more or "--minutes" in more else ["--steps", "2"]
    check(inkwash(*argv, *more), world, 2, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"base: [1", "config.yaml"),
        (b"- base\n- 8\n", "config.yaml"),
        (b"bsae: 8\n", "did you mean 'base'"),
        (b"\xff\xfe\x00base", "config.yaml"),
        (b"base: !!python/object/apply:os.mkdir [exploded]\n", "config.yaml"),
    ],
    ids=["broken", "a list", "wrong key", "not text", "a yaml bomb"],
)
def test_a_config_that_cannot_be(inkwash, world, monkeypatch, content, words):
    monkeypatch.chdir(world.root)
    config = world.file("config.yaml", content)
    check(inkwash(*world.train("ddpm", world.pictures(), "--config", config)), world, 2, words)
    assert not (world.root / "exploded").exists()


def test_neither_steps_nor_minutes(inkwash, world):
    check(inkwash("train", "ddpm", world.pictures(), "--out", world.out), world, 2, "steps", "minutes")


# Where it is to be written.


@pytest.mark.parametrize("verb", ["train", "sample"])
def test_the_output_lies_below_a_file(inkwash, world, trained, verb):
    world.out = world.file("file", "mine") / "out"
    said = inkwash(*(world.train("ddpm", world.pictures()) if verb == "train" else world.sample(trained("ddpm"))))
    check(said, world, 2, world.out)
    assert (world.root / "file").read_text() == "mine"


@pytest.mark.parametrize("verb", ["train", "sample"])
def test_the_output_is_not_empty(inkwash, world, trained, verb):
    mine = world.file("mine/thesis.txt", "years of work")
    argv = world.train("ddpm", world.pictures()) if verb == "train" else world.sample(trained("ddpm"))
    check(inkwash(*[mine.parent if word == world.out else word for word in argv]), world, 2, mine.parent)
    assert [path.name for path in mine.parent.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_the_output_is_not_writable(inkwash, world):
    closed = world.root / "closed"
    closed.mkdir(mode=0o500)
    world.out = closed / "out"
    check(inkwash(*world.train("ddpm", world.pictures())), world, 2, world.out)


def test_overwrite_spares_a_folder_that_is_no_run(inkwash, world):
    mine = world.file("mine/thesis.txt", "years of work")
    argv = [mine.parent if word == world.out else word for word in world.train("ddpm", world.pictures(), "--overwrite")]
    inkwash(*argv)
    assert mine.read_text() == "years of work"


# The run folder.


def test_the_run_does_not_exist(inkwash, world):
    check(inkwash(*world.sample(world.root / "nowhere")), world, 2, "nowhere")


def test_the_run_is_some_other_folder(inkwash, world):
    check(inkwash(*world.sample(world.pictures())), world, 2, "pictures")


def test_the_run_is_a_pickle_bomb(inkwash, world):
    mark = world.root / "exploded"
    bomb = world.file("model.pt", pickle.dumps(Bomb(mark)))
    check(inkwash(*world.sample(bomb)), world, 2, "model.pt")
    assert not mark.exists()


@pytest.fixture
def damaged(world, trained):
    """`damaged(how)`: a copy of a trained run, with `how(copy)` done to it."""

    def copy(how: Callable[[Path], object]) -> Path:
        run = world.root / "run"
        shutil.copytree(trained("ddpm"), run)
        how(run)
        return run

    return copy


def _with_bomb_for_weights(run: Path) -> None:
    (run / "model.safetensors").write_bytes(pickle.dumps(Bomb(run / "exploded")))


def _of_a_newer_version(run: Path) -> None:
    manifest = yaml.safe_load((run / "config.yaml").read_text())
    manifest["format"] += 1
    (run / "config.yaml").write_text(yaml.safe_dump(manifest))


def _of_a_system_that_is_not_installed(run: Path) -> None:
    manifest = yaml.safe_load((run / "config.yaml").read_text())
    manifest["system"] = "dream-diffusion"
    (run / "config.yaml").write_text(yaml.safe_dump(manifest))


def _with_half_the_weights(run: Path) -> None:
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def _with_another_network(run: Path) -> None:
    manifest = yaml.safe_load((run / "config.yaml").read_text())
    manifest["config"]["base"] *= 2
    (run / "config.yaml").write_text(yaml.safe_dump(manifest))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (_of_a_newer_version, "newer"),
        (_of_a_system_that_is_not_installed, "dream-diffusion"),
        (lambda run: (run / "config.yaml").unlink(), "config.yaml"),
        (lambda run: (run / "config.yaml").write_text("]["), "config.yaml"),
        (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
        (_with_half_the_weights, "model.safetensors"),
        (_with_bomb_for_weights, "model.safetensors"),
        (_with_another_network, "model.safetensors"),
    ],
    ids=["newer", "not installed", "no config", "broken config", "no weights", "half weights", "bomb", "other network"],
)
@pytest.mark.parametrize("verb", ["sample", "evaluate"])
def test_a_run_that_is_not_whole(inkwash, world, damaged, how, words, verb):
    run = damaged(how)
    before = sorted(run.rglob("*"))
    said = inkwash(*(world.sample(run) if verb == "sample" else ["evaluate", run, world.pictures("more")]))
    check(said, world, 2, words)
    assert sorted(run.rglob("*")) == before


# What is asked of sample and evaluate.


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-n", "0"], "-n"),
        (["-n", "-4"], "-n"),
        (["--steps", "0"], "steps"),
        (["--batch", "0"], "batch"),
        (["--sampler", "dimm"], "did you mean 'ddim'"),
        (["--sampler", "ddim@log-snrr"], "did you mean 'log-snr'"),
        (["--guidance", "nan"], "guidance"),
        (["--condition", "cat"], "condition"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_images_that_cannot_be_drawn(inkwash, world, trained, more, words):
    options = {"-n": "2", "--steps": "2", **dict(zip(more[::2], more[1::2], strict=True))}
    argv = ["sample", trained("ddpm"), "--out", world.out, *(word for pair in options.items() for word in pair)]
    check(inkwash(*argv), world, 2, words)


def test_a_mask_is_needed(inkwash, world, trained):
    check(inkwash(*world.sample(trained("polyp-ddpm"))), world, 2, "--condition")


@pytest.mark.parametrize("what", ["nowhere.png", "liar.png", "empty"])
def test_the_mask_cannot_be_read(inkwash, world, trained, what):
    world.file("liar.png", "I am text")
    (world.root / "empty").mkdir()
    check(inkwash(*world.sample(trained("polyp-ddpm"), "--condition", world.root / what)), world, 2, what)


def test_evaluate_with_data_of_another_kind(inkwash, world, trained):
    check(inkwash("evaluate", trained("polyp-ddpm"), world.pictures()), world, 2, "pictures")


def test_evaluate_without_masks_where_there_are_none(inkwash, world, trained):
    check(inkwash("evaluate", trained("ddpm"), world.pictures(), "--mask-free"), world, 2, "--mask-free")


def test_evaluate_without_data(inkwash, world, trained):
    check(inkwash("evaluate", trained("ddpm"), world.root / "nowhere"), world, 2, "nowhere")


def test_evaluate_with_an_unknown_feature_network(inkwash, world, trained):
    argv = ["evaluate", trained("ddpm"), world.pictures(count=60), "--network", "inceptoin-v3"]
    check(inkwash(*argv), world, 2, "did you mean 'inception-v3'")


def test_evaluate_with_nothing_held_out(inkwash, world, trained):
    check(inkwash("evaluate", trained("ddpm"), world.pictures()), world, 2, "held-out")


def test_resume_of_another_system(inkwash, world, trained):
    run = world.root / "run"
    shutil.copytree(trained("ddpm"), run)
    before = (run / "config.yaml").read_bytes()
    argv = ["train", "polyp-ddpm", world.pairs(), "--out", run, "--steps", "4", "--resume"]
    check(inkwash(*argv), world, 2, "ddpm")
    assert (run / "config.yaml").read_bytes() == before


# What is nobody's fault.


def test_the_disk_is_full(inkwash, world, stand_in):
    def training(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/model.safetensors")
        yield

    stand_in("train", training=training)
    check(inkwash("train", "ddpm", "x", "--out", world.out), world, 1, "no space left", "runs/a/model.safetensors")


def test_no_file_may_grow_as_large_as_the_model(world):
    """The nearest thing to a full disk that needs no mount: the kernel refuses to write past a limit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    argv = [str(word) for word in world.train("ddpm", world.pictures())]
    script = "import sys; from inkwash.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "XDG_CACHE_HOME": str(world.root / "cache"), "OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-c", script, *argv], capture_output=True, text=True, preexec_fn=limit, env=environment
    )
    assert child.returncode == 1, child.stderr
    assert "Traceback" not in child.stderr
    assert child.stderr.splitlines()[-1].startswith("inkwash: ")
    assert not [path for path in world.root.rglob("*.safetensors") if path.stat().st_size >= 20_000], "half a file"


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["data", "nowhere"], 2), (["train", "ddpn", "x", "--out", "y"], 2), (["trian"], 2), (["list"], 0)],
)
def test_a_real_process_says_the_same(tmp_path, argv, code):
    script = "import sys; from inkwash.cli import main; sys.exit(main(sys.argv[1:]))"
    child = subprocess.run([sys.executable, "-c", script, *argv], capture_output=True, text=True, cwd=tmp_path)
    assert child.returncode == code
    assert child.stderr.count("\n") == (1 if code else 0)
    assert list(tmp_path.iterdir()) == []
