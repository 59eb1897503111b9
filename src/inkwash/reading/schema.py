"""What the files of the reading list may say: entries, taxonomy trees, cards. Everything in two languages."""

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Link = Annotated[str, StringConstraints(pattern=r"^https://\S+$")]
Part = Literal["corruption", "denoiser", "sampler", "condition"]
Kind = Literal["survey", "paper", "tool", "tutorial", "notebook"]
Better = Literal["higher", "lower"]

_HAN = re.compile(r"[\u4e00-\u9fff]")
_SENTENCE_EN = re.compile(r"[.!?](?=\s+[A-Z0-9]|\s*$)")
_SENTENCE_ZH = re.compile(r"[。！？]")
_TRACKING = re.compile(r"[?&](utm_\w+|version|fbclid|gclid)=")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Text(_Strict):
    """The same thing said in English and in Chinese."""

    en: Line = Field(description="in English")
    zh: Line = Field(description="in Chinese")

    @field_validator("en", "zh")
    @classmethod
    def _one_line(cls, text: str) -> str:
        return " ".join(text.split())

    @field_validator("zh")
    @classmethod
    def _is_chinese(cls, text: str) -> str:
        if not _HAN.search(text):
            raise ValueError("is Chinese, and has no Chinese character")
        return text

    @field_validator("en")
    @classmethod
    def _is_english(cls, text: str) -> str:
        if _HAN.search(text):
            raise ValueError("is English, and has a Chinese character")
        return text


class Summary(Text):
    """Two sentences in each language."""

    @model_validator(mode="after")
    def _two_sentences(self) -> "Summary":
        for language, found in (("en", _SENTENCE_EN.findall(self.en)), ("zh", _SENTENCE_ZH.findall(self.zh))):
            if len(found) != 2:
                raise ValueError(f"two sentences, and {language} has {len(found)}")
        return self


class Change(Text):
    """One thing that a paper changes, and where that is in the code."""

    part: Part = Field(description="which of the parts of a diffusion model it changes")
    code: str | None = Field(None, description="module:object that does it; null where Inkwash has none")


class Claim(_Strict):
    """A figure as a paper gives it."""

    metric: Line
    data: Line = Field(description="the data set, and its part")
    value: float
    better: Better
    setting: Line | None = Field(None, description="what else one must know to read the figure")
    source: Line = Field(description="where in the paper, or who quotes it")


class Runs(_Strict):
    """Something that runs today, as `kind:name`.

    `system:ddpm`, `sampler:dpm++2m`, `set:predict=v` (an option of the systems), `metric:FID`,
    `command:inkwash data PATH`, `code:inkwash.sampling.inversion:invert` (from Python).
    """

    kind: Literal["system", "sampler", "set", "metric", "command", "code"]
    name: Line

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            kind, colon, name = value.partition(":")
            if not colon:
                raise ValueError(f"says kind:name, such as system:ddpm, not {value!r}")
            return {"kind": kind, "name": name}
        return value

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


class Entry(_Strict):
    """One thing to read.

    Attributes:
        seed: the link that the seed list gives; None where the entry was added by us.
        publication: where `venue` belongs in a citation.
        runs: what makes it runnable; nothing where nothing does yet.
        uncovered: what of it Inkwash doesn't do yet.
        builds_on: keys of the entries that it stands on.
        claims: figures of the paper that a card sets beside ours; `differs` says in a sentence why they differ.
        corrections: what the seed list had wrong.
    """

    key: Key
    kind: Kind
    seed: str | None = None
    title: Line
    authors: list[Line] = Field(min_length=1)
    year: int = Field(ge=1900, le=2100)
    venue: Line
    publication: Literal["journal", "conference", "preprint", "web"]
    volume: str | None = None
    pages: str | None = None
    url: Link
    arxiv: Annotated[str, StringConstraints(pattern=r"^\d{4}\.\d{4,5}$|^[a-z-]+/\d{7}$")] | None = None
    doi: Annotated[str, StringConstraints(pattern=r"^10\.\d{4,9}/\S+$")] | None = None
    topics: list[Key] = Field(min_length=1)
    medical: bool = False
    summary: Summary
    changes: list[Change] = []
    runs: list[Runs] = []
    uncovered: Text | None = None
    builds_on: list[Key] = []
    claims: list[Claim] = []
    differs: Text | None = None
    corrections: list[Text] = []

    @field_validator("url")
    @classmethod
    def _canonical(cls, url: str) -> str:
        if _TRACKING.search(url) or url.startswith("https://arxiv.org/pdf/"):
            raise ValueError(f"is the canonical address, without tracking and not the PDF, not {url!r}")
        return url

    @model_validator(mode="after")
    def _whole(self) -> "Entry":
        if not self.runs and not self.uncovered and self.kind != "survey":
            raise ValueError("says what runs (runs) or what is not covered yet (uncovered), and says neither")
        if self.claims and not self.differs:
            raise ValueError("has claims: differs says in a sentence why our figures are not theirs")
        if self.corrections and not self.seed:
            raise ValueError("has corrections, and no seed that was wrong")
        return self


class Topic(Text):
    """A family of methods or of uses."""

    key: Key


class Node(Text):
    """A branch of a survey's taxonomy, or a leaf: what runs of it, what doesn't, where to read on."""

    children: "list[Node]" = []
    reads: list[Key] = []
    runs: list[Runs] = []
    missing: Text | None = Field(None, description="what of it Inkwash can't run")

    @model_validator(mode="after")
    def _leaf(self) -> "Node":
        if self.children and (self.runs or self.missing or self.reads):
            raise ValueError("is a branch: only leaves say reads, runs and missing")
        if not self.children and not self.runs and not self.missing:
            raise ValueError("is a leaf: it says what runs (runs), what doesn't (missing), or both")
        return self

    def leaves(self) -> "list[Node]":
        """The leaves below, or itself."""
        return [leaf for child in self.children for leaf in child.leaves()] if self.children else [self]


class Tree(_Strict):
    """The taxonomy of a survey, in our own words."""

    survey: Key
    nodes: list[Node] = Field(min_length=1)

    def leaves(self) -> list[Node]:
        return [leaf for node in self.nodes for leaf in node.leaves()]


class Measurement(_Strict):
    """A figure that a command measured."""

    metric: Line
    value: float
    low: float | None = Field(None, description="lower end of the 95 % interval")
    high: float | None = None
    floor: float | None = Field(None, description="what knows nothing gets")
    ceiling: float | None = Field(None, description="what real data gets")
    better: Better
    data: Line
    command: list[Line] = Field(min_length=1, description="what measures it again, a line a command")
    device: Line
    seed: int
    date: date
    version: Line


class Card(_Strict):
    """The claims of a system's paper beside what was measured here; written by `inkwash reproduce`."""

    system: Key
    reads: Key
    claims: list[Claim]
    measured: list[Measurement] = Field(min_length=1)
    differs: Text | None = Field(None, description="why the figures differ, in a sentence")
