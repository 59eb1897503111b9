"use strict";
// The side panel: everything about the selected spot, and the way from it to a command.

const panel = byId("panel_");

/** A link that selects a spot. */
function link(id) {
  const spot = spots.get(id);
  const short = spot.column === "survey" ? spot.title : say(spot.label);
  const english = typeof spot.label === "string" ? "en" : null;
  return make("a", { class: `key ${spot.column} ${ink(spot.status)}`, href: address(id), title: nameOf(spot), lang: english },
    mark(spot.kind, spot.status), short);
}
const links = (ids) => make("p", { class: "keys" }, [...new Set(ids)].map(link));
const byYear = (ids) => [...new Set(ids)].sort((a, b) => spots.get(b).year - spots.get(a).year);

function section(name, ...children) {
  return make("section", {}, make("h3", {}, word(name)), ...children);
}
const listed = (name, ids) => (ids.length ? section(name, links(ids)) : null);

/** A command line with a button that copies it. */
function command(line) {
  const button = make("button", { type: "button", class: "copy", "aria-label": `${word("copy")}: ${line}` }, word("copy"));
  button.addEventListener("click", async () => {
    await copy(line);
    button.textContent = word("copied");
    byId("said_").textContent = word("copied");
    setTimeout(() => (button.textContent = word("copy")), 1500);
  });
  return make("div", { class: "command" }, make("code", { lang: "en" }, unbroken(line)), button);
}

/** A line that breaks between words only, not at their hyphens. */
const unbroken = (line) => line.split(" ").flatMap((one, i) => [i ? " " : "", make("span", {}, one)]);

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = make("textarea", { class: "unseen" });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

/** What runs and what to type for it; things that the same commands run stand together. */
function running(runs) {
  const groups = new Map();
  for (const run of runs) {
    const typed = data.runs[run].commands.join("\n");
    groups.set(typed, [...(groups.get(typed) || []), data.runs[run]]);
  }
  return [...groups].map(([typed, group]) =>
    make("div", { class: "run" }, links(group.map((run) => run.spot)), typed.split("\n").map(command)));
}
const capitals = (lines) =>
  lines.some((line) => /\b(DATA|RUN)\b/.test(line)) ? make("p", { class: "soft" }, word("capitals")) : null;
const typedFor = (runs) => runs.flatMap((run) => data.runs[run].commands);

// ---- one page a kind of spot

function reading(spot) {
  const kinds = [word(spot.kind), spot.medical && word("medical"), spot.added && word("added")].filter(Boolean);
  const leaves = leavesOf(spot.tree);
  return [
    make("p", { class: "eyebrow" }, kinds.join(" · ")),
    make("h2", { lang: "en" }, spot.title),
    make("p", { class: "people" }, people(spot)),
    make("p", { class: "people" }, make("cite", { lang: "en" }, spot.venue), `, ${spot.year} `,
      make("a", { href: spot.url, target: "_blank", rel: "noopener noreferrer" }, word("open"), " ↗")),
    make("p", { class: "keys" }, spot.topics.map((topic) => link(`topic:${topic}`))),
    make("p", {}, say(spot.summary)),
    make("p", { class: `status ${ink(spot.status)}` }, mark(spot.kind, spot.status), statusWord(spot.status),
      leaves.length ? make("span", { class: "soft" }, word("leaf runs", { runs: spot.share[0], all: spot.share[1] })) : null),
    spot.changes.length && section("changes", make("dl", {}, spot.changes.flatMap((change) => [
      make("dt", {}, link(`part:${change.part}`)),
      make("dd", {}, say(change), change.code ? make("code", { class: "where", lang: "en" }, change.code) : null),
    ]))),
    spot.runs.length && section("run it", running(spot.runs), capitals(typedFor(spot.runs))),
    spot.uncovered && section("uncovered", make("p", {}, say(spot.uncovered))),
    leaves.length && section("tree", tree(spot, spot.tree, leaves)),
    listed("stands on", byYear(near(spot.id, "builds_on", "out"))),
    listed("stood on", byYear(near(spot.id, "builds_on", "in"))),
    inSurveys(spot.id),
    section("more", command(`inkwash show ${spot.id}`), command(`inkwash cite ${spot.id}`)),
  ];
}

/** A taxonomy; a leaf opens on what to read, what to type and what is missing. */
function tree(survey, branches, leaves) {
  return make("ul", { class: "tree" }, branches.map((branch) => {
    if (branch.children.length) return make("li", {}, make("span", {}, say(branch)), tree(survey, branch.children, leaves));
    const place = leaves.indexOf(branch);
    const open = state.leaf === place;
    const status = statusOf(branch);
    const head = make("button", {
      type: "button", class: `leaf ${ink(status)}`, "data-leaf": place, "aria-expanded": open,
      on: { click: () => (location.hash = address(survey.id, open ? null : place)) },
    }, mark("paper", status), say(branch), make("span", { class: "unseen" }, ` (${statusWord(status)})`));
    return make("li", { class: open ? "open" : null }, head, open ? leafPage(branch) : null);
  }));
}

function leafPage(leaf) {
  return make("div", { class: "inside" },
    leaf.reads.length ? links(leaf.reads) : null,
    running(leaf.runs),
    leaf.missing ? make("p", { class: "soft" }, `${word("missing")}${state.language === "zh" ? "：" : ": "}${say(leaf.missing)}`) : null,
    capitals(typedFor(leaf.runs)));
}

/** The leaves of surveys that name an entry (`reads`) or a run (`runs`). */
function inSurveys(...names) {
  const found = data.spots.filter((spot) => spot.column === "survey").flatMap((survey) =>
    leavesOf(survey.tree).flatMap((leaf, place) =>
      [...leaf.reads, ...leaf.runs].some((name) => names.includes(name)) ? [{ survey, leaf, place }] : []));
  if (!found.length) return null;
  return section("in surveys", make("ul", { class: "places" }, found.map(({ survey, leaf, place }) =>
    make("li", {}, make("a", { href: address(survey.id, place), title: survey.title, lang: "en" }, survey.id),
      make("span", { class: ink(statusOf(leaf)) }, ` ${say(leaf)}`)))));
}

function family(spot) {
  const key = spot.id.split(":")[1];
  const entries = byYear(near(spot.id, "topic", "in"));
  const inColumn = (column) => entries.filter((id) => spots.get(id).column === column);
  return [
    make("p", { class: "eyebrow" }, word("family")),
    make("h2", {}, say(spot.label)),
    make("p", { class: `status ${ink(spot.status)}` }, mark("paper", spot.status),
      word("entries run", { runs: spot.share[0], all: spot.share[1] })),
    listed("surveys", inColumn("survey")),
    listed("papers", inColumn("paper")),
    section("more", command(`inkwash list --topic ${key}`)),
  ];
}

function part(spot) {
  const entries = data.spots.filter((other) => (other.changes || []).some((change) => `part:${change.part}` === spot.id));
  return [
    make("p", { class: "eyebrow" }, word("part")),
    make("h2", {}, say(spot.label)),
    make("p", {}, say(spot.about)),
    listed("pieces", near(spot.id, "part", "in")),
    entries.length && section("changed by", make("dl", { class: "stacked" }, entries.reverse().flatMap((other) =>
      other.changes.filter((change) => `part:${change.part}` === spot.id).map((change, i) => [
        i ? null : make("dt", {}, link(other.id)),
        make("dd", {}, say(change)),
      ])))),
  ];
}

function piece(spot) {
  const runs = Object.keys(data.runs).filter((run) => data.runs[run].spot === spot.id);
  const typed = [...new Set(typedFor(runs))];
  return [
    make("p", { class: "eyebrow" }, `${word("piece")} · ${say(spots.get(spot.within).label)}`),
    make("h2", { lang: "en" }, spot.label),
    make("p", { class: "soft" }, make("code", { lang: "en" }, spot.id)),
    section(spot.id.startsWith("code:") ? "from python" : "run it", typed.map(command), capitals(typed)),
    listed("behind", byYear(near(spot.id, "runs", "in").filter((id) => spots.get(id).column === "paper"))),
    listed("taken by", near(spot.id, "takes", "out")),
    inSurveys(...runs),
  ];
}

function system(spot) {
  const taken = near(spot.id, "takes", "in");
  return [
    make("p", { class: "eyebrow" }, `${word("system")} · ${say(spot.task)}`),
    make("h2", { lang: "en" }, spot.label),
    make("p", { lang: "en" }, spot.title),
    section("run it", spot.commands.map(command), capitals(spot.commands)),
    listed("behind", byYear(near(spot.id, "runs", "in").filter((id) => spots.get(id).column === "paper"))),
    taken.length && section("takes", data.spots.filter((other) => other.column === "part").map((other) => {
      const pieces = taken.filter((id) => spots.get(id).within === other.id);
      return pieces.length ? [make("h4", {}, say(other.label)), links(pieces)] : null;
    }).flat()),
    inSurveys(spot.id),
    section("more", command(`inkwash show ${spot.label}`)),
  ];
}

/** What the panel says while nothing is selected. */
function introduction() {
  const readings = data.spots.filter((spot) => spot.kind);
  const row = (name, count) => [make("dt", {}, name), make("dd", {}, String(count))];
  const sample = (status) => make("li", {}, make("span", { class: `key ${ink(status)}` }, mark("paper", status), statusWord(status)));
  const sign = (shown, text) => make("li", {}, shown, text);
  return [
    make("h2", {}, word("how")),
    make("p", {}, word("how text")),
    section("legend",
      make("ul", { class: "keys" }, ["whole", "part", "none"].map(sample)),
      make("ul", { class: "legend" },
        ["paper", "tool", "tutorial", "notebook"].map((kind) => sign(mark(kind, "whole"), word(kind))),
        sign(make("span", { class: "cross" }, "+"), word("medical")),
        sign(make("span", { class: "bar" }), word("bar")))),
    listed("start", data.spots.filter((spot) => spot.column === "system").map((spot) => spot.id)),
    section("counts", make("dl", { class: "counts" },
      ["survey", "paper", "tool", "tutorial", "notebook"].flatMap((kind) =>
        row(word(`${kind}s`), readings.filter((spot) => spot.kind === kind).length)),
      row(word("counted runs"), readings.filter((spot) => spot.status !== "none").length),
      [["families", "family"], ["pieces", "piece"], ["systems", "system"]].flatMap(([name, column]) =>
        row(word(name), data.spots.filter((spot) => spot.column === column).length)))),
    section("keyboard", make("p", {}, word("keyboard text"))),
    make("p", { class: "soft" }, word("footer", { version: document.documentElement.dataset.version })),
  ];
}

const PAGES = { survey: reading, paper: reading, family, part, piece, system };

/** Draw the panel anew. A leaf that opens leaves the page where it was scrolled to. */
function drawPanel(same) {
  const spot = spots.get(state.selected);
  const scrolled = panel.scrollTop;
  const focused = panel.contains(document.activeElement) ? document.activeElement.dataset.leaf : undefined;
  const close = make("button", { type: "button", class: "close", on: { click: () => choose(null) } }, "← ", word("close"));
  const shown = spot ? [close, ...PAGES[spot.column](spot)] : introduction();
  panel.replaceChildren(...shown.filter(Boolean));
  panel.classList.toggle("open", Boolean(spot));
  panel.scrollTop = same ? scrolled : 0;
  const leaf = panel.querySelector(`[data-leaf="${focused ?? state.leaf}"]`);
  if (same && focused !== undefined) leaf.focus({ preventScroll: true });
  else if (state.leaf !== null) panel.scrollTop += leaf.getBoundingClientRect().top - panel.getBoundingClientRect().top - 80;
}
