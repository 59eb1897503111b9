"""The optional log for TensorBoard."""

from pathlib import Path
from typing import Any

from inkwash.errors import WrongUse


def writer(folder: Path, step: int) -> Any:
    """A `SummaryWriter` that forgets what an interrupted run wrote after `step`.

    Raises:
        WrongUse: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise WrongUse("tensorboard = true needs a package: pip install 'inkwash[tensorboard]'") from None
    return SummaryWriter(str(folder), purge_step=step + 1)
