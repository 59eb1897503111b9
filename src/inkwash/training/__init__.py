"""Training: the loop, the averages of the weights, checkpoints, and the run folder."""

from inkwash.training.contract import Progress
from inkwash.training.loop import fit
from inkwash.training.options import TrainOptions
from inkwash.training.run import Run
from inkwash.training.snapshots import reconstruct

__all__ = ["Progress", "Run", "TrainOptions", "fit", "reconstruct"]
