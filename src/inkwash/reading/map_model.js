"use strict";
// The data of the page, its two languages, and what the panel and the picture share.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data_").textContent);
const state = { language: data.language, selected: null, leaf: null };

const say = (text) => (typeof text === "string" ? text : text[state.language]);
const word = (name, parts = {}) => say(data.words[name]).replace(/\{(\w+)\}/g, (_, key) => parts[key]);
const joined = (texts) => texts.join(state.language === "zh" ? "、" : ", ");

/** An element; children are elements or text, `on` holds listeners, what is null or false is left out. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") Object.entries(value).forEach(([event, listener]) => made.addEventListener(event, listener));
    else if (value !== null && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== false));
  return made;
}

// ---- the graph

const spots = new Map(data.spots.map((spot) => [spot.id, spot]));
const lines = new Map(data.spots.map((spot) => [spot.id, []]));
for (const line of data.lines) {
  lines.get(line.source).push(line);
  lines.get(line.target).push(line);
}

/** The spots that a line of one of these relations leads to ("out"), or comes from ("in"). */
function near(id, relation, way) {
  return lines.get(id)
    .filter((line) => line.relation === relation && (way === "out" ? line.source : line.target) === id)
    .map((line) => (way === "out" ? line.target : line.source));
}

const systemsBehind = (ids) => ids.flatMap((id) => (spots.get(id).column === "piece" ? near(id, "takes", "out") : []));

/** What belongs to a spot, or to one leaf of its tree: its neighbours, and the systems behind the pieces among them. */
function related(id, leaf = null) {
  const direct = leaf
    ? [...leaf.reads, ...leaf.runs.map((run) => data.runs[run].spot)]
    : lines.get(id).map((line) => (line.source === id ? line.target : line.source));
  const found = new Set([...direct, ...(spots.get(id).column === "system" ? [] : systemsBehind(direct))]);
  for (const other of [...found]) if (spots.get(other).column === "piece") found.add(spots.get(other).within);
  found.delete(id);
  return found;
}

/** The leaves of a tree, from top to bottom: their places in this list are their addresses. */
const leavesOf = (branches) => branches.flatMap((b) => (b.children.length ? leavesOf(b.children) : [b]));
const leafOf = (id, place) => (place === null ? null : leavesOf(spots.get(id).tree)[place]);
const statusOf = (leaf) => (!leaf.runs.length ? "none" : leaf.missing ? "part" : "whole");
const ink = (status) => `ink-${status}`;
const statusWord = (status) => word(status === "part" ? "half" : status);

/** What a screen reader and the tooltip say of a spot, beside its name. */
function about(spot) {
  const facts = [];
  if (spot.kind) facts.push(word(spot.kind), String(spot.year));
  else facts.push(word(spot.column));
  if (spot.medical) facts.push(word("medical"));
  facts.push(statusWord(spot.status));
  if (spot.share) facts.push(word(spot.kind ? "leaf runs" : "entries run", { runs: spot.share[0], all: spot.share[1] }));
  return facts.join(state.language === "zh" ? "，" : ", ");
}

/** A list of authors, "others" in the words of the language. */
function people(spot, most = Infinity) {
  const names = spot.authors.filter((name) => name !== "others").slice(0, most);
  const others = names.length < spot.authors.length;
  return joined(names) + (others ? (state.language === "zh" ? "" : " ") + word("others") : "");
}

const nameOf = (spot) => (spot.title && spot.kind ? spot.title : say(spot.label));

// ---- the address: #spot, or #survey/leaf

const address = (id, place = null) => "#" + encodeURI(place === null ? id : `${id}/${place}`);
function parseAddress(hash) {
  let said;
  try {
    said = decodeURIComponent(hash.slice(1));
  } catch {
    return { id: null, place: null };
  }
  if (spots.has(said)) return { id: said, place: null };
  const [, id, place] = said.match(/^(.*)\/(\d+)$/) || [];
  const survey = spots.get(id);
  return survey?.tree && place < leavesOf(survey.tree).length ? { id, place: Number(place) } : { id: null, place: null };
}

// ---- marks: the shape says the kind, the ink says what runs

const SHAPES = {
  paper: ["M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10z", "M6 1a5 5 0 1 0 0 10z"],
  tool: ["M1.5 1.5h9v9h-9z", "M1.5 1.5h4.5v9h-4.5z"],
  tutorial: ["M6 1l5.3 9.5h-10.6z", "M6 1v9.5h-5.3z"],
  notebook: ["M6 .5l5.5 5.5l-5.5 5.5l-5.5-5.5z", "M6 .5v11l-5.5-5.5z"],
};

function mark(kind, status) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("class", "mark");
  svg.setAttribute("aria-hidden", "true");
  const [outline, half] = SHAPES[kind] || SHAPES.paper;
  for (const [shape, kept] of [[outline, "outline"], [status === "whole" ? outline : half, "ink"]]) {
    if (kept === "ink" && status === "none") continue;
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", shape);
    path.setAttribute("class", kept);
    svg.append(path);
  }
  return svg;
}
