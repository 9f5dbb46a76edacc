"""The page for every eye and by keyboard: shapes beside colours, colour-blind vision, a laptop's screen, the gate."""

import base64
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from flexbus import events as ev
from flexbus.topics import CLOCK
from streams.clock import tick_bytes
from streams.kafka import Connection
from tests.integration.page_served import Day, Served, opened, write
from tests.page_day import NOON, SESSION, blocks, history

pytestmark = pytest.mark.browser

LAPTOP = (1366, 768)

# CIE76 distance in Lab. Two colours 2.3 apart can just be told from each other side by side; what lies in different
# places of a screen must be some ten times as far apart.
BOUND = 20.0

# What stands side by side and must not be taken for each other: places on the page, each (selector, x, y) in shares of
# its box.
NEIGHBOURS = {
    "traffic lights of the diagram": (
        ("#legend .point.green", 0.5, 0.5),
        ("#legend .point.yellow", 0.5, 0.6),
        ("#legend .point.red", 0.5, 0.5),
    ),
    "traffic lights of the hours": (
        (".hours:has(.red) .green", 0.2, 0.2),
        (".hours .yellow", 0.2, 0.2),
        (".hours .red", 0.2, 0.2),
    ),
    "the heat map's usual price and its ends": (
        ("#heat-key .ramp", 0.02, 0.5),
        ("#heat-key .ramp", 0.5, 0.5),
        ("#heat-key .ramp", 0.98, 0.5),
    ),
    "cleared up and down": (("#bars-key .taken", 0.2, 0.5), ("#bars-key .taken", 0.8, 0.5)),
    "offered up and down": (("#bars-key .left", 0.2, 0.5), ("#bars-key .left", 0.8, 0.5)),
    "cleared and offered, up": (("#bars-key .taken", 0.2, 0.5), ("#bars-key .left", 0.2, 0.5)),
    "cleared and offered, down": (("#bars-key .taken", 0.8, 0.5), ("#bars-key .left", 0.8, 0.5)),
    "awarded up and down": (("#legend .act.up", 0.5, 0.6), ("#legend .act.down", 0.5, 0.4)),
    "voltage low, mid and high": (
        ("#legend .bus.v-low", 0.5, 0.5),
        ("#legend .bus.v-mid", 0.5, 0.5),
        ("#legend .bus.v-high", 0.5, 0.5),
    ),
}


@pytest.fixture(params=["light", "dark"])
def themed(request: pytest.FixtureRequest, chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(
        viewport={"width": LAPTOP[0], "height": LAPTOP[1]}, timezone_id="UTC", color_scheme=request.param
    )
    yield context.new_page()
    context.close()


# ---- shapes


def test_traffic_lights_differ_in_shape_not_only_in_colour(page: Page, served: Served, day: Day) -> None:
    opened(page, served, day)
    seen: dict[str, set[str]] = {"green": set(), "yellow": set(), "red": set()}
    for hour in (13, 19):  # at one a capacity limit dims two points; at seven in the evening one point is stopped
        page.locator("#slot").fill(str(4 * hour))
        expect(page.locator("#slot-text")).to_contain_text(f"{hour}:00")
        for colour, shapes in seen.items():
            shapes.update(
                page.locator(f"#grid-svg path.point.{colour}").evaluate_all("e => e.map(p => p.getAttribute('d'))")
            )
    assert {colour: len(shapes) for colour, shapes in seen.items()} == {"green": 1, "yellow": 1, "red": 1}
    assert len(set.union(*seen.values())) == 3
    # a circle, a triangle, a square: arcs; three corners; four corners, upright
    assert [next(iter(seen[c])).count("A") for c in ("green", "yellow", "red")] == [2, 0, 0]

    page.get_by_role("tab", name="Limits & lights").click()
    page.locator("#slot").fill(str(4 * 19))
    body = page.locator("#tab-body")
    expect(body.locator(".light.red")).to_have_text("■ red")
    assert set(body.locator(".light.green").all_inner_texts()) == {"● green"}
    hours = body.locator(".hours")
    assert set(hours.locator(".green").all_inner_texts()) == {""}
    assert set(hours.locator(".yellow").all_inner_texts()) == {"▲"}
    assert set(hours.locator(".red").all_inner_texts()) == {"■"}
    page.locator("#slot").fill(str(4 * 13))
    expect(body.locator(".light.yellow")).to_have_text(["▲ yellow"] * 2)


def test_up_and_down_carry_their_mark_in_every_list(page: Page, served: Served, day: Day) -> None:
    opened(page, served, day)
    told = 0
    for tab in ("Activations & delivery", "Awards", "Needs & requests", "Upward to the TSO"):
        page.get_by_role("tab", name=tab).click()
        cells = page.locator("#tab-body td.up, #tab-body td.down")
        expect(cells.first).to_be_visible()
        for cell in cells.all():
            way = cell.get_attribute("class")
            expect(cell).to_have_text({"up": "▲ up", "down": "▼ down"}[way or ""])
            told += 1
    assert told > 30
    above, below = page.locator("#bars-svg .side").all_text_contents()
    assert (above[:4], below[:6]) == ("▲ up", "▼ down")
    # The diagram's awards point to where they go.
    page.get_by_role("radio", name="Cleared").click()
    down = page.locator("#grid-svg path.act.down").first.get_attribute("d") or ""
    base, tip = float(down.split(",")[1].split("H")[0]), float(down.rsplit(",", 1)[1].rstrip("Z"))
    assert tip > base  # y grows downwards


# ---- colours


def pixels(page: Page, places: Sequence[tuple[str, float, float]]) -> list[tuple[int, int, int]]:
    """Return the colours that stand on the screen at some places, after whatever changes them for the eye."""
    points = []
    for selector, x, y in places:
        box = page.locator(selector).first.bounding_box()
        assert box is not None, selector
        points.append((int(box["x"] + x * box["width"]), int(box["y"] + y * box["height"])))
    shot = base64.b64encode(page.screenshot()).decode()
    reader = page.context.new_page()
    found: list[list[int]] = reader.evaluate(
        """async ([shot, points]) => {
          const image = new Image();
          image.src = `data:image/png;base64,${shot}`;
          await image.decode();
          const canvas = new OffscreenCanvas(image.width, image.height), g = canvas.getContext("2d");
          g.drawImage(image, 0, 0);
          return points.map(([x, y]) => [...g.getImageData(x, y, 1, 1).data.slice(0, 3)]);
        }""",
        [shot, points],
    )
    reader.close()
    return [(r, g, b) for r, g, b in found]


def lab(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    """Return an sRGB colour in CIE Lab, white D65."""
    r, g, b = ((c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def distance(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(lab(one), lab(other), strict=True)) ** 0.5)


# `make test` looks with two of four kinds of eyes.
EYES = ["none", "deuteranopia", *(pytest.param(eye, marks=pytest.mark.long) for eye in ("protanopia", "tritanopia"))]


@pytest.mark.parametrize("vision", EYES)
def test_neighbours_can_be_told_apart_by_every_eye(themed: Page, served: Served, day: Day, vision: str) -> None:
    page = opened(themed, served, day)
    page.get_by_role("tab", name="Limits & lights").click()
    page.locator(".hours .red").first.scroll_into_view_if_needed()
    eye = page.context.new_cdp_session(page)
    eye.send("Emulation.setEmulatedVisionDeficiency", {"type": vision})
    too_close = {}
    for name, places in NEIGHBOURS.items():
        for one, other in combinations(pixels(page, places), 2):
            if distance(one, other) < BOUND:
                too_close[name, one, other] = round(distance(one, other), 1)
    assert too_close == {}


@pytest.mark.parametrize("vision", EYES)
def test_volumes_of_the_heat_map_can_be_told_apart_by_every_eye(
    themed: Page, served: Served, day: Day, vision: str
) -> None:
    page = opened(themed, served, day)
    page.get_by_role("radio", name="Volumes").click()
    expect(page.locator("#heat-key")).to_contain_text("cleared")
    eye = page.context.new_cdp_session(page)
    eye.send("Emulation.setEmulatedVisionDeficiency", {"type": vision})
    ramp = [("#heat-key .ramp", x, 0.5) for x in (0.02, 0.533, 0.98)]  # down by 260 kW, nothing, up by 200 kW
    assert min(distance(one, other) for one, other in combinations(pixels(page, ramp), 2)) >= BOUND


def test_the_emulated_eye_takes_red_for_green(page: Page, served: Served, day: Day) -> None:
    """The counter-check: two colours that all can tell apart, but not these eyes, fall below the bound."""
    opened(page, served, day)
    page.evaluate(
        """() => [["red", "rgb(170, 85, 40)"], ["green", "rgb(100, 112, 40)"]].forEach(([id, colour], k) => {
          const box = document.createElement("div");
          box.id = `probe-${id}`;
          Object.assign(box.style, {position: "fixed", left: `${40 * k}px`, top: "200px", width: "30px",
            height: "30px", background: colour, zIndex: 9});
          document.body.append(box);
        })"""
    )
    places = (("#probe-red", 0.5, 0.5), ("#probe-green", 0.5, 0.5))
    assert distance(*pixels(page, places)) > 2 * BOUND
    eye = page.context.new_cdp_session(page)
    eye.send("Emulation.setEmulatedVisionDeficiency", {"type": "deuteranopia"})
    assert distance(*pixels(page, places)) < BOUND


# ---- a laptop's screen


# What is wider than its place, leaves its panel, or lies on its neighbour.
CUT = """() => {
  const cut = [];
  for (const select of document.querySelectorAll("header select, #element")) {
    if (!select.checkVisibility()) continue;
    const whole = select.cloneNode(false);  // as wide as the chosen text wants to be
    whole.append(select.selectedOptions[0].cloneNode(true));
    whole.removeAttribute("id");
    Object.assign(whole.style, {position: "absolute", width: "max-content", maxWidth: "none"});
    select.parentNode.append(whole);
    if (whole.offsetWidth > select.offsetWidth + 1) cut.push([`#${select.id}`, select.offsetWidth, whole.offsetWidth]);
    whole.remove();
  }
  const told = "header, header *, .key, .key *, .legend, .legend span, .bar h2, .tabs, .tabs button";
  for (const e of document.querySelectorAll(told)) {
    if (!e.checkVisibility() || e.closest("select, svg") || e.classList.contains("sr")) continue;
    const name = e.outerHTML.slice(0, 60), inline = getComputedStyle(e).display === "inline";
    if (e.scrollWidth > e.clientWidth && !inline) cut.push([name, e.clientWidth, e.scrollWidth]);
    const box = e.getBoundingClientRect(), frame = (e.closest(".panel") ?? document.body).getBoundingClientRect();
    if (box.right > frame.right + 0.5 || box.left < frame.left - 0.5) cut.push([name, box.right, frame.right]);
  }
  const parts = [...document.querySelectorAll("header > *")].map((e) => e.getBoundingClientRect());
  for (const [k, part] of parts.slice(1).entries()) {
    if (part.left < parts[k].right - 0.5) cut.push(["overlap", parts[k].right, part.left]);
  }
  return cut;
}"""

# As the demo names its area.
LONG_NAME = "SimBench 1-MV-rural--2-sw, winter day (27 January of its profile year), loads x 2.15: electrified heating"


@pytest.fixture(scope="module")
def long_named(connection: Connection, served: Served) -> Day:
    """The day under the names of the demo: an area of two words, a name that is a sentence."""
    area = f"mv-rural-{uuid.uuid4().hex[:4]}"
    events = [(s, replace(e, name=LONG_NAME) if isinstance(e, ev.AreaOpened) else e, at) for s, e, at in history()]
    write(connection, blocks(events, area_id=area))
    served.wait_for(area, len(events))
    return Day(area, len(events))


@pytest.mark.parametrize(("width", "height"), [LAPTOP, (1280, 720), (1920, 1080)])
def test_nothing_of_header_and_legends_is_cut(
    page: Page, served: Served, long_named: Day, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    for query in ({}, {"role": "FMO"}, {"role": "METER_OPERATOR"}, {"role": "FSP", "party": "fsp-alder"}):
        opened(page, served, long_named, **query)
        expect(page.locator("#steps .now")).to_be_visible()
        assert page.evaluate(CUT) == []
        for layer in ("Prices", "Volumes"):
            page.get_by_role("radio", name=layer).click()
            assert page.evaluate(CUT) == []
            for key in ("#bars-key", "#heat-key"):  # in one line with its heading, on a narrower screen in two
                box = page.locator(key).bounding_box()
                assert box is not None
                assert box["height"] < (20 if width >= LAPTOP[0] else 30)
    expect(page.locator("#area")).to_have_attribute("title", LONG_NAME)
    opened(page, served, long_named)
    expect(page.locator("#detail")).to_contain_text(LONG_NAME)  # to be read without a pointer


# ---- a day that is half told


def tick(connection: Connection, at_ms: int) -> None:
    producer = connection.producer()
    producer.produce(CLOCK, tick_bytes(at_ms), key=b"market", partition=0)
    producer.flush(10)


@pytest.fixture(scope="module")
def before_gate(connection: Connection, served: Served, day: Day) -> Day:
    """Tomorrow's session: offers come in, and the gate closes an hour, two minutes and three seconds from now."""
    area = f"half-{uuid.uuid4().hex[:8]}"
    told: list[tuple[str, Any, int]] = []
    for sender, event, at in history():
        if isinstance(event, ev.GateClosed):
            break
        if isinstance(event, ev.MarketSessionScheduled):
            event = replace(
                event,
                delivery_start_ms=event.delivery_start_ms + 86_400_000,
                delivery_end_ms=event.delivery_end_ms + 86_400_000,
                gate_opens_ms=NOON - 3_600_000,
                gate_closes_ms=NOON + 3_723_000,
                settlement_due_ms=event.settlement_due_ms + 86_400_000,
            )
        told.append((sender, event, at))
    write(connection, blocks(told, area_id=area))
    served.wait_for(area, len(told))
    return Day(area, len(told))


def test_the_countdown_to_the_gate_counts(page: Page, served: Served, connection: Connection, before_gate: Day) -> None:
    opened(page, served, before_gate)
    expect(page.locator("#steps .now")).to_have_text("Open")
    expect(page.locator("#gate-what")).to_have_text("gate closes in")
    expect(page.locator("#gate-left")).to_have_text("01:02:03")
    for seconds, left in ((1, "01:02:02"), (2, "01:02:01"), (4, "01:01:59")):
        tick(connection, NOON + 1000 * seconds)
        expect(page.locator("#gate-left")).to_have_text(left)
        expect(page.locator("#clock-time")).to_have_text(f"13:00:0{seconds}")
    expect(page.locator("#heat-empty")).to_have_text("No prices before the session is cleared.")
    expect(page.get_by_role("radio", name="Cleared")).to_be_disabled()


def test_the_area_is_chosen_by_keyboard(page: Page, served: Served, day: Day, before_gate: Day) -> None:
    opened(page, served, day)
    page.locator("#area").focus()
    page.keyboard.type(before_gate.area)
    expect(page.locator("#area")).to_have_value(before_gate.area)
    expect(page.locator("#chain")).to_contain_text(f"{before_gate.entries} entries")
    expect(page.locator("#gate-what")).to_have_text("gate closes in")
    expect(page.locator("#session")).to_have_value(SESSION)
    expect(page.locator("#area")).to_be_focused()
    areas = page.locator("#area option").evaluate_all("e => e.map(o => o.value)")
    steps = areas.index(day.area) - areas.index(before_gate.area)
    for _ in range(abs(steps)):
        page.keyboard.press("ArrowDown" if steps > 0 else "ArrowUp")
    expect(page.locator("#chain")).to_contain_text(f"{day.entries} entries")
    expect(page.locator("#steps .now")).to_have_text("Settled")
