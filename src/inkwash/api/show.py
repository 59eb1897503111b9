"""`inkwash.show`: a paper, a survey, a system or a solver on one page."""

import inspect

from inkwash import systems
from inkwash.api.runnable import commands
from inkwash.api.shown import Details, Listed, Page, Run, Solver
from inkwash.errors import unknown
from inkwash.reading import Entry, Runs, Shelf, shelf
from inkwash.reading.language import choose


def show(key: str, *, lang: str | None = None) -> Page:
    """What is known about a key: what it is about, what it changes, how to run it, what was claimed and measured.

    Args:
        key: of an entry of the reading list, or the name of a system or of a solver.
        lang: the language of the text, "en" or "zh"; that of `LANG` by default. The page holds both.

    Raises:
        WrongUse: nothing has this key; no such language.
    """
    home, language, installed = shelf(), choose(lang), systems.installed()
    entry = home.entries.get(key)
    if entry is None and key not in installed and key not in home.solvers():
        raise unknown("key", key, {*home.entries, *installed, *home.solvers()}, listed="inkwash list")
    if entry is None and key in installed:
        entry = home.entries.get(systems.get(key).reads)
    if entry is None and key not in installed:
        entry = home.papers(f"sampler:{key}")[0]
    # Systems and solvers are looked at only where they are asked for: the rest of the page needs no torch.
    page = Page(
        key=key,
        system=_details(key) if key in installed else None,
        solver=_solver(key) if key in home.solvers() and key not in home.entries else None,
        cards=[card for card in home.cards.values() if card.system == key or (entry and card.reads == entry.key)],
    )
    page = page.model_copy(update=_read(entry, home)) if entry else page
    page._language = language
    return page


def listed(entry: Entry, home: Shelf) -> Listed:
    """`entry` with its status."""
    return Listed(**dict(entry), status=home.status(entry))


def _read(entry: Entry, home: Shelf) -> dict[str, object]:
    return {
        "entry": listed(entry, home),
        "runs": [_run(run) for run in entry.runs],
        "leads_to": [other.key for other in home.entries.values() if entry.key in other.builds_on],
        "tree": home.trees.get(entry.key),
    }


def _run(run: Runs) -> Run:
    return Run(what=str(run), commands=commands(run))


def _details(name: str) -> Details:
    from inkwash.api.catalogue import details

    return details(name)


def _solver(name: str) -> Solver:
    from inkwash.systems import recipes

    solver = recipes.SOLVERS[name]()
    kind = type(solver)
    return Solver(
        name=name,
        code=f"{kind.__module__}:{kind.__qualname__}",
        about=inspect.getdoc(kind) or "",
        order=solver.order,
        stochastic=solver.stochastic,
        evaluations=solver.evaluations,
        grid=recipes.OWN_GRIDS.get(name, "log-snr"),
    )
