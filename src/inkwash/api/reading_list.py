"""`inkwash.reading_list`: what there is to read, and what of it runs."""

from pydantic import BaseModel, PrivateAttr

from inkwash.api.show import listed
from inkwash.api.shown import Listed
from inkwash.errors import WrongUse, unknown
from inkwash.reading import Entry, Shelf, shelf
from inkwash.reading.language import Language, choose, say, word
from inkwash.reading.schema import Kind
from inkwash.reading.terminal import table, width


class Listing(BaseModel):
    """Entries of the reading list, the newest first."""

    entries: list[Listed]
    _language: Language = PrivateAttr("en")

    def __str__(self) -> str:
        language, topics = self._language, shelf().topics
        if not self.entries:
            return word("nothing", language)
        header = [word(name, language) for name in ("year", "key", "runs", "topics", "title")]
        comma = "、" if language == "zh" else ", "
        rows = [
            (
                str(entry.year),
                entry.key,
                word(entry.status, language),
                comma.join(say(topics[topic], language) for topic in entry.topics),
                entry.title,
            )
            for entry in self.entries
        ]
        runs = sum(entry.status != "none" for entry in self.entries)
        counted = word("counted", language, count=len(self.entries), runs=runs)
        return "\n".join([table(rows, header, columns=width()), "", f"{counted}\n{word('more', language)}"])


def reading_list(
    *,
    topic: str | None = None,
    year: int | None = None,
    kind: Kind | None = None,
    medical: bool = False,
    runnable: bool = False,
    search: str | None = None,
    lang: str | None = None,
) -> Listing:
    """The entries that fit everything that is said, the newest first.

    Args:
        topic: the key of a family, such as "segmentation".
        year: of publication.
        kind: survey, paper, tool, tutorial or notebook.
        medical: only medical ones.
        runnable: only those of which something runs.
        search: words that all occur in the title, the authors, the venue, the topics or the summary of an entry, in
            either language.
        lang: the language of the text, "en" or "zh"; that of `LANG` by default. The entries hold both.

    Raises:
        WrongUse: no such topic, no such language.
    """
    home, language = shelf(), choose(lang)
    if topic is not None and topic not in home.topics:
        raise unknown("topic", topic, home.topics)
    if search is not None and not search.split():
        raise WrongUse("search takes one word or more")
    found = [
        listed(entry, home)
        for entry in sorted(home.entries.values(), key=lambda entry: -entry.year)
        if (topic is None or topic in entry.topics)
        and (year is None or entry.year == year)
        and (kind is None or entry.kind == kind)
        and (entry.medical or not medical)
        and _mentions(entry, home, (search or "").lower().split())
    ]
    listing = Listing(entries=[entry for entry in found if entry.status != "none" or not runnable])
    listing._language = language
    return listing


def _mentions(entry: Entry, home: Shelf, words: list[str]) -> bool:
    topics = [home.topics[key] for key in entry.topics]
    text = " ".join(
        [
            entry.key,
            entry.title,
            *entry.authors,
            entry.venue,
            entry.arxiv or "",
            entry.summary.en,
            entry.summary.zh,
            *(f"{topic.en} {topic.zh}" for topic in topics),
        ]
    ).lower()
    return all(word in text for word in words)
