"""How pictures are drawn: the options that every verb has that draws."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from inkwash.cli.number import Whole


@Parameter(name="*")
@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn.

    Args:
        steps: evaluations of the network an image; what is best for this model by default.
        sampler: a solver, solver@grid, or tuned; inkwash show SYSTEM names them.
        guidance: weight of the condition; 1 is the plain conditional model.
        interval: two times from 0 (clean) to 1 (noise) between which there is guidance.
        cache: what is kept between evaluations, deep:3 or first-block:0.1 or guidance:2, joined by +.
        backend: what computes the network, torch by default; onnx and int8 need inkwash export first.
        memory: a limit, 4GB or 80%; fewer images at a time keep to it, and tiles where not even one fits.
        tile: side of the tiles that the network sees at a time; saves memory and makes other images.
        overlap: pixels by which tiles overlap; a quarter of their side by default.
        adapter_weight: of what was learned beside a frozen prior (controlnet, lora); 1 as trained, 0 is the prior.
    """

    steps: Whole | None = None
    sampler: str | None = None
    guidance: float | None = None
    interval: Annotated[tuple[float, float] | None, Parameter(consume_multiple=True)] = None
    cache: str | None = None
    backend: Literal["torch", "compile", "onnx", "int8"] | None = None
    memory: str | None = None
    tile: Whole | None = None
    overlap: Whole | None = None
    adapter_weight: float | None = None

    def options(self) -> dict[str, Any]:
        """As the functions of the library take them."""
        return asdict(self)
