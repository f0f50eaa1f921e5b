/* Draws the figures from the embedded data, keeps their time axes the same, and shows which pieces
   of other lanes belong to the one that is clicked. Foreign text enters the page only as textContent. */
(() => {
"use strict";
const started = performance.now();
const page = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const span = page.span;

// ---- decoding -------------------------------------------------------------------------------
const TYPES = { u1: Uint8Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };
const decode = (column) =>
  new TYPES[column.dtype](Uint8Array.from(atob(column.bdata), (c) => c.charCodeAt(0)).buffer);

const figures = new Map();
for (const [name, figure] of Object.entries(page.figures)) {
  const node = document.querySelector(`[data-figure="${name}"]`);
  if (!node) continue;
  const entry = { name, node, figure };
  if (figure.details) {
    const d = figure.details;
    entry.rows = figure.rows.map(decode);
    if (figure.sparse) entry.edges = figure.data.map((trace) => decode(trace.x));
    for (const key of ["start", "end", "code", "merged", "fetch", "lane"]) entry[key] = decode(d[key]);
    entry.columns = d.columns.map((c) => ({ ...c, data: decode(c.data) }));
  }
  figures.set(name, entry);
}
const lanes = [...figures.values()].filter((f) => f.node.closest("#lanes"));
const linked = lanes.filter((f) => f.rows);
const stalls = new Map((page.stalls ?? []).map((walk) => [walk.stall, walk]));
const cell = (entry, name, row) => entry.columns?.find((c) => c.name === name)?.data[row];

// ---- words ----------------------------------------------------------------------------------
const digits = (v) => Math.abs(v) >= 99.95 ? Math.round(v).toLocaleString("en") : v.toFixed(Math.abs(v) >= 9.995 ? 1 : 2);
const duration = (s) => {
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]])
    if (Math.abs(s) >= 0.9995 * size) return `${digits(s / size)} ${unit}`;
  return `${Math.round(s * 1e9)} ns`;
};
const bytes = (n) => {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 1024]])
    if (Math.abs(n) >= 0.9995 * size) return `${digits(n / size)} ${unit}`;
  return `${n} B`;
};
// Control, format (also bidirectional), private and surrogate characters are written as escapes.
const visible = (text) => text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\p{Zl}\p{Zp}]/gu, (c) => {
  const code = c.codePointAt(0);
  if (code >= 0xdc80 && code <= 0xdcff) return "\\x" + (code - 0xdc00).toString(16);
  const hex = code.toString(16);
  return code < 0x100 ? "\\x" + hex.padStart(2, "0") : code < 0x10000 ? "\\u" + hex.padStart(4, "0") : "\\U" + hex.padStart(8, "0");
});
const value = (column, row) => {
  const v = column.data[row];
  if (column.unit === "text") return v < 0 ? null : visible(column.words[v]);
  if (Number.isNaN(v) || v === -1 && column.data instanceof Int32Array) return null;
  if (column.unit === "time") return duration(v / 1e9);
  if (column.unit === "bytes") return column.name.startsWith("offset") ? `${v.toLocaleString("en")} (${bytes(v)})` : bytes(v);
  if (column.unit === "rate") return `${bytes(v)}/s`;
  if (column.unit === "flag") return v ? "yes" : "no";
  if (column.unit !== "number") return `${digits(v)} ${column.unit}`;
  return String(v);
};
const element = (tag, text) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; return e; };

function describe(entry, row, without = []) {
  const box = document.createDocumentFragment();
  const word = entry.figure.words[entry.code[row]];
  box.append(element("h4", `${word.startsWith("phase ") ? "phase" : word} · ${duration(entry.end[row] - entry.start[row])}`));
  const list = element("dl"); list.className = "pairs";
  const put = (name, text) => { if (text !== null) list.append(element("dt", name), element("dd", text)); };
  put("from", `${entry.start[row].toFixed(6)} s to ${entry.end[row].toFixed(6)} s`);
  for (const column of entry.columns) if (!without.includes(column.name)) put(column.name, value(column, row));
  if (entry.fetch[row] >= 0) put("fetch", `#${entry.fetch[row]}`);
  if (entry.merged[row] > 1) put("drawn for", `${entry.merged[row].toLocaleString("en")} intervals, together as long as this`);
  box.append(list);
  return box;
}

// ---- one time axis for all -----------------------------------------------------------------
let range = [0, span], moving = false;
function show(asked) {
  const width = Math.min(Math.max(asked[1] - asked[0], 1e-7), span);
  const low = Math.min(Math.max(asked[0], 0), span - width);
  range = [low, low + width];
  moving = true;
  return Promise.all(lanes.map((f) => Plotly.update(f.node, widened(f), { "xaxis.range": range.slice(), ...captions(f) })))
    .then(() => { moving = false; });
}
// A piece narrower than a pixel is drawn one pixel wide at every zoom, if the space after it is free.
function widened(entry) {
  if (!entry.edges) return {};
  const width = (entry.node.clientWidth || 1200) - page.margin[0] - page.margin[1];
  const least = 1.3 * (range[1] - range[0]) / Math.max(width, 100);
  return { x: entry.edges.map((edges, trace) => {
    const drawn = edges.slice(), rows = entry.rows[trace] ?? [];
    for (let piece = 0; piece < rows.length; piece++) {
      const free = piece + 1 === rows.length ? span : rows[piece + 1] < 0 ? edges[piece + 2] : edges[piece + 1];
      if (rows[piece] >= 0 && edges[piece + 1] - edges[piece] < least)
        drawn[piece + 1] = Math.min(edges[piece] + least, Math.max(free, edges[piece + 1]));
    }
    return drawn;
  }) };
}
// Names on pieces that are wide enough, each in the middle of the visible part of its piece.
function captions(entry) {
  const texts = entry.figure.captions ?? [];
  if (!texts.length) return {};
  const width = (entry.node.clientWidth || 1200) - page.margin[0] - page.margin[1];
  const annotations = [];
  for (const text of texts) {
    const low = Math.max(text.start, range[0]), high = Math.min(text.end, range[1]);
    if ((high - low) / (range[1] - range[0]) * width > 14 + 8 * text.text.length)
      annotations.push({ x: (low + high) / 2, y: text.y, text: text.text, showarrow: false,
        font: { color: text.ink, size: text.size }, captureevents: false });
  }
  return { annotations };
}
function moved(change) {
  if (moving) return;
  if ("xaxis.range[0]" in change) show([change["xaxis.range[0]"], change["xaxis.range[1]"]]);
  else if (change["xaxis.range"]) show(change["xaxis.range"]);
  else if (change["xaxis.autorange"]) show([0, span]);
}

// ---- the pointer ----------------------------------------------------------------------------
const tip = byId("tip"), cursor = byId("cursor"), box = byId("lanes"), clock = byId("clock");
const placeTip = (event) => {
  const right = event.clientX + 16 + tip.offsetWidth > innerWidth;
  tip.style.left = `${Math.max(right ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16, 4)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 6)}px`;
};
const picked = (entry, event) => {
  const point = event.points[0];
  const index = Array.isArray(point.pointNumber) ? point.pointNumber[1] : point.pointNumber;
  return entry.rows[point.curveNumber]?.[index] ?? -1;
};
function hover(entry, event) {
  const row = picked(entry, event);
  if (row < 0) { tip.hidden = true; return; }
  tip.replaceChildren(describe(entry, row));
  tip.hidden = false;
  placeTip(event.event);
}
box.addEventListener("mousemove", (event) => {
  const frame = box.getBoundingClientRect();
  const x = event.clientX - frame.left, inside = frame.width - page.margin[0] - page.margin[1];
  const share = (x - page.margin[0]) / inside;
  const on = share >= 0 && share <= 1;
  cursor.style.display = on ? "block" : "none";
  cursor.style.left = `${x}px`;
  clock.textContent = on ? `${(range[0] + share * (range[1] - range[0])).toFixed(page.digits ?? 6)} s` : "";
});
box.addEventListener("mouseleave", () => { cursor.style.display = "none"; tip.hidden = true; });

// ---- following a piece ----------------------------------------------------------------------
function fetchesWithin(start, end) {
  const fetches = new Set(), threads = figures.get("threads");
  if (!threads) return fetches;
  for (let row = 0; row < threads.start.length; row++)
    if (threads.fetch[row] >= 0 && threads.start[row] < end && threads.end[row] > start) fetches.add(threads.fetch[row]);
  return fetches;
}
function outline(entry, fetches, chosen) {
  const shapes = [...(entry.figure.layout.shapes ?? [])];
  const most = shapes.length + 300;
  const draw = (row, colour, width) => shapes.push({
    type: "rect", x0: entry.start[row], x1: entry.end[row], y0: -entry.lane[row] - 0.46, y1: -entry.lane[row] + 0.46,
    line: { color: colour, width }, fillcolor: "rgba(0,0,0,0)" });
  for (let row = 0; row < entry.start.length && shapes.length < most; row++)
    if (entry.fetch[row] >= 0 && fetches.has(entry.fetch[row]) && entry.name !== "threads") draw(row, page.outlines[1], 1.4);
  for (const row of chosen.slice(0, 100)) draw(row, page.outlines[0], 2.4);
  return Plotly.relayout(entry.node, { shapes });
}
// Outlines fetches and, by figure, chosen pieces; marks the fetches' lines in the table.
function highlight(fetches, chosen) {
  for (const lane of linked) outline(lane, fetches, chosen.get(lane) ?? []);
  for (const line of document.querySelectorAll("tr.lit")) line.classList.remove("lit");
  for (const fetch of fetches) byId(`fetch-${fetch}`)?.classList.add("lit");
}
function select(entry, row, walk = row < 0 ? undefined : stalls.get(cell(entry, "stall", row))) {
  const fetches = row < 0 ? new Set()
    : entry.fetch[row] >= 0 ? new Set([entry.fetch[row]])
    : walk ? new Set(walk.fetches)
    : cell(entry, "stall", row) >= 0 ? fetchesWithin(entry.start[row], entry.end[row]) : new Set();
  const panel = byId("selected");
  panel.replaceChildren();
  byId("selection").hidden = row < 0;
  highlight(fetches, new Map([[entry, row < 0 ? [] : [row]]]));
  if (row < 0) return;
  panel.append(describe(entry, row, walk ? ["because", "stall"] : []));
  panel.append(zoomButton(entry.start[row], entry.end[row]));
  if (walk) panel.append(walkOf(walk));
  const how = walk || entry.fetch[row] >= 0 ? "behind it" : "that any thread waited for meanwhile";
  if (fetches.size) panel.append(fetchList([...fetches].sort((a, b) => a - b), how));
}

// ---- the walk from a stall to its chunks -----------------------------------------------------
const STEPS = { stall: "stall", thread: "thread", access: "waited in", request: "request", fetch: "fetch" };
function piecesOf(step) {
  const found = new Map(), put = (name, test) => {
    const entry = figures.get(name);
    if (entry?.rows) found.set(entry, [...entry.start.keys()].filter((row) => test(entry, row)));
  };
  const within = (entry, row) => entry.start[row] < step.to - 1e-10 && entry.end[row] > step.from + 1e-10;
  if (step.kind === "stall") put("overview", (e, row) => cell(e, "stall", row) === step.stall);
  if (step.thread !== undefined) put("threads", (e, row) => cell(e, "thread", row) === step.thread && within(e, row));
  if (step.kind === "request") put("requests", (e, row) => cell(e, "unique", row) === step.unique && within(e, row));
  if (step.kind === "fetch") for (const lane of linked) put(lane.name, (e, row) => e.fetch[row] === step.fetch && e.name !== "requests");
  return found;
}
function mark(list, button) {
  for (const other of list.querySelectorAll(".on")) { other.classList.remove("on"); other.removeAttribute("aria-current"); }
  button.classList.add("on");
  button.setAttribute("aria-current", "step");
}
function choice(list, text, chosen) {
  const item = element("li"), button = element("button");
  button.type = "button";
  button.append(...text);
  button.addEventListener("click", () => { mark(list, button); chosen(button); });
  item.append(button);
  list.append(item);
  return button;
}
function takeStep(step, note) {
  const pieces = piecesOf(step);
  highlight(new Set(step.kind === "fetch" ? [step.fetch] : []), pieces);
  const first = [...pieces].find(([, rows]) => rows.length);
  note.replaceChildren(first ? zoomButton(step.from, step.to) : document.createTextNode("It is too short, or in a lane that is not drawn, to be outlined."));
  if (first) first[0].node.scrollIntoView({ block: "nearest" });
}
function stepsOf(wait) {
  const box = document.createDocumentFragment(), list = element("ol"), note = element("p");
  for (const step of wait.steps) {
    const name = element("b", step.kind === "stall" ? `stall ${step.stall}` : step.kind === "fetch" ? `fetch #${step.fetch}` : STEPS[step.kind]);
    choice(list, [name, " ", step.text], () => takeStep(step, note));
  }
  box.append(list, note);
  return box;
}
function walkOf(walk) {
  const box = element("div"), bar = element("div"), steps = element("div"), list = element("ul");
  box.className = "walk";
  bar.className = "parts";
  for (const [cause, share, colour] of walk.causes) {
    const part = element("i");
    part.style.width = `${share}%`;
    part.style.background = colour;
    part.title = `${cause} ${share} %`;
    bar.append(part);
  }
  box.append(element("h4", `What stall ${walk.stall} was spent on`), bar,
    element("p", walk.causes.map(([cause, share]) => `${cause} ${share} %`).join(", ")));
  if (!walk.waits.length) return box;
  box.append(element("h4", "From the stall to the chunk: click a step to see it in the lanes"), steps);
  const buttons = walk.waits.map((wait) => choice(list, [`${wait.lasted} ${wait.text}`], () => steps.replaceChildren(stepsOf(wait))));
  mark(list, buttons[0]);
  steps.append(stepsOf(walk.waits[0]));
  if (buttons.length > 1) box.append(element("h4", "The longest waits in it"), list);
  return box;
}
function zoomButton(start, end) {
  const button = element("button", "Zoom here");
  button.type = "button";
  button.addEventListener("click", () => { const pad = (end - start) * 0.15; show([start - pad, end + pad]); });
  return button;
}
function fetchList(fetches, how) {
  const holder = document.createDocumentFragment();
  holder.append(element("h4", `${fetches.length} ${fetches.length === 1 ? "fetch" : "fetches"} ${how}, outlined in the lanes`));
  const list = element("ol"), downloads = figures.get("downloads");
  for (const fetch of fetches.slice(0, 40)) {
    const item = element("li"), line = byId(`fetch-${fetch}`);
    const row = downloads ? downloads.fetch.indexOf(fetch) : -1;
    const link = element(line ? "a" : "span", `fetch #${fetch}`);
    if (line) link.href = `#fetch-${fetch}`;
    item.append(link);
    if (row >= 0) {
      const at = (name) => { const c = downloads.columns.find((k) => k.name === name); return c && value(c, row); };
      item.append(`: ${duration(downloads.end[row] - downloads.start[row])}, ${at("file") ?? at("url")}`
        + (at("offset") ? ` at ${at("offset")}` : "") + (at("object") ? `, ${at("object").slice(0, 12)}…` : ""));
    }
    list.append(item);
  }
  holder.append(list);
  if (fetches.length > 40) holder.append(element("p", `and ${fetches.length - 40} more`));
  return holder;
}
function follow(name, ...tests) {
  const entry = figures.get(name);
  if (!entry) return;
  const rows = [...entry.start.keys()];
  for (const test of tests) {
    const row = rows.find((each) => test(entry, each));
    if (row !== undefined) { select(entry, row, test.walk); return; }
  }
}
function followStall(number) {
  const walk = stalls.get(number), at = walk.from;
  const around = (e, row) => cell(e, "stall", row) >= 0 && e.start[row] <= at + 1e-9 && e.end[row] > at + 1e-9;
  around.walk = walk;  // it is drawn as one with longer ones
  follow("overview", (e, row) => cell(e, "stall", row) === number, around);
}

// ---- drawing --------------------------------------------------------------------------------
const config = { displayModeBar: false, responsive: true, doubleClick: "reset", showTips: false };
async function draw() {
  await Promise.all([...figures.values()].map(async (entry) => {
    const wide = widened(entry).x;
    if (wide) entry.figure.data.forEach((trace, index) => { trace.x = wide[index]; });
    await Plotly.newPlot(entry.node, entry.figure.data, { ...entry.figure.layout, ...captions(entry) }, config);
    if (!lanes.includes(entry)) return;
    entry.node.on("plotly_relayout", moved);
    if (!entry.rows) return;
    entry.node.on("plotly_hover", (event) => hover(entry, event));
    entry.node.on("plotly_unhover", () => { tip.hidden = true; });
    entry.node.on("plotly_click", (event) => { const row = picked(entry, event); if (row >= 0) { tip.hidden = true; select(entry, row); } });
  }));
  document.documentElement.dataset.drawnMs = Math.round(performance.now() - started);
}
document.addEventListener("click", (event) => {
  const data = event.target.dataset ?? {}, middle = (range[0] + range[1]) / 2, half = (range[1] - range[0]) / 2;
  if (data.from !== undefined) show([Number(data.from), Number(data.to)]);
  if (data.zoom) show([middle - half * data.zoom, middle + half * data.zoom]);
  if (data.shift) show([range[0] + 2 * half * data.shift, range[1] + 2 * half * data.shift]);
  if (data.fetch) { byId("timeline").scrollIntoView(); follow("downloads", (e, row) => e.fetch[row] === Number(data.fetch)); }
  if (data.stall) { byId("timeline").scrollIntoView(); followStall(Number(data.stall)); }
});
byId("close").addEventListener("click", () => select(linked[0], -1));
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && linked.length) select(linked[0], -1); });
window.cvmprof = { show, select, figures };
draw();
})();
