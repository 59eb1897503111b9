"""A page for each system, and one that lists them all with the solvers."""

from collections.abc import Iterator, Mapping
from typing import Any

from entries import Entries, home_of
from markdown import block, code, escaped, link, table
from source_code import documented
from words import label, note

from inkwash.api.catalogue import details
from inkwash.api.plain import plain
from inkwash.api.shown import Details, Option
from inkwash.reading.language import say, word
from inkwash.systems import get, recipes

OVERVIEW = "systems/index.md"


class SystemPages:
    """The pages of the systems in one language."""

    def __init__(self, entries: Entries, names: list[str]) -> None:
        self.entries, self.language = entries, entries.language
        self.systems = {name: details(name) for name in names}

    def pages(self) -> Iterator[tuple[str, str]]:
        """Path and Markdown of each."""
        yield OVERVIEW, "\n\n".join(self.overview())
        for name, system in self.systems.items():
            yield f"systems/{name}.md", "\n\n".join(self.system(system, f"systems/{name}.md"))

    def overview(self) -> Iterator[str]:
        """All systems, all solvers."""
        yield f"# {self._label('all systems')}"
        yield self._label("systems lead")
        yield self.table(OVERVIEW)
        yield f"## {self._label('solvers')} {{ #solvers }}"
        yield self._label("solvers lead", grids=", ".join(map(code, recipes.GRIDS)))
        yield self._solvers()

    def table(self, page: str) -> str:
        """What systems there are, for `page`."""
        rows = []
        for system in self.systems.values():
            entry = self.entries.home.get(system.reads)
            # The title of a system is in English only.
            what = system.title if self.language == "en" else entry.summary.zh.partition("。")[0]
            paper = f"{entry.authors[0]} {word('others', self.language)} {entry.year}"
            name = link(code(system.name), f"systems/{system.name}.md", page)
            rows.append((name, link(escaped(paper), home_of(entry), page), escaped(what)))
        header = [self._label("system"), word("paper", self.language), self._label("what")]
        return table(header, rows)

    def system(self, system: Details, page: str) -> Iterator[str]:
        """Everything about a system."""
        entry, entries = self.entries.home.get(system.reads), self.entries
        yield f"# {system.name}"
        yield f"**{link(escaped(entry.title), home_of(entry), page)}**"
        yield entries.facts(entry)
        yield escaped(say(entry.summary, self.language))
        yield block(system.commands, "sh")
        if entry.changes:
            yield f"## {word('changes', self.language)} {{ #changes }}"
            yield entries.changes(entry)
        yield f"## {word('card', self.language)} {{ #card }}"
        cards = [card for card in entries.home.cards.values() if card.system == system.name]
        yield from map(entries.card, cards)
        if not cards:
            yield code(f"inkwash reproduce {system.name}")
        yield f"## {self._label('about')} {{ #about }}"
        yield from note("about", self.language)
        yield system.about
        kind = get(system.name)
        if place := documented(f"{kind.__module__}:{kind.__qualname__}"):
            yield f"**{self._label('code').capitalize()}**{entries.colon}[{code(kind.__qualname__)}][{place}]"
        yield f"## {self._label('options')} {{ #options }}"
        yield self._label("options lead")
        yield f"### {self._label('of the system')} {{ #system-options }}"
        yield self._options(system.options, system.presets)
        yield f"### {self._label('of training')} {{ #training-options }}"
        yield self._options(system.training, system.presets)

    def _options(self, options: list[Option], presets: Mapping[str, Mapping[str, Any]]) -> str:
        rows = []
        for option in options:
            set_by = [code(plain(values[option.name])) if option.name in values else "–" for values in presets.values()]
            about = f"{escaped(option.about)} <small>{option.kind}</small>"
            rows.append((code(option.name), about, _value(option.default), *set_by))
        header = [self._label(name) for name in ("option", "meaning")]
        return table([*header, "quick", *presets], rows)

    def _solvers(self) -> str:
        rows = []
        for solver_name, make in recipes.SOLVERS.items():
            solver = make()
            found = self.entries.home.papers(f"sampler:{solver_name}")
            papers = [self.entries.key(entry.key, OVERVIEW) for entry in found]
            kind = type(solver)
            rows.append(
                (
                    code(solver_name),
                    self.entries.code(f"{kind.__module__}:{kind.__qualname__}"),
                    str(solver.order),
                    str(solver.evaluations),
                    word("stochastic" if solver.stochastic else "deterministic", self.language),
                    code(recipes.OWN_GRIDS.get(solver_name, "log-snr")),
                    self.entries.comma.join(papers),
                )
            )
        name, order, calls, paper = (word(w, self.language) for w in ("solver", "order", "evaluations", "paper"))
        return table([name, self._label("code"), order, calls, "", self._label("grid"), paper], rows)

    def _label(self, name: str, **parts: object) -> str:
        return label(name, self.language, **parts)


def _value(value: object) -> str:
    return code(plain(value)) if plain(value) else "–"
