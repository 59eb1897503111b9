"""A page of `inkwash show` as text for a terminal, in one language."""

from collections.abc import Iterator

from inkwash.api.plain import plain
from inkwash.api.shown import Details, Listed, Option, Page, Solver
from inkwash.reading import Card, Node, Text, shelf
from inkwash.reading.language import Language, say, word
from inkwash.reading.terminal import READABLE, paragraph, table, width


def text(page: Page, language: Language) -> str:
    """The whole page."""
    return "\n".join(_Layout(language, min(width(), READABLE)).page(page)).rstrip()


class _Layout:
    """The parts of a page for one language and one width; each is a series of lines."""

    def __init__(self, language: Language, columns: int) -> None:
        self.language, self.columns = language, columns
        self.colon = "：" if language == "zh" else ": "
        self.comma = "、" if language == "zh" else ", "

    def page(self, page: Page) -> Iterator[str]:
        if page.entry:
            yield from self.entry(page.entry)
        if page.solver:
            yield from self.solver(page.solver)
        if page.runs:
            yield from self.section("run it", *(c for run in page.runs for c in run.commands))
        if page.entry and page.entry.uncovered:
            yield from self.section("uncovered", self.say(page.entry.uncovered))
        if page.tree:
            yield from self.section("tree")
            for node in page.tree.nodes:
                yield from self.node(node, 1)
        if page.entry:
            yield from self.relations(page.entry, page.leads_to)
        for card in page.cards:
            yield from self.card(card)
        if page.system:
            if not page.cards:
                yield from self.section("card", self.word("unmeasured", system=page.system.name))
            yield from self.system(page.system)

    def entry(self, entry: Listed) -> Iterator[str]:
        topics = [self.say(shelf().topics[topic]) for topic in entry.topics]
        marks = [self.word(entry.kind), *([self.word("medical")] if entry.medical else [])]
        marks += [] if entry.seed else [self.word("added")]
        authors = [self.word("others") if name == "others" else name for name in entry.authors]
        yield self.flow(entry.title)
        yield self.flow(self.comma.join(authors))
        yield self.flow(f"{entry.venue}, {entry.year}. {entry.url}")
        yield self.flow(f"[{entry.key}] {self.comma.join(marks)}; {self.comma.join(topics)}")
        yield ""
        yield self.flow(self.say(entry.summary))
        if entry.changes:
            yield from self.section("changes")
            for change in entry.changes:
                where = f" ({change.code})" if change.code else ""
                yield self.flow(f"{self.word(change.part)}{self.colon}{self.say(change)}{where}", 2, 2)

    def relations(self, entry: Listed, leads_to: list[str]) -> Iterator[str]:
        if entry.builds_on:
            yield from self.section("stands on", self.comma.join(entry.builds_on))
        if leads_to:
            yield from self.section("stood on", self.comma.join(leads_to))
        if entry.corrections:
            yield from self.section("corrections", *map(self.say, entry.corrections))

    def node(self, node: Node, depth: int) -> Iterator[str]:
        runs = "; ".join(str(run) for run in node.runs)
        lacks = "" if node.missing is None else f"{self.word('missing')}{self.colon}{self.say(node.missing)}"
        reads = f"[{self.comma.join(node.reads)}]" if node.reads else ""
        what = "  ".join(filter(None, (runs, lacks, reads)))
        mark = "" if node.children else "+ " if node.runs else "- "
        yield self.flow(f"{mark}{self.say(node)}{self.colon + what if what else ''}", 2 * depth, 4)
        for child in node.children:
            yield from self.node(child, depth + 1)

    def solver(self, solver: Solver) -> Iterator[str]:
        kind = self.word("stochastic" if solver.stochastic else "deterministic")
        facts = f"{self.word('order')} {solver.order}, {self.word('evaluations')} {solver.evaluations}, {kind}"
        yield ""
        yield self.flow(f"{self.word('solver')}{self.colon}{solver.name} ({solver.code}); {facts}; @{solver.grid}")
        yield ""
        yield from self.verbatim(solver.about)

    def card(self, card: Card) -> Iterator[str]:
        yield from self.section("card")
        header = [self.word(name) for name in ("metric", "data", "claimed", "measured", "floor", "ceiling")]
        rows = [(c.metric, c.data, f"{c.value:g}", "", "", "") for c in card.claims]
        rows += [
            (m.metric, m.data, "", f"{m.value:.4g}{_interval(m.low, m.high)}", _known(m.floor), _known(m.ceiling))
            for m in card.measured
        ]
        yield table(rows, header, columns=self.columns, indent=2)
        yield ""
        for source in dict.fromkeys(f"{c.metric}, {c.data}{self.colon}{c.source}" for c in card.claims):
            yield self.flow(source, 2, 2)
        for how in dict.fromkeys((tuple(m.command), m.device, m.seed, str(m.date), m.version) for m in card.measured):
            commands, device, seed, date, version = how
            yield self.flow(f"{self.word('measured by')}{self.colon}{device}, seed {seed}, {date}, {version}", 2, 2)
            for command in commands:
                yield f"    {command}"
        if card.differs:
            yield self.flow(f"{self.word('why')}{self.colon}{self.say(card.differs)}", 2, 2)

    def system(self, system: Details) -> Iterator[str]:
        yield ""
        yield f"{system.name}{self.colon}{system.title} ({system.task})"
        yield self.flow(system.paper)
        yield ""
        yield from self.verbatim(system.about)
        yield from self.options("options", system.options)
        for preset, changes in system.presets.items():
            settings = ", ".join(f"{name}={plain(value)}" for name, value in changes.items())
            yield ""
            yield f"{self.word('preset', preset=preset)}{self.colon}"
            yield self.flow(settings, 2)
        yield from self.options("training options", system.training)

    def options(self, name: str, options: list[Option]) -> Iterator[str]:
        yield ""
        yield f"{self.word(name)}{self.colon}"
        rows = [
            (option.name, f"{option.about} [{option.kind}, {self.word('default')} {plain(option.default)}]")
            for option in options
        ]
        yield table(rows, ("", ""), columns=self.columns, indent=2).split("\n", 1)[1]

    def section(self, name: str, *lines: str) -> Iterator[str]:
        yield ""
        yield f"{self.word(name)}{self.colon.rstrip()}"
        for line in lines:
            # A command is copied: it stays on one line.
            yield f"  {line}" if line.startswith(("inkwash ", "from ")) else self.flow(line, 2, 2)

    def verbatim(self, about: str) -> Iterator[str]:
        yield from about.split("\n")

    def flow(self, line: str, indent: int = 0, hanging: int = 0) -> str:
        return paragraph(line, columns=self.columns, indent=indent, hanging=hanging)

    def say(self, text: Text) -> str:
        return say(text, self.language)

    def word(self, name: str, **parts: object) -> str:
        return word(name, self.language, **parts)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"


def _known(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
