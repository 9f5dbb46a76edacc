// Bars of flexibility per quarter-hour and the heat map of prices and volumes per bus; one cursor for both.
import { at, hhmm, minus, power, price, svg, el, UP, DOWN } from "./format.js";

const M = { left: 46, right: 10, top: 8, bottom: 18 };

function slotKeys(event, ctx) {
  const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -4, PageDown: 4, Home: -1e6, End: 1e6 }[event.key];
  if (step === undefined) return false;
  ctx.setSlot(ctx.view.slot + step);
  event.preventDefault();
  return true;
}

function niceStep(range, count) {
  const raw = range / count, unit = 10 ** Math.floor(Math.log10(raw || 1));
  return unit * ([1, 2, 5, 10].find((m) => m * unit >= raw) ?? 10);
}

export class Bars {
  constructor(root, key, readout, ctx) {
    Object.assign(this, { root, ctx, readout });
    root.addEventListener("keydown", (e) => slotKeys(e, ctx));
    const to = (e) => ctx.setSlot(this.slotAt(e));
    root.addEventListener("pointerdown", (e) => { root.setPointerCapture(e.pointerId); to(e); });
    root.addEventListener("pointermove", (e) => { if (e.buttons) to(e); else this.read(this.slotAt(e)); });
    root.addEventListener("pointerleave", () => this.read(ctx.view.slot));
    for (const [name, text] of [["taken", "cleared"], ["left", "offered"], ["need", "need"], ["asked", "requested"], ["got", "delivered"], ["missing", "unmet"]]) {
      key.append(el("span", {}, el("i", { class: `swatch ${name}` }), text));
    }
  }

  slotAt(event) {
    const box = this.root.getBoundingClientRect(), n = this.ctx.slots() || 1;
    const x = event.clientX - box.left - M.left;
    return Math.min(n - 1, Math.max(0, Math.floor((x / (box.width - M.left - M.right)) * n)));
  }

  series() {
    const { ctx } = this, n = ctx.slots(), zero = () => new Array(n).fill(0);
    const pick = (row) => ({ UP: row?.UP ?? zero(), DOWN: row?.DOWN ?? zero() });
    const cleared = ctx.cleared();
    const got = { UP: zero(), DOWN: zero() };
    const way = new Map(ctx.store.all("activations").map((a) => [a.activation_id, a.direction]));
    const known = new Set([...ctx.ofSession("deliveries"), ...ctx.ofSession("readings")].map((d) => d.activation_id));
    for (const d of [...known].map((id) => ctx.delivered(id))) {
      const series = got[way.get(d.activation_id)];
      if (!series) continue;
      for (let k = 0; k < n; k++) series[k] += ((at(d.delivered_wh, d.start_ms, d.resolution_s, ctx.slotMs(k)) ?? 0) * 3600) / d.resolution_s;
    }
    // A provider's lens shows its own offers where it may not see everyone's.
    const own = ctx.store.all("own_offers").find((o) => o.session_id === ctx.view.session && o.fsp_id === ctx.view.party);
    const offers = ctx.store.get("offers", ctx.view.session) ?? own;
    return {
      need: pick(ctx.store.get("needs", ctx.view.session)),
      asked: pick(ctx.store.get("requested", ctx.view.session)),
      offered: pick(offers),
      taken: { UP: cleared?.slots.map((s) => s.up_w) ?? zero(), DOWN: cleared?.slots.map((s) => s.down_w) ?? zero() },
      missing: cleared?.slots.map((s) => s.shortfall_w) ?? zero(),
      status: cleared?.slots.map((s) => s.status) ?? [],
      got,
      own: Boolean(own),
      owes: known.size > 0,
    };
  }

  draw() {
    const { ctx, root } = this, n = ctx.slots();
    const box = root.getBoundingClientRect(), W = box.width, H = box.height;
    root.setAttribute("viewBox", `0 0 ${W} ${H}`);
    if (!n || W < 50) { root.replaceChildren(); this.readout.textContent = ""; return; }
    const s = (this.data = this.series());
    // Offers may be ten times what is needed; the axis is for what is needed, taken and delivered, and says what it cuts off.
    const most = (...lists) => Math.max(0, ...lists.flat());
    const matter = { UP: most(s.need.UP, s.asked.UP, s.taken.UP, s.got.UP), DOWN: most(s.need.DOWN, s.asked.DOWN, s.taken.DOWN, s.got.DOWN) };
    const room = 1.5 * Math.max(matter.UP, matter.DOWN) || Infinity;
    const share = (way) => Math.max(1, matter[way], Math.min(room * (matter[way] || room === Infinity ? 1 : 0.3), most(s.offered[way])));
    const top = share("UP"), low = share("DOWN");
    const cut = [most(s.offered.UP) > top ? `${UP} up, offers to ${power(most(s.offered.UP), 1)}` : `${UP} up`,
      most(s.offered.DOWN) > low ? `${DOWN} down, offers to ${power(most(s.offered.DOWN), 1)}` : `${DOWN} down`];
    const within = (list, limit) => list.map((w) => Math.min(w, limit));
    const kx = (W - M.left - M.right) / n, h = H - M.top - M.bottom, ky = h / (top + low) * 0.97;
    const zero = M.top + (top * h) / (top + low);
    const x = (k) => M.left + k * kx;
    const bars = (from, to, sign) => from.map((a, k) => (to[k] > a ? `M${x(k).toFixed(1)},${(zero - sign * a * ky).toFixed(1)}H${(x(k + 1) - Math.min(1, kx * 0.2)).toFixed(1)}V${(zero - sign * to[k] * ky).toFixed(1)}H${x(k).toFixed(1)}Z` : "")).join("");
    const none = new Array(n).fill(0);
    // Only where there is something: a line along zero says nothing.
    const stairs = (v, sign) => v.map((w, k) => {
      const y = (zero - sign * w * ky).toFixed(1), before = k ? v[k - 1] : 0;
      if (!w) return before ? `V${zero.toFixed(1)}` : "";
      return `${before ? "V" + y : `M${x(k).toFixed(1)},${zero.toFixed(1)}V${y}`}H${x(k + 1).toFixed(1)}`;
    }).join("");
    const axis = svg("g", { class: "axis" });
    const step = niceStep(top + low, 5), unit = step >= 1e5 ? ["MW", 1e6] : ["kW", 1e3];
    for (let w = -Math.floor(low / step) * step; w <= top; w += step) {
      const y = zero - w * ky;
      axis.append(svg("path", { d: `M${M.left},${y}H${W - M.right}`, class: w ? "" : "zero" }),
        svg("text", { x: M.left - 4, y: y + 3, "text-anchor": "end" }, `${w > 0 ? "+" : ""}${minus(String(Math.round((w / unit[1]) * 1000) / 1000))}`));
    }
    axis.append(svg("text", { x: 3, y: M.top + 8, class: "unit" }, unit[0]));
    hours(axis, ctx, x, H);
    const cursor = svg("rect", { x: x(ctx.view.slot), y: M.top, width: kx, height: h, class: "cursor" });
    root.replaceChildren(axis,
      svg("path", { d: bars(s.taken.UP, within(s.offered.UP, top), 1), class: "left up" }),
      svg("path", { d: bars(s.taken.DOWN, within(s.offered.DOWN, low), -1), class: "left down" }),
      svg("path", { d: bars(none, s.taken.UP, 1), class: "taken up" }),
      svg("path", { d: bars(none, s.taken.DOWN, -1), class: "taken down" }),
      svg("path", { d: stairs(s.need.UP, 1) + stairs(s.need.DOWN, -1), class: "need" }),
      svg("path", { d: stairs(s.asked.UP, 1) + stairs(s.asked.DOWN, -1), class: "asked" }),
      svg("path", { d: s.owes ? stairs(s.got.UP, 1) + stairs(s.got.DOWN, -1) : "", class: "got" }),
      svg("path", { d: s.missing.map((w, k) => (w ? `M${x(k)},${zero - 3}h${kx}v6h${-kx}Z` : "")).join(""), class: "missing" }),
      cursor,
      svg("text", { x: W - M.right, y: M.top + 9, "text-anchor": "end", class: "side" }, cut[0]),
      svg("text", { x: W - M.right, y: H - M.bottom - 4, "text-anchor": "end", class: "side" }, cut[1]));
    this.read(ctx.view.slot);
  }

  read(k) {
    const { ctx, data: s } = this;
    if (!s || !ctx.session()) return;
    const ms = ctx.slotMs(k), step = ctx.session().resolution_s * 1000;
    const has = (section) => ctx.store.get(section, ctx.view.session);
    const both = (v) => [v.UP[k] ? `${UP}${power(v.UP[k])}` : "", v.DOWN[k] ? `${DOWN}${power(v.DOWN[k])}` : ""].filter(Boolean).join(" ") || "0";
    // What a role may not see is not zero: it is not said.
    const said = [["need", s.need, has("needs")], ["requested", s.asked, has("requested")], ["offered", s.offered, has("offers") || s.own], ["cleared", s.taken, has("cleared")],
      [ctx.view.party ? "delivered (own)" : "delivered", s.got, s.owes]].filter(([, , known]) => known).map(([name, v]) => [name, both(v)]);
    if (s.missing[k]) said.push(["unmet", power(s.missing[k])]);
    this.readout.replaceChildren(el("b", {}, `${hhmm(ms)}–${hhmm(ms + step)} ${(s.status[k] ?? "").toLowerCase().replaceAll("_", " ")}`), ...said.flatMap(([name, v]) => [el("span", {}, el("i", {}, name), " ", v)]));
  }
}

function hours(axis, ctx, x, H) {
  const s = ctx.session(), perHour = 3600 / s.resolution_s;
  for (let k = 0; k <= s.slots; k += 4 * perHour) {
    axis.append(svg("path", { d: `M${x(k)},${H - M.bottom}v4`, class: "tick" }),
      svg("text", { x: x(k), y: H - 4, "text-anchor": k === 0 ? "start" : k >= s.slots ? "end" : "middle" }, k >= s.slots ? "24" : hhmm(ctx.slotMs(k)).slice(0, 2)));
  }
}

// Away from the usual price: blue below, orange above; how far is lightness, so it reads for every colour vision.
const SHADES = {
  light: { middle: [240, 242, 244], below: [[120, 163, 213], [8, 48, 107]], above: [[243, 170, 98], [127, 50, 0]] },
  dark: { middle: [36, 44, 52], below: [[42, 88, 140], [132, 190, 255]], above: [[140, 78, 30], [255, 178, 104]] },
};
export function shade(t, dark) {
  const set = SHADES[dark ? "dark" : "light"], size = Math.min(1, Math.abs(t)), [half, full] = t < 0 ? set.below : set.above;
  const [from, to, f] = size < 0.5 ? [set.middle, half, size * 2] : [half, full, size * 2 - 1];
  return from.map((c, i) => Math.round(c + (to[i] - c) * f));
}

const bent = (t) => Math.sign(t) * Math.sqrt(Math.abs(t));
const SPREAD = "several"; // what a portfolio is awarded has no bus of its own

export class Heat {
  constructor(canvas, key, readout, empty, ctx) {
    Object.assign(this, { canvas, key, readout, empty, ctx });
    this.order = [];
    canvas.addEventListener("keydown", (e) => {
      const step = { ArrowUp: -1, ArrowDown: 1 }[e.key];
      if (e.key === "v" || e.key === "V") {
        ctx.setLayer(ctx.view.layer === "price" ? "volume" : "price");
        e.preventDefault();
      } else if (step) {
        const now = this.order.indexOf(ctx.view.element?.kind === "bus" ? ctx.view.element.id : "");
        const next = this.order[Math.min(this.order.length - 1, Math.max(0, now + step))];
        if (next) ctx.select("bus", next);
        e.preventDefault();
      } else slotKeys(e, ctx);
    });
    canvas.addEventListener("pointermove", (e) => { const c = this.cell(e); if (c) this.read(c.bus, c.slot); });
    canvas.addEventListener("pointerleave", () => this.readChosen());
    canvas.addEventListener("click", (e) => { const c = this.cell(e); if (c) { ctx.setSlot(c.slot); ctx.select("bus", c.bus); } });
  }

  cell(event) {
    const box = this.canvas.getBoundingClientRect(), n = this.ctx.slots();
    const slot = Math.floor(((event.clientX - box.left - M.left) / (box.width - M.left - M.right)) * n);
    const row = Math.floor(((event.clientY - box.top - 2) / (box.height - 2 - M.bottom)) * this.order.length);
    return slot >= 0 && slot < n && this.order[row] !== undefined ? { slot, bus: this.order[row] } : null;
  }

  // What is painted: a value per bus and slot, and the value that is neutral.
  layer() {
    const { ctx } = this, prices = ctx.prices(), volumes = ctx.volumes();
    if (ctx.view.layer === "price") {
      if (!prices) return null;
      const sorted = Object.values(prices.buses).flat().sort((a, b) => a - b);
      return { row: prices, buses: prices.buses, sorted, usual: sorted[sorted.length >> 1], sign: 1 };
    }
    if (!volumes) return null;
    const names = new Set([...(ctx.network()?.buses.map((b) => b.bus_id) ?? Object.keys(prices?.buses ?? {})), ...Object.keys(volumes.buses)]);
    const none = new Array(ctx.slots()).fill(0), buses = {};
    // Where both ways are cleared at one bus the greater is painted; the line below tells both.
    for (const bus of names) buses[bus] = volumes.buses[bus]?.UP.map((up, k) => (up >= volumes.buses[bus].DOWN[k] ? up : -volumes.buses[bus].DOWN[k])) ?? none;
    return { row: volumes, buses, sorted: Object.values(buses).flat().sort((a, b) => a - b), usual: 0, sign: -1, bent: true }; // up is blue, as in the bars; bent, for one large asset would pale all others
  }

  draw() {
    const { ctx, canvas } = this, layer = this.layer(), network = ctx.network(), n = ctx.slots();
    this.empty.hidden = Boolean(layer);
    this.empty.textContent = `No ${ctx.view.layer}s before the session is cleared.`;
    canvas.hidden = !layer;
    if (!layer || !n) { this.key.replaceChildren(); this.readout.textContent = ""; return; }
    // Rows as they hang on the feeders, so that neighbours in the grid are neighbours here.
    const place = new Map((network?.buses ?? []).map((b) => [b.bus_id, b.tree]));
    this.order = Object.keys(layer.buses);
    if (place.size) this.order.sort((a, b) => (place.get(a)?.[1] ?? 0) - (place.get(b)?.[1] ?? 0) || (place.get(a)?.[0] ?? 0) - (place.get(b)?.[0] ?? 0));
    const { sorted, usual } = layer, low = sorted[0] ?? 0, high = sorted[sorted.length - 1] ?? 0;
    const reach = Math.max(high - usual, usual - low) || 1, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const box = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    const g = canvas.getContext("2d");
    g.scale(ratio, ratio);
    const W = box.width - M.left - M.right, H = box.height - 2 - M.bottom;
    const bitmap = new OffscreenCanvas(n, this.order.length), b = bitmap.getContext("2d");
    const image = b.createImageData(n, this.order.length);
    this.order.forEach((bus, row) => {
      for (let k = 0; k < n; k++) {
        const v = at(layer.buses[bus], layer.row.start_ms, layer.row.resolution_s, ctx.slotMs(k));
        const o = (row * n + k) * 4, c = v === null ? [128, 128, 128] : shade(layer.sign * (layer.bent ? bent : Number)((v - usual) / reach), dark);
        image.data.set([...c, v === null ? 60 : 255], o);
      }
    });
    b.putImageData(image, 0, 0);
    g.imageSmoothingEnabled = false;
    g.drawImage(bitmap, M.left, 2, W, H);
    const ink = getComputedStyle(document.body).getPropertyValue("--ink"), muted = getComputedStyle(document.body).getPropertyValue("--muted");
    const rowH = H / this.order.length;
    g.font = "10px system-ui, sans-serif";
    g.fillStyle = muted;
    const s = ctx.session(), perHour = 3600 / s.resolution_s;
    for (let k = 0; k <= n; k += 4 * perHour) {
      g.textAlign = k === 0 ? "left" : k >= n ? "right" : "center";
      g.fillText(k >= n ? "24" : hhmm(ctx.slotMs(k)).slice(0, 2), M.left + (k / n) * W, box.height - 5);
    }
    g.textAlign = "right";
    const every = Math.max(1, Math.ceil(11 / rowH));
    this.order.forEach((bus, row) => { if (row % every === 0) g.fillText(bus.length > 8 ? `…${bus.slice(-7)}` : bus || SPREAD, M.left - 4, 2 + (row + 0.5) * rowH + 3.5); });
    const x = M.left + (ctx.view.slot / n) * W;
    g.strokeStyle = ink;
    g.lineWidth = 1.5;
    g.strokeRect(x - 0.5, 1.5, W / n + 1, H + 1);
    const chosen = ctx.view.element?.kind === "bus" ? this.order.indexOf(ctx.view.element.id) : -1;
    if (chosen >= 0) g.strokeRect(M.left - 0.5, 2 + chosen * rowH - 0.5, W + 1, rowH + 1);
    if (ctx.view.layer === "volume") {
      this.key.replaceChildren(el("span", {}, low < 0 ? `${DOWN} ${power(-low)}` : "0"), scale(-bent(Math.min(low, 0) / reach), -bent(Math.max(high, 0) / reach), dark), el("span", {}, high > 0 ? `${UP} ${power(high)}` : "0"), el("span", {}, "cleared"));
    } else this.key.replaceChildren(el("span", {}, price(low)), scale(low < usual ? -1 : 0, high > usual ? 1 : 0, dark), el("span", {}, price(high)), el("span", {}, `usual ${price(usual)} EUR/MWh`));
    this.readChosen();
  }

  readChosen() {
    const { ctx } = this, chosen = ctx.view.element?.kind === "bus" ? ctx.view.element.id : null;
    if (chosen) this.read(chosen, ctx.view.slot);
    else this.readSlot();
  }

  readSlot() {
    if (this.ctx.view.layer === "volume") { this.readVolumes(); return; }
    const { ctx } = this, prices = ctx.prices();
    if (!prices) return;
    const ms = ctx.slotMs(), now = Object.entries(prices.buses).map(([bus, v]) => [at(v, prices.start_ms, prices.resolution_s, ms), bus]).filter(([v]) => v !== null).sort((a, b) => a[0] - b[0]);
    if (!now.length) return;
    const [low, high] = [now[0], now[now.length - 1]];
    this.readout.replaceChildren(el("b", {}, `${hhmm(ms)}`), el("span", {}, `lowest ${price(low[0])} at ${low[1]}`), el("span", {}, `highest ${price(high[0])} at ${high[1]} EUR/MWh`));
  }

  // The greatest volume of the quarter-hour each way.
  readVolumes() {
    const { ctx } = this, volumes = ctx.volumes(), ms = ctx.slotMs();
    if (!volumes) return;
    const most = (way) => Object.entries(volumes.buses).map(([bus, v]) => [at(v[way], volumes.start_ms, volumes.resolution_s, ms) ?? 0, bus]).sort((a, b) => b[0] - a[0])[0];
    const said = [["UP", UP], ["DOWN", DOWN]].map(([way, sign]) => [most(way), sign]).filter(([found]) => found?.[0]).map(([[w, bus], sign]) => el("span", {}, `most ${sign} ${power(w)} at ${bus || SPREAD}`));
    this.readout.replaceChildren(el("b", {}, hhmm(ms)), ...(said.length ? said : [el("span", {}, "nothing cleared")]));
  }

  read(bus, slot) {
    const { ctx } = this, prices = ctx.prices(), ms = ctx.slotMs(slot);
    if (ctx.view.layer === "volume") {
      const volumes = ctx.volumes(), found = volumes?.buses[bus];
      const both = ["UP", "DOWN"].map((way) => [way, found ? at(found[way], volumes.start_ms, volumes.resolution_s, ms) : 0]).filter(([, w]) => w);
      this.readout.replaceChildren(el("b", {}, `${hhmm(ms)}  ${bus || SPREAD}`), el("span", {}, both.map(([way, w]) => `${way === "UP" ? UP : DOWN} ${power(w)}`).join("  ") || "nothing cleared"));
      return;
    }
    const v = prices ? at(prices.buses[bus], prices.start_ms, prices.resolution_s, ms) : null;
    this.readout.replaceChildren(el("b", {}, `${hhmm(ms)}  ${bus}`), el("span", {}, v === null ? "no price" : `${price(v)} EUR/MWh`));
  }
}

function scale(from, to, dark) {
  const W = 64, c = el("canvas", { width: W, height: 9, class: "ramp", "aria-hidden": "true" }), g = c.getContext("2d");
  for (let k = 0; k < W; k++) { g.fillStyle = `rgb(${shade(from + ((to - from) * k) / (W - 1), dark)})`; g.fillRect(k, 0, 1, 9); }
  return c;
}
