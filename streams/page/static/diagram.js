// The grid as a one-line diagram: what is violated must be seen without reading, and without telling colours apart.
import { at, percent, perUnit, power, svg, UP, DOWN } from "./format.js";

const PAD = { left: 34, right: 30, top: 22, bottom: 38 }; // below: the names of the last buses, then the line that tells what is shown
export const PPM = 1e6;
const TOLERANCE_PPM = 1; // as in the summary: the clearing promises limits to 1e-6 pu

// Position of a voltage in its band: -1 at the lower limit, 1 at the upper, beyond = violated.
export function band(bus, ppm) {
  const middle = (bus.max_voltage_ppm + bus.min_voltage_ppm) / 2;
  return (ppm - middle) / ((bus.max_voltage_ppm - bus.min_voltage_ppm) / 2 || 1);
}
export function voltageClass(bus, ppm) {
  if (!ppm) return "v-dead";
  if (ppm > bus.max_voltage_ppm + TOLERANCE_PPM) return "v-over";
  if (ppm < bus.min_voltage_ppm - TOLERANCE_PPM) return "v-under";
  const t = band(bus, ppm);
  return t > 0.66 ? "v-high" : t > 0.33 ? "v-high1" : t < -0.66 ? "v-low" : t < -0.33 ? "v-low1" : "v-mid";
}
export function loadingClass(branch, ppm) {
  if (!branch.closed) return "l-open";
  if (!branch.limited) return "l-free";
  return ppm > PPM + TOLERANCE_PPM ? "l-over" : ppm > 0.8 * PPM ? "l-high" : ppm > 0.5 * PPM ? "l-mid" : "l-low";
}

export class Diagram {
  constructor(root, ctx) {
    this.root = root;
    this.ctx = ctx;
    this.network = null;
    this.size = "";
    root.addEventListener("keydown", (e) => this.key(e));
    this.worst = new Map();
    document.getElementById("legend").append(...legend());
  }

  // The quarter-hour in which the forecast is furthest beyond its limits: where an engineer looks first.
  worstSlot() {
    const network = this.ctx.network(), grid = this.ctx.grid("forecast") ?? this.ctx.grid();
    if (!network || !grid) return null;
    if (this.worst.get("grid") === grid) return this.worst.get("slot");
    // Summed over the elements: many buses a little too high are worse than one.
    const total = new Map(), add = (slot, excess) => total.set(slot, (total.get(slot) ?? 0) + excess);
    for (const bus of network.buses) {
      (grid.voltage_ppm[bus.bus_id] ?? []).forEach((v, k) => {
        const excess = v ? Math.max(v - bus.max_voltage_ppm, bus.min_voltage_ppm - v) : 0;
        if (excess > TOLERANCE_PPM) add(k, 10 * excess);
      });
    }
    for (const b of network.branches) (grid.loading_ppm[b.branch_id] ?? []).forEach((l, k) => l > PPM + TOLERANCE_PPM && add(k, l - PPM));
    const most = Math.max(0, ...total.values());
    const worst = most ? Math.min(...[...total].filter(([, e]) => e === most).map(([k]) => k)) : null;
    this.worst = new Map([["grid", grid], ["slot", worst]]);
    return worst;
  }

  draw(changed) {
    const network = this.ctx.network();
    const box = this.root.getBoundingClientRect();
    const layout = this.ctx.view.layout ?? "tree";
    const size = `${Math.round(box.width)}x${Math.round(box.height)} ${layout}`;
    if (!network) { this.root.replaceChildren(); this.network = null; return; }
    if (network !== this.network || size !== this.size || changed.has("points")) {
      this.network = network;
      this.size = size;
      this.build(network, box.width, box.height, layout);
    }
    this.paint();
  }

  build(network, width, height, layout) {
    this.root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const raw = new Map(network.buses.map((b) => [b.bus_id, (layout === "map" && b.map) || b.tree]));
    const xs = [...raw.values()].map((p) => p[0]), ys = [...raw.values()].map((p) => p[1]);
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    let kx = (width - PAD.left - PAD.right) / (x1 - x0 || 1), ky = (height - PAD.top - PAD.bottom) / (y1 - y0 || 1);
    if (layout === "map") {
      // A map may be stretched a little to use the panel, but must stay recognisable.
      const k = Math.min(kx, ky);
      kx = Math.min(kx, 1.6 * k);
      ky = Math.min(ky, 1.6 * k);
    }
    const dx = (width - PAD.left - PAD.right - kx * (x1 - x0)) / 2, dy = (height - PAD.top - PAD.bottom - ky * (y1 - y0)) / 2;
    this.at = new Map([...raw].map(([id, p]) => [id, { x: PAD.left + dx + (p[0] - x0) * kx, y: PAD.top + dy + (p[1] - y0) * ky }]));
    this.buses = new Map(network.buses.map((b) => [b.bus_id, b]));
    this.radius = network.buses.length > 150 ? 3.2 : network.buses.length > 80 ? 4 : 5;
    this.marks = new Map();
    const wires = svg("g", { class: "wires" }), glyphs = svg("g", { class: "glyphs" }), dots = svg("g", { class: "dots" }), texts = svg("g", { class: "texts" });
    for (const branch of network.branches) this.buildBranch(branch, layout, wires, glyphs);
    for (const infeed of network.infeed_points) this.buildInfeed(infeed, glyphs);
    this.crowded = network.buses.length > 70;
    for (const bus of network.buses) this.buildBus(bus, dots, texts);
    this.root.replaceChildren(defs(), wires, glyphs, dots, texts);
  }

  buildBranch(branch, layout, wires, glyphs) {
    const a = this.at.get(branch.from_bus_id), b = this.at.get(branch.to_bus_id);
    if (!a || !b) return;
    const elbow = layout === "tree" && Math.abs(a.y - b.y) > 1 && Math.abs(a.x - b.x) > 1 && branch.closed;
    const [near, far] = a.x <= b.x ? [a, b] : [b, a];
    const path = elbow ? `M${near.x},${near.y}V${far.y}H${far.x}` : `M${a.x},${a.y}L${b.x},${b.y}`;
    const middle = elbow ? { x: (near.x + far.x) / 2, y: far.y } : { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    const id = `branch ${branch.branch_id}`;
    const wire = svg("path", { d: path, class: "wire" });
    const hazard = svg("path", { d: path, class: "hazard" });
    const hit = svg("path", { d: path, class: "hit" }, svg("title"));
    hit.onclick = () => this.ctx.select("branch", branch.branch_id);
    wires.append(wire, hazard, hit);
    const angle = elbow ? 0 : (Math.atan2(b.y - a.y, b.x - a.x) * 180) / Math.PI;
    const place = `translate(${middle.x} ${middle.y}) rotate(${angle})`;
    if (branch.kind === "TRANSFORMER") {
      glyphs.append(svg("g", { transform: place, class: "transformer" },
        svg("circle", { cx: -3, r: 5 }), svg("circle", { cx: 3, r: 5 })));
    } else if (branch.kind === "SWITCH" || !branch.closed) {
      glyphs.append(svg("g", { transform: place, class: branch.closed ? "switch closed" : "switch open" },
        svg("rect", { x: -4, y: -4, width: 8, height: 8 }), branch.closed ? null : svg("path", { d: "M-4,-4L4,4" })));
    }
    const flag = svg("text", { class: "flag", x: middle.x, y: middle.y - 8, "text-anchor": "middle" });
    glyphs.append(flag);
    this.marks.set(id, { wire, hazard, hit, flag, branch });
  }

  buildInfeed(infeed, glyphs) {
    const p = this.at.get(infeed.bus_id);
    if (!p) return;
    glyphs.append(svg("g", { transform: `translate(${p.x - 17} ${p.y})`, class: "infeed" },
      svg("rect", { x: -8, y: -8, width: 16, height: 16 }),
      svg("path", { d: "M-8,0L0,8M-8,-8L8,8M0,-8L8,0M8,0H13" }), svg("title", {}, `infeed point ${infeed.infeed_id}`)));
  }

  buildBus(bus, dots, texts) {
    const p = this.at.get(bus.bus_id);
    const halo = svg("circle", { cx: p.x, cy: p.y, r: this.radius + 5, class: "halo" });
    const ring = svg("circle", { cx: p.x, cy: p.y, r: this.radius + 3.5, class: "ring" });
    const dot = svg("circle", { cx: p.x, cy: p.y, r: this.radius, class: "bus" }, svg("title"));
    dot.onclick = () => this.ctx.select("bus", bus.bus_id);
    const flag = svg("text", { class: "flag", x: p.x, y: p.y - this.radius - 6, "text-anchor": "middle" });
    const label = svg("text", { class: "label", x: p.x, y: p.y + this.radius + 10, "text-anchor": "middle" }, bus.bus_id);
    const act = svg("path", { class: "act" });
    const group = svg("g", { role: "img", id: `bus-${bus.bus_id}` }, halo, ring, dot);
    dots.append(act, group);
    const points = this.ctx.pointsAt(bus.bus_id).map((point, k) => {
      const glyph = svg("path", { class: "point", transform: `translate(${p.x + this.radius + 5 + 8 * k} ${p.y - this.radius - 4})` }, svg("title"));
      dots.append(glyph);
      return { point, glyph };
    });
    texts.append(label, flag);
    this.marks.set(`bus ${bus.bus_id}`, { halo, ring, dot, flag, label, act, points, group, bus });
  }

  paint() {
    const { ctx } = this, grid = ctx.grid(), ms = ctx.slotMs(), chosen = ctx.view.element;
    const read = (series) => (grid ? at(series, grid.start_ms, grid.resolution_s, ms) : null);
    const awarded = new Map();
    for (const a of ctx.view.mode === "forecast" ? [] : ctx.ofSession("awards")) {
      const w = at(a.power_w, a.start_ms, a.resolution_s, ms) ?? 0;
      if (w && a.bus_id) awarded.set(a.bus_id, (awarded.get(a.bus_id) ?? 0) + (a.direction === "UP" ? w : -w));
    }
    const most = Math.max(1, ...[...awarded.values()].map(Math.abs));
    let over = 0, under = 0, hot = 0;
    for (const mark of this.marks.values()) {
      if (mark.bus) {
        const v = read(grid?.voltage_ppm[mark.bus.bus_id]);
        const kind = v === null ? "v-none" : voltageClass(mark.bus, v);
        const bad = kind === "v-over" || kind === "v-under";
        over += kind === "v-over";
        under += kind === "v-under";
        mark.dot.setAttribute("class", `bus ${kind}`);
        mark.ring.setAttribute("class", bad ? "ring bad" : "ring");
        mark.halo.setAttribute("class", chosen?.kind === "bus" && chosen.id === mark.bus.bus_id ? "halo on" : "halo");
        mark.flag.textContent = kind === "v-over" ? "V↑" : kind === "v-under" ? "V↓" : "";
        mark.label.setAttribute("class", this.crowded && chosen?.id !== mark.bus.bus_id ? "label off" : "label");
        const text = `${mark.bus.bus_id}: ${v ? `${perUnit(v)} p.u.` : "no voltage known"}${bad ? ", outside its band" : ""}`;
        mark.dot.firstChild.textContent = text;
        mark.group.setAttribute("aria-label", text);
        this.paintAct(mark, awarded.get(mark.bus.bus_id) ?? 0, most);
        this.paintPoints(mark, ms);
      } else {
        const l = read(grid?.loading_ppm[mark.branch.branch_id]), p = read(grid?.power_w[mark.branch.branch_id]);
        const kind = loadingClass(mark.branch, l ?? 0);
        hot += kind === "l-over";
        const on = chosen?.kind === "branch" && chosen.id === mark.branch.branch_id;
        mark.wire.setAttribute("class", `wire ${kind}${on ? " on" : ""}`);
        mark.wire.setAttribute("stroke-width", kind === "l-open" ? 1.2 : 1.4 + Math.min(1.4, (l ?? 0) / PPM) * 4.2);
        mark.hazard.setAttribute("class", kind === "l-over" ? "hazard on" : "hazard");
        mark.flag.textContent = kind === "l-over" ? percent(l).replace(".0 %", " %") : "";
        mark.hit.firstChild.textContent = `${mark.branch.branch_id}: ${mark.branch.closed ? `${power(p)}, ${mark.branch.limited ? percent(l ?? 0) + " of its limit" : "no limit"}` : "open"}`;
      }
    }
    const alarm = document.getElementById("grid-alarm");
    const said = [hot && `${hot} overloaded`, over && `${over} V↑`, under && `${under} V↓`].filter(Boolean);
    alarm.textContent = !grid ? "" : said.length ? `⚠ ${said.join(" · ")}` : "✓ within limits";
    alarm.className = `alarm ${said.length ? "bad" : "good"}`;
    if (chosen?.kind === "bus") this.root.setAttribute("aria-activedescendant", `bus-${chosen.id}`);
  }

  paintAct(mark, w, most) {
    if (!w) { mark.act.setAttribute("class", "act"); return; }
    const p = this.at.get(mark.bus.bus_id), s = 4 + 5 * Math.sqrt(Math.abs(w) / most), sign = w > 0 ? -1 : 1;
    // Below the label on its way down, above the flag on its way up.
    const y = p.y + (sign < 0 ? -this.radius - 3 : this.radius + 13);
    mark.act.setAttribute("d", `M${p.x - s * 0.8},${y}H${p.x + s * 0.8}L${p.x},${y + sign * s * 1.3}Z`);
    mark.act.setAttribute("class", `act ${w > 0 ? "up" : "down"}`);
  }

  paintPoints(mark, ms) {
    for (const { point, glyph } of mark.points) {
      const colour = this.ctx.lightOf(point.connection_point_id, ms);
      // Shape says the same as colour: circle, triangle, square.
      const shape = { GREEN: "M-3,0A3,3 0 1 0 3,0A3,3 0 1 0 -3,0", YELLOW: "M-3.6,3L3.6,3L0,-3.6Z", RED: "M-3.2,-3.2H3.2V3.2H-3.2Z" }[colour]
        ?? "M0,-3L3,0L0,3L-3,0Z";
      glyph.setAttribute("d", shape);
      glyph.setAttribute("class", `point ${colour ? colour.toLowerCase() : "none"}`);
      glyph.firstChild.textContent = `${point.connection_point_id}: ${colour ? colour.toLowerCase() : "no traffic light yet"}`;
    }
  }

  key(event) {
    const { ctx } = this, network = ctx.network();
    if (!network) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const chosen = ctx.view.element;
    const start = network.infeed_points[0]?.bus_id ?? network.buses[0].bus_id;
    if (event.key === "Home" || ((step || event.key === "Enter") && !chosen)) {
      ctx.select("bus", start);
    } else if (event.key === "Escape") {
      ctx.select(null, null);
    } else if (step) {
      const from = chosen.kind === "bus" ? chosen.id : network.branches.find((b) => b.branch_id === chosen.id)?.from_bus_id;
      const next = this.nearest(from, step);
      if (next) ctx.select("bus", next);
    } else if (event.key === "b" || event.key === "B") {
      this.nextBranch(network, chosen, start);
    } else {
      return;
    }
    event.preventDefault();
  }

  nearest(from, [sx, sy]) {
    const p = this.at.get(from);
    let best = null, least = Infinity;
    for (const [id, q] of this.at) {
      const along = (q.x - p.x) * sx + (q.y - p.y) * sy, across = Math.abs((q.x - p.x) * sy) + Math.abs((q.y - p.y) * sx);
      const cost = along + 2.5 * across;
      if (id !== from && along > 0.5 && cost < least) { least = cost; best = id; }
    }
    return best;
  }

  nextBranch(network, chosen, start) {
    if (chosen?.kind === "branch") this.anchor ??= network.branches.find((b) => b.branch_id === chosen.id)?.from_bus_id;
    else this.anchor = chosen?.id ?? start;
    const around = network.branches.filter((b) => b.from_bus_id === this.anchor || b.to_bus_id === this.anchor);
    const now = around.findIndex((b) => chosen?.kind === "branch" && b.branch_id === chosen.id);
    if (around.length) this.ctx.select("branch", around[(now + 1) % around.length].branch_id);
  }
}

function defs() {
  return svg("defs");
}

function legend() {
  const item = (draw, text) => {
    const span = document.createElement("span");
    const icon = svg("svg", { viewBox: "0 0 26 14", width: 26, height: 14, "aria-hidden": "true" }, ...draw);
    span.append(icon, text);
    return span;
  };
  const dot = (kind) => [svg("circle", { cx: 13, cy: 7, r: 4.5, class: `bus ${kind}` })];
  const wire = (kind, width) => [svg("path", { d: "M2,7H24", class: `wire ${kind}`, "stroke-width": width })];
  return [
    item([...dot("v-low")], "low"), item(dot("v-mid"), "mid band"), item(dot("v-high"), "high"),
    item([svg("circle", { cx: 13, cy: 7, r: 6, class: "ring bad" }), svg("circle", { cx: 13, cy: 7, r: 3.5, class: "bus v-over" })], "V↑ V↓ outside band"),
    item(wire("l-low", 2), "≤50 %"), item(wire("l-mid", 3.4), "≤80 %"), item(wire("l-high", 4.6), "≤100 %"),
    item([...wire("l-over", 6), svg("path", { d: "M2,7H24", class: "hazard on" })], "overloaded"),
    item([svg("path", { d: "M3,7H23", class: "wire l-open" }), svg("g", { transform: "translate(13 7)", class: "switch open" }, svg("rect", { x: -4, y: -4, width: 8, height: 8 }), svg("path", { d: "M-4,-4L4,4" }))], "open"),
    item([svg("g", { transform: "translate(13 7)", class: "infeed" }, svg("rect", { x: -6, y: -6, width: 12, height: 12 }), svg("path", { d: "M-6,0L0,6M-6,-6L6,6M0,-6L6,0" }))], "infeed"),
    item([svg("path", { d: "M6,11H20L13,2Z", class: "act up" })], `${UP} awarded up`),
    item([svg("path", { d: "M6,3H20L13,12Z", class: "act down" })], `${DOWN} down`),
    item([svg("path", { d: "M1,7A3,3 0 1 0 7,7A3,3 0 1 0 1,7", class: "point green" }), svg("path", { d: "M9.4,10L16.6,10L13,3.4Z", class: "point yellow" }), svg("path", { d: "M19,4H25V10H19Z", class: "point red" })], "traffic light"),
    item([svg("path", { d: "M13,3.5L16.5,7L13,10.5L9.5,7Z", class: "point none" })], "no light told"),
  ];
}
