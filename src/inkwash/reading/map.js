"use strict";
// The picture: five columns, what gathers in them, search and filters, the keyboard.

const map = byId("map_");
const tip = byId("tip_");
const COLUMNS = ["survey", "family", "paper", "part", "piece", "system"];
const TABS = ["surveys", "papers", "parts", "systems", "legend"];
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const narrow = matchMedia("(max-width: 1079px)");

// ---- what stands where

function button(spot) {
  const made = make("button", {
    type: "button", class: `spot ${spot.column} ${ink(spot.status)}`, "data-id": spot.id, tabindex: "-1",
    on: { click: () => choose(state.selected === spot.id ? null : spot.id) },
  });
  buttons.set(spot.id, made);
  return made;
}

function build() {
  const inColumn = (column) => data.spots.filter((spot) => spot.column === column);
  const within = (id) => data.spots.filter((spot) => spot.within === id);
  const list = (name) => field.querySelector(`section.${name} > .list`);
  const group = (spot) => make("div", { class: "group" }, button(spot), make("div", { class: "chips" }, within(spot.id).map(button)));
  list("surveys").append(...inColumn("survey").reverse().map(button));
  list("papers").append(...inColumn("family").map(group));
  list("parts").append(...inColumn("part").map(group));
  list("systems").append(...inColumn("system").map(button));
  // Where a thing stands when nothing is selected.
  field.querySelectorAll(".spot, .group").forEach((element, place) => (element.dataset.place = place));
  byId("tabs_").append(...TABS.map((name) => make("button", {
    type: "button", "data-tab": name, on: { click: () => openTab(name) },
  })));
  openTab("surveys");
}

function openTab(name) {
  document.querySelector(".body").dataset.tab = name;
  byId("tabs_").querySelectorAll("button").forEach((tab) => tab.setAttribute("aria-pressed", tab.dataset.tab === name));
}

function relabel() {
  document.documentElement.lang = state.language === "zh" ? "zh-Hans" : "en";
  document.title = word("page");
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.word);
  for (const element of document.querySelectorAll("[data-word-label]")) element.setAttribute("aria-label", word(element.dataset.wordLabel));
  byId("search_").placeholder = word("search");
  for (const tab of byId("tabs_").children) tab.textContent = word(tab.dataset.tab);
  for (const choice of document.querySelectorAll("[data-language]")) choice.setAttribute("aria-pressed", choice.dataset.language === state.language);
  for (const option of byId("kind_").options) option.textContent = word(option.value || "any kind");
  for (const [id, element] of buttons) {
    const spot = spots.get(id);
    const share = spot.share && spot.share[1] ? spot.share : null;
    element.replaceChildren(
      mark(spot.kind, spot.status),
      make("span", { class: "label", lang: typeof spot.label === "string" ? "en" : null }, breakable(say(spot.label))),
      ...(spot.medical ? [make("span", { class: "cross" }, "+")] : []),
      ...(spot.column === "survey" ? [make("span", { class: "year" }, String(spot.year))] : []),
      ...(spot.column === "system" ? [make("span", { class: "task" }, say(spot.task))] : []),
      ...(share ? [make("span", { class: "share", style: `--share: ${share[0] / share[1]}` }, `${share[0]}/${share[1]}`)] : []),
    );
    element.setAttribute("aria-label", `${nameOf(spot)}${state.language === "zh" ? "，" : ", "}${about(spot)}`);
  }
}

/** Long names of code may break after a dot or an equals sign. */
const breakable = (name) => name.split(/(?<=[.=](?=\w))/).flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]));

/** What is selected and what belongs to it go first, in every column; the rest fades. */
function arrange() {
  const selected = state.selected;
  const kept = selected && related(selected, leafOf(selected, state.leaf));
  const rank = (id) => (!kept || id === selected ? 0 : kept.has(id) ? 1 : 2);
  const best = (element) => (element.dataset.id ? rank(element.dataset.id) : Math.min(...[...element.querySelectorAll(".spot")].map(best)));
  const focused = document.activeElement;
  for (const container of [...field.querySelectorAll(".chips"), ...field.querySelectorAll(".list")]) {
    const sorted = [...container.children].map((element) => ({ element, rank: best(element), place: Number(element.dataset.place) }));
    sorted.sort((a, b) => a.rank - b.rank || a.place - b.place);
    if (sorted.some(({ element }, i) => container.children[i] !== element)) container.append(...sorted.map(({ element }) => element));
  }
  field.classList.toggle("gathered", Boolean(kept));
  for (const [id, element] of buttons) {
    element.classList.toggle("away", rank(id) === 2);
    element.setAttribute("aria-pressed", id === selected);
  }
  if (field.contains(focused)) focused.focus({ preventScroll: true });
}

/** Let every button glide from where it was to where `change` puts it. */
function glide(change) {
  const shown = [...buttons.values()].filter((element) => !calm.matches && element.offsetParent);
  const before = shown.map((element) => element.getBoundingClientRect());
  change();
  const after = shown.map((element) => element.getBoundingClientRect());
  shown.forEach((element, i) => {
    const [x, y] = [before[i].left - after[i].left, before[i].top - after[i].top];
    if (after[i].width && (x || y))
      element.animate({ transform: [`translate(${x}px, ${y}px)`, "none"] }, { duration: 320, easing: "cubic-bezier(.2, .7, .2, 1)" });
  });
}

// ---- search and filters

const texts = (spot) => [
  spot.id, say(spot.label), spot.title, ...(spot.authors || []), spot.venue, spot.arxiv, spot.summary?.en, spot.summary?.zh,
  ...(spot.topics || []).flatMap((topic) => Object.values(spots.get(`topic:${topic}`).label)),
];
const haystacks = new Map();
function mentions(spot, words) {
  if (!haystacks.has(spot.id)) haystacks.set(spot.id, texts(spot).filter(Boolean).join("\n").toLowerCase());
  return words.every((one) => haystacks.get(spot.id).includes(one));
}

function filter() {
  const words = byId("search_").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [kind, from, to] = ["kind_", "from_", "to_"].map((id) => byId(id).value);
  const [medical, runs] = ["medical_", "runs_"].map((id) => byId(id).checked);
  const narrowed = Boolean(kind || from || to || medical || runs);
  const passes = (spot) =>
    (!kind || spot.kind === kind) && (!from || spot.year >= from) && (!to || spot.year <= to) &&
    (!medical || spot.medical) && (!runs || spot.status !== "none") && mentions(spot, words);
  const readings = data.spots.filter((spot) => spot.kind);
  const shown = new Set(readings.filter(passes).map((spot) => spot.id));
  const count = shown.size;
  if (narrowed || words.length)
    for (const spot of data.spots) {
      if (spot.kind) continue;
      const beside = lines.get(spot.id).some((line) => shown.has(line.source) && spots.get(line.source).kind);
      if (spot.column === "part" || beside || (words.length && !narrowed && mentions(spot, words))) shown.add(spot.id);
    }
  else for (const spot of data.spots) shown.add(spot.id);
  // What belongs to the selection is shown, whatever the filters say.
  if (state.selected) for (const id of [state.selected, ...related(state.selected, leafOf(state.selected, state.leaf))]) shown.add(id);
  for (const [id, element] of buttons) element.hidden = !shown.has(id);
  for (const group of field.querySelectorAll(".group")) group.hidden = ![...group.querySelectorAll(".spot")].some((element) => !element.hidden);
  byId("clear_").hidden = !(narrowed || words.length);
  byId("nothing_").hidden = count > 0 || [...shown].some((id) => spots.get(id).column !== "part");
  byId("shown_").textContent = narrowed || words.length ? word("shown", { shown: count, all: readings.length }) : "";
}

function clearFilters() {
  byId("filters_").reset();
  refresh();
}

/** Of what the search found, that which was most likely meant. */
function firstFound() {
  const words = byId("search_").value.trim().toLowerCase();
  const found = data.spots.filter((spot) => !buttons.get(spot.id).hidden && spot.column !== "part");
  return found.find((spot) => spot.id === words || say(spot.label) === words)
    || found.find((spot) => spot.kind && `${spot.id} ${spot.title}`.toLowerCase().includes(words)) || found[0];
}

// ---- selection

function choose(id) {
  if (id) location.hash = address(id);
  else if (state.selected) {
    if (narrow.matches && panel.contains(document.activeElement)) buttons.get(state.selected).focus();
    location.hash = "";
  }
}

function follow() {
  const { id, place } = parseAddress(location.hash);
  const same = id === state.selected;
  Object.assign(state, { selected: id, leaf: place });
  pointed = null;
  refresh();
  drawPanel(same);
  if (same || !id) return;
  byId("said_").textContent = word("selected", { name: nameOf(spots.get(id)), count: related(id).size });
  map.scrollTo({ top: 0, behavior: calm.matches ? "auto" : "smooth" });
  if (narrow.matches) panel.querySelector(".close").focus();
}

function refresh() {
  hideTip();
  glide(() => {
    filter();
    arrange();
    drawLines();
  });
  reachable();
}

// ---- the keyboard: Tab goes from column to column, the arrows inside

function reachable() {
  for (const column of COLUMNS) {
    const all = data.spots.filter((spot) => spot.column === column).map((spot) => buttons.get(spot.id));
    const stop = all.find((element) => element.tabIndex === 0 && !element.hidden)
      || all.filter((element) => !element.hidden).sort((a, b) => a.compareDocumentPosition(b) & 4 ? -1 : 1)[0];
    for (const element of all) element.tabIndex = element === stop ? 0 : -1;
  }
}

const WAYS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

/** The nearest spot in a direction; what is off to the side counts as further away. */
function neighbour(element, [dx, dy]) {
  const own = element.getBoundingClientRect();
  const gap = (a, b, start, end) => Math.max(0, b[start] - a[end], a[start] - b[end]);
  let best = null;
  for (const other of buttons.values()) {
    if (other === element || other.hidden || !other.offsetParent) continue;
    const r = other.getBoundingClientRect();
    const ahead = dx > 0 ? r.left - own.right : dx < 0 ? own.left - r.right : dy > 0 ? r.top - own.bottom : own.top - r.bottom;
    const aside = dx ? gap(own, r, "top", "bottom") : 2 * gap(own, r, "left", "right");
    const off = dx ? Math.abs(r.top - own.top) : Math.abs(r.left - own.left); // between equals, the one straight ahead
    const distance = ahead + aside + off / 100;
    if (ahead > -3 && (!best || distance < best.distance)) best = { other, distance };
  }
  return best?.other;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    byId("search_").focus();
  } else if (event.key === "Escape") {
    if (event.target === byId("search_") && byId("search_").value) clearFilters();
    else choose(null);
  } else if (event.target.matches(".spot") && WAYS[event.key]) {
    event.preventDefault();
    const next = neighbour(event.target, WAYS[event.key]);
    if (!next) return;
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }
}

// ---- what is pointed at

function point(element) {
  const id = element?.dataset.id || null;
  if (id === pointed) return;
  pointed = id;
  drawLines();
  if (!id) return hideTip();
  const spot = spots.get(id);
  const typed = spot.column === "piece" ? data.runs[id]?.commands[0] : spot.commands?.[0];
  tip.replaceChildren(...[
    make("strong", { lang: spot.kind ? "en" : null }, nameOf(spot)),
    spot.authors ? make("span", {}, people(spot, spot.authors.length > 3 ? 1 : 3)) : null,
    make("span", {}, about(spot)),
    typed ? make("code", {}, typed) : null,
  ].filter(Boolean));
  tip.hidden = false;
  const at = element.getBoundingClientRect();
  const under = at.bottom + 8 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${under ? at.bottom + 8 : at.top - tip.offsetHeight - 8}px`;
}
const hideTip = () => (tip.hidden = true);

// ---- start

function setLanguage(language) {
  state.language = language;
  relabel();
  drawPanel(true);
  refresh();
}

function fillFilters() {
  const years = [...new Set(data.spots.filter((spot) => spot.kind).map((spot) => spot.year))].sort();
  byId("kind_").append(...["", "survey", "paper", "tool", "tutorial", "notebook"].map((value) => make("option", { value })));
  for (const [id, ends] of [["from_", years], ["to_", [...years].reverse()]])
    byId(id).append(...ends.map((year, i) => make("option", { value: i ? year : "" }, String(year))));
}

build();
fillFilters();
relabel();
follow();
addEventListener("hashchange", follow);
addEventListener("keydown", onKey);
byId("filters_").addEventListener("input", () => {
  map.scrollTo({ top: 0 });
  refresh();
});
byId("search_").addEventListener("input", () => choose(null)); // a search is a new question
byId("filters_").addEventListener("submit", (event) => {
  event.preventDefault();
  const found = byId("search_").value.trim() && firstFound();
  if (found) choose(found.id);
});
byId("clear_").addEventListener("click", clearFilters);
for (const choice of document.querySelectorAll("[data-language]")) choice.addEventListener("click", () => setLanguage(choice.dataset.language));
field.addEventListener("pointermove", (event) => event.pointerType !== "touch" && point(event.target.closest(".spot")));
field.addEventListener("pointerleave", () => point(null));
field.addEventListener("focusin", (event) => {
  for (const element of buttons.values()) if (spots.get(element.dataset.id).column === spots.get(event.target.dataset.id).column) element.tabIndex = -1;
  event.target.tabIndex = 0;
  if (event.target.matches(":focus-visible")) point(event.target);
});
field.addEventListener("focusout", () => point(null));
map.addEventListener("scroll", hideTip);
new ResizeObserver(drawLines).observe(field);
