// The chosen bus or branch: its numbers, and its day against its limits.
import { at, el, energy, euro, sum, svg, hhmm, perUnit, percent, power, price, arrow, UP, DOWN } from "./format.js";
import { loadingClass, voltageClass, PPM } from "./diagram.js";

const MODES = [["forecast", "forecast"], ["cleared", "cleared"], ["metered", "metered (est.)"]];
const UNREAD = "as planned, not read";

export class Detail {
  constructor(root, select, ctx) {
    Object.assign(this, { root, select, ctx });
    select.onchange = () => {
      const [kind, ...id] = select.value.split(" ");
      ctx.select(kind || null, id.join(" "));
    };
  }

  draw(changed) {
    const network = this.ctx.network();
    if (changed.has("network") || changed.has("view")) this.choices(network);
    const chosen = this.ctx.view.element;
    const value = chosen ? `${chosen.kind} ${chosen.id}` : "";
    if (this.select.value !== value) this.select.value = value;
    if (!network) { this.root.replaceChildren(...this.day()); return; }
    const body = !chosen ? this.overview(network) : chosen.kind === "bus" ? this.bus(network, chosen.id) : this.branch(network, chosen.id);
    this.root.replaceChildren(...body.filter(Boolean));
  }

  choices(network) {
    const options = (kind, ids) => ids.map((id) => el("option", { value: `${kind} ${id}` }, id));
    const group = (label, list) => { const g = el("optgroup", { label }); g.append(...list); return g; };
    this.select.replaceChildren(el("option", { value: "" }, "whole grid"),
      ...(network ? [group("Buses", options("bus", network.buses.map((b) => b.bus_id))), group("Branches", options("branch", network.branches.map((b) => b.branch_id)))] : []));
  }

  read(mode, table, id) {
    const grid = this.ctx.grid(mode);
    return grid ? at(grid[table][id], grid.start_ms, grid.resolution_s, this.ctx.slotMs()) : null;
  }

  // One line per mode: its value now.
  modes(table, id, show, classify) {
    return el("dl", { class: "modes" }, ...MODES.flatMap(([mode, name]) => {
      const v = this.read(mode, table, id);
      if (v === null) return [];
      const kind = classify(v), bad = ["v-over", "v-under", "l-over"].includes(kind);
      const unread = mode === "metered" && !this.ctx.grid(mode).read[this.ctx.view.slot];
      return [el("dt", { class: `line ${mode}` }, unread ? UNREAD : name), el("dd", { class: bad ? "bad" : "" }, show(v), bad ? " ⚠" : "")];
    }));
  }

  overview(network) {
    const rows = [];
    const grid = this.ctx.grid(), ms = this.ctx.slotMs();
    if (!grid) return [el("p", { class: "muted" }, "Choose a bus or branch in the diagram, or here.")];
    const now = (series) => at(series, grid.start_ms, grid.resolution_s, ms);
    for (const b of network.branches) {
      const l = now(grid.loading_ppm[b.branch_id]);
      if (l && b.limited) rows.push({ excess: l - PPM, id: ["branch", b.branch_id], text: percent(l), bad: loadingClass(b, l) === "l-over" });
    }
    for (const b of network.buses) {
      const v = now(grid.voltage_ppm[b.bus_id]);
      if (v) {
        const excess = 10 * Math.max(v - b.max_voltage_ppm, b.min_voltage_ppm - v);
        rows.push({ excess, id: ["bus", b.bus_id], text: `${perUnit(v)} p.u.`, bad: ["v-over", "v-under"].includes(voltageClass(b, v)) });
      }
    }
    rows.sort((a, b) => b.excess - a.excess);
    return [el("h3", {}, "Closest to a limit, or beyond"), el("ul", { class: "closest" }, ...rows.slice(0, 12).map((r) =>
      el("li", {}, el("button", { type: "button", onclick: () => this.ctx.select(...r.id) }, r.id[1]), el("span", { class: r.bad ? "bad" : "" }, r.text + (r.bad ? " ⚠" : ""))))), ...this.day()];
  }

  // The session in a few numbers, while nothing is chosen.
  day() {
    const { ctx } = this, cleared = ctx.cleared(), offers = ctx.store.get("offers", ctx.view.session), rows = [];
    const s = ctx.session(), wh = (list) => (sum(list) * (s?.resolution_s ?? 900)) / 3600;
    if (offers) rows.push(["offers", String(offers.count)]);
    if (cleared) {
      rows.push(["cleared up", energy(wh(cleared.slots.map((k) => k.up_w)))], ["cleared down", energy(wh(cleared.slots.map((k) => k.down_w)))]);
      const missing = wh(cleared.slots.map((k) => k.shortfall_w));
      rows.push(["unmet", energy(missing)], ["payment", `${(cleared.cost_nano / 1e9).toFixed(2)} EUR`]);
      const volts = cleared.slots.filter((k) => k.voltage_shortfall_ppm > 0);
      if (volts.length) rows.push(["voltage out of band", `${volts.length} slots, up to ${(Math.max(...volts.map((k) => k.voltage_shortfall_ppm)) / 1e4).toFixed(2)} %`]);
      const kinds = {};
      for (const k of cleared.slots) kinds[k.status] = (kinds[k.status] ?? 0) + 1;
      for (const [kind, n] of Object.entries(kinds)) rows.push([`slots ${kind.toLowerCase().replaceAll("_", " ")}`, String(n)]);
    }
    const paid = ctx.ofSession("settlements");
    if (paid.length) rows.push(["settled", `${euro(sum(paid.map((p) => p.total_cents)))} EUR`]);
    if (!rows.length) return [];
    // The area's name may be a sentence that says what was assumed of the grid.
    const name = ctx.store.get("areas", ctx.view.area)?.name ?? "";
    return [el("h3", { class: "more" }, "The session"), el("p", { class: "sub" }, name), el("dl", {}, ...rows.flatMap(([name, v]) => [el("dt", {}, name), el("dd", {}, v)]))];
  }

  bus(network, id) {
    const bus = network.buses.find((b) => b.bus_id === id);
    if (!bus) return [];
    const { ctx } = this, ms = ctx.slotMs(), prices = ctx.prices();
    const p = prices ? at(prices.buses[id], prices.start_ms, prices.resolution_s, ms) : null;
    const awarded = ctx.awardedAt(id, ms);
    return [
      el("p", { class: "sub" }, `Bus ${bus.name && bus.name !== id ? bus.name : id} · ${(bus.nominal_voltage_v / 1000).toString()} kV · band ${perUnit(bus.min_voltage_ppm).slice(0, 5)}–${perUnit(bus.max_voltage_ppm).slice(0, 5)} p.u.`),
      this.modes("voltage_ppm", id, (v) => `${perUnit(v)} p.u.`, (v) => voltageClass(bus, v)),
      this.spark("voltage_ppm", id, [bus.min_voltage_ppm, bus.max_voltage_ppm], (v) => perUnit(v).slice(0, 5), "voltage over the day"),
      el("dl", {}, el("dt", {}, "price"), el("dd", {}, p === null ? "–" : `${price(p)} EUR/MWh`),
        el("dt", {}, "awarded now"), el("dd", {}, [awarded.up ? `${UP} ${power(awarded.up)}` : "", awarded.down ? `${DOWN} ${power(awarded.down)}` : ""].filter(Boolean).join("  ") || "0")),
      ...this.points(id, ms),
    ];
  }

  points(bus, ms) {
    return this.ctx.pointsAt(bus).map((point) => {
      const colour = this.ctx.lightOf(point.connection_point_id, ms);
      const assets = this.ctx.store.all("assets").filter((a) => a.connection_point_id === point.connection_point_id);
      const active = this.ctx.ofSession("activations").filter((a) => a.connection_point_id === point.connection_point_id);
      return el("div", { class: "cp" }, el("b", {}, point.connection_point_id), ` ${point.fsp_id ?? ""}`,
        colour ? el("span", { class: `light ${colour.toLowerCase()}` }, { GREEN: "● green", YELLOW: "▲ yellow", RED: "■ red" }[colour]) : null,
        el("div", { class: "muted" }, assets.map((a) => `${a.kind.toLowerCase().replace("_", " ")} ${power(Math.max(a.max_feed_in_w, a.max_draw_w), 0)}`).join(", ")),
        ...active.map((a) => el("div", {}, `${arrow(a.direction)} ${power(at(a.power_w, a.start_ms, a.resolution_s, ms) ?? 0)} ordered, ${a.answer.toLowerCase().replace("_", " ")}${this.delivered(a, ms)}${a.stopped ? `, stopped ${hhmm(a.stopped.from_ms)}–${hhmm(a.stopped.until_ms)}` : ""}`)));
    });
  }

  // What an order delivers in the quarter-hour: as read, then as computed.
  delivered(a, ms) {
    const d = this.ctx.delivered(a.activation_id), wh = at(d.delivered_wh, d.start_ms, d.resolution_s, ms);
    return wh === null ? "" : `, ${power((wh * 3600) / d.resolution_s)} delivered${d.live ? " as read" : ""}`;
  }

  branch(network, id) {
    const branch = network.branches.find((b) => b.branch_id === id);
    if (!branch) return [];
    const p = this.read(this.ctx.view.mode, "power_w", id);
    const jump = (bus) => el("button", { type: "button", onclick: () => this.ctx.select("bus", bus) }, bus);
    return [
      el("p", { class: "sub" }, `${{ LINE: "Line", TRANSFORMER: "Transformer", SWITCH: "Switch" }[branch.kind]}${branch.name && branch.name !== id ? ` ${branch.name}` : ""}: `, jump(branch.from_bus_id), " – ", jump(branch.to_bus_id), branch.closed ? "" : " · open"),
      branch.limited ? this.modes("loading_ppm", id, percent, (l) => loadingClass(branch, l)) : el("p", { class: "muted" }, "no thermal limit"),
      branch.limited ? this.spark("loading_ppm", id, [null, PPM], (v) => `${Math.round(v / 1e4)} %`, "loading over the day") : null,
      el("dl", {}, el("dt", {}, "power"), el("dd", {}, p === null ? "–" : `${power(Math.abs(p))} from ${p >= 0 ? branch.from_bus_id : branch.to_bus_id}`)),
    ];
  }

  spark(table, id, [low, high], show, name) {
    const { ctx } = this, W = 252, H = 86, n = ctx.slots(), left = 34, grids = MODES.map(([m]) => [m, ctx.grid(m)]).filter(([, g]) => g);
    if (!grids.length || !n) return null;
    const all = grids.flatMap(([, g]) => (g[table][id] ?? []).filter((v) => v));
    if (!all.length) return null;
    const least = Math.min(...all, ...(low === null ? [0] : [low])), most = Math.max(...all, high), gap = (most - least) * 0.08 || 1;
    const y = (v) => 4 + (H - 8) * (1 - (v - least + gap) / (most - least + 2 * gap)), x = (k) => left + ((W - left - 2) * k) / n;
    const line = (g) => (g[table][id] ?? []).map((v, k) => (v ? `${k && g[table][id][k - 1] ? "L" : "M"}${(x(k + 0.5)).toFixed(1)},${y(v).toFixed(1)}` : "")).join("");
    const limit = (v) => (v === null ? null : svg("g", {}, svg("path", { d: `M${left},${y(v)}H${W}`, class: "limit" }), svg("text", { x: left - 3, y: y(v) + 3, "text-anchor": "end" }, show(v))));
    return svg("svg", { class: "spark", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${name}: from ${show(Math.min(...all))} to ${show(Math.max(...all))}, limits ${[low, high].filter((v) => v !== null).map(show).join(" and ")}` },
      svg("rect", { x: x(ctx.view.slot), y: 0, width: (W - left) / n, height: H, class: "cursor" }),
      limit(low), limit(high), ...grids.map(([m, g]) => svg("path", { d: line(g), class: `line ${m}` })));
  }
}
