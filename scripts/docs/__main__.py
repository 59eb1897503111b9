"""The documentation, in English and Chinese: `python scripts/docs` writes build/docs, from the Markdown in build/pages.

Each language is a MkDocs site of its own, so that each has its own search index and all links stay relative: the
finished folder can be opened from disk or served from anywhere.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from stage import ROOT, stage
from words import label

from inkwash.errors import WrongUse
from inkwash.reading import shelf
from inkwash.reading.language import Language

LANGUAGES: tuple[Language, ...] = ("en", "zh")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python scripts/docs", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="where pages/ and docs/ are written")
    parser.add_argument("--pages", action="store_true", help="write the Markdown and build nothing from it")
    asked = parser.parse_args()
    work = asked.out.resolve() / "pages"
    shutil.rmtree(work, ignore_errors=True)
    try:
        for language in LANGUAGES:
            configure(work, language)
    except WrongUse as error:
        # The list, or a link of a page to it: the line names the place.
        print(f"docs: {error}", file=sys.stderr)
        return 2
    return 0 if asked.pages else build(work, asked.out / "docs")


def build(work: Path, site: Path) -> int:
    """Both sites at once, one in the other; nothing is replaced where one of them fails."""
    builds = [
        subprocess.Popen(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", work / f"{language}.yml"],
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        )
        for language in LANGUAGES
    ]
    codes = [build.wait() for build in builds]
    if any(codes):
        return 1
    shutil.rmtree(site, ignore_errors=True)
    (work / "site-en").rename(site)
    (work / "site-zh").rename(site / "zh")
    print(site / "index.html")
    return 0


def configure(work: Path, language: Language) -> None:
    """The pages of a language, and the file that builds them: mkdocs.yml with what differs between the languages."""
    nav, scripts = stage(work / language, language, shelf()), ROOT / "scripts" / "docs"
    python = {"paths": [str(ROOT / "src")], "options": {"extensions": [str(scripts / "docstrings.py")]}}
    config = {
        "INHERIT": os.path.relpath(ROOT / "mkdocs.yml", work),
        "site_name": "Inkwash",
        "site_description": label("tagline", language),
        "copyright": label("copyright", language),
        "docs_dir": language,
        "site_dir": f"site-{language}",
        "theme": {"language": language, "custom_dir": str(scripts / "theme")},
        "hooks": [str(scripts / "hooks.py")],
        "plugins": {"mkdocstrings": {"handlers": {"python": python}}},
        "nav": nav,
    }
    text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    (work / f"{language}.yml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
