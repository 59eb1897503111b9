"""What a verb prints: text for a person, or one JSON document for a program."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Report(Protocol):
    """A pydantic model whose `str` is made to be read."""

    def model_dump_json(self, *, indent: int | None = None) -> str: ...


def output(report: Report, *, json: bool) -> None:
    """Print `report` on standard output."""
    print(report.model_dump_json(indent=2) if json else report)
