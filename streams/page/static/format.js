// Numbers, times and small DOM helpers.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  fill(node, attributes, children);
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(node, attributes, children);
  return node;
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
}

export function power(w, digits) {
  if (w === null || w === undefined) return "–";
  const size = Math.abs(w);
  if (size >= 1e6) return `${minus((w / 1e6).toFixed(digits ?? 2))} MW`;
  return `${minus((w / 1e3).toFixed(digits ?? (size < 1e5 ? 1 : 0)))} kW`;
}

export function energy(wh) {
  if (wh === null || wh === undefined) return "–";
  return Math.abs(wh) >= 1e6 ? `${minus((wh / 1e6).toFixed(3))} MWh` : `${minus((wh / 1e3).toFixed(1))} kWh`;
}

export const price = (milli) => minus((milli / 1000).toFixed(2));
export const euro = (cents) => minus((cents / 100).toFixed(2));
export const percent = (ppm) => `${minus((ppm / 1e4).toFixed(1))} %`;
export const perUnit = (ppm) => (ppm / 1e6).toFixed(4);
export const minus = (text) => text.replace("-", "−");

let zone = "UTC";
const formats = new Map();
export function useZone(name) {
  zone = name || "UTC";
}
function formatter(kind, options) {
  const key = `${kind} ${zone}`;
  if (!formats.has(key)) {
    let found;
    try { found = new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options }); }
    catch { found = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options }); }
    formats.set(key, found);
  }
  return formats.get(key);
}
export const hhmm = (ms) => formatter("hm", { hour: "2-digit", minute: "2-digit" }).format(ms);
export const hhmmss = (ms) => formatter("hms", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(ms);
export const dated = (ms) =>
  formatter("d", { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZoneName: "short" }).format(ms);

export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  return `${two(Math.floor(s / 3600))}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

export const UP = "▲", DOWN = "▼";
export const arrow = (direction) => (direction === "UP" ? UP : DOWN);

// A value per slot of the session from a series that may begin elsewhere or have another raster.
export function at(series, startMs, resolutionS, atMs) {
  if (!series) return null;
  const k = Math.floor((atMs - startMs) / (resolutionS * 1000));
  return k >= 0 && k < series.length ? series[k] : null;
}
export const sum = (list) => list.reduce((a, b) => a + b, 0);
