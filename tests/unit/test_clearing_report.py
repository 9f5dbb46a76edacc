"""The report: one page that works offline, says the same as the result, and lets nobody write into it."""

from dataclasses import replace
from html.parser import HTMLParser

from clearing import Case, clear
from clearing.case import Location, Phase, Scenario
from clearing.report import report_html
from clearing.report_tables import slot_facts
from clearing.result import Binding, LimitKind
from flexbus.quantities import Direction
from tests.clearing_cases import case, chain, injection, offer, request

UP, DOWN = Direction.UP, Direction.DOWN


def sunny() -> Case:
    """Too much sun for what is on offer: the voltage at the end stays too high, and one request is short."""
    return case(
        chain(6, km=4.0, price=50_000),
        [injection(f"b{k}", [1_900_000, 100_000]) for k in range(1, 6)],
        slots=2,
        offers=(
            offer("cure", "b5", DOWN, [[(200_000, 30_000)]] * 2),
            offer("wrong-way", "b5", UP, [[(200_000, 45_000)]] * 2),
        ),
        requests=(request("brp", UP, [[], [(500_000, 60_000)]], location_kind=Location.AREA),),
    )


class Page(HTMLParser):
    """Collects the text, the headings and what the page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "rect", "circle", "path", "line", "polygon"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_says_what_the_result_says() -> None:
    given = sunny()
    result = clear(given)
    page = Page(report_html(given, result))
    assert page.open == []
    assert page.fetched == []
    for heading in ("What stays unmet", "Who pays", "Who was taken", "Who was not taken, and why", "Who asked"):
        assert heading in page.text
    short = next(s for s in result.slots[0].shortfalls if s.element_id == "b5")
    assert f"voltage max b5 1 (00:00 to 00:00) {short.amount / 1e6:.6f} pu" in page.text
    assert "1 of 2 slots in which a limit stays broken" in page.text
    assert f"providers are paid {result.cost_nano / 1e9:,.2f}" in page.text
    assert result.result_hash in page.text
    for row in result.non_awards:
        assert row.text in page.text
    assert result.requests[0].reason in page.text
    # The last is a heat map of what each slot could still gain, where that is a cent or more.
    assert max(s.gap_nano or 0 for s in result.slots) >= 10_000_000
    assert "At most so much more could be gained, EUR" in page.text
    assert f"At most {(result.slots[0].gap_nano or 0) / 1e9:,.4f} EUR more could be gained in this slot" in page.text
    assert page.tags.count("svg") == 8


def test_a_capacity_auction_shows_both_ends_of_its_slots() -> None:
    given = replace(sunny(), phase=Phase.CAPACITY)
    page = Page(report_html(given, clear(given)))
    assert "capacity" in page.text
    assert "2 slots of 15 min" in page.text
    assert "00:15 down" in page.text


def test_a_two_stage_auction_shows_its_scenarios_and_what_is_reserved() -> None:
    given = sunny()
    days = (
        Scenario(scenario_id="as forecast", probability_ppm=800_000),
        Scenario(scenario_id="rain", probability_ppm=200_000, injections=(injection("b5", [0, 0]),)),
    )
    given = replace(given, phase=Phase.STOCHASTIC, scenarios=days)
    result = clear(given)
    page = Page(report_html(given, result))
    assert page.open == []
    assert "2 slots of 15 min, 2 scenarios" in page.text
    for s in result.scenarios:
        assert f"{s.scenario_id} {s.probability_ppm // 10_000} %" in page.text
        assert f"{s.welfare_nano / 1e9:,.2f}" in page.text
    taken = [r.offer_id for r in result.reservations if any(r.quantity)]
    assert taken
    assert f"{len(taken)} of {len(taken)} reservations shown" in page.text
    # Only the hardest scenario is drawn.
    assert page.tags.count("svg") == 8


def test_names_cannot_write_into_the_page() -> None:
    evil = "<script>alert(1)</script>"
    given = sunny()
    offers = (replace(given.offers[0], offer_id=evil), *given.offers[1:])
    given = replace(given, case_id=evil, offers=offers, network=replace(given.network, name=evil))
    page = Page(report_html(given, clear(given)))
    assert "script" not in page.tags
    assert evil in page.text


def test_an_empty_market_has_a_report() -> None:
    given = case(chain(2), [injection("b1", [0])])
    assert "No limit binds, nothing is short" in Page(report_html(given, clear(given))).text


def test_what_relief_is_worth_has_the_unit_of_its_limit() -> None:
    result = clear(sunny())
    units = {"EXPORT": "MWh", "CURRENT_TO": "MVAh", "APPARENT_POWER_FROM": "MVAh", "VOLTAGE_MIN": "puh"}
    binding = tuple(Binding(kind=LimitKind(kind), element_id="here", price_milli=7_000) for kind in units)
    slot = replace(result.slots[0], shortfalls=(), binding=binding)
    shown = Page(slot_facts(replace(result, slots=(slot,)), 0)).text
    for kind, unit in units.items():
        assert f"{kind.lower().replace('_', ' ')} here at its limit, worth 7.00 EUR/{unit}" in shown
