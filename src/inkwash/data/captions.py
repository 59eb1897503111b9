"""What is written of pictures: captions found beside them, and as numbers of words."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict

from inkwash.data.item import Found
from inkwash.data.picture import Unreadable
from inkwash.data.source import Source

# Words are letters and digits in a row; Chinese and Japanese are written without spaces: there a sign is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+(?:['’][^\W\d_]+)?|[^\w\s]")
_LETTER = re.compile(r"[^\W\d_]")
LONGEST = 64
"""Words of a caption that are read; the rest is left out."""
_LARGEST = 20000
"""Words of a vocabulary, the most frequent ones."""


def words_of(text: str) -> list[str]:
    """The words of a text, small, and its marks: "A red apple." has four."""
    return _WORD.findall(text.lower())


class Captions(BaseModel):
    """The words that the captions of a data set are made of.

    Attributes:
        words: word `k` has the number `k`, the most frequent one first; one that isn't among them has the number after
            the last.
        length: words of the longest caption, at most `LONGEST`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: tuple[str, ...]
    length: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Captions":
        """Of these captions, one of which has words."""
        split = [words_of(text) for text in texts]
        counts = Counter(word for words in split for word in words)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(words=tuple(ranked[:_LARGEST]), length=min(LONGEST, max(map(len, split))))

    def tokens(self, text: str) -> list[int]:
        """Numbers of the words of a text, as many as `length`; -1 where there are no more."""
        number = self._numbers()
        found = [number.get(word, len(self.words)) for word in words_of(text)[: self.length]]
        return found + [-1] * (self.length - len(found))

    def strangers(self, text: str) -> list[str]:
        """Words of a text that no caption has, each once."""
        number = self._numbers()
        return list(dict.fromkeys(word for word in words_of(text) if word not in number))

    def _numbers(self) -> dict[str, int]:
        return {word: k for k, word in enumerate(self.words)}


def attached(source: Source, found: Found) -> Found:
    """The captions that lie beside pictures: `x.txt` beside `x.png`, the text in UTF-8, read into the items.

    Files of which none has a letter are no captions: boxes and numbers of classes are kept so. What can't be read is a
    problem of its own.
    """
    texts = {name for name in source.names if name.lower().endswith(".txt")}
    beside = {item.image: str(PurePosixPath(item.image).with_suffix(".txt")) for item in found.items}
    captions: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    for image, name in beside.items():
        if name not in texts:
            continue
        try:
            captions[image] = " ".join(source.read(name).decode("utf-8-sig").split())
        except Unreadable as error:
            problems.append((name, str(error)))
        except UnicodeDecodeError:
            problems.append((name, "is no caption in UTF-8"))
    if not any(_LETTER.search(text) for text in captions.values()):
        return found
    items = [replace(item, caption=captions.get(item.image) or None) for item in found.items]
    return replace(found, items=items, problems=found.problems + problems, layout=f"{found.layout}, captions beside")
