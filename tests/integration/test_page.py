"""The page as a person sees it: a real Kafka, the real server, headless Chromium."""

import json
import threading
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from clearing import clear
from clearing.report import report_html
from streams.kafka import Connection
from streams.page.model import PageState, fold
from streams.report import write_report
from tests.integration.page_served import Day, Served, opened, write
from tests.page_day import FSPS, NOON, SESSION, blocks, history
from tests.unit.test_clearing_report import sunny

pytestmark = pytest.mark.browser


def test_the_day_is_seen_at_a_glance(page: Page, served: Served, day: Day) -> None:
    opened(page, served, day)
    expect(page.locator("#chain")).to_contain_text(f"{day.entries} entries")
    state = json.loads(served.get(f"/state?area={day.area}")[1])
    clock_ms = state["sections"]["clock"]["clock"]["market_time_ms"]
    assert NOON <= clock_ms < NOON + 60_000  # the clock is the broker's, and another test lets it go on
    expect(page.locator("#clock-time")).to_have_text(f"13:00:{(clock_ms - NOON) // 1000:02d}")
    expect(page.locator("#steps .now")).to_have_text("Settled")
    expect(page.locator("#grid-svg circle.bus")).to_have_count(41)
    expect(page.locator("#slot-text")).to_contain_text("13:00–13:15")
    expect(page.locator("#bars-readout")).to_contain_text("need ▼1.90 MW")
    expect(page.locator("#heat-readout")).to_contain_text("lowest −5.00 at F1.13")
    painted = page.evaluate(
        "() => { const c = document.getElementById('heat-canvas');"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " return new Set(Array.from({length: d.length / 400}, (_, k) => d.slice(400 * k, 400 * k + 3).join())).size; }"
    )
    assert painted > 5


def test_the_heat_map_has_a_layer_of_cleared_volumes(page: Page, served: Served, day: Day) -> None:
    opened(page, served, day)
    expect(page.get_by_role("radio", name="Prices")).to_have_attribute("aria-checked", "true")
    shot = "() => document.getElementById('heat-canvas').toDataURL()"
    page.locator("#heat-canvas").focus()
    prices = page.evaluate(shot)
    page.keyboard.press("v")
    expect(page.get_by_role("radio", name="Volumes")).to_have_attribute("aria-checked", "true")
    expect(page.locator("#heat-key")).to_contain_text("▼ 260 kW")
    expect(page.locator("#heat-readout")).to_contain_text("most ▼ 260 kW at F1.")
    assert page.evaluate(shot) != prices
    page.locator("#element").select_option("bus F1.03")
    expect(page.locator("#heat-readout")).to_contain_text("F1.03▼ 260 kW")
    page.locator("#slot").fill("78")  # half past seven in the evening: up is cleared, and elsewhere
    expect(page.locator("#heat-readout")).to_contain_text("F1.03nothing cleared")
    page.locator("#element").select_option("bus F2.08")
    expect(page.locator("#heat-readout")).to_contain_text("▲ 200 kW")
    page.locator("#heat-layer button").nth(1).focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#heat-readout")).to_contain_text("EUR/MWh")


def test_violations_are_unmistakable_before_and_gone_after(page: Page, served: Served, day: Day) -> None:
    opened(page, served, day)
    page.get_by_role("radio", name="Forecast").click()
    expect(page.locator("#grid-alarm")).to_have_text("⚠ 3 overloaded · 7 V↑")
    expect(page.locator("#grid-svg .ring.bad")).to_have_count(7)  # a shape, not colour alone
    expect(page.locator("#grid-svg .hazard.on")).to_have_count(3)
    expect(page.locator("#grid-svg .flag").filter(has_text="V↑")).to_have_count(7)
    page.get_by_role("radio", name="Cleared").click()
    expect(page.locator("#grid-alarm")).to_have_text("✓ within limits")
    expect(page.locator("#grid-svg .ring.bad")).to_have_count(0)
    page.get_by_role("radio", name="Metered").click()
    page.locator("#element").select_option("bus F1.13")
    expect(page.locator("#detail")).to_contain_text("metered (est.)")


def test_every_list_tells_its_part_of_the_day(page: Page, served: Served, day: Day) -> None:
    opened(page, served, day)
    body = page.locator("#tab-body")
    for tab, rows, said in (
        ("Activations & delivery", 14, "inverter in repair"),
        ("Settlement", 5, "r2 corrected 263.17 (MR-late r2)"),
        ("Awards", 14, "OFR-01"),
        ("Not taken", 17, "capacity limit LIM-1"),
        ("Needs & requests", 5, "overload"),
        ("Limits & lights", 18, "unforeseen stop"),
        ("Upward to the TSO", 1, "tso-north"),
    ):
        page.get_by_role("tab", name=tab).click()
        expect(body.locator("tbody tr")).to_have_count(rows)
        expect(body).to_contain_text(said)
    expect(page.locator("#tab-rejections .count")).not_to_be_empty()


def test_an_entry_of_the_journal_opens_with_its_evidence(page: Page, served: Served, day: Day) -> None:
    opened(page, served, day)
    page.locator("#filter-type").select_option("MarketCleared")
    expect(page.locator("#tab-body tbody tr")).to_have_count(1)
    page.locator("#tab-body .open").click()
    dialog = page.locator("#entry")
    expect(dialog).to_contain_text("✓ chain ok")
    expect(dialog).to_contain_text("content matches the block's hash")
    expect(dialog).to_contain_text("SHA-256")
    expect(dialog.locator("pre")).to_contain_text('"clearing_id": "CLR-1"')
    before = page.locator("#entry-title").inner_text()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#entry-title")).not_to_have_text(before)
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()


def test_the_journal_finds_what_is_not_among_the_newest(page: Page, served: Served, connection: Connection) -> None:
    # the gate opens early in a day of a thousand entries; a browser that comes late has not been sent it
    events = history()
    area = f"long-{uuid.uuid4().hex[:8]}"
    started = next(e for e in events if type(e[1]).__name__ == "DeliveryStarted")
    write(connection, blocks([*events, *([started] * 900)], size=40, area_id=area))
    served.wait_for(area, len(events) + 900)
    opened(page, served, Day(area, 0))
    page.locator("#filter-text").fill("GateOpened")
    expect(page.locator("#tab-body tbody tr")).to_have_count(1)
    page.locator("#tab-body .open").click()
    expect(page.locator("#entry")).to_contain_text("✓ chain ok")
    page.locator("#entry-before").click()
    expect(page.locator("#entry pre")).to_contain_text("MarketSessionScheduled")
    page.keyboard.press("Escape")
    page.locator("#filter-text").fill("")
    expect(page.locator("#tab-body tbody tr")).to_have_count(250)
    page.get_by_role("button", name="older entries").click()
    expect(page.locator("#tab-body tbody tr")).to_have_count(500)


def test_it_can_be_used_by_keyboard_alone(page: Page, served: Served, day: Day) -> None:
    opened(page, served, day)
    page.locator("#grid-svg").focus()
    page.keyboard.press("Home")
    expect(page.locator("#element")).to_have_value("bus HV")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#element")).to_have_value("bus F1.01")
    page.keyboard.press("b")
    expect(page.locator("#element")).to_have_value("branch L1.01")
    page.locator("#slot").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#slot-text")).to_contain_text("13:15–13:30")
    expect(page.locator("#follow")).to_have_attribute("aria-pressed", "false")
    page.locator("#heat-canvas").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#slot-text")).to_contain_text("13:00–13:15")
    expect(page.locator("#element")).to_have_value("bus HV")
    page.locator("#tab-journal").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-activations")).to_be_focused()
    expect(page.locator("#tab-activations")).to_have_attribute("aria-selected", "true")
    # Every stop of the tabulator can be seen and has a name.
    page.locator("body").press("Tab")
    named = page.evaluate(
        "() => [...document.querySelectorAll('button, select, input, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility() && !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')"
        " || e.labels?.length || e.textContent.trim())).map(e => e.outerHTML)"
    )
    assert named == []


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1920, 1080)])
def test_it_fits_the_screen(page: Page, served: Served, day: Day, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    opened(page, served, day)
    size = page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert size == [width, height]
    for part in ("#grid-svg", "#bars-svg", "#heat-canvas", "#tab-body", "#detail"):
        box = page.locator(part).bounding_box()
        assert box is not None
        assert box["width"] > 200
        assert box["height"] > 90


def test_on_a_phone_no_panel_cuts_off_its_controls_or_numbers(page: Page, served: Served, day: Day) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, served, day)
    cut = page.evaluate(
        """() => [...document.querySelectorAll('.panel .bar > *, .panel .readout')].filter((e) => {
            const box = e.getBoundingClientRect(), panel = e.closest('.panel').getBoundingClientRect();
            const hidden = e.matches('.readout') && e.scrollHeight > e.clientHeight + 1;
            return box.width > 0 && (box.right > panel.right + 1 || hidden);
        }).map((e) => e.id || e.className)"""
    )
    assert cut == []
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390


def test_a_role_sees_only_what_it_may(page: Page, served: Served, day: Day) -> None:
    opened(page, served, day, role="FSP", party=FSPS[0])
    expect(page.locator("#lens-note")).to_contain_text("fsp-alder FSP")
    expect(page.locator("#grid-empty")).to_have_text("This role may not see the network model.")
    page.get_by_role("tab", name="Settlement").click()
    expect(page.locator("#tab-body tbody tr")).to_have_count(2)  # its own and the sum
    page.get_by_role("tab", name="Awards").click()
    expect(page.locator("#tab-body")).to_contain_text("removed")
    told = page.evaluate("() => document.querySelector('main').innerText")
    assert FSPS[1] not in told
    page.locator("#role").select_option("")
    expect(page.locator("#grid-svg circle.bus")).to_have_count(41)


def test_it_follows_the_journal_live_and_survives_a_restart(page: Page, connection: Connection) -> None:
    events = history()
    area = f"live-{uuid.uuid4().hex[:8]}"
    chain = blocks(events, area_id=area)
    half = len(chain) // 2
    write(connection, chain[:half])
    first = Served(connection)
    try:
        first.wait_for(area, 7 * half)
        opened(page, first, Day(area, 0))
        expect(page.locator("#chain")).to_contain_text(f"{half} blocks")
        page.evaluate("() => { window.untouched = true; }")
        write(connection, chain[half:])
        expect(page.locator("#chain")).to_contain_text(f"{len(chain)} blocks · {len(events)} entries")
        expect(page.locator("#steps .now")).to_have_text("Settled")
    finally:
        first.close()
    expect(page.locator("#link")).to_have_text("reconnecting")
    again = Served(connection, port=first.port)
    try:
        expect(page.locator("#link")).to_have_text("live", timeout=20_000)
        expect(page.locator("#chain")).to_contain_text(f"{len(events)} entries", timeout=20_000)
        assert page.evaluate("() => window.untouched")  # without a reload
    finally:
        again.close()


def test_the_report_opens_without_a_complaint_and_prints(chromium: Browser, tmp_path: Path) -> None:
    state = PageState()
    for block in blocks(history()):
        fold(state, block)
    context = chromium.new_context(viewport={"width": 1100, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else complaints.append(r.url))
    page.goto(write_report(state, tmp_path / "report.html").as_uri())
    expect(page.get_by_role("heading", level=1)).to_have_text("Market day Valley")
    expect(page.locator("svg.grid")).to_have_count(2)
    expect(page.locator("svg.grid").first.locator(".ring")).to_have_count(7)
    expect(page.locator("svg.grid").last.locator(".ring")).to_have_count(0)
    assert page.evaluate("() => [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate("() => document.documentElement.scrollWidth") == 1100
    printed = page.pdf(prefer_css_page_size=True)
    assert 3 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 14
    assert complaints == []
    context.close()


def test_the_reports_fit_a_phone_and_paper(chromium: Browser, tmp_path: Path) -> None:
    state = PageState()
    for block in blocks(history()):
        fold(state, block)
    cleared = tmp_path / "cleared.html"
    cleared.write_text(report_html(sunny(), clear(sunny())), encoding="utf-8")
    page = chromium.new_page()
    for report in (write_report(state, tmp_path / "report.html"), cleared):
        page.goto(report.as_uri())
        for media, width in (("screen", 390), ("print", 703)):  # A4 within its margins has 703 px
            page.emulate_media(media=media)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("() => document.documentElement.scrollWidth") == width, (report.name, media)
    page.close()


# ---- the server by itself


def test_it_answers_to_its_own_name_only(served: Served) -> None:
    status, text, _ = served.get("/state", Host="evil.example")
    assert status == 421
    assert "own address" in text
    assert served.get("/state", Host=f"localhost:{served.port}")[0] == 200


def test_every_answer_is_strict(served: Served) -> None:
    for path in ("/", "/static/app.js", "/state", "/no-such-page", "/static/../server.py", "/entry/x/0/0"):
        _, _, headers = served.get(path)
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in headers
    assert served.get("/static/server.py")[0] == 404


def test_a_place_of_thousands_of_digits_is_no_place(served: Served) -> None:
    digits = "9" * 5000  # Python reads at most 4,300 by itself
    assert served.get(f"/journal?before={digits}.0")[0] == 200
    run_id = json.loads(served.get("/state")[1])["id"].partition("-")[0]
    with urllib.request.urlopen(f"{served.url}events?since={run_id}-{digits}", timeout=10) as stream:
        assert stream.status == 200


def test_entries_are_found_or_refused_with_a_reason(served: Served, day: Day) -> None:
    area = day.area
    assert served.get(f"/entry/{area}/0/0")[0] == 200
    assert served.get(f"/entry/{area}/9999/0")[0] == 404
    assert served.get(f"/entry/{area}/0/99")[0] == 404
    assert served.get(f"/entry/{area}/0/0?role=NOBODY")[0] == 400
    network = next(
        t for t in json.loads(served.get(f"/state?area={area}")[1])["tail"] if t["type"] == "SettlementComputed"
    )
    status, text, _ = served.get(f"/entry/{area}/{network['block']}/{network['index']}?role=OBSERVER")
    assert status == 403
    assert "may not see a SettlementComputed" in text


def test_it_reports_health_metrics_and_the_summary(served: Served, day: Day) -> None:
    health = json.loads(served.get("/health")[1])
    assert health["status"] == "ok"
    assert health["caught_up"] is True
    assert health["chains"][day.area] is True
    assert "flexbus_page_entries_total" in served.get("/metrics")[1]
    summary = json.loads(served.get("/summary")[1])
    assert summary["areas"][day.area]["sessions"][SESSION]["activations"]["ordered"] == 14


def messages(
    served: Served, area: str, last_id: str, seconds: float, most: int = 10_000
) -> list[tuple[str, dict[str, Any]]]:
    """Read server-sent events for some seconds, or until there are so many."""
    request = urllib.request.Request(f"{served.url}events?area={area}", headers={"Last-Event-ID": last_id})
    found: list[tuple[str, dict[str, Any]]] = []
    event_id, deadline = "", time.monotonic() + seconds
    with urllib.request.urlopen(request, timeout=max(1.0, seconds)) as stream:
        while time.monotonic() < deadline and len(found) < most:
            try:
                line = stream.readline().decode().strip()
            except TimeoutError:
                break
            if line.startswith("id:"):
                event_id = line[3:].strip()
            elif line.startswith("data:"):
                found.append((event_id, json.loads(line[5:])))
    return found


def test_who_comes_back_gets_increments_and_a_stranger_everything(served: Served, day: Day) -> None:
    ((last, everything),) = messages(served, day.area, "", 20.0, 1)
    assert everything["full"] is True
    assert "network" in everything["sections"]
    assert messages(served, day.area, last, 1.0) == []
    run_id, _, revision = last.partition("-")
    ((_, some),) = messages(served, day.area, f"{run_id}-{int(revision) - 3}", 20.0, 1)
    assert some["full"] is False
    assert "network" not in some["sections"]
    ((_, other),) = messages(served, day.area, f"00000000-{revision}", 20.0, 1)
    assert other["full"] is True


def test_a_flood_of_entries_reaches_a_browser_in_few_bounded_updates(served: Served, connection: Connection) -> None:
    # 2,400 offers' worth of entries in about two seconds
    events = history()
    offers = [e for e in events if type(e[1]).__name__ == "FlexOfferSubmitted"]
    registry = events[: events.index(offers[0])]
    area = f"flood-{uuid.uuid4().hex[:8]}"
    chain = blocks([*registry, *(offers * 150)], size=120, area_id=area)
    write(connection, chain[:1])
    served.wait_for(area, 100)
    found: list[tuple[str, dict[str, Any]]] = []
    reader = threading.Thread(target=lambda: found.extend(messages(served, area, "", 4.0)))
    reader.start()
    for block in chain[1:]:
        write(connection, [block])
    reader.join()
    served.wait_for(area, sum(len(b.entries) for b in chain))
    assert 1 < len(found) <= 4.0 * 5 + 2
    assert max(len(m["tail"]) for _, m in found) <= 300
    assert max(len(json.dumps(m)) for _, m in found[1:]) < 300_000
