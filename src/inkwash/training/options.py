"""How a training is run: everything that is not the system or the data."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from inkwash.errors import WrongUse, unknown
from inkwash.memory import amount

_EVERY = re.compile(r"([1-9]\d*) steps?|(\d*\.?\d+) (seconds?|minutes?)")


def _every(value: Any) -> Any:
    text = f"{value} steps" if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _EVERY.fullmatch(text):
        raise ValueError("write '500 steps', '30 seconds' or '10 minutes'")
    return text


Every = Annotated[str, BeforeValidator(_every)]


def _amount(value: Any) -> Any:
    try:
        amount.parse(str(value))
    except WrongUse as error:
        raise ValueError(str(error)) from None
    return str(value)


Amount = Annotated[str, BeforeValidator(_amount)]


def listed(value: Any) -> Any:
    """`1,2,4` on a command line is a tuple, and so is `8`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_Beta = Annotated[float, Field(ge=0, lt=1)]
_Width = Annotated[float, Field(gt=0, lt=12**-0.5)]


class TrainOptions(BaseModel):
    """The options of a training. One of `steps` and `minutes` is needed; with both, whichever ends first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(None, ge=1, description="steps of the optimizer")
    minutes: float | None = Field(None, gt=0, allow_inf_nan=False, description="wall-clock time, everything included")
    batch: int = Field(16, ge=1, description="items a step, over all processes and accumulated parts")
    accumulation: int = Field(1, ge=1, description="parts in which a batch is worked off, to save memory")
    checkpointing: bool = Field(False, description="compute activations twice instead of keeping them, to save memory")
    memory: Amount | None = Field(None, description="a limit, 4GB or 80%: chooses the two above, and is kept to")
    seed: int = Field(0, description="of the order of the data, the augmentation and the noise")
    learning_rate: float = Field(2e-4, gt=0, allow_inf_nan=False, description="the highest")
    warmup: int = Field(100, ge=0, description="steps over which the learning rate rises from 0")
    decay: Literal["cosine", "linear", "inverse-sqrt", "constant"] = Field(
        "cosine", description="of the learning rate, over the whole budget (inverse-sqrt: from the end of the warm-up)"
    )
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False, description="of AdamW")
    betas: Annotated[tuple[_Beta, _Beta], BeforeValidator(listed)] = Field((0.9, 0.99), description="of AdamW")
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null leaves it as it is")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware has it, for volumes on GPUs only"
    )
    ema: Annotated[tuple[_Width, ...], BeforeValidator(listed)] = Field(
        (0.05, 0.10), description="relative widths of the averages of the weights; the first is the model, none the raw"
    )
    snapshots: int = Field(0, ge=0, description="averages kept over the run, to recombine other widths afterwards")
    snapshot_precision: Literal["fp16", "fp32"] = Field("fp16", description="in which snapshots are stored")
    log_every: int = Field(10, ge=1, description="steps between two rows of metrics.jsonl")
    checkpoint_every: Every = Field("10 minutes", description="time or steps between two checkpoints")
    preview_every: Every | None = Field("5 minutes", description="time or steps between two previews; null for none")
    workers: int | None = Field(
        None, ge=0, description="threads that prepare batches; by default 1 beside a GPU, else 0: they would compete"
    )
    compile: bool = Field(False, description="torch.compile the networks: minutes once, then faster steps")
    tensorboard: bool = Field(False, description="also write the metrics for TensorBoard")
    shard: bool = Field(
        False, description="share the weights among the processes, for networks too large for one device"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "TrainOptions":
        if self.steps is None and self.minutes is None:
            raise ValueError("say how long to train: steps or minutes")
        if self.batch % self.accumulation:
            raise ValueError(f"a batch of {self.batch} does not divide into {self.accumulation} parts")
        if len(set(self.ema)) != len(self.ema):
            raise ValueError(f"the widths of the averages are all different, not {self.ema}")
        if self.snapshots and not self.ema:
            raise ValueError("snapshots are of averages, and ema lists none")
        return self


CHANGEABLE = frozenset(
    {"accumulation", "checkpoint_every", "compile", "log_every", "preview_every", "shard", "tensorboard", "workers"}
)
"""What a training that goes on may be told anew: none of it changes its path."""

Model = TypeVar("Model", bound=BaseModel)


def parse(kind: type[Model], values: Mapping[str, Any], *, where: str = "") -> Model:
    """`kind(**values)`, or one line that says which value is wrong, and what would be right.

    Args:
        where: what the values were read from, for the message.
    """
    prefix = f"{where}: " if where else ""
    for key in values:
        if key not in kind.model_fields:
            raise WrongUse(f"{prefix}{unknown('option', str(key), kind.model_fields)}")
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        name = ".".join(str(part) for part in first["loc"])
        shown = f"{name} = {first['input']!r}: " if name and first["type"] != "missing" else f"{name}: " if name else ""
        raise WrongUse(f"{prefix}{shown}{message[0].lower()}{message[1:]}") from None


def cadence(every: str) -> tuple[int | None, float]:
    """`Every` in numbers: `(steps, inf)`, or `(None, seconds)`."""
    match = _EVERY.fullmatch(every)
    assert match is not None
    steps, amount, unit = match.groups()
    if steps:
        return int(steps), float("inf")
    return None, float(amount) * (60.0 if unit.startswith("minute") else 1.0)


def bf16(precision: str, device: torch.device, spatial: int = 2) -> bool:
    """Whether to compute in bf16 on this device.

    On a processor `auto` leaves volumes in fp32, though bf16 is twice as fast there: oneDNN's bf16 gradient of a 3-D
    convolution's weights holds unwritten memory where a feature map is two voxels wide (torch 2.13).

    Args:
        spatial: dimensions of the data.

    Raises:
        WrongUse: bf16 was asked for and the hardware would only emulate it.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Both probes read the processor's own flags; oneDNN's is true for emulation as well.
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if precision == "bf16" and not native:
        raise WrongUse(
            f"precision = 'bf16': this {device.type} has no bf16 arithmetic and would emulate it, "
            "many times slower than fp32: use precision=auto or precision=fp32"
        )
    sound = precision == "bf16" or device.type == "cuda" or spatial < 3
    return native and sound and precision != "fp32"
