// The lists below: what was ordered, delivered, paid, refused, and the journal itself.
import { arrow, at, el, energy, euro, hhmm, hhmmss, power, price, sum } from "./format.js";

const ROWS = 400;
const ANSWER = { OPEN: "… open", ACKNOWLEDGED: "✓ acknowledged", REFUSED: "✗ refused", TIMED_OUT: "! timed out" };
const removed = () => el("i", { class: "muted" }, "removed");
const or = (value) => value ?? removed();
const short = (id) => (id && id.length > 18 ? el("code", { title: id }, `${id.slice(0, 8)}…`) : (id ?? "–"));
const num = (...content) => el("td", { class: "num" }, ...content);
const range = (r, list) => `${hhmm(r.start_ms)}–${hhmm(r.start_ms + list.length * r.resolution_s * 1000)}`;

// Power actually filled, as a tiny picture of the day's slots.
function strip(ctx, row, list) {
  const n = ctx.slots();
  if (!n) return "";
  const values = Array.from({ length: n }, (_, k) => at(list, row.start_ms, row.resolution_s, ctx.slotMs(k)) ?? 0);
  const most = Math.max(1, ...values), svg = "http://www.w3.org/2000/svg";
  const root = document.createElementNS(svg, "svg"), path = document.createElementNS(svg, "path");
  root.setAttribute("viewBox", `0 0 ${n} 12`);
  root.setAttribute("class", `strip ${row.direction === "UP" ? "up" : "down"}`);
  root.setAttribute("preserveAspectRatio", "none");
  root.setAttribute("aria-hidden", "true");
  path.setAttribute("d", values.map((v, k) => (v ? `M${k},12V${(12 - (11 * v) / most).toFixed(1)}h1V12Z` : "")).join(""));
  root.append(path);
  return root;
}

// Owed energy per slot of an order that is still running: as it stands after changes, nothing in slots a stop touches.
function owedWh(a) {
  const step = a.resolution_s * 1000;
  return a.power_w.map((w, k) => {
    const from = a.start_ms + k * step;
    return a.stopped && from < a.stopped.until_ms && from + step > a.stopped.from_ms ? 0 : (w * a.resolution_s) / 3600;
  });
}

const LISTS = {
  journal: { title: "Journal", sections: ["tail"] },
  activations: {
    title: "Activations & delivery", sections: ["activations", "deliveries", "readings", "sessions"],
    head: ["Order", "Provider", "At", "Dir", "When", "Ordered", "Answer", "Owed", "Delivered", "Of owed", "Note"],
    rows(ctx) {
      return ctx.ofSession("activations").sort((a, b) => a.start_ms - b.start_ms || (a.activation_id < b.activation_id ? -1 : 1)).map((a) => {
        const d = ctx.delivered(a.activation_id), read = (d.delivered_wh ?? []).map((wh) => wh !== null);
        const owed = read.includes(true) ? sum((d.ordered_wh ?? owedWh(a)).filter((_, k) => read[k])) : null;
        const got = owed === null ? null : sum(d.delivered_wh.filter((_, k) => read[k]));
        const live = d.live && owed !== null ? ` ◷ read ${read.filter(Boolean).length}/${read.length}` : "";
        const share = owed ? got / owed : null;
        const stop = a.stopped ? `■ stopped ${hhmm(a.stopped.from_ms)}–${hhmm(a.stopped.until_ms)} ` : "";
        return [a.activation_id, a.answer === "REFUSED" || a.answer === "TIMED_OUT" || (share !== null && share < 0.9) ? "bad-row" : "", [
          el("td", {}, short(a.activation_id)), el("td", {}, or(a.fsp_id)), el("td", {}, a.connection_point_id ?? a.portfolio_id ?? "–", a.tso_activation_id ? " · TSO" : ""),
          el("td", { class: a.direction.toLowerCase() }, `${arrow(a.direction)} ${a.direction.toLowerCase()}`), el("td", {}, range(a, a.power_w), strip(ctx, a, a.power_w)),
          num(power(Math.max(0, ...a.power_w))), el("td", { class: `answer ${a.answer.toLowerCase()}` }, ANSWER[a.answer]),
          num(energy(owed)), num(energy(got)), num(share === null ? "–" : `${(share * 100).toFixed(1)} %${share < 0.9 ? " ⚠" : ""}`, d.revision > 1 ? ` r${d.revision}` : "", live),
          el("td", { class: "what" }, stop + (a.note ?? ""))]];
      });
    },
  },
  settlement: {
    title: "Settlement", sections: ["settlements"],
    head: ["Provider", "Buyer", "Owed", "Delivered", "Remuneration", "Penalty", "Total EUR", "State", "Course", ""],
    rows(ctx, lists) {
      return ctx.ofSession("settlements").sort((a, b) => (a.fsp_id < b.fsp_id ? -1 : 1)).flatMap((s) => {
        const open = lists.opened.has(s.settlement_id);
        const toggle = el("button", { type: "button", "aria-expanded": String(open), onclick: () => lists.toggle(s.settlement_id) }, open ? "▾ lines" : "▸ lines");
        const course = s.history.map((h) => `r${h.revision} ${h.what} ${euro(h.total_cents)}${h.why ? ` (${h.why})` : ""}`).join(" → ");
        const main = [s.settlement_id, s.history.some((h) => h.what === "disputed") ? "mark-row" : "", [
          el("td", {}, s.fsp_id), el("td", {}, s.buyer_id), num(energy(s.ordered_wh)), num(energy(s.delivered_wh)),
          num(euro(s.remuneration_cents)), num(s.penalty_cents ? `−${euro(s.penalty_cents)}` : "0.00"), num(el("b", {}, euro(s.total_cents))),
          el("td", { class: `state ${s.state.toLowerCase()}` }, { APPROVED: "✓ approved", DISPUTED: "⚠ disputed", CORRECTED: "↻ corrected", COMPUTED: "… computed" }[s.state]),
          el("td", { class: "what" }, course), el("td", {}, toggle)]];
        return open ? [main, [`${s.settlement_id} lines`, "sub-row", [el("td", { colspan: 10 }, invoice(s))]]] : [main];
      }).concat(total(ctx));
    },
  },
  awards: {
    title: "Awards", sections: ["awards", "sessions"],
    head: ["Offer", "Provider", "At", "Bus", "Dir", "When", "Energy", "Peak", "Now", "Price now"],
    rows(ctx) {
      const ms = ctx.slotMs();
      return ctx.ofSession("awards").map((a) => ({ a, wh: (sum(a.power_w) * a.resolution_s) / 3600 })).sort((x, y) => y.wh - x.wh).map(({ a, wh }) => [a.award_id, "", [
        el("td", {}, a.offer_id === null ? removed() : short(a.offer_id)), el("td", {}, or(a.fsp_id)), el("td", {}, a.connection_point_id ?? a.portfolio_id ?? removed()), el("td", {}, a.bus_id ?? "several"),
        el("td", { class: a.direction.toLowerCase() }, `${arrow(a.direction)} ${a.direction.toLowerCase()}`), el("td", {}, strip(ctx, a, a.power_w)), num(energy(wh)),
        num(power(Math.max(0, ...a.power_w))), num(power(at(a.power_w, a.start_ms, a.resolution_s, ms) ?? 0)), num(at(a.power_w, a.start_ms, a.resolution_s, ms) ? price(at(a.price_milli_per_mwh, a.start_ms, a.resolution_s, ms)) : "–")]]);
    },
  },
  not_taken: {
    title: "Not taken", sections: ["non_awards", "clipped"],
    head: ["Offer", "Provider", "Why", "Element", "Energy not taken", "In words"],
    rows(ctx) {
      const clipped = ctx.store.all("clipped").map((c) => [`clip ${c.offer_id}`, "", [el("td", {}, short(c.offer_id)), el("td", {}, or(c.fsp_id)), el("td", {}, "clipped at the gate"), el("td", {}, ""),
        num(energy((sum(c.offered_w.map((w, k) => w - c.allowed_w[k])) * c.resolution_s) / 3600)), el("td", { class: "what" }, c.reason)]]);
      return clipped.concat(ctx.ofSession("non_awards").sort((a, b) => b.rejected_energy_wh - a.rejected_energy_wh).map((n, k) => [`${k}`, "", [
        el("td", {}, n.offer_id === null ? removed() : short(n.offer_id)), el("td", {}, or(n.fsp_id)), el("td", {}, n.reason.toLowerCase().replaceAll("_", " ")), el("td", {}, n.element_id ?? ""), num(energy(n.rejected_energy_wh)), el("td", { class: "what" }, n.text ?? "")]]));
    },
  },
  requests: {
    title: "Needs & requests", sections: ["need", "requests", "sessions"],
    head: ["What", "Where", "Dir", "When", "Energy", "Peak", "Procured", "Price cap", "State", "Note"],
    rows(ctx) {
      const wh = (r, list) => (sum(list) * r.resolution_s) / 3600;
      const needs = ctx.ofSession("need").map((r) => [`need ${r.element_id} ${r.direction}`, "", [el("td", {}, `need (${r.kind.toLowerCase()})`), el("td", {}, r.element_id), el("td", { class: r.direction.toLowerCase() }, `${arrow(r.direction)} ${r.direction.toLowerCase()}`),
        el("td", {}, strip(ctx, r, r.need_w)), num(energy(wh(r, r.need_w))), num(power(Math.max(0, ...r.need_w))), num(""), num(""), el("td", {}, r.state.toLowerCase()), el("td", {}, "")]]);
      return needs.concat(ctx.ofSession("requests").map((r) => [r.request_id, "", [
        el("td", {}, `request r${r.revision} by ${r.requester_id}`), el("td", {}, `${r.location_kind.toLowerCase().replace("_", " ")} ${r.location_id}`), el("td", { class: r.direction.toLowerCase() }, `${arrow(r.direction)} ${r.direction.toLowerCase()}`),
        el("td", {}, strip(ctx, r, r.power_w)), num(energy(wh(r, r.power_w))), num(power(Math.max(0, ...r.power_w))), num(r.procured_w?.length ? energy(wh(r, r.procured_w)) : "–"), num(price(r.max_price_milli_per_mwh)),
        el("td", {}, (r.state ?? "").toLowerCase().replaceAll("_", " ")), el("td", { class: "what" }, [r.reason, r.note].filter(Boolean).join("; "))]]));
    },
  },
  limits: {
    title: "Limits & lights", sections: ["limits", "lights", "sessions", "points"],
    head: ["What", "Connection point", "Hours", "Now", "Feed-in ≤", "Draw ≤", "Reason"],
    rows(ctx) {
      const limits = ctx.store.all("limits").map((l) => [l.limit_id, l.foreseen ? "" : "bad-row", [el("td", {}, l.foreseen ? "limit" : "■ unforeseen stop"), el("td", {}, l.connection_point_id), el("td", {}, `${hhmm(l.start_ms)}–${hhmm(l.lifted_ms ?? l.end_ms)}${l.lifted_ms ? " (lifted)" : ""}`),
        el("td", {}, ""), num(l.max_feed_in_w === null ? "–" : power(l.max_feed_in_w)), num(l.max_draw_w === null ? "–" : power(l.max_draw_w)), el("td", { class: "what" }, l.reason)]]);
      const ms = ctx.slotMs(), rank = (l) => (l.colours.includes("RED") ? 0 : l.colours.includes("YELLOW") ? 1 : 2);
      return limits.concat(ctx.ofSession("lights").sort((a, b) => rank(a) - rank(b) || (a.connection_point_id < b.connection_point_id ? -1 : 1)).map((l) => {
        const now = at(l.colours, l.start_ms, 3600, ms);
        return [`light ${l.connection_point_id}`, "", [el("td", {}, "traffic light"), el("td", {}, l.connection_point_id),
          el("td", {}, el("span", { class: "hours", role: "img", "aria-label": l.colours.join(", ").toLowerCase() }, ...l.colours.map((c, h) => el("i", { class: c.toLowerCase(), title: `${h}–${h + 1} h ${c.toLowerCase()}` }, { GREEN: "", YELLOW: "▲", RED: "■" }[c])))),
          el("td", {}, now ? el("span", { class: `light ${now.toLowerCase()}` }, { GREEN: "● green", YELLOW: "▲ yellow", RED: "■ red" }[now]) : "–"), num(""), num(""), el("td", { class: "what" }, l.causes.join(", "))]];
      }));
    },
  },
  tso: {
    title: "Upward to the TSO", sections: ["aggregates", "sessions"],
    head: ["Aggregate", "Infeed", "Dir", "When", "Offered", "Activated", "By", "Shares", "Unserved"],
    rows(ctx) {
      return ctx.ofSession("aggregates").map((a) => {
        const wh = (list) => energy((sum(list) * a.resolution_s) / 3600);
        return [a.aggregate_id, "", [el("td", {}, short(a.aggregate_id)), el("td", {}, a.infeed_id), el("td", { class: a.direction.toLowerCase() }, `${arrow(a.direction)} ${a.direction.toLowerCase()}`), el("td", {}, strip(ctx, a, a.power_w)), num(wh(a.power_w)),
          num(a.activated_w.length ? wh(a.activated_w) : "–"), el("td", {}, a.tso_id ?? "–"), el("td", { class: "what" }, a.shares ? a.shares.map((s) => `${s.offer_id} (${s.fsp_id}) ${power(Math.max(0, ...s.power_w))}`).join(", ") : a.tso_id ? removed() : "–"), num(a.unserved_w.length ? wh(a.unserved_w) : "–")]];
      });
    },
  },
  rejections: {
    title: "Rejections", sections: ["rejections"],
    head: ["When", "Sender", "Event", "Faults", "Size"],
    rows(ctx) {
      return ctx.store.all("rejections").sort((a, b) => b.number - a.number).filter((r) => !r.area_id || r.area_id === ctx.view.area).map((r) => [r.rejection_id, "", [el("td", {}, hhmmss(r.received_at_ms)), el("td", {}, r.on_behalf_of ? `${r.sender_id} for ${r.on_behalf_of}` : r.sender_id), el("td", {}, r.event_type ?? "unreadable"),
        el("td", { class: "what faults" }, ...r.faults.slice(0, 8).map((f) => el("div", {}, el("code", {}, f.code), " ", el("span", { class: "muted" }, f.path), ` ${f.message}`)), r.faults.length > 8 ? el("div", {}, `… ${r.faults.length - 8} more`) : ""), num(`${r.bytes} B`)]]);
    },
  },
};

function invoice(s) {
  const rows = s.invoice.map((i) => el("tr", {}, el("td", {}, i.text), el("td", {}, short(i.activation_id)), num(euro(i.remuneration_cents)), num(i.penalty_cents ? `−${euro(i.penalty_cents)}` : "0.00"), num(euro(i.amount_cents))));
  const cut = s.lines_in_all > s.lines.length ? ` (the first ${s.lines.length})` : "";
  const slots = s.lines.filter((l) => l[2] || l[3]).map((l) => el("tr", {}, el("td", {}, short(l[0])), el("td", {}, hhmm(l[1])), num(energy(l[2])), num(energy(l[3])), num(energy(l[5])), num(price(l[6])), num((l[7] / 1e9).toFixed(4)), num((l[8] / 1e9).toFixed(4))));
  const head = (...names) => el("thead", {}, el("tr", {}, ...names.map((n) => el("th", { scope: "col" }, n))));
  return el("div", { class: "invoice" },
    el("table", {}, el("caption", {}, "Invoice lines, EUR"), head("For", "Activation", "Remuneration", "Penalty", "Amount"), el("tbody", {}, ...rows)),
    el("details", {}, el("summary", {}, `${s.lines_in_all} settlement lines per quarter-hour${cut}`),
      el("table", {}, head("Activation", "Slot", "Owed", "Delivered", "Penalised", "EUR/MWh", "Remuneration", "Penalty"), el("tbody", {}, ...slots))));
}

function total(ctx) {
  const all = ctx.ofSession("settlements");
  if (!all.length) return [];
  const of = (key) => sum(all.map((s) => s[key]));
  return [["total", "total-row", [el("td", { colspan: 2 }, "Sum"), num(energy(of("ordered_wh"))), num(energy(of("delivered_wh"))), num(euro(of("remuneration_cents"))), num(`−${euro(of("penalty_cents"))}`), num(el("b", {}, euro(of("total_cents")))), el("td", { colspan: 3 }, "")]]];
}

export class Lists {
  constructor(tabs, body, ctx, journal) {
    Object.assign(this, { tabs, body, ctx, journal });
    this.now = "journal";
    this.opened = new Set();
    this.last = 0;
    for (const [name, list] of Object.entries(LISTS)) {
      tabs.append(el("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "tab-body", onclick: () => this.choose(name) }, list.title, el("span", { class: "count" })));
    }
    tabs.addEventListener("keydown", (e) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (!step) return;
      const names = Object.keys(LISTS), next = names[(names.indexOf(this.now) + step + names.length) % names.length];
      this.choose(next);
      document.getElementById(`tab-${next}`).focus();
      e.preventDefault();
    });
    this.choose("journal");
  }

  choose(name) {
    this.now = name;
    for (const tab of this.tabs.children) {
      const on = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
    }
    this.body.setAttribute("aria-labelledby", `tab-${name}`);
    this.frame();
  }

  forget() { this.opened.clear(); this.frame(); }
  toggle(id) { this.opened.has(id) ? this.opened.delete(id) : this.opened.add(id); this.fill(); }

  frame() {
    const journal = this.now === "journal", head = journal ? ["Entry", "Received", "Event", "Sender", "What", "Size"] : LISTS[this.now].head;
    this.rowsBody = el("tbody");
    const table = el("table", { class: `list ${this.now}` }, el("thead", {}, el("tr", {}, ...head.map((h) => el("th", { scope: "col" }, h)))), this.rowsBody);
    this.bar = journal ? el("div", { class: "filters" }, ...this.journal.controls(() => this.fill())) : null;
    this.note = el("p", { class: "empty" });
    this.older = journal ? el("button", { type: "button", class: "older", hidden: true, onclick: () => this.journal.older(() => this.fill()) }, "older entries") : null;
    this.body.replaceChildren(...[this.bar, table, this.older, this.note].filter(Boolean));
    this.kinds = "";
    this.fill();
  }

  draw(changed) {
    for (const [name, list] of Object.entries(LISTS)) {
      const count = document.querySelector(`#tab-${name} .count`);
      count.textContent = name === "journal" ? ` ${this.ctx.store.get("chain", "chain")?.entries ?? ""}` : this.count(list);
    }
    const wanted = [...LISTS[this.now].sections, "view", ...(this.now === "awards" || this.now === "limits" ? ["slot"] : [])];
    if (wanted.some((s) => changed.has(s))) this.fill();
  }

  count(list) {
    const of = { requests: ["requests"], limits: ["limits"], not_taken: ["non_awards", "clipped"] }[Object.keys(LISTS).find((k) => LISTS[k] === list)] ?? list.sections.slice(0, 1);
    const n = of.reduce((a, s) => a + this.ctx.store.all(s).filter((r) => !r.session_id || r.session_id === this.ctx.view.session).length, 0);
    return n ? ` ${n}` : "";
  }

  fill() {
    if (this.now === "journal") this.fillJournal();
    else {
      const rows = LISTS[this.now].rows(this.ctx, this);
      this.put(rows.slice(0, ROWS).map(([key, kind, cells]) => el("tr", { "data-key": key, class: kind || null }, ...cells)));
      this.note.textContent = rows.length ? (rows.length > ROWS ? `The first ${ROWS} of ${rows.length}.` : "") : this.ctx.view.role ? "Nothing that this role may see." : "Nothing yet.";
    }
  }

  fillJournal() {
    const kinds = this.journal.entries.map((e) => `${e.type} ${e.sender_id}`), key = [...new Set(kinds)].sort().join();
    // New kinds and senders join the filters; not while the person uses them.
    if (key !== this.kinds && !this.bar.contains(document.activeElement)) {
      this.kinds = key;
      this.bar.replaceChildren(...this.journal.controls(() => this.fill()));
    }
    const rows = this.journal.rows(), { entries, exhausted } = this.journal;
    this.put(rows);
    this.older.hidden = exhausted || !rows.length || rows[rows.length - 1].dataset.key === "0.0";
    this.note.textContent = !rows.length ? (entries.length ? "No such entry among the newest 5,000." : "The journal is empty, or this role sees nothing of it.")
      : exhausted ? "Entries before these are reached from an opened entry by ◀." : "";
  }

  // A rebuilt table keeps the keyboard where it was.
  put(rows) {
    const held = this.rowsBody.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.key : null;
    this.rowsBody.replaceChildren(...rows);
    // A heading stands over its numbers as they stand: to the right.
    const heads = this.rowsBody.parentNode.tHead.rows[0].cells;
    for (const [k, cell] of [...(rows[0]?.cells ?? [])].entries()) heads[k]?.classList.toggle("num", cell.classList.contains("num"));
    if (held) this.rowsBody.querySelector(`tr[data-key="${CSS.escape(held)}"] button`)?.focus();
  }
}
