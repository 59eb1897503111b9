"""Where a long job is, in the same words for every job; the command line draws it, the studio streams it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """One report. The last one of a job carries its `result`.

    Attributes:
        stage: what is being done, in a word or two.
        done, total: counted in the stage's own unit; `total` is None where nobody knows.
        note: what the numbers are now, for the eye.
        rate: units a second.
        seconds_left: an estimate.
        result: what the job was for.
    """

    stage: str
    done: int
    total: int | None = None
    note: str = ""
    rate: float | None = None
    seconds_left: float | None = None
    result: Any = None
