"""An ONNX file in eight bits: the convolutions that bear it, calibrated and judged on real evaluations of the run.

Eight bits for every convolution change a picture visibly, and most of that error is made by a few layers near both
ends that take little of the time. So every convolution is first quantised alone, and what that changes in the believed
clean images is its error; those with the least error for the operations they save are joined, as long as their squares
add up to less than what is allowed.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inkwash.api.onnx_network import OnnxNetwork, require

# Evaluations that a layer alone is judged on, spread over the walk.
_JUDGED = 4


@dataclass(frozen=True)
class Call:
    """What a network was called with.

    Attributes:
        out: the factor from an error of its output to one of the believed clean image.
    """

    z: Tensor
    t: Tensor
    condition: Mapping[str, Tensor]
    out: float = 1.0


@dataclass(frozen=True)
class Layer:
    """A convolution, and what quantising it alone does: the error of the believed image, root mean square."""

    name: str
    operations: float
    error: float


class Quantiser:
    """Writes a network in eight bits (static, in the QDQ format, a scale for each channel of the weights).

    Args:
        plain: the file in float32.
        network: the same, opened; it knows how a call becomes the inputs of the file.
        calls: evaluations along walks of the run, from noise to picture, whose activations set the scales.
        folder: for temporary files.
    """

    def __init__(self, plain: Path, network: OnnxNetwork, calls: Sequence[Call], folder: Path) -> None:
        self.plain, self.network, self.calls, self.folder = plain, network, calls, folder
        self.quantization = require("onnxruntime.quantization")
        model = require("onnx").load(plain)
        shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
        self.convolutions = {
            node.name: math.prod(shapes[node.input[1]])
            for node in model.graph.node
            if node.op_type == "Conv" and node.input[1] in shapes
        }
        self.places = _places(model)

    def layers(self) -> Iterator[Layer]:
        """Every convolution, judged alone."""
        chosen = torch.linspace(0, len(self.calls) - 1, min(_JUDGED, len(self.calls))).round().long().unique()
        calls = [self.calls[i] for i in chosen.tolist()]
        with torch.no_grad():
            exact = [self.network(call.z, call.t, **call.condition) for call in calls]
        path = self.folder / "alone.onnx"
        for name, size in self.convolutions.items():
            self.write(path, [name], calls)
            other = OnnxNetwork(path, self.network.network, self.network.conditions)
            with torch.no_grad():
                gaps = [
                    call.out * (other(call.z, call.t, **call.condition) - true)
                    for call, true in zip(calls, exact, strict=True)
                ]
            error = math.sqrt(sum(float(gap.square().mean()) for gap in gaps) / len(gaps))
            yield Layer(name, float(size * self.places.get(name, 1)), error)

    def write(self, path: Path, names: Sequence[str], calls: Sequence[Call] | None = None) -> None:
        """Write the file with the convolutions `names` in eight bits."""
        feeds = (self.network.feed(call.z, call.t, call.condition) for call in calls or self.calls)

        class Reader(self.quantization.CalibrationDataReader):  # type: ignore[name-defined]
            def get_next(self) -> dict[str, Any] | None:
                return next(feeds, None)

        with _quiet():
            self.quantization.quantize_static(
                self.plain,
                path,
                Reader(),
                quant_format=self.quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=[*names],
                per_channel=True,
                activation_type=self.quantization.QuantType.QUInt8,
                weight_type=self.quantization.QuantType.QInt8,
                calibrate_method=self.quantization.CalibrationMethod.MinMax,
            )


def joined(layers: Sequence[Layer], allowed: float) -> list[str]:
    """The layers that may be quantised together: the least squared error for the operations saved first."""
    names, total = [], 0.0
    for layer in sorted(layers, key=lambda layer: layer.error**2 / layer.operations):
        if total + layer.error**2 <= allowed**2:
            names.append(layer.name)
            total += layer.error**2
    return names


def _places(model: Any) -> dict[str, int]:
    """Pixels of the result of each convolution."""
    inferred = require("onnx.shape_inference").infer_shapes(model)
    shapes = {
        value.name: [axis.dim_value or 1 for axis in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }
    return {
        node.name: math.prod(shapes.get(node.output[0], [])[2:]) for node in model.graph.node if node.op_type == "Conv"
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """The root logger says errors only: the quantiser recommends a step that the exporter has done."""
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.getLogger().setLevel(level)
