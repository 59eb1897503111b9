"""The training loop."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.denoise.base import Denoiser
from inkwash.errors import Failed, WrongUse
from inkwash.training import checkpoint
from inkwash.training.checkpoint import Checkpoint
from inkwash.training.contract import Augmentation, Batch, Images, Progress, Trainable
from inkwash.training.ema import Averages
from inkwash.training.interruption import interruptions
from inkwash.training.options import TrainOptions, bf16
from inkwash.training.order import Order
from inkwash.training.prefetch import ahead
from inkwash.training.run import Run
from inkwash.training.schedule import Budget, Due, learning_rate
from inkwash.training.snapshots import Snapshots
from inkwash.training.tensorboard import writer


def fit(
    system: Trainable,
    images: Images,
    run: Run,
    options: TrainOptions,
    *,
    resume: bool = False,
    augment: Augmentation | None = None,
) -> Iterator[Progress]:
    """Train `system` on `images`, one `Progress` a step.

    Item `n` of the training is one image, one augmentation, one time and one noise, all keyed by `n`; step `k` takes
    items `k batch` to `(k + 1) batch - 1`. So several processes (`torchrun`, `accelerate launch`) and accumulation
    follow the same path as one process, up to the order of summation, and a resumed training follows it bit for bit
    (on a processor; a GPU's own kernels may add up in another order each time). Only drop-out inside a network draws
    from torch's generator, which is set from the item at each pass.

    Nothing waits for the device but the reading of the losses, every `log_every` steps.

    A system without anything to learn is written down as it is, in no step.

    Args:
        resume: go on from the newest checkpoint of `run`; from the start where it was stopped before its first.
        augment: applied to every batch, with the noise of its items.

    Raises:
        WrongUse: the options do not fit the hardware, the processes, or the checkpoint.
        Failed: the loss is not finite, the disk is full, or SIGINT or SIGTERM asked to stop. The last good checkpoint
            is kept, and written before stopping where that is possible.
    """
    if len(images) == 0:
        raise WrongUse("there are no images to train on")
    module = cast(nn.Module, system)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        run.save_weights(module.state_dict())
        yield Progress(step=0, steps=0, seconds=0.0, seconds_left=0.0, items=0, finished=True)
        return
    training = _Training(system, images, run, options, augment)
    with interruptions() as stopped:
        yield from training.go(resume, stopped)


class _Objective(nn.Module):
    """The loss as a forward pass, which is what distributed training wraps."""

    def __init__(self, system: Trainable) -> None:
        super().__init__()
        self.system = cast(nn.Module, system)

    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        return cast(Trainable, self.system).loss(batch, noise=noise)


@contextmanager
def _dropout(noise: Noise, device: torch.device) -> Iterator[None]:
    """Torch's own generator, which drop-out draws from, is set from the first item inside and as before outside."""
    seed = int(noise[:1].uniform((), "torch", dtype=torch.float64).item() * 2**53)
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        # Not torch.manual_seed: it prepares every kind of device there could be, which takes longer than a small step.
        (torch.cuda.manual_seed if cuda else torch.default_generator.manual_seed)(seed)
        yield


class _Training:
    def __init__(
        self, system: Trainable, images: Images, run: Run, options: TrainOptions, augment: Augmentation | None
    ) -> None:
        self.images, self.run, self.options, self.augment = images, run, options, augment
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
        self.device, processes = self.accelerator.device, self.accelerator.num_processes
        self.main = self.accelerator.is_main_process
        kind = self.accelerator.distributed_type
        if kind not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
            raise WrongUse(f"training by {kind.value} is not known here: launch plain processes with torchrun")
        if options.batch % (processes * options.accumulation):
            raise WrongUse(
                f"batch = {options.batch} does not divide into {processes} processes"
                f" with {options.accumulation} accumulated parts each"
            )
        self.part = options.batch // (processes * options.accumulation)
        self.bf16 = bf16(options.precision, self.device)
        # What convolutions are fastest in on GPUs; on processors our U-Net is as fast either way.
        self.format = {4: torch.channels_last, 5: torch.channels_last_3d}.get(len(images.spec.size) + 2)
        objective = _Objective(system)
        self.system = objective.system.to(self.device)
        for parameter in self.system.parameters():
            parameter.data = self._laid_out(parameter.data)
        if options.compile:
            for module in self.system.modules():
                if isinstance(module, Denoiser):
                    for network in module.children():
                        network.compile()
        self.objective = self.accelerator.prepare_model(objective) if processes > 1 else objective
        self.parameters = [p for p in self.system.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, options.learning_rate, options.betas, weight_decay=options.weight_decay, fused=True
        )
        self.averages = Averages(self.system, options.ema)
        self.order = Order(len(images), options.seed)
        self.terms: list[str] = []
        self.window: list[Tensor] = []

    def _laid_out(self, tensor: Tensor) -> Tensor:
        if self.format is None or tensor.ndim != len(self.images.spec.size) + 2:
            return tensor
        return tensor.contiguous(memory_format=self.format)

    def _prepare(self, part: int) -> tuple[Batch, Noise]:
        """The batch of this process for one pass, on the device."""
        step, within = divmod(part, self.options.accumulation)
        place = self.accelerator.process_index * self.options.accumulation + within
        first = step * self.options.batch + place * self.part
        items = torch.arange(first, first + self.part)
        noise = Noise(self.options.seed, items)
        batch = self.images.batch(self.order(items))
        if self.augment is not None:
            batch = self.augment(batch, noise)
        if self.device.type == "cuda":
            batch = {name: value.pin_memory().to(self.device, non_blocking=True) for name, value in batch.items()}
        return {name: self._laid_out(value) for name, value in batch.items()}, noise

    def _step(self, step: int, rate: float, batches: Iterator[tuple[Batch, Noise]]) -> None:
        """From `step` steps to one more."""
        options, processes = self.options, self.accelerator.num_processes
        self.optimizer.zero_grad(set_to_none=True)
        sums: Tensor | float = 0.0
        for within in range(options.accumulation):
            batch, noise = next(batches)
            last = within == options.accumulation - 1
            with nullcontext() if last else self.accelerator.no_sync(self.objective):
                with _dropout(noise, self.device), torch.autocast(self.device.type, torch.bfloat16, self.bf16):
                    terms = self.objective(batch, noise)
                # Distributed training takes the mean over the processes.
                self.accelerator.backward(terms["loss"].sum() * (processes / options.batch))
            self.terms = list(terms)
            sums = sums + torch.stack([terms[name].detach().sum().float() for name in self.terms])
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        if options.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, options.clip, norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.averages.update(step + 1)
        self.window.append(torch.cat([cast(Tensor, sums) / options.batch, norm.float()[None] / processes]))

    def _read(self, seconds: float, stop: bool) -> tuple[list[list[float]], float, bool]:
        """The rows of the window, the time and the wish to stop, the same for every process. Waits for the device."""
        rows = torch.stack(self.window).double()
        said = torch.tensor([seconds if self.main else 0.0, float(stop)], dtype=torch.float64, device=self.device)
        agreed = cast(Tensor, self.accelerator.reduce(torch.cat([rows.flatten(), said]), "sum")).cpu()
        self.window.clear()
        return agreed[:-2].reshape(rows.shape).tolist(), float(agreed[-2]), bool(agreed[-1] > 0)

    def go(self, resume: bool, stopped: list[str]) -> Iterator[Progress]:
        options, run = self.options, self.run
        step, before = self._restore() if resume else (0, 0.0)
        start = time.monotonic() - before
        budget = Budget(options, step, before)
        saving, previewing = Due(options.checkpoint_every, before), Due(options.preview_every, before)
        snapshots = Snapshots(run.snapshots, options, budget.fraction(step))
        board = writer(run.path / "tensorboard", step) if options.tensorboard and self.main else None
        losses: dict[str, float] = {}
        rate = 0.0
        if step == 0:
            self._save(0, 0.0)
        # On a processor a second thread of tensor work makes the first wait: 1.5 steps a second instead of 2.0.
        workers = int(self.device.type == "cuda") if options.workers is None else options.workers
        batches = ahead(self._prepare, step * options.accumulation, workers)
        self.system.train()
        try:
            while not budget.over(step):
                rate = learning_rate(options, step, budget.fraction(step))
                self._step(step, rate, batches)
                step += 1
                alone = self.accelerator.num_processes == 1
                ended = step == options.steps or step % options.log_every == 0 or budget.look(step)
                preview = False
                if ended or saving.at(step) or previewing.at(step) or snapshots.at(step) or (alone and stopped):
                    rows, seconds, stop = self._read(time.monotonic() - start, bool(stopped))
                    self._check(rows, step)
                    budget.read(step, seconds)
                    losses = dict(zip([*self.terms, "gradient"], (sum(c) / len(c) for c in zip(*rows)), strict=True))
                    if self.main:
                        run.log({"step": step, "items": step * options.batch, "seconds": round(seconds, 3),
                                 "learning_rate": rate, **losses})
                        if board:
                            for name, value in {**losses, "learning_rate": rate}.items():
                                board.add_scalar(name, value, step)
                        snapshots.keep(self.averages, step, budget.fraction(step))
                    over = budget.over(step)
                    if saving(step, seconds) or over or stop:
                        self._save(step, seconds)
                    if over:
                        break
                    if stop:
                        name = stopped[0] if stopped else "another process"
                        raise Failed(f"stopped by {name} after step {step}; {run.path} is saved, --resume continues it")
                    preview = previewing(step, seconds)
                progress = self._progress(budget, step, losses, rate, preview)
                if preview:
                    with self._shown():
                        yield progress
                else:
                    yield progress
        finally:
            batches.close()  # type: ignore[attr-defined]
            if board:
                board.close()
        if options.ema:
            self.averages.apply(options.ema[0])
        self.system.eval()
        yield self._progress(budget, step, losses, rate, True, finished=True)

    def _progress(
        self, budget: Budget, step: int, losses: dict[str, float], rate: float, preview: bool, *, finished: bool = False
    ) -> Progress:
        return Progress(
            step=step,
            steps=self.options.steps,
            seconds=budget.reckoned(step),
            seconds_left=0.0 if finished else budget.left(step),
            items=step * self.options.batch,
            losses=losses,
            rate=1 / budget.pace if budget.pace else None,
            learning_rate=rate,
            preview_due=preview,
            finished=finished,
        )

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """The system as it will be used: averaged, in evaluation mode."""
        self.system.eval()
        with self.averages.applied(self.options.ema[0]) if self.options.ema else nullcontext():
            yield
        self.system.train()

    def _check(self, rows: list[list[float]], step: int) -> None:
        """Raises `Failed` at the first loss or gradient that is not finite."""
        for index, row in enumerate(rows):
            for name, value in zip([*self.terms, "gradient"], row, strict=True):
                if not math.isfinite(value):
                    kept = checkpoint.steps(self.run.checkpoints)
                    raise Failed(
                        f"the {name} is {value} at step {step - len(rows) + index + 1}: try a lower learning_rate than "
                        f"{self.options.learning_rate:g}, a longer warmup, or precision=fp32; the checkpoint of step "
                        f"{kept[-1] if kept else 0} is kept in {self.run.checkpoints}"
                    )

    def _save(self, step: int, seconds: float) -> None:
        """A checkpoint, and the model as it is now."""
        if self.main:
            tensors = {f"model/{name}": tensor for name, tensor in self.system.state_dict().items()}
            tensors |= {f"ema/{name}": tensor for name, tensor in self.averages.tensors().items()}
            tensors |= {f"optimizer/{name}": t for name, t in checkpoint.optimizer_tensors(self.optimizer).items()}
            facts = {"seconds": seconds, **self._identity()}
            checkpoint.save(self.run.checkpoints, Checkpoint(step, tensors, facts))
            ema = self.options.ema
            self.run.save_weights(self.averages.state(ema[0]) if ema else self.system.state_dict())
        self.accelerator.wait_for_everyone()

    def _identity(self) -> dict[str, Any]:
        """What must not change when a training goes on, since items are counted in it."""
        return {"seed": self.options.seed, "batch": self.options.batch, "data": self.images.fingerprint}

    def _restore(self) -> tuple[int, float]:
        """The step and the seconds of the newest checkpoint, and all the state with it."""
        with self.accelerator.main_process_first():
            found = checkpoint.load(self.run.checkpoints)
        if found is None and self.run.weights.exists():
            raise WrongUse(f"{self.run.checkpoints} holds no checkpoint: this run cannot be continued, train a new one")
        for name, value in self._identity().items():
            if found is not None and found.facts[name] != value:
                raise WrongUse(
                    f"{self.run.path} was trained with {name} = {found.facts[name]!r} and can only go on with that, "
                    f"not with {value!r}"
                )
        if found is not None:
            checkpoint.load_state(self.system, found.part("model"), self.run.checkpoints)
            self.averages.load(found.part("ema"))
            checkpoint.load_optimizer(self.optimizer, found.part("optimizer"))
        if self.main:
            self.run.rewind(found.step if found else 0)
            self.run.renew(self.options)
        return (found.step, float(found.facts["seconds"])) if found else (0, 0.0)
