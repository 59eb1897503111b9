"""All pages of the documentation in one language: written by hand, made from the library, and static files."""

import re
import shutil
from pathlib import Path
from typing import Any

import machines
import reference
from entries import OVERVIEW as LIST
from entries import PAGES, Entries, home_of
from figure import draw
from markdown import link
from system_pages import OVERVIEW as SYSTEMS
from system_pages import SystemPages
from words import label, note

from inkwash import systems
from inkwash.reading import Shelf
from inkwash.reading.language import Language
from inkwash.systems import recipes

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
STATIC = ("fonts", "images", "javascripts", "stylesheets", "list.schema.json", "laws.json")
# Pages in both languages, `name.md` and `name.zh.md`.
BY_HAND = (
    "index.md",
    "three-words.md",
    "installation.md",
    "segmentation.md",
    "restoration.md",
    "few-steps.md",
    "memory.md",
    "several-machines.md",
)
# Pages that there are in English, below a few Chinese words.
IN_ENGLISH = {
    "laws.md": DOCS / "laws.md",
    "posteriors.md": DOCS / "posteriors.md",
    "architecture.md": DOCS / "architecture.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
    "changelog.md": ROOT / "CHANGELOG.md",
}
# Where the files of the repository are on the site.
MOVED = {"docs/architecture.md": "architecture.md", "docs/laws.md": "laws.md", "LICENSE": "LICENSE.txt"}

_FILLED = re.compile(r"\{\{ (\w+) \}\}")
_KEY = re.compile(r"\[([^]]+)\]\(key:([a-z0-9-]+)\)")
_TARGET = re.compile(r"\]\(([\w./-]+)\)")

Nav = list[dict[str, Any]]


def stage(folder: Path, language: Language, home: Shelf) -> Nav:
    """Write every page of a language into an empty `folder`, and answer how they are navigated."""
    entries = Entries(home, language, systems.names())
    system_pages = SystemPages(entries, systems.names())
    pages = {
        **{name: _by_hand(name, entries, system_pages) for name in BY_HAND},
        **{name: _in_english(name, path, language) for name, path in IN_ENGLISH.items()},
        **dict(entries.pages()),
        **dict(system_pages.pages()),
        **dict(reference.pages(language)),
    }
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    for name in STATIC:
        source = DOCS / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.is_file():
            shutil.copy(source, folder / name)
    shutil.copy(ROOT / "LICENSE", folder / "LICENSE.txt")
    draw(folder / "images")
    return _nav(language, list(system_pages.systems))


def _by_hand(name: str, entries: Entries, system_pages: SystemPages) -> str:
    """A page of `docs/`, its `{{ words }}` filled in and its links to `key:KEY` led to the list."""
    source = DOCS / (name if entries.language == "en" else name.replace(".md", ".zh.md"))
    home = entries.home
    fill = {
        "systems": system_pages.table(name),
        "count": str(len(home.entries)),
        "solvers": str(len(recipes.SOLVERS)),
        "running": str(sum(home.status(entry) != "none" for entry in home.entries.values())),
        "scaling": machines.scaling(ROOT / "benchmarks" / "results" / "scaling.json", entries.language),
        **machines.files(ROOT),
    }
    text = _FILLED.sub(lambda found: fill[found[1]], source.read_text(encoding="utf-8"))
    return _KEY.sub(lambda found: link(found[1], home_of(home.get(found[2])), name), text)


def _in_english(name: str, source: Path, language: Language) -> str:
    text = _TARGET.sub(lambda found: f"]({MOVED.get(found[1], found[1])})", source.read_text(encoding="utf-8"))
    above = DOCS / name.replace(".md", ".zh.md")
    if language == "en":
        return text
    rest = text.partition("\n")[2]
    if above.is_file():
        # The Chinese page has a title and an introduction of its own.
        return "\n\n".join([above.read_text(encoding="utf-8"), text.split("\n\n", 2)[2]])
    return "\n\n".join([f"# {label(name.removesuffix('.md'), language)}", *note("text", language), rest])


def _nav(language: Language, names: list[str]) -> Nav:
    def say(name: str) -> str:
        return label(name, language)

    return [
        {say("home"): "index.md"},
        {say("three words"): "three-words.md"},
        {say("installation"): "installation.md"},
        {say("masks"): "segmentation.md"},
        {say("restoration"): [{say("restoration"): "restoration.md"}, {say("posteriors"): "posteriors.md"}]},
        {say("few steps"): "few-steps.md"},
        {say("memory"): "memory.md"},
        {say("several machines"): "several-machines.md"},
        {say("list"): [{say("overview"): LIST}, *({say(name): page} for page, (name, _) in PAGES.items())]},
        {say("systems"): [{say("all systems"): SYSTEMS}, *({name: f"systems/{name}.md"} for name in names)]},
        {say("laws"): "laws.md"},
        {
            say("reference"): [
                {say("commands"): reference.COMMANDS},
                {say("floors"): reference.OVERVIEW},
                *({f"inkwash.{floor}": reference.path(floor)} for floor in reference.FLOORS),
            ]
        },
        {
            say("project"): [
                {say("architecture"): "architecture.md"},
                {say("contributing"): "contributing.md"},
                {say("changelog"): "changelog.md"},
            ]
        },
    ]
