"""What a step of a training takes, measured on a copy of the system of which nothing remains."""

import copy
import time
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from inkwash.memory import heap, machine
from inkwash.memory.exhaustion import exhausted
from inkwash.memory.fence import fence
from inkwash.memory.fit import BEYOND, Trial
from inkwash.memory.meter import meter
from inkwash.training.contract import Augmentation, Images, Trainable
from inkwash.training.loop import _Training
from inkwash.training.options import TrainOptions
from inkwash.training.prefetch import ahead
from inkwash.training.processes import from_all, processes
from inkwash.training.state import collect

Preview = Callable[[Trainable, int], object]


class Rehearsal:
    """Measures how much memory, and time, a training takes that works its steps off in parts of some size.

    Each rehearsal is two steps of at most two parts, real ones: the first step makes what the optimizer keeps and the
    first part the gradients, so the second part of the second step is like all that follow. Then a checkpoint is put
    together, and a preview drawn. With several processes all rehearse at once and take the largest figures.

    Args:
        system, images, options, augment: of the training; none of them is changed, nor is any generator of torch.
        preview: draws with a system, this many pictures at a time; nothing by default.
        resumes: the training begins by reading a checkpoint.
        known: by size of the parts and checkpointing, what was seen to be in use before in a run like this.
    """

    def __init__(
        self,
        system: Trainable,
        images: Images,
        options: TrainOptions,
        augment: Augmentation | None,
        *,
        preview: Preview | None = None,
        resumes: bool = False,
        known: dict[tuple[int, bool], int] | None = None,
    ) -> None:
        self.system, self.images, self.options, self.augment = system, images, options, augment
        self.preview, self.known = preview, known or {}
        group = processes()
        self.device, self.processes = group.device, group.num_processes
        module = cast(nn.Module, system)
        tensors = [*module.parameters(), *module.buffers()]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
        # Beside the copy that is trained there is the original here, and there will be none then.
        self.spare = size if self.device.type == "cpu" else 0
        heap.settle(self.device)
        self.before = machine.held(self.device) - self.spare
        # A checkpoint is read whole before its parts go where they belong.
        state_size = size + (len(options.ema) + 2) * trained
        self.least = self.before + 2 * state_size if resumes and self.device.type == "cpu" else 0

    def __call__(self, part: int, checkpointing: bool) -> Trial:
        """The peak of a training in parts of `part` items, and the seconds of one part."""
        parts = min(2, self.options.batch // (self.processes * part))
        options = self.options.model_copy(
            update={"batch": parts * part * self.processes, "accumulation": parts, "checkpointing": checkpointing}
        )
        seconds = 0.0

        def work() -> None:
            nonlocal seconds
            seconds = self._train(options, part)

        try:
            with heap.eager(self.device.type == "cpu"):
                if self.processes == 1:
                    with fence(self.device):
                        peak = meter(self.device).of(work)
                else:
                    # A process that failed alone would leave the others waiting for ever.
                    peak = meter(self.device).of(work)
        except Exception as error:
            if not exhausted(error):
                raise
            return Trial(part, BEYOND)
        finally:
            if options.compile:
                # It compiles a function for a few shapes only, and the training needs one of them.
                torch._dynamo.reset()
        most, longest = self.agreed(peak - self.spare, seconds / parts)
        return Trial(part, max(int(most), self.least, self.known.get((part, checkpointing), 0)), longest)

    def agreed(self, *figures: float | int) -> list[float]:
        """The largest of each figure over all processes."""
        return [float(max(said)) for said in zip(*from_all(figures))]

    def _train(self, options: TrainOptions, part: int) -> float:
        """The seconds of the second of two steps."""
        cuda = self.device.type == "cuda"
        with torch.random.fork_rng([self.device] if cuda else []):
            system = copy.deepcopy(self.system)
            training = _Training(system, self.images, options, self.augment)
            spread = training.spread
            spread.system.train()
            batches = ahead(training._prepare, 0, int(cuda) if options.workers is None else options.workers)
            seconds = 0.0
            try:
                for step in range(2):
                    start = time.perf_counter()
                    training._step(step, 0.0, batches)
                    training._read(0.0, False)
                    seconds = time.perf_counter() - start
            finally:
                batches.close()  # type: ignore[attr-defined]
            if self.preview is not None:
                with spread.shown(training.averages, training.shown):
                    if training.main:
                        self.preview(cast(Trainable, system), part)
            written = collect(spread, training.averages, training.optimizer) or {}
            kept = [tensor.detach().cpu().contiguous() for tensor in written.values()]
            del written, kept
        return seconds
