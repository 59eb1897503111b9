"""The map of the bundled list in headless Chromium: no error, no request, clicks lead from a survey to a command."""

import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from inkwash.api.field_map import field_map
from inkwash.reading import shelf

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
FOCUSED = "document.activeElement.dataset.id"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return field_map(tmp_path_factory.mktemp("map") / "map.html", lang="en").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, address) -> Iterator[SimpleNamespace]:
    """`at(hash, width)` opens the map; afterwards nothing may have gone wrong or been asked of the network."""
    wrong: list[str] = []
    context = browser.new_context(reduced_motion="reduce")

    def at(selection: str = "", width: int = 1280, height: int = 800):
        tab = context.new_page()
        tab.set_viewport_size({"width": width, "height": height})
        tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: None if request.url.startswith("file://") else wrong.append(request.url))
        tab.goto(f"{address}#{selection}")
        return tab

    yield SimpleNamespace(at=at)
    context.close()
    assert wrong == []


def spot(tab, key: str):
    return tab.locator(f'.spot[data-id="{key}"]')


def readings(tab) -> set[str]:
    """The keys of the entries that are shown."""
    return set(tab.evaluate("[...buttons].filter(([id, b]) => spots.get(id).kind && b.offsetParent).map((b) => b[0])"))


def test_one_can_click_from_a_survey_to_a_command_of_a_system(opened):
    survey, place = next(
        (key, place)
        for key, tree in shelf().trees.items()
        for place, leaf in enumerate(tree.leaves())
        if "system:polyp-ddpm" in map(str, leaf.runs)
    )
    tab = opened.at()
    leaf = tab.locator(f'#panel_ [data-leaf="{place}"]')
    spot(tab, survey).click()
    expect(tab.locator("#panel_ h2")).to_have_text(shelf().get(survey).title)
    leaf.click()
    expect(tab).to_have_url(f"{tab.url.partition('#')[0]}#{survey}/{place}")
    tab.locator("#panel_ .inside .key.system", has_text="polyp-ddpm").click()
    expect(spot(tab, "system:polyp-ddpm")).to_have_attribute("aria-pressed", "true")
    assert tab.url.endswith("#system:polyp-ddpm")
    first = tab.locator("#panel_ .command").first
    expect(first.locator("code")).to_contain_text("inkwash train polyp-ddpm DATA --out")
    first.locator("button").click()
    expect(first.locator("button")).to_have_text("Copied")
    tab.go_back()
    expect(leaf).to_have_attribute("aria-expanded", "true")


def test_every_panel_names_what_it_is_about(opened):
    tab = opened.at()
    wrong = tab.evaluate("""() => data.spots.filter((spot) => {
        state.selected = spot.id;
        drawPanel(false);
        const heading = panel.querySelector("h2").textContent;
        return heading !== nameOf(spot) || /undefined|NaN|\\[object/.test(panel.textContent);
    }).map((spot) => spot.id)""")
    assert wrong == []
    assert tab.locator(".spot").count() == tab.evaluate("data.spots.length") > len(shelf().entries)


def test_the_language_is_switched_in_the_page(opened):
    tab = opened.at("polyp-ddpm")
    summary = shelf().get("polyp-ddpm").summary
    expect(tab.locator("html")).to_have_attribute("lang", "en")
    expect(tab.locator("#panel_")).to_contain_text(summary.en)
    tab.get_by_role("button", name="中文").click()
    expect(tab.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(tab.locator("#panel_")).to_contain_text(summary.zh)
    assert tab.title() == tab.locator("h1").inner_text() == "扩散模型图谱"
    expect(spot(tab, "topic:graphs").locator(".label")).to_have_text("图与分子")
    assert tab.evaluate("getComputedStyle(document.body).fontFamily").startswith('"PingFang SC"')


def test_search_finds_in_both_languages_and_enter_opens_it(opened):
    tab = opened.at()
    tab.keyboard.press("/")
    for words in ("polyp dorjsembe", "息肉"):
        tab.locator("#search_").fill("")
        tab.keyboard.type(words)
        assert "polyp-ddpm" in readings(tab)
        assert "graph-survey" not in readings(tab)
        assert tab.locator("#shown_").inner_text() == f"{len(readings(tab))} of {len(shelf().entries)} shown"
    tab.locator("#search_").fill("polyp-ddpm")
    tab.keyboard.press("Enter")
    expect(spot(tab, "polyp-ddpm")).to_have_attribute("aria-pressed", "true")
    # What belongs to the selection is there though the search doesn't find it; a new search leaves the selection.
    assert "ddpm" in readings(tab)
    tab.keyboard.type(" dorjsembe")
    expect(spot(tab, "polyp-ddpm")).to_have_attribute("aria-pressed", "false")
    expect(spot(tab, "ddpm")).to_be_hidden()
    tab.keyboard.press("Escape")
    expect(tab.locator("#search_")).to_have_value("")
    assert readings(tab) == set(shelf().entries)


def test_filters_show_what_fits_alone(opened):
    entries = shelf().entries.values()
    tab = opened.at()
    assert readings(tab) == set(shelf().entries)
    tab.get_by_label("medical", exact=True).check()
    assert readings(tab) == {entry.key for entry in entries if entry.medical}
    tab.get_by_label("runs today").check()
    assert readings(tab) == {entry.key for entry in entries if entry.medical and shelf().status(entry) != "none"}
    tab.get_by_role("button", name="Clear").click()
    tab.get_by_label("First year").select_option("2024")
    tab.get_by_label("Kind").select_option("survey")
    assert readings(tab) == {entry.key for entry in entries if entry.year >= 2024 and entry.kind == "survey"}
    tab.locator("#search_").fill("no such words")
    expect(tab.get_by_text("Nothing fits")).to_be_visible()


def test_the_keyboard_reaches_everything(opened):
    tab = opened.at()
    # Tab stops once in each column and once at the pieces, not at every paper.
    assert tab.locator('.spot[tabindex="0"]').count() == 6
    tab.locator("#surveys_ + .list .spot").first.focus()
    first = tab.evaluate(FOCUSED)
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate(FOCUSED) in set(shelf().trees) - {first}
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(FOCUSED).startswith("topic:")
    tab.keyboard.press("ArrowRight")
    paper = tab.evaluate(FOCUSED)
    assert shelf().get(paper).kind != "survey"
    tab.keyboard.press("Enter")
    expect(spot(tab, paper)).to_have_attribute("aria-pressed", "true")
    assert tab.evaluate(FOCUSED) == paper
    tab.keyboard.press("Escape")
    expect(spot(tab, paper)).to_have_attribute("aria-pressed", "false")
    assert tab.url.endswith("#")


def test_the_selected_and_its_neighbours_gather_and_lines_join_them(opened):
    tab = opened.at("polyp-ddpm")
    system = spot(tab, "system:polyp-ddpm")
    assert system.bounding_box()["y"] < 250
    assert "away" not in system.get_attribute("class").split()
    assert "away" in spot(tab, "topic:networks").get_attribute("class").split()
    ends = tab.evaluate("""() => [...document.querySelectorAll("#lines_ .strong path")].map((path) => {
        const box = field.getBoundingClientRect();
        const at = path.getPointAtLength(path.getTotalLength());
        return document.elementFromPoint(box.left + at.x + 3, box.top + at.y)?.closest(".spot")?.dataset.id;
    })""")
    assert "system:polyp-ddpm" in ends


@pytest.mark.parametrize("width", [390, 900, 1280])
def test_nothing_sticks_out_sideways(opened, width):
    tab = opened.at(width=width)
    for language in ("中文", "English"):
        tab.get_by_role("button", name=language).click()
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("Math.max(map.scrollWidth - map.clientWidth, panel.scrollWidth - panel.clientWidth)") <= 0
    tab.evaluate("location.hash = 'polyp-ddpm'")
    tab.wait_for_selector("#panel_.open")
    assert tab.evaluate("panel.scrollWidth - panel.clientWidth") <= 0
    if width < 840:
        tab.locator("#panel_ .close").click()
        tab.locator("#tabs_ button").nth(3).click()
        expect(spot(tab, "system:ddpm")).to_be_visible()
        expect(spot(tab, "graph-survey")).to_be_hidden()
