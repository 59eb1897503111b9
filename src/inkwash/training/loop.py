"""The training loop."""

import math
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from inkwash.corruption.noise import Noise
from inkwash.denoise.times import Importance
from inkwash.errors import Failed, WrongUse
from inkwash.memory import heap
from inkwash.memory.amount import words
from inkwash.memory.exhaustion import exhausted
from inkwash.memory.watch import Watch, watch
from inkwash.nets import checkpointing
from inkwash.training import checkpoint
from inkwash.training.checkpoint import Checkpoint
from inkwash.training.contract import Augmentation, Batch, Images, Progress, Trainable
from inkwash.training.distribution import distribute
from inkwash.training.ema import Averages
from inkwash.training.interruption import interruptions
from inkwash.training.options import TrainOptions, bf16
from inkwash.training.order import Order
from inkwash.training.prefetch import ahead
from inkwash.training.processes import by_first, check_same, processes, total, watched
from inkwash.training.rescue import Rescue
from inkwash.training.run import Run
from inkwash.training.schedule import Budget, Due, learning_rate
from inkwash.training.snapshots import Snapshots
from inkwash.training.state import collect, restore
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

    Several processes all call this. The first one alone reads and writes `run`. With `options.shard` it alone holds the
    weights when they are shown (`preview_due`, `finished`); otherwise all do.

    A system without anything to learn is written down as it is, in no step.

    Args:
        resume: go on from the newest checkpoint of `run`; from the start where it was stopped before its first.
        augment: applied to every batch, with the noise of its items.

    Raises:
        WrongUse: the options do not fit the hardware, the processes, or the checkpoint.
        Failed: the loss is not finite, the disk is full, memory ran out or went over `options.memory`, another process
            ended, or SIGINT, SIGTERM or SIGUSR1 asked to stop. The last good checkpoint is kept, and written before
            stopping where that is possible.
    """
    if len(images) == 0:
        raise WrongUse("there are no images to train on")
    module = cast(nn.Module, system)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        by_first(lambda: run.save_weights(module.state_dict()))
        yield Progress(step=0, steps=0, seconds=0.0, seconds_left=0.0, items=0, finished=True)
        return
    with interruptions() as stopped, watched():
        training = _Training(system, images, options, augment)
        with (
            # What checkpointing saves is otherwise kept by the C library.
            heap.eager(options.checkpointing and training.device.type == "cpu"),
            watch(options.memory, training.device) as memory,
        ):
            yield from training.go(run, resume, stopped, memory)


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
    run: Run

    def __init__(
        self, system: Trainable, images: Images, options: TrainOptions, augment: Augmentation | None
    ) -> None:
        self.images, self.options, self.augment = images, options, augment
        group = processes()
        self.device, self.rank, self.processes = group.device, group.process_index, group.num_processes
        self.main = group.is_main_process
        if options.batch % (self.processes * options.accumulation):
            raise WrongUse(
                f"batch = {options.batch} does not divide into {self.processes} processes"
                f" with {options.accumulation} accumulated parts each"
            )
        check_same({**options.model_dump(), "data": images.fingerprint})
        self.part = options.batch // (self.processes * options.accumulation)
        self.bf16 = bf16(options.precision, self.device, len(images.spec.size))
        # What convolutions are fastest in on GPUs; on processors our U-Net is as fast either way.
        self.format = {4: torch.channels_last, 5: torch.channels_last_3d}.get(len(images.spec.size) + 2)
        if options.checkpointing:
            if not checkpointing.switchable(cast(nn.Module, system)):
                raise WrongUse("checkpointing = True: no network of this system can compute its activations twice")
            checkpointing.switch(cast(nn.Module, system), True)
        self.spread = distribute(
            cast(nn.Module, system),
            shard=options.shard,
            layout=self._laid_out,
            bf16=self.bf16,
            compile=options.compile,
        )
        self.parameters = self.spread.parameters
        self.optimizer = torch.optim.AdamW(
            self.parameters, options.learning_rate, options.betas, weight_decay=options.weight_decay, fused=True
        )
        self.averages = Averages(self.spread.system, options.ema, self.spread)
        self.shown = options.ema[0] if options.ema else None
        self.order = Order(len(images), options.seed)
        self.terms: list[str] = []
        self.window: list[Tensor] = []
        self.times = [module for module in self.spread.system.modules() if isinstance(module, Importance)]
        self.rescue = Rescue(self.spread.system)

    def _laid_out(self, tensor: Tensor) -> Tensor:
        if self.format is None or tensor.ndim != len(self.images.spec.size) + 2:
            return tensor
        return tensor.contiguous(memory_format=self.format)

    def _prepare(self, part: int) -> tuple[Batch, Noise]:
        """The batch of this process for one pass, on the device."""
        step, within = divmod(part, self.options.accumulation)
        place = self.rank * self.options.accumulation + within
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
        options = self.options
        self.optimizer.zero_grad(set_to_none=True)
        self.rescue.begins()
        for times in self.times:
            times.hold()
        sums: Tensor | float = 0.0
        for within in range(options.accumulation):
            batch, noise = next(batches)
            with self.spread.one_pass(last=within == options.accumulation - 1):
                with _dropout(noise, self.device), torch.autocast(self.device.type, torch.bfloat16, self.bf16):
                    terms = self.spread.objective(batch, noise)
                # Distributed training takes the mean over the processes.
                (terms["loss"].sum() * (self.processes / options.batch)).backward()
            self.terms = list(terms)
            sums = sums + torch.stack([terms[name].detach().sum().float() for name in self.terms])
        for times in self.times:
            times.fold()
        norm = self.spread.gradient_norm()
        if options.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, options.clip, norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.rescue.moves()
        self.optimizer.step()
        self.averages.update(step + 1)
        self.rescue.ends()
        self.window.append(torch.cat([cast(Tensor, sums) / options.batch, norm.float()[None] / self.processes]))

    def _read(self, seconds: float, stop: bool) -> tuple[list[list[float]], float, bool]:
        """The rows of the window, the time and the wish to stop, the same for every process. Waits for the device."""
        rows = torch.stack(self.window).double()
        said = torch.tensor([seconds if self.main else 0.0, float(stop)], dtype=torch.float64, device=self.device)
        agreed = total(torch.cat([rows.flatten(), said])).cpu()
        self.window.clear()
        return agreed[:-2].reshape(rows.shape).tolist(), float(agreed[-2]), bool(agreed[-1] > 0)

    def go(self, run: Run, resume: bool, stopped: list[str], memory: Watch) -> Iterator[Progress]:
        self.run, options = run, self.options
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
        self.spread.system.train()
        try:
            while not budget.over(step):
                rate = learning_rate(options, step, budget.fraction(step))
                self._step(step, rate, batches)
                step += 1
                alone = self.processes == 1
                ended = step == options.steps or step % options.log_every == 0 or budget.look(step)
                preview = False
                if ended or saving.at(step) or previewing.at(step) or snapshots.at(step) or (alone and stopped):
                    if memory.over():
                        stopped.append(f"{memory},")
                    rows, seconds, stop = self._read(time.monotonic() - start, bool(stopped))
                    self._check(rows, step)
                    budget.read(step, seconds)
                    losses = dict(zip([*self.terms, "gradient"], (sum(c) / len(c) for c in zip(*rows)), strict=True))
                    if self.main:
                        run.log({"step": step, "items": step * options.batch, "seconds": round(seconds, 3),
                                 "learning_rate": rate, **losses,
                                 **({"memory": memory.peak(), "part": self.part} if memory.limit else {})})
                        if board:
                            for name, value in {**losses, "learning_rate": rate}.items():
                                board.add_scalar(name, value, step)
                    snapshots.keep(self.averages, step, budget.fraction(step), self.spread.gather)
                    over = budget.over(step)
                    if saving(step, seconds) or over or stop:
                        self._save(step, seconds)
                    if over:
                        break
                    if stop:
                        name = stopped[0] if stopped else "another process"
                        smaller = f" --memory {memory.text}, in smaller parts," if memory.over() else ""
                        raise Failed(
                            f"stopped by {name} after step {step}; {run.path} is saved, --resume{smaller} continues it"
                        )
                    preview = previewing(step, seconds)
                progress = self._progress(budget, step, losses, rate, preview)
                with self.spread.shown(self.averages, self.shown) if preview else nullcontext():
                    yield progress
        except Exception as error:
            if not exhausted(error):
                raise
            raise self._starved(error, step, time.monotonic() - start, memory) from None
        finally:
            batches.close()  # type: ignore[attr-defined]
            if board:
                board.close()
        self.spread.finish(self.averages, self.shown)
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

    def _check(self, rows: list[list[float]], step: int) -> None:
        """Raises `Failed` at the first loss or gradient that is not finite."""
        for index, row in enumerate(rows):
            for name, value in zip([*self.terms, "gradient"], row, strict=True):
                if not math.isfinite(value):
                    kept = by_first(lambda: checkpoint.steps(self.run.checkpoints))
                    raise Failed(
                        f"the {name} is {value} at step {step - len(rows) + index + 1}: try a lower learning_rate than "
                        f"{self.options.learning_rate:g}, a longer warmup, or precision=fp32; the checkpoint of step "
                        f"{kept[-1] if kept else 0} is kept in {self.run.checkpoints}"
                    )

    def _starved(self, error: BaseException, step: int, seconds: float, memory: Watch) -> Failed:
        """What to say where memory ran out after `step` steps, which are saved where they can be."""
        traceback.clear_frames(error.__traceback__)  # the step's activations, which the frames that failed still hold
        self.optimizer.zero_grad(set_to_none=True)
        heap.settle(self.device)
        if self.rescue.back() and self.processes == 1:
            try:
                self._save(step, seconds)
            except Exception as other:
                if not isinstance(other, Failed) and not exhausted(other):
                    raise
        saved = checkpoint.steps(self.run.checkpoints)
        where = f"step {saved[-1]} is saved in {self.run.path}" if saved else "nothing was saved"
        return Failed(
            f"out of memory after step {step}, {words(memory.peak())} were in use: {where}, "
            f"--resume --memory {memory.text or '80%'} continues it in smaller parts"
        )

    def _save(self, step: int, seconds: float) -> None:
        """A checkpoint, and the model as it is now."""
        spread, averages = self.spread, self.averages
        tensors = collect(spread, averages, self.optimizer)
        model = spread.gather(spread.system.state_dict() if self.shown is None else averages.state(self.shown))

        def write() -> None:
            facts = {"seconds": seconds, **self._identity()}
            checkpoint.save(self.run.checkpoints, Checkpoint(step, cast(dict[str, Tensor], tensors), facts))
            self.run.save_weights(cast(dict[str, Tensor], model))

        by_first(write)

    def _identity(self) -> dict[str, Any]:
        """What must not change when a training goes on, since items are counted in it."""
        return {"seed": self.options.seed, "batch": self.options.batch, "data": self.images.fingerprint}

    def _restore(self) -> tuple[int, float]:
        """The step and the seconds of the newest checkpoint, and all the state with it."""
        newest: list[Checkpoint] = []

        def read() -> tuple[int, float]:
            found = checkpoint.load(self.run.checkpoints)
            if found is None and self.run.weights.exists():
                raise WrongUse(
                    f"{self.run.checkpoints} holds no checkpoint: this run cannot be continued, train a new one"
                )
            for name, value in self._identity().items():
                if found is not None and found.facts[name] != value:
                    raise WrongUse(
                        f"{self.run.path} was trained with {name} = {found.facts[name]!r} and can only go on with "
                        f"that, not with {value!r}"
                    )
            if found is not None:
                checkpoint.check_state(self.spread.system, found.part("model"), self.run.checkpoints)
                newest.append(found)
            self.run.rewind(found.step if found else 0)
            self.run.renew(self.options)
            return (found.step, float(found.facts["seconds"])) if found else (0, 0.0)

        step, seconds = by_first(read)
        restore(newest[0] if newest else None, self.spread, self.averages, self.optimizer)
        return step, seconds
