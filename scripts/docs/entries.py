"""Pages of the reading list: an overview, and the entries of each kind by year."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from markdown import block, code, escaped, folded, link, table
from source_code import documented
from words import label

from inkwash.api.runnable import commands
from inkwash.reading import Card, Claim, Entry, Measurement, Node, Runs, Shelf
from inkwash.reading.bibtex import bibtex
from inkwash.reading.language import Language, say, word

OVERVIEW = "list/index.md"
PAGES = {
    "list/surveys.md": ("surveys", ("survey",)),
    "list/papers.md": ("papers", ("paper",)),
    "list/tools.md": ("tools", ("tool", "tutorial", "notebook")),
}
_PAGE_OF = {kind: page for page, (_, kinds) in PAGES.items() for kind in kinds}
_AUTHORS = 10


def home_of(entry: Entry) -> str:
    """Where an entry stands, as `page#anchor`."""
    return f"{_PAGE_OF[entry.kind]}#{entry.key}"


class Entries:
    """The pages of a list in one language."""

    def __init__(self, home: Shelf, language: Language, systems: Iterable[str]) -> None:
        self.home, self.language, self.systems = home, language, set(systems)
        self.colon = "：" if language == "zh" else ": "
        self.comma = "、" if language == "zh" else ", "

    def pages(self) -> Iterator[tuple[str, str]]:
        """Path and Markdown of each."""
        yield OVERVIEW, self.overview()
        for page, (name, kinds) in PAGES.items():
            found = [entry for entry in self.home.entries.values() if entry.kind in kinds]
            yield page, "\n\n".join(self._kind(page, name, found))

    def overview(self) -> str:
        """Every entry on one line, by kind and year."""
        entries = self.home.entries.values()
        runs = sum(self.home.status(entry) != "none" for entry in entries)
        topics = ";".join(f"{topic.key}={say(topic, self.language)}" for topic in self.home.topics.values())
        words = {name: self.label(name) for name in ("filter", "any topic", "only medical", "only runnable")}
        data = " ".join(f'data-{name.replace(" ", "-")}="{text}"' for name, text in {**words, "topics": topics}.items())
        lines = [
            f"# {self.label('list')}",
            self.label("list lead", count=len(entries), runs=runs),
            self.label("list how"),
            f'<div id="list-filter" {data}></div>',
        ]
        for page, (name, kinds) in PAGES.items():
            lines.append(f"## {link(self.label(name), page, OVERVIEW)} {{ #{name} }}")
            for year, found in _by_year(entry for entry in entries if entry.kind in kinds):
                lines.append(f"### {year} {{ #{name}-{year} }}")
                lines.append("\n".join(self._line(entry) for entry in found))
        return "\n\n".join(lines)

    def _line(self, entry: Entry) -> str:
        found = f'data-topics="{" ".join(entry.topics)}" data-medical="{int(entry.medical)}"'
        first = entry.authors[0] if len(entry.authors) == 1 else f"{entry.authors[0]} {self._others()}"
        marks = [first, *(say(self.home.topics[topic], self.language) for topic in entry.topics)]
        return (
            f"- {link(escaped(entry.title), home_of(entry), OVERVIEW)}"
            f'{{ .entry .{self.home.status(entry)} data-key="{entry.key}" {found} }}'
            f" <small>{escaped(' · '.join(marks))}</small>"
        )

    def _kind(self, page: str, name: str, entries: list[Entry]) -> Iterator[str]:
        yield f"# {self.label(name)}"
        yield self.label("page lead")
        for year, found in _by_year(entries):
            yield f"## {year} {{ #y{year} }}"
            for entry in found:
                status = self.home.status(entry)
                yield f'### {escaped(entry.title)} {{ #{entry.key} .{status} data-toc-label="{entry.key}" }}'
                yield from self.entry(entry, page)

    def entry(self, entry: Entry, page: str) -> Iterator[str]:
        """What there is to say of an entry below its title."""
        yield self.facts(entry)
        yield escaped(say(entry.summary, self.language))
        if entry.changes:
            yield self.changes(entry)
        if entry.runs:
            yield self.runs(entry, page)
        if entry.uncovered:
            yield f"**{self.word('uncovered')}**{self.colon}{escaped(say(entry.uncovered, self.language))}"
        yield from self.relations(entry, page)
        if entry.key in self.home.trees:
            yield self._tree(entry, page)
        if entry.corrections:
            lines = "\n".join(f"- {escaped(say(text, self.language))}" for text in entry.corrections)
            yield folded(self.word("corrections"), lines)
        yield folded("BibTeX", block(bibtex(entry).split("\n"), "bibtex"), "quote")

    def facts(self, entry: Entry) -> str:
        """Authors, venue, year, links and marks, on one line."""
        authors = [name for name in entry.authors if name != "others"]
        many = len(authors) > _AUTHORS or "others" in entry.authors
        names = self.comma.join(authors[:_AUTHORS]) + (f" {self._others()}" if many else "")
        where = [f"[arXiv {entry.arxiv}](https://arxiv.org/abs/{entry.arxiv})"] if entry.arxiv else []
        where += [f"[DOI {escaped(entry.doi)}](https://doi.org/{entry.doi})"] if entry.doi else []
        if not any(entry.url in place for place in where):
            where = [f"<{entry.url}>", *where]
        topics = [say(self.home.topics[topic], self.language) for topic in entry.topics]
        marks = [self.word(entry.kind)] if entry.kind in ("tool", "tutorial", "notebook") else []
        marks += [self.word("medical")] if entry.medical else []
        marks += [self.comma.join(topics), self.label(f"{self.home.status(entry)} runs")]
        marks += [] if entry.seed else [self.word("added")]
        parts = [escaped(names), f"<cite>{escaped(entry.venue)}</cite>, {entry.year}", *where, *marks, code(entry.key)]
        return " · ".join(parts) + "\n{ .facts }"

    def changes(self, entry: Entry) -> str:
        """What it changes, a line each, with the place in the code."""
        lines = []
        for change in entry.changes:
            where = f" ({self.code(change.code)})" if change.code else ""
            text = escaped(say(change, self.language))
            lines.append(f"- **{self.word(change.part)}**{self.colon}{text}{where}")
        return "\n".join(lines)

    def runs(self, entry: Entry, page: str) -> str:
        """How to run it: links to systems and code, then what to type."""
        places = [self.part(run, page) for run in entry.runs if run.kind in ("system", "code")]
        others = [run for run in entry.runs if run.kind not in ("system", "code")]
        typed = dict.fromkeys(line for run in others for line in commands(run))
        head = f"**{self.word('run it')}**" + (f"{self.colon}{self.comma.join(places)}" if places else "")
        return f"{head}\n\n{block(typed, 'sh')}" if typed else head

    def relations(self, entry: Entry, page: str) -> Iterator[str]:
        """What it stands on, and what stands on it."""
        further = [other.key for other in self.home.entries.values() if entry.key in other.builds_on]
        for name, keys in (("stands on", entry.builds_on), ("stood on", further)):
            if keys:
                yield f"**{self.word(name)}**{self.colon}{self.comma.join(self.key(key, page) for key in keys)}"

    def key(self, key: str, page: str) -> str:
        """A link to an entry."""
        return link(key, home_of(self.home.get(key)), page)

    def part(self, run: Runs, page: str) -> str:
        """Something that runs, in a few words."""
        if run.kind == "system":
            name = link(code(run.name), f"systems/{run.name}.md", page) if run.name in self.systems else code(run.name)
            return f"{self.label('system')} {name}"
        if run.kind == "code":
            return self.code(run.name)
        if run.kind == "metric":
            return f"{self.word('metric')} {code(run.name)}"
        return code({"sampler": f"--sampler {run.name}", "set": f"--set {run.name}"}.get(run.kind, run.name))

    def code(self, name: str) -> str:
        """An object of the library, linked to the reference where that shows it."""
        shown, place = code(name.partition(":")[2]), documented(name)
        return f"[{shown}][{place}]" if place else shown

    def card(self, card: Card) -> str:
        """Claimed and measured side by side, and how it was measured."""
        names = ("metric", "data", "claimed", "measured", "floor", "ceiling")
        rows = []
        for metric in dict.fromkeys([*(c.metric for c in card.claims), *(m.metric for m in card.measured)]):
            rows += [self._claim(claim) for claim in card.claims if claim.metric == metric]
            rows += [self._measurement(measured) for measured in card.measured if measured.metric == metric]
        parts = [table([self.word(name) for name in names], rows)]
        if card.differs:
            parts.append(f"**{self.word('why')}**{self.colon}{escaped(say(card.differs, self.language))}")
        for how in dict.fromkeys((tuple(m.command), m.device, m.seed, str(m.date), m.version) for m in card.measured):
            typed, device, seed, date, version = how
            facts = f"{device}, seed {seed}, {date}, {version}"
            parts += [f"**{self.word('measured by')}**{self.colon}{escaped(facts)}", block(typed, "sh")]
        return "\n\n".join(parts)

    def _claim(self, claim: Claim) -> tuple[str, ...]:
        data = escaped("; ".join(filter(None, (claim.data, claim.setting, claim.source))))
        return _metric(claim), data, f"{claim.value:g}", "", "", ""

    def _measurement(self, m: Measurement) -> tuple[str, ...]:
        interval = "" if m.low is None or m.high is None else f" ({m.low:.3g}–{m.high:.3g})"
        bounds = ("" if bound is None else f"{bound:.4g}" for bound in (m.floor, m.ceiling))
        return _metric(m), escaped(m.data), "", f"**{m.value:.4g}**{interval}", *bounds

    def _tree(self, entry: Entry, page: str) -> str:
        tree = self.home.trees[entry.key]
        leaves = tree.leaves()
        counts = self.label("tree counts", runs=sum(bool(leaf.runs) for leaf in leaves), leaves=len(leaves))
        lines = [line for node in tree.nodes for line in self._node(node, page, 0)]
        return folded(f"{self.word('tree')}{self.colon}{counts}", "\n".join(lines), "abstract")

    def _node(self, node: Node, page: str, depth: int) -> Iterator[str]:
        status = "branch" if node.children else "none" if not node.runs else "part" if node.missing else "whole"
        what = [self.comma.join(self.part(run, page) for run in node.runs)] if node.runs else []
        if node.missing:
            missing = f"{self.word('missing')}{self.colon}{escaped(say(node.missing, self.language))}"
            what.append(f'<span class="missing">{missing}</span>')
        what += [f"→ {self.comma.join(self.key(key, page) for key in node.reads)}"] if node.reads else []
        name = f'<span class="{status}">{escaped(say(node, self.language))}</span>'
        yield f"{'    ' * depth}- {name}{self.colon if what else ''}{' · '.join(what)}"
        for child in node.children:
            yield from self._node(child, page, depth + 1)

    def _others(self) -> str:
        return self.word("others")

    def label(self, name: str, **parts: object) -> str:
        return label(name, self.language, **parts)

    def word(self, name: str) -> str:
        return word(name, self.language)


def _metric(figure: Claim | Measurement) -> str:
    return f"{escaped(figure.metric)}&nbsp;{'↑' if figure.better == 'higher' else '↓'}"


def _by_year(entries: Iterable[Entry]) -> Iterator[tuple[int, list[Entry]]]:
    for year, found in groupby(sorted(entries, key=lambda entry: -entry.year), key=lambda entry: entry.year):
        yield year, sorted(found, key=lambda entry: entry.title.lower())
