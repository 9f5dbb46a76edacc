// The journal's tail, and one entry opened.
import { el, hhmmss } from "./format.js";

const KEPT = 3000, SHOWN = 250;

export class Journal {
  constructor(ctx, dialog, lens) {
    Object.assign(this, { ctx, dialog, lens });
    this.entries = [];
    this.filter = { type: "", sender: "", text: "" };
    this.open = null;
    this.most = SHOWN;
    this.exhausted = false;
    document.getElementById("entry-before").onclick = () => this.step(-1);
    document.getElementById("entry-after").onclick = () => this.step(1);
    dialog.addEventListener("keydown", (e) => {
      if (e.key === "ArrowLeft" && e.target.tagName !== "INPUT") this.step(-1);
      if (e.key === "ArrowRight" && e.target.tagName !== "INPUT") this.step(1);
    });
  }

  clear() {
    this.entries = [];
    this.most = SHOWN;
    this.exhausted = false;
  }

  // Older entries below those shown.
  older(changed) {
    const shown = this.matching();
    this.most += SHOWN;
    const oldest = shown[shown.length - 1];
    this.fetch(oldest ? `${oldest.block}.${oldest.index}` : "", changed);
  }

  add(entries) {
    this.entries.push(...entries);
    if (this.entries.length > KEPT) this.entries.splice(0, this.entries.length - KEPT);
  }

  // What this browser has not received, or has dropped, the server may still have.
  async fetch(before, changed) {
    const q = this.lens();
    for (const [name, value] of Object.entries(this.filter)) if (value) q.set(name, value);
    if (before) q.set("before", before);
    const answer = await fetch(`/journal?${q}`).catch(() => null);
    if (!answer?.ok) return;
    const found = await answer.json();
    this.exhausted = found.length === 0;
    const known = new Set(this.entries.map((e) => `${e.block}.${e.index}`));
    this.entries.push(...found.filter((e) => !known.has(`${e.block}.${e.index}`)));
    this.entries.sort((a, b) => a.block - b.block || a.index - b.index);
    changed();
  }

  filtered() { return Object.values(this.filter).some(Boolean); }

  matching() {
    const { type, sender, text } = this.filter, found = [], sought = text.toLowerCase(), most = this.most;
    for (let k = this.entries.length - 1; k >= 0 && found.length < most; k--) {
      const e = this.entries[k];
      if (type && e.type !== type) continue;
      if (sender && e.sender_id !== sender && e.on_behalf_of !== sender) continue;
      if (sought && !`${e.type} ${e.sender_id} ${e.text}`.toLowerCase().includes(sought)) continue;
      found.push(e);
    }
    return found;
  }

  controls(redraw) {
    let waiting = 0;
    const changed = () => {
      this.most = SHOWN;
      this.exhausted = false;
      redraw();
      clearTimeout(waiting);
      waiting = setTimeout(() => this.filtered() && this.fetch("", redraw), 150);
    };
    const select = (name, label, values) => {
      const s = el("select", { id: `filter-${name}`, onchange: (e) => { this.filter[name] = e.target.value; changed(); } },
        el("option", { value: "" }, "all"), ...[...new Set(values)].sort().map((v) => el("option", { value: v }, v)));
      s.value = this.filter[name];
      return el("label", {}, `${label} `, s);
    };
    const words = el("input", { type: "search", id: "filter-text", size: 18, placeholder: "id, party, word", oninput: (e) => { this.filter.text = e.target.value; changed(); } });
    words.value = this.filter.text;
    return [select("type", "Event", this.entries.map((e) => e.type)), select("sender", "Sender", this.entries.map((e) => e.sender_id).filter(Boolean)), el("label", {}, "Contains ", words)];
  }

  rows() {
    return this.matching().map((e) => el("tr", { "data-key": `${e.block}.${e.index}` },
      el("td", {}, el("button", { type: "button", class: "open", onclick: () => this.show(e.block, e.index) }, `${e.block}.${e.index}`)),
      el("td", {}, hhmmss(e.received_at_ms)), el("td", { class: "kind" }, e.type),
      el("td", {}, e.sender_id === null ? el("i", {}, "removed") : e.on_behalf_of ? `${e.sender_id} for ${e.on_behalf_of}` : e.sender_id),
      el("td", { class: "what" }, e.text ?? ""), el("td", { class: "num" }, e.bytes === null ? "" : `${e.bytes} B`)));
  }

  // The neighbour among those held, else the neighbour in the journal itself.
  step(by) {
    if (!this.open) return;
    const k = this.entries.findIndex((e) => e.block === this.open[0] && e.index === this.open[1]), next = this.entries[k + by];
    if (k >= 0 && next) { this.show(next.block, next.index); return; }
    const [block, index] = this.open;
    if (by > 0) this.show(...(index + 1 < (this.size ?? 1) ? [block, index + 1] : [block + 1, 0]));
    else if (index > 0) this.show(block, index - 1);
    else if (block > 0) this.show(block - 1, 0);
  }

  async show(block, index) {
    this.open = [block, index];
    const body = document.getElementById("entry-body"), area = encodeURIComponent(this.ctx.view.area);
    document.getElementById("entry-title").textContent = `Journal entry ${block}.${index}`;
    if (!this.dialog.open) this.dialog.showModal();
    const answer = await fetch(`/entry/${area}/${block}/${index}?${this.lens()}`).catch(() => null);
    if (!answer?.ok) {
      body.replaceChildren(el("p", { class: "bad" }, answer ? await answer.text() : "The server does not answer."));
      return;
    }
    const e = await answer.json();
    if (this.open[0] !== block || this.open[1] !== index) return;
    this.size = e.entries;
    const good = Object.values(e.checks).every(Boolean);
    const rows = [["event", `${e.event_type}: ${e.meaning}`], ["id", e.event_id], ["sender", e.sender_id === null ? "removed for this role" : e.on_behalf_of ? `${e.sender_id} on behalf of ${e.on_behalf_of}` : e.sender_id],
      ["received", new Date(e.received_at_ms).toISOString()], ["schema", `${e.schema_fingerprint} (CRC-64-AVRO)`], ["place", `entry ${e.index + 1} of ${e.entries} in block ${e.block}`]];
    // With the sender goes what would tell it: where the entry lay in an inbox, and hashes of what names it.
    if (e.payload_sha256 !== null) rows.push(["inbox", `partition ${e.inbox_partition}, offset ${e.inbox_offset}`], ["payload", `${e.payload_bytes} bytes, SHA-256 ${e.payload_sha256}${e.signed ? ", signed" : ""}`]);
    if (e.block_hash !== null) rows.push(["block hash", e.block_hash], ["previous", e.previous_hash]);
    body.replaceChildren(
      el("p", { class: good ? "verdict good" : "verdict bad" }, good ? "✓ chain ok" : "✗ chain broken"),
      el("ul", { class: "checks" }, ...Object.entries(e.checks).map(([name, ok]) => el("li", { class: ok ? "good" : "bad" }, `${ok ? "✓" : "✗"} ${name}`))),
      el("table", { class: "evidence" }, el("tbody", {}, ...rows.map(([name, v]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, v))))),
      el("pre", { tabindex: 0, "aria-label": "decoded event" }, pretty(e.event)));
  }
}

// JSON with lists of plain values on one line: 96 numbers are one thing to read.
function pretty(value, indent = "") {
  const deeper = `${indent}  `;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) {
    if (!value.length) return "[]";
    if (value.every((v) => v === null || typeof v !== "object")) return `[${value.map((v) => JSON.stringify(v)).join(", ")}]`;
    const shown = value.slice(0, 400).map((v) => deeper + pretty(v, deeper)).join(",\n");
    return `[\n${shown}${value.length > 400 ? `,\n${deeper}… ${value.length - 400} more` : ""}\n${indent}]`;
  }
  return `{\n${Object.entries(value).map(([k, v]) => `${deeper}${JSON.stringify(k)}: ${pretty(v, deeper)}`).join(",\n")}\n${indent}}`;
}
