"""The loop against a loop anyone would write, and every option that changes what it does."""

import json
import math
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from standin import Squares, Tiny, begin
from torch import Tensor, nn

from inkwash.corruption.gaussian import Linear
from inkwash.corruption.noise import Noise
from inkwash.data.augment import Augment
from inkwash.denoise.gaussian import GaussianDenoiser
from inkwash.errors import Failed, WrongUse
from inkwash.training import Progress, Run, TrainOptions, checkpoint, fit
from inkwash.training.ema import exponent
from inkwash.training.order import Order
from inkwash.training.schedule import learning_rate


def options(**more: Any) -> TrainOptions:
    # In float32, so that figures can be compared on processors that have bf16 as on those that don't.
    usual = {"steps": 12, "batch": 4, "warmup": 3, "learning_rate": 3e-3, "log_every": 4, "precision": "fp32"}
    return TrainOptions(**{**usual, **more})


def train(path: Path, chosen: TrainOptions, *, system: Tiny | None = None) -> tuple[Tiny, Run, list[Progress]]:
    system = system or Tiny()
    run = begin(path, system, Squares(), chosen)
    return system, run, list(fit(system, Squares(), run, chosen))


def raw(run: Run) -> dict[str, Tensor]:
    """The weights without averaging, from the last checkpoint."""
    found = checkpoint.load(run.checkpoints)
    assert found is not None
    return found.part("model")


def until(progress: Iterator[Progress], step: int, then: Callable[[], None]) -> None:
    """Go through a training to the end, and do something after a step."""
    for now in progress:
        if now.step == step:
            then()


def same(first: dict[str, Tensor], second: dict[str, Tensor], **tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], **(tolerance or {"rtol": 0, "atol": 0}))


def test_it_is_the_loop_anyone_would_write(tmp_path: Path) -> None:
    chosen = options(weight_decay=0.1, clip=0.5, ema=(0.1,), log_every=1)
    _, run, progress = train(tmp_path / "run", chosen)

    system, images, order = Tiny(), Squares(), Order(10, chosen.seed)
    optimizer = torch.optim.AdamW(
        [p for p in system.parameters() if p.requires_grad], betas=chosen.betas, weight_decay=0.1, foreach=False
    )
    average = {}
    for step in range(12):
        items = torch.arange(4 * step, 4 * step + 4)
        loss = system.loss(images.batch(order(items)), noise=Noise(chosen.seed, items))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(system.parameters(), 0.5)
        optimizer.param_groups[0]["lr"] = learning_rate(chosen, step, step / 12)
        optimizer.step()
        keep = (1 - 1 / (step + 1)) ** (exponent(0.1) + 1)
        for name, p in system.named_parameters():
            average[name] = keep * average.get(name, 0) + (1 - keep) * p.detach()
        assert progress[step].losses["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert progress[step].losses["gradient"] == pytest.approx(norm.item(), rel=1e-4)

    same(raw(run), system.state_dict(), rtol=1e-5, atol=1e-7)
    model = load_file(run.weights)
    for name, expected in average.items():
        torch.testing.assert_close(model[name], expected, rtol=1e-5, atol=1e-7)
    assert model["seen"] == 12


def test_what_it_says_and_leaves(tmp_path: Path) -> None:
    system, run, progress = train(tmp_path / "run", options())
    assert [p.step for p in progress] == list(range(1, 13))
    assert [p.finished for p in progress] == [False] * 11 + [True]
    assert progress[5].items == 24
    assert progress[5].steps == 12
    assert progress[5].losses == progress[3].losses
    assert progress[-1].seconds_left == 0.0
    assert progress[5].seconds_left is not None
    assert progress[5].rate is not None
    rows = run.metrics()
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert rows[0].keys() == {"step", "items", "seconds", "learning_rate", "loss", "late", "gradient"}
    assert rows[0]["loss"] == progress[3].losses["loss"]
    same(load_file(run.weights), system.state_dict())
    assert not system.training
    assert checkpoint.steps(run.checkpoints) == [0, 12]


def test_it_learns(tmp_path: Path) -> None:
    """Predicting nothing costs 1."""
    _, run, _ = train(tmp_path / "run", options(steps=100, batch=16, learning_rate=2e-2, log_every=10))
    losses = [row["loss"] for row in run.metrics()]
    assert losses[-1] < 0.4 < 0.6 < losses[0]


@pytest.mark.law
def test_accumulation_follows_the_same_path(tmp_path: Path) -> None:
    """The averages too: they are updated once a step (pitfall 20)."""
    _, whole, _ = train(tmp_path / "whole", options())
    _, parts, _ = train(tmp_path / "parts", options(accumulation=4))
    for one, other in zip(whole.metrics(), parts.metrics()):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    counted = load_file(parts.weights) | {"seen": torch.tensor(12)}
    same(load_file(whole.weights), counted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 3])
def test_workers_change_nothing(tmp_path: Path, workers: int) -> None:
    _, one, _ = train(tmp_path / "one", options())
    _, other, _ = train(tmp_path / "other", options(workers=workers))
    same(raw(one), raw(other))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path: Path, dropout: float) -> None:
    chosen = options(checkpoint_every="5 steps")
    _, whole, _ = train(tmp_path / "whole", chosen, system=Tiny(dropout=dropout))

    system = Tiny(dropout=dropout)
    run = begin(tmp_path / "run", system, Squares(), chosen)
    for progress in fit(system, Squares(), run, chosen):
        if progress.step == 7:
            break
    assert checkpoint.steps(run.checkpoints) == [0, 5]
    again = Tiny(dropout=dropout)
    # Another process has torch's generator in another state.
    torch.manual_seed(99)
    resumed = list(fit(again, Squares(), Run.resume(run.path), chosen, resume=True))
    assert [p.step for p in resumed] == list(range(6, 13))
    same(raw(whole), raw(run))
    same(load_file(whole.weights), load_file(run.weights))
    curves = [[{**row, "seconds": 0} for row in r.metrics()] for r in (whole, run)]
    assert curves[0] == curves[1]


def test_a_finished_training_can_be_made_longer(tmp_path: Path) -> None:
    _, run, _ = train(tmp_path / "run", options())
    assert [p.finished for p in fit(Tiny(), Squares(), run, options(), resume=True)] == [True]
    longer = options(steps=16)
    assert [p.step for p in fit(Tiny(), Squares(), run, longer, resume=True)] == [13, 14, 15, 16]
    assert Run.open(run.path).options == longer


def test_one_that_cannot_go_on(tmp_path: Path) -> None:
    _, run, _ = train(tmp_path / "run", options())
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(WrongUse, match="was trained with seed = 0 and can only go on with that, not with 5"):
        list(fit(Tiny(), Squares(), run, options(steps=20, seed=5), resume=True))
    with pytest.raises(WrongUse, match="with batch = 4"):
        list(fit(Tiny(), Squares(), run, options(steps=20, batch=8), resume=True))
    with pytest.raises(WrongUse, match="with data = 'squares-10-8'"):
        list(fit(Tiny(), Squares(11), run, options(steps=20), resume=True))
    with pytest.raises(WrongUse, match="is of another model"):
        list(fit(Tiny(width=9), Squares(), run, options(steps=20), resume=True))
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    for path in run.checkpoints.iterdir():
        path.unlink()
    with pytest.raises(WrongUse, match="holds no checkpoint"):
        list(fit(Tiny(), Squares(), run, options(), resume=True))


class Poisoned(Squares):
    """Data that is not a number from the item that first shows image 3 in the second epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = 0

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        batch = super().batch(indices)
        self.shown += len(indices)
        if self.shown > 36:
            batch["image"][-1] = math.nan
        return batch


@pytest.mark.parametrize("log_every", [1, 5])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, log_every: int) -> None:
    chosen = options(steps=50, checkpoint_every="5 steps", log_every=log_every)
    system, images = Tiny(), Poisoned()
    run = begin(tmp_path / "run", system, images, chosen)
    with pytest.raises(Failed, match=r"the loss is nan at step 10: .*the checkpoint of step 5 is kept") as error:
        list(fit(system, images, run, chosen))
    assert "\n" not in str(error.value)
    found = checkpoint.load(run.checkpoints)
    assert found is not None
    assert found.step == 5
    assert all(tensor.isfinite().all() for tensor in found.tensors.values())
    assert all(tensor.isfinite().all() for tensor in load_file(run.weights).values())


class Exploding(Tiny):
    """A loss that is finite with a gradient that is not: the root of zero."""

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Tensor]:
        terms = super().loss(batch, noise=noise)
        return {"loss": terms["loss"] + (terms["loss"] * 0).sqrt()}


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="the gradient is nan at step 1:"):
        train(tmp_path / "run", options(), system=Exploding())
    run = Run.open(tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in raw(run).values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_answered_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    chosen = options(log_every=1000, checkpoint_every=1000, steps=2000)
    system = Tiny()
    run = begin(tmp_path / "run", system, Squares(), chosen)
    before = signal.getsignal(number)
    with pytest.raises(Failed, match=rf"stopped by {number.name} after step 4; .*--resume continues it"):
        until(fit(system, Squares(), run, chosen), 3, lambda: os.kill(os.getpid(), number))
    assert signal.getsignal(number) is before
    assert checkpoint.steps(run.checkpoints) == [0, 4]
    assert next(fit(Tiny(), Squares(), run, chosen, resume=True)).step == 5


def test_minutes_are_kept(tmp_path: Path) -> None:
    """Three seconds; the last step is allowed, and the time of a busy machine."""
    _, run, progress = train(tmp_path / "run", options(steps=None, minutes=0.05, log_every=10**6))
    assert 3.0 <= progress[-1].seconds < 4.0
    assert progress[-1].learning_rate < 3e-4
    assert progress[-1].steps is None
    assert progress[-1].finished
    assert len(run.metrics()) < len(progress) / 2
    assert len(train(tmp_path / "both", options(minutes=9))[2]) == 12


def test_previews_see_the_averages_and_disturb_nothing(tmp_path: Path) -> None:
    _, plain, _ = train(tmp_path / "plain", options())
    chosen = options(preview_every="5 steps")
    system = Tiny()
    run = begin(tmp_path / "run", system, Squares(), chosen)
    seen = []
    for progress in fit(system, Squares(), run, chosen):
        assert system.training is not progress.preview_due
        if progress.preview_due:
            seen.append((progress.step, system.network[0].weight.detach().clone()))
            torch.randn(3)
    assert [step for step, _ in seen] == [5, 10, 12]
    assert torch.equal(seen[-1][1], load_file(run.weights)["network.0.weight"])
    assert not torch.equal(seen[1][1], seen[2][1])
    same(raw(plain), raw(run))
    assert not any(p.preview_due for p in train(tmp_path / "c", options(preview_every=None))[2][:-1])


def test_the_model_is_the_first_average_or_the_raw_weights(tmp_path: Path) -> None:
    _, run, _ = train(tmp_path / "raw", options(ema=()))
    same(load_file(run.weights), raw(run))
    _, wide, _ = train(tmp_path / "wide", options(ema=(0.2, 0.01)))
    _, narrow, _ = train(tmp_path / "narrow", options(ema=(0.01, 0.2)))
    same(raw(wide), raw(run))

    def distance(other: Run) -> float:
        return sum((load_file(other.weights)[n] - t).abs().sum().item() for n, t in raw(run).items())

    assert 0 < distance(narrow) < distance(wide)


def test_snapshots_are_kept_and_survive_a_resume(tmp_path: Path) -> None:
    chosen = options(snapshots=3, checkpoint_every="6 steps", ema=(0.1,))
    system = Tiny()
    run = begin(tmp_path / "run", system, Squares(), chosen)
    for progress in fit(system, Squares(), run, chosen):
        if progress.step == 10:
            break
    list(fit(Tiny(), Squares(), run, chosen, resume=True))
    assert sorted(path.name for path in run.snapshots.iterdir()) == [
        f"step-{step:08d}-ema-0.1.safetensors" for step in (4, 8, 12)
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"batch": 2},
        {"learning_rate": 1e-3},
        {"warmup": 0},
        {"decay": "linear"},
        {"weight_decay": 1.0},
        {"betas": (0.8, 0.99)},
        {"clip": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_does_something(tmp_path: Path, change: dict[str, Any]) -> None:
    reference = options(clip=0.1, steps=4)
    _, one, _ = train(tmp_path / "one", reference)
    _, other, _ = train(tmp_path / "other", options(**{"clip": 0.1, "steps": 4, **change}))
    assert not torch.equal(raw(one)["network.0.weight"], raw(other)["network.0.weight"])


def test_bf16_computes_in_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inkwash.training.loop.bf16", lambda precision, device, spatial: precision == "bf16")
    seen: list[torch.dtype] = []
    for precision in ("fp32", "bf16"):
        system = Tiny()
        system.network[-1].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
        _, run, _ = train(tmp_path / precision, options(steps=1, precision=precision), system=system)
        assert raw(run)["network.0.weight"].dtype == torch.float32
    assert seen == [torch.float32, torch.bfloat16]


def test_weights_and_images_are_channels_last(tmp_path: Path) -> None:
    system, images = Tiny(channels=3), Squares(channels=3)
    formats = []
    system.network[2].register_forward_hook(
        lambda module, args, output: formats.append(output.is_contiguous(memory_format=torch.channels_last))
    )
    run = begin(tmp_path / "run", system, images, options(steps=2))
    list(fit(system, images, run, options(steps=2)))
    assert formats == [True, True]
    assert system.network[3].weight.is_contiguous(memory_format=torch.channels_last)


def test_images_are_augmented_item_by_item(tmp_path: Path) -> None:
    seen: dict[int, Tensor] = {}

    class Watched(Tiny):
        def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Tensor]:
            seen.update(zip(noise.items.tolist(), batch["image"]))
            return super().loss(batch, noise=noise)

    class Ramps(Squares):
        def batch(self, indices: Tensor) -> dict[str, Tensor]:
            return {"image": torch.linspace(-1, 1, 8).expand(len(indices), 1, 8, 8)}

    chosen = options(accumulation=2, steps=3)
    run = begin(tmp_path / "run", Watched(), Ramps(), chosen)
    list(fit(Watched(), Ramps(), run, chosen, augment=Augment(flip=True)))
    items = torch.arange(12)
    expected = Augment(flip=True)(Ramps().batch(items), Noise(chosen.seed, items))["image"]
    torch.testing.assert_close(torch.stack([seen[item] for item in range(12)]), expected)
    assert 0 < (expected[:, 0, 0, 0] > 0).sum() < 12


class Denoising(Tiny):
    """The same network in a denoiser."""

    def __init__(self) -> None:
        super().__init__()

        class Network(nn.Sequential):
            def forward(self, z: Tensor, t: Tensor) -> Tensor:
                return super().forward(z)

        self.denoiser = GaussianDenoiser(Network(*self.network), Linear())

    def loss(self, batch: dict[str, Tensor], *, noise: Noise) -> dict[str, Tensor]:
        return {"loss": self.denoiser.loss(batch["image"], noise=noise)}


def test_compile_compiles_the_network_of_the_denoiser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    system = Denoising()
    train(tmp_path / "plain", options(steps=1), system=system)
    assert compiled == []
    train(tmp_path / "compiled", options(steps=1, compile=True), system=system)
    assert compiled == [system.denoiser.network]


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tmp_path: Path) -> None:
    _, plain, _ = train(tmp_path / "plain", options(), system=Denoising())
    _, compiled, _ = train(tmp_path / "compiled", options(compile=True), system=Denoising())
    for one, other in zip(plain.metrics(), compiled.metrics()):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_tensorboard(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, run, _ = train(tmp_path / "run", options(tensorboard=True))
    events = reader.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [4, 8, 12]
    assert events.Scalars("loss")[0].value == pytest.approx(run.metrics()[0]["loss"])


@pytest.fixture
def full_disk() -> Iterator[Any]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda room: resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_with_one_line_and_the_run_goes_on_later(tmp_path: Path, full_disk: Any) -> None:
    chosen = options(checkpoint_every="3 steps")
    _, whole, _ = train(tmp_path / "whole", chosen)
    system = Tiny()
    run = begin(tmp_path / "run", system, Squares(), chosen)
    with pytest.raises(Failed, match=r"File too large; the checkpoint of step 3 is intact, --resume goes on") as error:
        until(fit(system, Squares(), run, chosen), 4, lambda: full_disk(2000))
    full_disk(resource.RLIM_INFINITY)
    assert "\n" not in str(error.value)
    assert not list(run.path.rglob("*.tmp"))
    list(fit(Tiny(), Squares(), run, chosen, resume=True))
    same(raw(whole), raw(run))


def test_nothing_to_train_on(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", Tiny(), Squares(), options())
    with pytest.raises(WrongUse, match="no images"):
        next(fit(Tiny(), Squares(0), run, options()))


def test_an_unfinished_run_is_a_run(tmp_path: Path) -> None:
    chosen = options()
    run = begin(tmp_path / "run", Tiny(), Squares(), chosen)
    next(fit(Tiny(), Squares(), run, chosen))
    Run.open(run.path).load_weights(Tiny())
    facts = json.loads((run.checkpoints / "step-00000000.json").read_text())
    assert facts["step"] == 0
