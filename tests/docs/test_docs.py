"""The pages that `scripts/docs` makes: all of the list, all systems, both languages, and no link that leads nowhere."""

import math
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from inkwash import systems
from inkwash.api.catalogue import details
from inkwash.api.doctor import PURPOSES
from inkwash.reading import shelf
from inkwash.reading.language import say

ROOT = Path(__file__).parents[2]
HOME = shelf()
LANGUAGES = ("en", "zh")
LIST = ("surveys", "papers", "tools")
LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")
ANCHOR = re.compile(r"\{[^}]*?#([\w-]+)[^}]*\}|\bid=\"([\w-]+)\"")
CROSS = re.compile(r"\]\[(inkwash[\w.]*)\]")


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "docs", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    out = tmp_path_factory.mktemp("docs")
    made = script("--pages", "--out", out)
    assert made.returncode == 0, made.stderr
    return out / "pages"


@pytest.fixture(scope="module", params=LANGUAGES)
def pages(request, staged):
    """The pages of a language: path and Markdown."""
    folder = staged / request.param
    found = {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*.md"))}
    return request.param, folder, found


def prose(page: str) -> str:
    """A page without its code, where brackets and hashes mean something else."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^ *```.*?^ *```", "", page))


def dead(pages: dict[str, str], files: set[str]) -> list[str]:
    """The links of `pages` that lead nowhere."""
    anchors = {path: {a or b for a, b in ANCHOR.findall(prose(page))} for path, page in pages.items()}
    found = []
    for path, page in pages.items():
        for target in LINK.findall(prose(page)):
            if re.match(r"https?://", target):
                continue
            to, _, anchor = target.partition("#")
            place = os.path.normpath(Path(path).parent / to) if to else path
            if place not in files or (anchor and place in anchors and anchor not in anchors[place]):
                found.append(f"{path}: {target}")
    return found


def test_both_languages_have_the_same_pages(staged):
    english, chinese = ({str(p.relative_to(staged / n)) for p in (staged / n).rglob("*")} for n in LANGUAGES)
    assert english == chinese
    assert {"index.md", "three-words.md", "installation.md", "laws.md", "list/index.md", "LICENSE.txt"} <= english


def test_every_entry_has_its_anchor_and_its_summary_once(pages):
    language, _, found = pages
    text = "\n".join(found[f"list/{name}.md"] for name in LIST)
    anchors = Counter(re.findall(r"(?m)^### .* \{ #([\w-]+) ", text))
    assert anchors == Counter(dict.fromkeys(HOME.entries, 1))
    plain = text.replace("\\", "").replace("&lt;", "<")
    for entry in HOME.entries.values():
        assert say(entry.summary, language) in plain, entry.key
        assert all(say(change, language) in plain for change in entry.changes), entry.key


def test_the_overview_leads_to_every_entry(pages):
    _, _, found = pages
    keys = re.findall(r'data-key="([\w-]+)"', found["list/index.md"])
    assert sorted(keys) == sorted(HOME.entries)


def test_every_tree_is_there_with_all_its_leaves(pages):
    language, _, found = pages
    plain = found["list/surveys.md"].replace("\\", "").replace("&lt;", "<")
    for tree in HOME.trees.values():
        assert all(f">{say(leaf, language)}</span>" in plain for leaf in tree.leaves()), tree.survey


@pytest.mark.parametrize("name", systems.names())
def test_every_system_has_a_page_with_its_paper_options_and_card(pages, name):
    language, _, found = pages
    page, system = found[f"systems/{name}.md"], details(name)
    entry = HOME.get(system.reads)
    assert say(entry.summary, language) in page.replace("\\", "")
    assert system.about in page
    assert all(command in page for command in system.commands)
    assert all(f"| `{option.name}` |" in page for option in [*system.options, *system.training])
    if name in HOME.cards:
        card = HOME.cards[name]
        assert all(f"{claim.value:g}" in page for claim in card.claims)
        assert all(f"**{m.value:.4g}**" in page and all(c in page for c in m.command) for m in card.measured)
    assert f"systems/{name}.md" in found["index.md"]


def test_no_link_leads_nowhere(pages):
    _, folder, found = pages
    assert dead(found, {str(p.relative_to(folder)) for p in folder.rglob("*")}) == []


def test_a_dead_link_is_found():
    pages = {
        "a.md": "# A { #top }\n[b](c/b.md#there) [c](c/b.md#gone) [d](d.md) [e](#top) `[f](f.md)`",
        "c/b.md": '<a id="there">',
    }
    assert dead(pages, set(pages)) == ["a.md: c/b.md#gone", "a.md: d.md"]


def test_code_that_is_linked_is_in_the_reference(pages):
    _, _, found = pages
    shown = {m for page in found.values() for m in re.findall(r"(?m)^::: ([\w.]+)$", page)}
    linked = {target for page in found.values() for target in CROSS.findall(page)}
    assert linked
    assert [target for target in linked if not any(target.startswith(f"{module}.") for module in shown)] == []


def test_a_module_stands_after_those_that_it_imports(pages):
    _, _, found = pages
    for path, page in found.items():
        modules = re.findall(r"(?m)^::: ([\w.]+)$", page)
        if not path.startswith("reference/") or path == "reference/api.md":
            continue
        for place, module in enumerate(modules):
            source = ROOT.joinpath("src", *module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
            later = [other for other in modules[place:] if re.search(rf"(?m)^from {re.escape(other)} import", source)]
            assert later == [], module


def test_every_extra_is_explained(pages):
    _, _, found = pages
    assert [extra for extra in PURPOSES if f"| `{extra}` |" not in found["installation.md"]] == []


class TestThreeWords:
    """The page says that every line of it runs, and that the lines are the formulas beside them."""

    @pytest.fixture
    def run(self, pages):
        names: dict[str, object] = {}
        blocks = re.findall(r"(?ms)^```python\n(.*?)^```", pages[2]["three-words.md"])
        for block in blocks:
            exec(block, names)
            if "moved" in names:
                break
        return names, blocks

    def test_the_formulas_are_what_the_lines_compute(self, run):
        n, _ = run
        now, then = n["corruption"].at(n["t"]), n["corruption"].at(n["s"])
        (a, s, log_snr), m, c, z = now, n["m"], n["c"], n["z"]
        assert log_snr == pytest.approx(math.log(a**2 / s**2))
        total = a**2 * c**2 + s**2
        # Ten thousand numbers: the mean is within 4 standard errors.
        assert z.mean().item() == pytest.approx(a * m, abs=4 * total**0.5 / 100)
        assert z.std().item() == pytest.approx(total**0.5, rel=4 / (2 * 10_000) ** 0.5)
        mean = m + a * c**2 / total * (z - a * m)
        # The mean of the page's denoiser is handed over in single precision.
        torch.testing.assert_close(n["posterior"].mean, mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(n["posterior"].var, torch.full_like(z, c**2 * s**2 / total))
        torch.testing.assert_close(n["denoiser"].score(z, n["t"]), (a * mean - z) / s**2, rtol=0, atol=1e-5)
        eps = (z - a * mean) / s
        torch.testing.assert_close(n["moved"].z, then.alpha * mean + then.sigma * eps, rtol=0, atol=1e-6)
        r = 1 - math.exp(now.log_snr - then.log_snr)
        weights = n["corruption"].posterior_weights(n["t"], n["s"])
        assert weights == pytest.approx((a * then.sigma**2 / (then.alpha * s**2), then.alpha * r, then.sigma**2 * r))
        # What is drawn lies around that mean.
        gap = n["drawn"].z - (weights[0] * z + weights[1] * mean)
        assert gap.std().item() == pytest.approx(weights[2] ** 0.5, rel=0.1)

    def test_all_of_it_runs_and_gives_the_share(self, run, capsys):
        names, blocks = run
        exec(blocks[-1], names)
        assert float(capsys.readouterr().out) == pytest.approx(0.35, abs=4 * (0.35 * 0.65 / 10_000) ** 0.5)

    def test_the_languages_show_the_same_code(self, staged):
        english, chinese = (
            [re.sub(r"#.*", "", block) for block in re.findall(r"(?ms)^```python\n(.*?)^```", page)]
            for page in ((staged / name / "three-words.md").read_text(encoding="utf-8") for name in LANGUAGES)
        )
        assert english == chinese


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_the_network_for_nothing(tmp_path):
    pytest.importorskip("mkdocs_autorefs", reason="make docs installs it")
    made = script("--out", tmp_path)
    assert made.returncode == 0, made.stderr
    site = tmp_path / "docs"
    html = {p: p.read_text(encoding="utf-8") for p in site.rglob("*.html")}
    assert {site / "index.html", site / "zh" / "index.html"} <= set(html)
    # A browser fetches what these name; a link is followed by the reader.
    fetching = re.compile(r"<(?:script|img|iframe|link|source)\b[^>]*\s(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    assert [(str(p), tag) for p, page in html.items() for tag in fetching.findall(page)] == []
    for folder in (site, site / "zh"):
        words = html[folder / "three-words.html"]
        assert words.count("<math") > 20
        assert "arithmatex" not in words
        assert (folder / "search" / "search_index.json").is_file()
    assert 'lang="zh"' in html[site / "zh" / "index.html"]
    # Each page and its twin lead to each other.
    for path, page in html.items():
        if path.name != "404.html":
            (there,) = re.findall(r'<a class="[^"]*ink-twin" href="([^"]+)"', page)
            (back,) = re.findall(r'<a class="[^"]*ink-twin" href="([^"]+)"', html[(path.parent / there).resolve()])
            assert ((path.parent / there).parent / back).resolve() == path.resolve()
    assert (site / "list.schema.json").read_bytes() == (ROOT / "docs" / "list.schema.json").read_bytes()
