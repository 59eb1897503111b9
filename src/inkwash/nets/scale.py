"""The scale of codes, measured while they are seen, so that noise of unit variance fits them."""

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from inkwash.errors import WrongUse


class Scale(nn.Module):
    """Codes divided by their standard deviation over all items seen in training (Rombach et al. 2022, appendix G).

    There it is measured on the first batch, whose items then decide for all; here on every one. The state lies in
    buffers, so checkpoints carry it; processes share what they see, and so remain equal. In evaluation it stands still.

    Args:
        horizon: how many items back it remembers, for an encoder that is itself trained; None is all of them, which for
            a fixed encoder is the standard deviation of the data set.
    """

    mean: Tensor
    square: Tensor
    seen: Tensor

    def __init__(self, horizon: int | None = None) -> None:
        super().__init__()
        if horizon is not None and horizon < 1:
            raise WrongUse(f"a scale remembers at least 1 item, not {horizon}")
        self.horizon = horizon
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("square", torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))

    @property
    def std(self) -> Float[Tensor, ""]:
        """As measured so far; 1 before anything was seen."""
        return (self.square - self.mean.square()).clamp_min(1e-12).sqrt()

    @torch.no_grad()
    def see(self, z: Float[Tensor, "b ..."]) -> None:
        """Take in the codes of one training step."""
        told = torch.stack([z.mean(), z.square().mean(), z.new_tensor(float(len(z)))]).to(self.mean)
        processes = 1
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(told)
            processes = distributed.get_world_size()
        mean, square = told[:2] / processes
        self.seen += told[2]
        share = told[2] / (self.seen if self.horizon is None else self.seen.clamp_max(max(self.horizon, len(z))))
        self.mean.lerp_(mean, share)
        self.square.lerp_(square, share)

    def forward(self, z: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """To the scale of the noise; in training what is handed in is seen first."""
        if self.training:
            self.see(z)
        return self.of(z)

    def of(self, z: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """To the scale of the noise, as measured so far."""
        return z / self.std.to(z)

    def back(self, z: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """From the scale of the noise to that of the codes."""
        return z * self.std.to(z)
