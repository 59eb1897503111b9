"""DnCNN: convolutions, batch normalisation and ReLU, one after the other, whose output is the noise.

Zhang, Zuo, Chen, Meng & Zhang, "Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising", IEEE
Transactions on Image Processing 26(7), 2017, section III.
"""

from jaxtyping import Float
from torch import Tensor, nn

from inkwash.nets.blocks import CONV, zeroed

_NORM: dict[int, type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


class DnCNN(nn.Sequential):
    """`(B, C, *spatial)` to the same shape, of any size.

    Args:
        channels: of the images.
        spatial: 1, 2 or 3 dimensions.
        depth: convolutions of side 3; each sees a pixel further than the one before.
        base: channels between them.
    """

    def __init__(self, channels: int, *, spatial: int = 2, depth: int = 17, base: int = 64) -> None:
        conv, norm = CONV[spatial], _NORM[spatial]
        layers: list[nn.Module] = [conv(channels, base, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [conv(base, base, 3, padding=1, bias=False), norm(base), nn.ReLU(inplace=True)]
        layers.append(conv(base, channels, 3, padding=1))
        super().__init__(*layers)
        for layer in self:
            if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        # It begins by finding nothing wrong, which is nearer to the answer than noise of its own.
        zeroed(self[-1])

    def forward(self, x: Float[Tensor, "b c *spatial"]) -> Float[Tensor, "b c *spatial"]:
        """The noise in `x`."""
        noise: Tensor = super().forward(x)
        return noise
