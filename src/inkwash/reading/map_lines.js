"use strict";
// The lines between the spots: all of them faintly, or those of one spot.

const field = byId("field_");
const buttons = new Map(); // by id, what stands for a spot
const ORDER = { survey: 0, family: 1, paper: 2, part: 3, piece: 3, system: 4 };
const CROWD = 8;
let pointed = null; // the spot under the pointer or the keyboard

function drawLines() {
  const boxes = new Map();
  // Offsets say where a button will be when it has stopped gliding.
  const box = (id) => {
    if (!boxes.has(id)) {
      const { offsetParent, offsetLeft: left, offsetTop: top, offsetWidth: width, offsetHeight: height } = buttons.get(id);
      boxes.set(id, offsetParent && { left, right: left + width, y: top + height / 2 });
    }
    return boxes.get(id);
  };
  const drawn = { bundle: [], faint: [], strong: [] };
  const add = (kind, a, b, options = {}) => {
    if (!a || !b) return;
    const d = a.right < b.left ? curve(a, b) : b.right < a.left ? curve(b, a) : bow(a, b);
    drawn[kind].push({ d, ...options });
  };
  const centre = pointed || state.selected;
  if (centre) web(centre, box, add);
  else bundle(box, add);
  const svg = byId("lines_");
  svg.classList.toggle("many", drawn.strong.length > 24);
  svg.setAttribute("width", field.clientWidth);
  svg.setAttribute("height", field.clientHeight);
  for (const [kind, paths] of Object.entries(drawn)) {
    svg.querySelector(`.${kind}`).replaceChildren(...paths.map((attributes) => {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      for (const [name, value] of Object.entries(attributes)) path.setAttribute(name, value);
      return path;
    }));
  }
}

const order = (id) => ORDER[spots.get(id).column];

/** The lines from one spot, and, fainter, those among what belongs to it. */
function web(centre, box, add) {
  const leaf = centre === state.selected ? leafOf(centre, state.leaf) : null;
  const kept = related(centre, leaf);
  const direct = new Set(leaf ? kept : lines.get(centre).flatMap((line) => [line.source, line.target]));
  const pieces = [...kept].filter((id) => spots.get(id).column === "piece");
  const crowded = pieces.length > CROWD;
  for (const id of kept) {
    if (!direct.has(id) || spots.get(id).within === centre || spots.get(centre).within === id) continue;
    if (crowded && order(centre) === ORDER.system && spots.get(id).column === "piece") continue;
    add(Math.abs(order(id) - order(centre)) < 3 ? "strong" : "faint", box(centre), box(id), tone(id));
  }
  for (const { source, target, relation } of data.lines)
    if (kept.has(source) && kept.has(target) && !["part", "takes"].includes(relation) && Math.abs(order(source) - order(target)) === 1)
      add("faint", box(source), box(target), tone(target));
  // Many pieces lead to a system as one strand for each part.
  const strands = new Set(pieces.flatMap((id) => near(id, "takes", "out").filter((system) => kept.has(system) || system === centre)
    .map((system) => `${crowded ? spots.get(id).within : id}\n${system}`)));
  for (const strand of strands) {
    const [from, system] = strand.split("\n");
    add("strong", box(from) && { ...box(from), ...(crowded ? { right: edge(".parts") } : {}) }, box(system), tone(system));
  }
}
/** The right end of a column. */
function edge(name) {
  const { offsetLeft, offsetWidth } = field.querySelector(name);
  return offsetLeft + offsetWidth;
}

/** What leads to a command is vermilion. */
const tone = (id) => (spots.get(id).column === "system" ? { class: "seal-line" } : {});

/** While nothing is selected: which families the surveys cover, which parts the families' papers change, what the systems take. */
function bundle(box, add) {
  const counts = new Map();
  const count = (a, b) => counts.set(`${a}\n${b}`, (counts.get(`${a}\n${b}`) || 0) + 1);
  for (const line of data.lines) {
    const source = spots.get(line.source);
    if (buttons.get(line.source).hidden) continue;
    if (line.relation === "topic" && source.column === "survey") count(line.source, line.target);
    if (line.relation === "changes" && source.within) count(source.within, line.target);
    if (line.relation === "takes") count(source.within, line.target);
  }
  const ends = { family: edge(".papers"), part: edge(".parts") };
  for (const [pair, n] of counts) {
    const [a, b] = pair.split("\n");
    // From the end of a row, not through what stands in it.
    const right = ends[spots.get(a).column];
    add("bundle", box(a) && { ...box(a), right: right || box(a).right }, box(b), { "stroke-width": 0.7 + 0.6 * Math.sqrt(n) });
  }
}

function curve(a, b) {
  const reach = Math.max(18, (b.left - a.right) / 2);
  return `M${a.right} ${a.y}C${a.right + reach} ${a.y} ${b.left - reach} ${b.y} ${b.left} ${b.y}`;
}

/** Between two spots of one column. */
function bow(a, b) {
  const [x1, x2] = [(a.left + a.right) / 2, (b.left + b.right) / 2];
  const out = Math.min(60, 14 + Math.abs(a.y - b.y) / 5);
  return `M${x1} ${a.y}Q${(x1 + x2) / 2 - out} ${(a.y + b.y) / 2} ${x2} ${b.y}`;
}
