// The page: keeps what the server sends, knows what is looked at, and redraws what changed.
import { at, dated, hhmm, hhmmss, span, el, useZone } from "./format.js";
import { Diagram } from "./diagram.js";
import { Bars, Heat } from "./charts.js";
import { Detail } from "./detail.js";
import { Lists } from "./tables.js";
import { Journal } from "./journal.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

export const store = {
  sections: new Map(),
  all(section) { return [...(this.sections.get(section)?.values() ?? [])]; },
  get(section, name) { return this.sections.get(section)?.get(name); },
};

export const view = {
  area: query.get("area") || "",
  role: query.get("role") || "",
  party: query.get("party") || "",
  session: query.get("session") || "",
  slot: 0,
  follow: true,
  mode: "forecast",
  modeChosen: false,
  layout: null,
  layer: "price", // of the heat map: "price" | "volume"
  element: null, // {kind: "bus" | "branch", id}
};

// ---- what is looked at

export const ctx = {
  store, view,
  session() { return store.get("sessions", view.session) ?? null; },
  slotMs(slot = view.slot) {
    const s = ctx.session();
    return s ? s.start_ms + slot * s.resolution_s * 1000 : 0;
  },
  slots() { return ctx.session()?.slots ?? 0; },
  network() { return store.get("network", "network") ?? null; },
  grid(mode = view.mode) { return store.get("grid", `${view.session}/${mode}`) ?? null; },
  prices() { return store.get("prices", view.session) ?? null; },
  volumes() { return store.get("volumes", view.session) ?? null; },
  cleared() { return store.get("cleared", view.session) ?? null; },
  ofSession(section) { return store.all(section).filter((r) => r.session_id === view.session); },
  pointsAt(bus) { return store.all("points").filter((p) => p.bus_id === bus && !p.gone); },
  lightOf(point, ms) {
    const light = store.get("lights", `${view.session}/${point}`);
    return light ? at(light.colours, light.start_ms, 3600, ms) : null;
  },
  // Quantity of a bus in the slot: awards, signed by direction.
  awardedAt(bus, ms) {
    let up = 0, down = 0;
    for (const a of ctx.ofSession("awards")) {
      if (a.bus_id !== bus) continue;
      const w = at(a.power_w, a.start_ms, a.resolution_s, ms) ?? 0;
      if (a.direction === "UP") up += w; else down += w;
    }
    return { up, down };
  },
  // Delivered energy of an order per slot, Wh: as computed, before that as read so far (null = not read).
  delivered(id) {
    const computed = store.get("deliveries", id);
    return computed ? { ...computed, live: false } : { ...(store.get("readings", id) ?? {}), live: true };
  },
  // Newest quarter-hour of the session in which a meter was read, at most up to one; null if there is none.
  lastRead(slot) {
    const read = ctx.grid("metered")?.read ?? [];
    for (let k = Math.min(slot, read.length - 1); k >= 0; k--) if (read[k]) return k;
    return null;
  },
  setSlot(slot, byHand = true) {
    const last = Math.max(0, ctx.slots() - 1);
    const next = Math.min(last, Math.max(0, slot));
    if (byHand && view.follow) { view.follow = false; }
    if (next !== view.slot || byHand) { view.slot = next; draw("slot"); }
  },
  setLayer(layer) { view.layer = layer; draw("view"); },
  select(kind, id) {
    view.element = id ? { kind, id } : null;
    draw("element");
  },
};

const parts = {
  diagram: new Diagram($("grid-svg"), ctx),
  detail: new Detail($("detail"), $("element"), ctx),
  bars: new Bars($("bars-svg"), $("bars-key"), $("bars-readout"), ctx),
  heat: new Heat($("heat-canvas"), $("heat-key"), $("heat-readout"), $("heat-empty"), ctx),
};
const journal = new Journal(ctx, $("entry"), () => lensQuery());
const lists = new Lists($("tabs"), $("tab-body"), ctx, journal);

// Which sections each part shows; "slot", "element" and "view" are what the person changes.
const NEEDS = {
  diagram: ["network", "grid", "points", "lights", "limits", "awards", "sessions", "slot", "element", "view"],
  detail: ["network", "grid", "points", "lights", "awards", "prices", "activations", "deliveries", "readings", "assets",
    "offers", "cleared", "settlements",
    "sessions", "slot", "element", "view"],
  bars: ["sessions", "needs", "requested", "offers", "own_offers", "cleared", "deliveries", "readings", "activations", "slot", "view"],
  heat: ["sessions", "prices", "volumes", "network", "slot", "element", "view"],
  head: ["areas", "sessions", "clock", "chain", "participants", "grid", "slot", "view", "network"],
};

let dirty = new Set(), drawing = false;
function draw(...sections) {
  for (const s of sections) dirty.add(s);
  if (!drawing) { drawing = true; requestAnimationFrame(redraw); }
}
function redraw() {
  const changed = dirty;
  dirty = new Set();
  drawing = false;
  const any = (part) => NEEDS[part].some((s) => changed.has(s));
  settle(changed);
  if (any("head")) head();
  for (const name of Object.keys(parts)) if (any(name)) parts[name].draw(changed);
  lists.draw(changed);
}

// Choose what was not chosen: session, mode and slot follow the day until the person takes over.
function settle(changed) {
  const sessions = store.all("sessions");
  if (!ctx.session() && sessions.length) {
    view.session = sessions.sort((a, b) => a.start_ms - b.start_ms)[sessions.length - 1].session_id;
    changed.add("view");
  }
  const session = ctx.session();
  if (!view.modeChosen) {
    const best = ["metered", "cleared", "forecast"].find((m) => ctx.grid(m)) ?? "forecast";
    if (best !== view.mode) { view.mode = best; changed.add("view"); }
  }
  const now = store.get("clock", "clock")?.market_time_ms ?? null;
  if (view.follow && session) {
    let slot = view.slot;
    if (now !== null && now >= session.start_ms && now < session.end_ms) {
      slot = Math.floor((now - session.start_ms) / (session.resolution_s * 1000));
      // A meter is read after its quarter-hour: who looks at the meters follows them, two hours behind at most.
      const read = view.mode === "metered" && session.state === "DELIVERY" ? ctx.lastRead(slot) : null;
      if (read !== null && (slot - read) * session.resolution_s <= 7200) slot = read;
    } else if (session.state === "DELIVERY") {
      slot = Math.max(0, session.delivered_slots - 1);
    } else {
      slot = parts.diagram.worstSlot() ?? busiest() ?? slot;
    }
    if (slot !== view.slot) { view.slot = slot; changed.add("slot"); }
  }
  useZone(store.get("areas", view.area)?.time_zone);
}

// The quarter-hour in which most was requested or cleared.
function busiest() {
  const asked = store.get("requested", view.session), cleared = ctx.cleared();
  const volume = Array.from({ length: ctx.slots() }, (_, k) =>
    Math.max(asked?.UP[k] ?? 0, asked?.DOWN[k] ?? 0, cleared ? cleared.slots[k].up_w + cleared.slots[k].down_w : 0));
  const most = Math.max(0, ...volume);
  return most ? volume.indexOf(most) : null;
}

// ---- header

const STEPS = [["SCHEDULED", "Planned"], ["OPEN", "Open"], ["CLOSED", "Closed"], ["CLEARED", "Cleared"],
  ["DELIVERY", "Delivery"], ["DELIVERED", "Ended"], ["SETTLEMENT", "Settled"]];

function head() {
  // The id is short enough to be read whole, and what every command takes; the name may be a sentence.
  options($("area"), store.all("areas").map((a) => [a.area_id, a.area_id]), view.area);
  $("area").title = store.get("areas", view.area)?.name ?? "";
  options($("session"), store.all("sessions").map((s) => [s.session_id, s.session_id]), view.session);
  const parties = store.all("participants").filter((p) => !view.role || p.roles.includes(view.role));
  options($("party"), [["", "–"], ...parties.map((p) => [p.participant_id, p.name || p.participant_id])], view.party);
  $("party-label").hidden = !view.role;

  const session = ctx.session();
  const now = store.get("clock", "clock")?.market_time_ms ?? null;
  $("clock-time").textContent = now === null ? "–" : hhmmss(now);
  $("clock-date").textContent = now === null ? "no market clock yet" : dated(now);
  gate(session, now);

  const chain = store.get("chain", "chain"), head = store.get("chain", "head");
  const box = $("chain");
  if (chain) {
    box.className = `chain ${chain.verified ? "good" : "bad"}`;
    box.replaceChildren(
      el("b", {}, chain.verified ? "✓ chain verified" : "✗ chain broken"),
      el("span", {}, `${chain.blocks} blocks · ${chain.entries} entries`),
      ...(head ? [el("code", { title: `hash of the last block: ${head.last_hash}` }, head.last_hash.slice(0, 12))] : []),
    );
    box.title = chain.fault ?? "every block names the hash of the one before and matches its own";
  }
  const slots = ctx.slots();
  const range = $("slot");
  range.max = Math.max(0, slots - 1);
  range.value = view.slot;
  const from = ctx.slotMs(), step = (session?.resolution_s ?? 900) * 1000;
  const text = session ? `${hhmm(from)}–${hhmm(from + step)}` : "–";
  $("slot-text").textContent = session ? `${text}  slot ${view.slot + 1}/${slots}` : "–";
  range.setAttribute("aria-valuetext", text);
  $("follow").setAttribute("aria-pressed", String(view.follow));
  for (const button of $("mode").children) {
    const mode = button.dataset.mode;
    mark(button, mode === view.mode, !ctx.grid(mode));
  }
  for (const button of $("heat-layer").children) mark(button, button.dataset.layer === view.layer, false);
  const network = ctx.network();
  const hasMap = Boolean(network?.buses.every((b) => b.map));
  for (const button of $("layout").children) {
    mark(button, button.dataset.layout === (view.layout ?? "tree"), button.dataset.layout === "map" && !hasMap);
  }
  $("grid-name").title = $("grid-name").textContent = network ? `${network.name || network.network_id} · ${network.buses.length} buses` : "";
  shownFrom();
  $("grid-empty").hidden = Boolean(network);
  $("grid-empty").textContent = view.role && !network ? "This role may not see the network model." : "No network model yet.";
  document.title = session ? `flexbus · ${view.area} · ${session.state.toLowerCase()}` : "flexbus";
}

// Which is shown: what meters say, or the plan.
function shownFrom() {
  const grid = view.mode === "metered" ? ctx.grid() : null, note = $("grid-source");
  note.hidden = !grid;
  if (!grid) return;
  const read = grid.read[view.slot] ?? 0, planned = grid.planned[view.slot] ?? 0, points = (n) => `${n} ${n === 1 ? "point" : "points"}`;
  note.className = `source ${read ? "read" : "plan"}`;
  note.textContent = read
    ? `● measured: ${points(read)} read${planned ? `, ${points(planned)} as ordered` : ""}, the rest as forecast`
    : `○ plan: nothing read in this quarter-hour, shown as ${grid.plan}`;
}

function mark(button, on, disabled) {
  button.setAttribute("aria-checked", String(on));
  button.tabIndex = on ? 0 : -1;
  button.disabled = disabled;
}

function gate(session, now) {
  const steps = $("steps");
  if (!session) { steps.replaceChildren(); return; }
  const place = STEPS.findIndex(([state]) => state === session.state);
  steps.replaceChildren(...STEPS.map(([state, name], k) => el("li", {
    class: k < place ? "done" : k === place ? "now" : "", "aria-current": k === place ? "step" : null,
  }, state === "DELIVERY" && k === place ? `${name} ${session.delivered_slots}/${session.slots}` : name)));
  let what = "", left = "";
  if (session.state === "SCHEDULED") { what = "gate opens in"; left = now === null ? "–" : span(session.gate_opens_ms - now); }
  else if (session.state === "OPEN") { what = "gate closes in"; left = now === null ? hhmm(session.gate_closes_ms) : span(session.gate_closes_ms - now); }
  else if (session.state === "CLOSED") { what = "gate closed"; left = "clearing"; }
  else if (now !== null && now < session.start_ms) { what = "delivery begins in"; left = span(session.start_ms - now); }
  else if (session.state === "DELIVERY" || session.state === "CLEARED") { what = "delivery ends in"; left = now === null ? "" : span(session.end_ms - now); }
  else { what = session.state === "SETTLEMENT" ? "delivered, settled" : "delivered"; left = ""; }
  $("gate-what").textContent = what;
  $("gate-left").textContent = left;
}

function options(select, wanted, chosen) {
  const key = JSON.stringify(wanted);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...wanted.map(([value, text]) => el("option", { value }, text)));
  }
  if (select.value !== chosen) select.value = chosen;
}

// ---- connection

let source = null, lastId = "";
function lensQuery() {
  const q = new URLSearchParams();
  if (view.area) q.set("area", view.area);
  if (view.role) q.set("role", view.role);
  if (view.role && view.party) q.set("party", view.party);
  return q;
}
function connect() {
  source?.close();
  const q = lensQuery();
  history.replaceState(null, "", `?${q}`);
  if (lastId) q.set("since", lastId);
  source = new EventSource(`/events?${q}`);
  source.onopen = () => link("live", "live");
  source.onerror = () => {
    link("lost", source.readyState === EventSource.CLOSED ? "refused" : "reconnecting");
    // A server that is gone answers nothing: the browser gives up on some errors, so ask again.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
  source.onmessage = (message) => { lastId = message.lastEventId; take(JSON.parse(message.data)); };
  const note = $("lens-note");
  note.hidden = !view.role;
  note.textContent = view.role
    ? `Shown is only what the event catalogue lets ${view.party || "any"} ${view.role} see; everything else is not sent to this browser.` : "";
}
function reconnect() {
  lastId = "";
  view.element = null;
  connect();
}
function link(state, text) {
  $("link").className = `link ${state}`;
  $("link").textContent = text;
}
function take(message) {
  const changed = [];
  if (message.full) {
    store.sections.clear();
    journal.clear();
    changed.push("view", "slot", "element", ...Object.values(NEEDS).flat());
    lists.forget();
  }
  if (!view.area && message.area_id) view.area = message.area_id;
  for (const [section, rows] of Object.entries(message.sections)) {
    if (!store.sections.has(section)) store.sections.set(section, new Map());
    for (const [name, value] of Object.entries(rows)) store.sections.get(section).set(name, value);
    changed.push(section);
  }
  if (message.tail.length) { journal.add(message.tail); changed.push("tail"); }
  document.body.dataset.ready = message.caught_up ? "true" : "false";
  draw(...changed);
}

// ---- controls

const ROLES = [["", "everyone"], ["DSO", "DSO"], ["TSO", "TSO"], ["FSP", "FSP"], ["BRP", "BRP"], ["FMO", "FMO (market operator)"],
  ["METER_OPERATOR", "meter operator"], ["AUDITOR", "auditor"], ["OBSERVER", "observer (public)"]];
options($("role"), ROLES, view.role);
$("area").onchange = (e) => { view.area = e.target.value; view.session = ""; reconnect(); };
$("session").onchange = (e) => { view.session = e.target.value; draw("view", "slot"); };
$("role").onchange = (e) => { view.role = e.target.value; view.party = ""; reconnect(); };
$("party").onchange = (e) => { view.party = e.target.value; reconnect(); };
$("slot").oninput = (e) => ctx.setSlot(Number(e.target.value));
$("follow").onclick = () => { view.follow = !view.follow; draw("slot"); };
function radios(group, choose) {
  const pick = (button) => { choose(button); draw("view"); };
  group.onclick = (e) => { const b = e.target.closest("button"); if (b) pick(b); };
  group.onkeydown = (e) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (!step) return;
    e.preventDefault();
    const free = [...group.children].filter((b) => !b.disabled);
    const next = free[(free.indexOf(e.target) + step + free.length) % free.length];
    if (next) { pick(next); next.focus(); }
  };
}
radios($("mode"), (b) => { view.mode = b.dataset.mode; view.modeChosen = true; });
radios($("heat-layer"), (b) => ctx.setLayer(b.dataset.layer));
radios($("layout"), (b) => { view.layout = b.dataset.layout; });
const resized = new ResizeObserver(() => draw("view"));
for (const part of document.querySelectorAll("#grid-svg, #bars-svg, #heat-canvas")) resized.observe(part);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw("view"));
// A live day would talk without end: what is read aloud is what follows from one's own keys.
for (const [widget, readout] of [["grid-svg", "detail"], ["bars-svg", "bars-readout"], ["heat-canvas", "heat-readout"]]) {
  $(widget).addEventListener("focus", () => $(readout).setAttribute("aria-live", "polite"));
  $(widget).addEventListener("blur", () => $(readout).setAttribute("aria-live", "off"));
}
addEventListener("pagehide", () => source?.close());

connect();
