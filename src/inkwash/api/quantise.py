"""An ONNX file in eight bits: convolutions with quantised weights and activations, calibrated on real evaluations."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from inkwash.api.onnx_network import OnnxNetwork, require


@dataclass(frozen=True)
class Call:
    """What a network was called with."""

    z: Tensor
    t: Tensor
    condition: Mapping[str, Tensor]


def quantise(plain: Path, path: Path, network: OnnxNetwork, calls: list[Call]) -> None:
    """Write `plain` in eight bits to `path` (static, in the QDQ format, a scale for each channel of the weights).

    Attention, linear layers and the convolutions at both ends stay in float32: the error is made there, the time isn't
    spent there.

    Args:
        network: `plain`, opened; it knows how a call becomes the inputs of the file.
        calls: evaluations along walks of the run, from noise to picture, whose activations set the scales.
    """
    quantization = require("onnxruntime.quantization")
    onnx = require("onnx")
    graph = onnx.load(plain).graph
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    few = [
        node.name
        for node in graph.node
        if node.op_type == "Conv" and min(weights.get(node.input[1], [64, 64])[:2]) < 16
    ]
    ends = {convolutions[0], convolutions[-1], *few}

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self.feeds = _feeds(network, calls)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.feeds, None)

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a step that the exporter has done
    try:
        quantization.quantize_static(
            plain,
            path,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[*ends],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    finally:
        logging.getLogger().setLevel(level)


def _feeds(network: OnnxNetwork, calls: list[Call]) -> Iterator[dict[str, Any]]:
    for call in calls:
        yield network.feed(call.z, call.t, call.condition)
