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
  if (column.unit === "flag") return v ? "yes" : "no";
  return String(v);
};
const element = (tag, text) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; return e; };

function describe(entry, row) {
  const box = document.createDocumentFragment();
  const word = entry.figure.words[entry.code[row]];
  box.append(element("h4", `${word.startsWith("phase ") ? "phase" : word} · ${duration(entry.end[row] - entry.start[row])}`));
  const list = element("dl"); list.className = "pairs";
  const put = (name, text) => { if (text !== null) list.append(element("dt", name), element("dd", text)); };
  put("from", `${entry.start[row].toFixed(6)} s to ${entry.end[row].toFixed(6)} s`);
  for (const column of entry.columns) put(column.name, value(column, row));
  if (entry.fetch[row] >= 0) put("fetch", `#${entry.fetch[row]}`);
  if (entry.merged[row] > 1) put("drawn for", `${entry.merged[row].toLocaleString("en")} intervals, mostly ${word}`);
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
    const drawn = edges.slice(), rows = entry.rows[trace];
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
        font: { color: "#ffffff", size: 11.5 }, captureevents: false });
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
  return entry.rows[point.curveNumber][index];
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
  const draw = (row, colour, width) => shapes.push({
    type: "rect", x0: entry.start[row], x1: entry.end[row], y0: -entry.lane[row] - 0.46, y1: -entry.lane[row] + 0.46,
    line: { color: colour, width }, fillcolor: "rgba(0,0,0,0)" });
  for (let row = 0; row < entry.start.length && shapes.length < 400; row++)
    if (entry.fetch[row] >= 0 && fetches.has(entry.fetch[row]) && entry.name !== "threads") draw(row, "#111111", 1.4);
  if (chosen >= 0) draw(chosen, "#0b57d0", 2.4);
  return Plotly.relayout(entry.node, { shapes });
}
function select(entry, row) {
  const fetches = row < 0 ? new Set()
    : entry.fetch[row] >= 0 ? new Set([entry.fetch[row]])
    : entry.name === "overview" ? fetchesWithin(entry.start[row], entry.end[row]) : new Set();
  for (const lane of linked) outline(lane, fetches, lane === entry ? row : -1);
  for (const line of document.querySelectorAll("tr.lit")) line.classList.remove("lit");
  const panel = byId("selected");
  panel.replaceChildren();
  byId("selection").hidden = row < 0;
  if (row < 0) return;
  panel.append(describe(entry, row));
  panel.append(zoomButton(entry.start[row], entry.end[row]));
  if (fetches.size) panel.append(fetchList([...fetches].sort((a, b) => a - b)));
}
function zoomButton(start, end) {
  const button = element("button", "Zoom here");
  button.type = "button";
  button.addEventListener("click", () => { const pad = (end - start) * 0.15; show([start - pad, end + pad]); });
  return button;
}
function fetchList(fetches) {
  const holder = document.createDocumentFragment();
  holder.append(element("h4", `${fetches.length} ${fetches.length === 1 ? "fetch" : "fetches"} behind it, outlined in the lanes`));
  const list = element("ol"), downloads = figures.get("downloads");
  for (const fetch of fetches.slice(0, 40)) {
    const item = element("li"), line = byId(`fetch-${fetch}`);
    if (line) line.classList.add("lit");
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
function follow(name, test) {
  const entry = figures.get(name);
  if (!entry) return;
  for (let row = 0; row < entry.start.length; row++) if (test(entry, row)) { select(entry, row); return; }
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
  if (data.stall) { byId("timeline").scrollIntoView(); follow("overview", (e, row) => {
    const c = e.columns.find((k) => k.name === "what"); return value(c, row) === `stall ${data.stall}`; }); }
});
byId("close").addEventListener("click", () => select(linked[0], -1));
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && linked.length) select(linked[0], -1); });
window.cvmprof = { show, select, figures };
draw();
})();
