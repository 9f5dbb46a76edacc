"""The page model: from a history of events to what is shown, and to whom."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flexbus import events as ev
from flexbus.catalogue import CATALOGUE, Sight
from flexbus.events import Role
from flexbus.journal import Block
from streams.demo.terminal import table
from streams.page.handlers import HANDLERS
from streams.page.layout import map_positions, tree_positions
from streams.page.metered import refresh_metered
from streams.page.model import (
    PageState,
    changes,
    fold,
    fold_clock,
    fold_rejection,
    search_tail,
    snapshot,
    summary,
    tail_since,
)
from streams.page.on_metering import EVIDENCE
from streams.page.rows import EVERYTHING, Lens, Rows, sight
from streams.page.series import Slots, add_series
from streams.page.tell import tell
from streams.report import report, write_report
from tests.page_day import AREA, DSO, FSPS, SESSION, SLOTS, START, blocks, history, network, rejections

# Seen in the journal's tail alone: they change nothing that the page shows elsewhere.
ONLY_IN_THE_TAIL = {
    "MandateGranted", "MandateRevoked", "AssetApproved", "AssetRefused",
    "SigningKeyRegistered", "SigningKeyRevoked", "SignaturePolicySet",
    "CongestionForecastReceived", "NeedNotTradable", "RequestMissedGate", "TrafficLightSet", "OffersAggregated",
}  # fmt: skip


def folded(chain: list[Block]) -> PageState:
    state = PageState()
    for block in chain:
        fold(state, block)
    return state


@pytest.fixture(scope="module")
def events() -> list[tuple[str, object, int]]:
    return history()


@pytest.fixture(scope="module")
def day(events: list[tuple[str, object, int]]) -> PageState:
    return folded(blocks(events))


def numbers(state: PageState) -> dict[str, Any]:
    found: dict[str, Any] = summary(state)["areas"][AREA]["sessions"][SESSION]
    return found


def test_every_event_of_the_catalogue_is_shown_or_left_to_the_tail_on_purpose() -> None:
    handled = {cls.__name__ for cls in (*HANDLERS, *EVIDENCE)}
    assert handled & ONLY_IN_THE_TAIL == set()
    assert handled | ONLY_IN_THE_TAIL == set(CATALOGUE)


def test_the_day_ends_in_its_numbers(day: PageState) -> None:
    n = numbers(day)
    assert n["state"] == "SETTLEMENT"
    assert n["offers"]["count"] == 16
    assert n["offers"]["clipped"] == 1
    assert n["activations"] == {
        "ordered": 14, "acknowledged": 12, "refused": 1, "timed_out": 1, "open": 0, "changed": 0, "stopped": 1,
    }  # fmt: skip
    assert n["settlement"]["corrected"] == 1
    assert n["settlement"]["disputed"] == 1
    assert n["settlement"]["approved"] == 4
    assert n["settlement"]["total_cents"] == n["settlement"]["remuneration_cents"] - n["settlement"]["penalty_cents"]
    assert n["delivery"]["owed_wh"] == n["clearing"]["up_wh"] + n["clearing"]["down_wh"]
    assert n["delivery"]["shortfall_wh"] == n["delivery"]["owed_wh"] - n["delivery"]["delivered_wh"]
    assert n["congestion"]["forecast"]["violated_slots"] > n["congestion"]["cleared"]["violated_slots"]
    assert n["tso"]["activated_wh"] == 300_000


def test_the_summary_does_not_depend_on_how_entries_fell_into_blocks(events: list[tuple[str, object, int]]) -> None:
    one, many = folded(blocks(events, 1)), folded(blocks(events, 50))
    assert summary(one) == summary(many)
    assert "hash" not in json.dumps(summary(one))


def test_the_summary_does_not_depend_on_the_order_of_independent_answers(
    events: list[tuple[str, object, int]],
) -> None:
    # offer A, offer B  ->  offer B, offer A: the same market
    offers = [k for k, (_, e, _) in enumerate(events) if isinstance(e, ev.FlexOfferSubmitted)]
    swapped = list(events)
    for a, b in zip(offers, reversed(offers), strict=True):
        swapped[a] = events[b]
    assert summary(folded(blocks(swapped))) == summary(folded(blocks(events)))


def test_a_replaced_and_a_withdrawn_offer_leave_no_sum_behind(events: list[tuple[str, object, int]]) -> None:
    k, (sender, first, at) = next((k, e) for k, e in enumerate(events) if isinstance(e[1], ev.FlexOfferSubmitted))
    assert isinstance(first, ev.FlexOfferSubmitted)
    again = ev.FlexOfferReplaced(area_id=AREA, offer=replace(first.offer, revision=2))
    gone = ev.FlexOfferWithdrawn(area_id=AREA, offer_id=first.offer.offer_id, fsp_id=first.offer.fsp_id)

    replaced = numbers(folded(blocks([*events[: k + 1], (sender, again, at)])))
    assert replaced["offers"] == numbers(folded(blocks(events[: k + 1])))["offers"]
    assert replaced["offers"]["count"] == 1

    withdrawn = numbers(folded(blocks([*events[: k + 1], (sender, again, at), (sender, gone, at)])))
    assert withdrawn["offers"] == {"count": 0, "clipped": 0, "up_wh": 0, "down_wh": 0}


def test_the_chain_is_checked_block_by_block(events: list[tuple[str, object, int]]) -> None:
    chain = blocks(events)
    state = folded(chain[:3])
    assert state.chains[AREA]["verified"]
    assert state.chains[AREA]["last_hash"] == chain[2].hash.hex()

    forged = replace(chain[3], entries=chain[3].entries[1:])
    fold(state, forged)
    assert not state.chains[AREA]["verified"]
    assert "block 3: content does not match its hash" in state.chains[AREA]["fault"]


def test_a_gap_in_the_chain_is_told(events: list[tuple[str, object, int]]) -> None:
    chain = blocks(events)
    state = folded([*chain[:2], chain[3]])
    assert "expected block 2" in state.chains[AREA]["fault"]


def test_the_same_block_again_changes_nothing(events: list[tuple[str, object, int]]) -> None:
    chain = blocks(events)
    state = folded(chain)
    before, revision = summary(state), state.rows.revision
    fold(state, chain[-1])
    assert summary(state) == before
    assert state.rows.revision == revision
    assert state.chains[AREA]["verified"]


def test_a_browser_that_comes_back_gets_what_changed_and_nothing_else(events: list[tuple[str, object, int]]) -> None:
    # snapshot | ... more blocks ... | what changed since  ==  the new snapshot
    chain = blocks(events)
    state = folded(chain[:20])
    seen = {(s, n): v for s, n, v in json.loads(json.dumps(list(changes(state, -1, AREA))))}
    revision = state.rows.revision
    for block in chain[20:]:
        fold(state, block)
    news = list(changes(state, revision, AREA))
    seen |= {(s, n): v for s, n, v in news}
    now = {(s, n): v for s, n, v in changes(state, -1, AREA)}
    assert {k: json.dumps(v) for k, v in seen.items()} == {k: json.dumps(v) for k, v in now.items()}
    assert ("network", "network") not in {(s, n) for s, n, _ in news}
    assert list(changes(state, state.rows.revision, AREA)) == []


def test_the_tail_is_searched_by_type_sender_and_words(day: PageState) -> None:
    def found(**what: Any) -> list[str]:
        return [f"{t['type']} {t['sender_id']}" for t in search_tail(day, AREA, EVERYTHING, **what)]

    assert found(event_type="MarketCleared") == ["MarketCleared clearing"]
    assert found(party_id="scheduler", text="what stands before") == ["GateClosed scheduler"]
    assert found(text="INVERTER in repair") == ["ActivationRefused fsp-cedar"]
    assert found(event_type="MarketCleared", party_id="scheduler") == []
    newest = search_tail(day, AREA, EVERYTHING, limit=3)
    before = search_tail(day, AREA, EVERYTHING, limit=3, before=(newest[0]["block"], newest[0]["index"]))
    assert [*before, *newest] == search_tail(day, AREA, EVERYTHING, limit=6)
    assert search_tail(day, AREA, Lens(Role.OBSERVER), text="inverter") == []


def plain(value: object) -> None:
    if isinstance(value, dict):
        assert all(type(k) is str for k in value)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            plain(item)
    else:
        assert value is None or type(value) in (str, int, float, bool), value


def test_everything_shown_is_plain_json(day: PageState) -> None:
    value = snapshot(day)
    plain(value)
    assert value["area_id"] == AREA
    assert value["sections"]["chain"]["chain"]["verified"] is True


def test_the_tail_is_cut_to_the_newest(day: PageState) -> None:
    tail = tail_since(day, -1, AREA, EVERYTHING, 5)
    assert [t["type"] for t in tail][-1] == "SettlementApproved"
    assert len(tail) == 5
    assert [(t["block"], t["index"]) for t in tail] == sorted((t["block"], t["index"]) for t in tail)


def test_each_event_of_the_day_says_something_in_one_line(events: list[tuple[str, object, int]]) -> None:
    for _, event, _ in events:
        line = tell(event)
        assert "\n" not in line
        assert line or isinstance(event, ev.ReceiptsIssued)


# ---- through whose eyes


def test_the_operator_and_the_auditor_see_all(day: PageState) -> None:
    everything = {(s, n) for s, n, _ in changes(day, -1, AREA)}
    for role in (Role.FMO, Role.AUDITOR):
        assert {(s, n) for s, n, _ in changes(day, -1, AREA, Lens(role))} == everything


def test_an_observer_sees_prices_and_volumes_but_no_identities(day: PageState) -> None:
    value = snapshot(day, AREA, Lens(Role.OBSERVER))
    shown = value["sections"]
    assert shown["prices"]
    assert all(a["fsp_id"] is None and a["offer_id"] is None for a in shown["awards"].values())
    assert not {"network", "grid", "activations", "deliveries", "settlements", "points", "own_offers"} & set(shown)
    told = json.dumps({s: v for s, v in shown.items() if s != "participants"}) + json.dumps(value["tail"])
    for fsp in FSPS:
        assert fsp not in told


def test_a_provider_sees_its_own_activations_and_settlements_only(day: PageState) -> None:
    mine = FSPS[0]
    shown = snapshot(day, AREA, Lens(Role.FSP, mine))["sections"]
    assert {a["fsp_id"] for a in shown["activations"].values()} == {mine}
    assert {s["fsp_id"] for s in shown["settlements"].values()} == {mine}
    assert {d["fsp_id"] for d in shown["deliveries"].values()} == {mine}
    assert {a["fsp_id"] for a in shown["awards"].values()} == {mine, None}
    assert {o["fsp_id"] for o in shown["own_offers"].values()} == {mine}
    assert "network" not in shown


def test_the_dso_sees_assets_without_their_operator(day: PageState) -> None:
    shown = snapshot(day, AREA, Lens(Role.DSO, DSO))["sections"]
    assert all(a["fsp_id"] is None for a in shown["assets"].values())
    assert len(shown["activations"]) == 14
    assert "own_offers" not in shown


def test_sums_of_offers_are_nobodys_before_the_gate_closes(events: list[tuple[str, object, int]]) -> None:
    gate = next(k for k, (_, e, _) in enumerate(events) if isinstance(e, ev.GateClosed))
    for role in (Role.DSO, Role.FSP, Role.OBSERVER):
        before = snapshot(folded(blocks(events[:gate])), AREA, Lens(role))["sections"]
        after = snapshot(folded(blocks(events[: gate + 1])), AREA, Lens(role))["sections"]
        assert "offers" not in before
        assert "offers" in after


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_the_lens_follows_the_catalogue(name: str) -> None:
    kind = CATALOGUE[name]
    for role in Role:
        seen = sight(Lens(role), name, frozenset())
        if role in (Role.FMO, Role.AUDITOR) or Sight.FULL in (kind.see.get(role), kind.public):
            assert seen is Sight.FULL
        else:
            assert seen is kind.see.get(role, kind.public)
        assert sight(Lens(role, "somebody"), name, frozenset({"somebody"})) is Sight.FULL


# ---- clock, rejections, series, layout, report


def test_the_clock_never_runs_backwards() -> None:
    state = fold_clock(fold_clock(PageState(), START), START - 1)
    assert state.clock_ms == START


def test_a_rejection_is_counted_once_and_those_of_services_not_at_all() -> None:
    state = PageState()
    told = rejections()
    for r in (*told, *told):
        fold_rejection(state, r)
    assert summary(state)["rejections"] == {"BAD_QUANTITY": 1, "GATE_CLOSED": 1, "NOT_DECODABLE": 1}
    twice = replace(told[0], sender_id="settlement", inbox_topic="flexbus.in.settlement.v1")
    fold_rejection(state, twice)
    assert summary(state)["rejections"] == {"BAD_QUANTITY": 1, "GATE_CLOSED": 1, "NOT_DECODABLE": 1}
    assert state.rejected == 4


def test_a_sender_sees_its_own_rejections_only() -> None:
    state = PageState()
    for r in rejections():
        fold_rejection(state, r)
    shown = snapshot(state, AREA, Lens(Role.FSP, FSPS[1]))["sections"]["rejections"]
    assert [r["sender_id"] for r in shown.values()] == [FSPS[1]]
    assert "rejections" not in snapshot(state, AREA, Lens(Role.OBSERVER))["sections"]


def test_a_series_of_hours_fills_quarter_hours() -> None:
    # session  | 0 | 1 | 2 | 3 | 4 | 5 |   quarter-hours
    # series       |       7       |  9        hours, from slot 1
    target = [0] * 6
    add_series(target, Slots(0, 900, 6), 900_000, 3600, (7, 9))
    assert target == [0, 7, 7, 7, 7, 9]


def test_a_series_outside_the_session_is_cut() -> None:
    target = [0] * 3
    add_series(target, Slots(900_000, 900, 3), 0, 900, (1, 2, 3, 4, 5))
    assert target == [2, 3, 4]


def test_rows_come_newest_first() -> None:
    rows = Rows()
    for name in "aba":
        rows.put("x", "s", name, {})
    assert [key[2] for key, _ in rows.since(-1)] == ["a", "b"]
    assert [key[2] for key, _ in rows.since(2)] == ["a"]


def test_the_tree_has_every_bus_at_its_own_place() -> None:
    net = network()
    placed = tree_positions(net)
    assert set(placed) == {b.bus_id for b in net.buses}
    assert len(set(placed.values())) == len(net.buses)
    assert placed["HV"][0] == 0.0
    for branch in net.branches:
        if branch.closed:  # a branch never goes back towards the infeed
            assert placed[branch.from_bus_id][0] < placed[branch.to_bus_id][0]


def test_a_network_without_positions_has_a_tree_but_no_map() -> None:
    net = network()
    blind = replace(net, buses=tuple(replace(b, x=None, y=None) for b in net.buses))
    assert map_positions(net) is not None
    assert map_positions(blind) is None
    assert tree_positions(blind) == tree_positions(net)


def test_the_metered_state_lies_where_delivery_was_short(day: PageState) -> None:
    # one activation was refused and delivered nothing: the meters show more feed-in than the clearing
    area = day.areas[AREA]
    refresh_metered(area)
    metered = day.rows.get(AREA, "grid", f"{SESSION}/metered")
    cleared = day.rows.get(AREA, "grid", f"{SESSION}/cleared")
    forecast = day.rows.get(AREA, "grid", f"{SESSION}/forecast")
    assert metered is not None
    assert cleared is not None
    assert forecast is not None
    noon, end = 52, "F1.13"
    assert cleared["voltage_ppm"][end][noon] < metered["voltage_ppm"][end][noon] < forecast["voltage_ppm"][end][noon]
    assert metered["voltage_ppm"][end][4] == pytest.approx(cleared["voltage_ppm"][end][4], abs=1)


def test_cleared_volumes_per_bus_add_up_to_the_clearing(events: list[tuple[str, object, int]]) -> None:
    def spread(e: object) -> object:  # the last award is a portfolio's: it has no bus of its own
        if not isinstance(e, ev.MarketCleared):
            return e
        last = replace(e.awards[-1], bus_id=None, connection_point_id=None, portfolio_id="PF-1")
        return replace(e, awards=(*e.awards[:-1], last))

    state = folded(blocks([(sender, spread(e), at) for sender, e, at in events]))
    volumes, cleared = state.rows.get(AREA, "volumes", SESSION), state.rows.get(AREA, "cleared", SESSION)
    assert volumes is not None
    assert cleared is not None
    for way, name in (("UP", "up_w"), ("DOWN", "down_w")):
        assert [sum(s) for s in zip(*(b[way] for b in volumes["buses"].values()), strict=True)] == [
            slot[name] for slot in cleared["slots"]
        ]
    assert max(volumes["buses"][""]["UP"]) > 0
    shown = snapshot(state, AREA, Lens(Role.OBSERVER))["sections"]  # as public as the awards: no identities
    assert shown["volumes"][SESSION] == volumes


def test_an_empty_journal_makes_an_empty_page_and_report() -> None:
    assert snapshot(PageState())["sections"] == {}
    assert "Nothing happened" in report(PageState())


def test_the_report_tells_the_day(day: PageState, tmp_path: Path) -> None:
    for r in rejections():
        fold_rejection(day, r)
    path = write_report(day, tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    for said in (
        "Sunday, 21 June 2026", "Valley, medium voltage", "803.93 EUR", "inverter in repair", "earth fault on F1.05",
        "GATE_CLOSED", "flexbus replay --verify", day.chains[AREA]["last_hash"], "fsp-birch", "tso-north",
    ):  # fmt: skip
        assert said in text, said
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "<script" not in text
    assert text.count("<svg") == text.count("</svg>") == 6


def test_the_report_escapes_what_parties_wrote(events: list[tuple[str, object, int]]) -> None:
    evil = '<img src=x onerror="alert(1)">'
    sender, opened, at = events[0]
    assert isinstance(opened, ev.AreaOpened)
    text = report(folded(blocks([(sender, replace(opened, name=evil), at), *events[1:40]])))
    assert evil not in text
    assert "&lt;img src=x" in text


def test_slots_of_a_day_with_a_clock_change_are_all_there() -> None:
    # the last Sunday of October has 100 quarter-hours
    start = 1_792_879_200_000  # 2026-10-25T00:00+02:00
    area = ev.AreaOpened(area_id=AREA, name="Valley", fmo_id="fmo", time_zone="Europe/Berlin")
    session = ev.MarketSessionScheduled(
        area_id=AREA, session_id="S", product_id="P", delivery_start_ms=start, delivery_end_ms=start + 100 * 900_000,
        gate_opens_ms=start - 10, gate_closes_ms=start - 5, settlement_due_ms=start + 200 * 900_000,
    )  # fmt: skip
    state = folded(blocks([("fmo", area, start), ("fmo", session, start)]))
    assert summary(state)["areas"][AREA]["sessions"]["S"]["slots"] == 100 != SLOTS


def test_the_summary_names_what_stayed_unmet_voltages_among_it(events: list[tuple[str, object, int]]) -> None:
    volt = ev.UnmetNeed(kind=ev.LimitKind.VOLTAGE_MAX, element_id="b7", amount=2_500)
    power = ev.UnmetNeed(kind=ev.LimitKind.IMPORT, element_id="up", amount=900)

    def broken(e: object) -> object:
        if not isinstance(e, ev.MarketCleared):
            return e
        first = replace(e.slots[0], voltage_shortfall_ppm=2_500, unmet_count=2, unmet=(volt, power))
        return replace(e, slots=(first, replace(e.slots[1], unmet_count=1, unmet=(power,)), *e.slots[2:]))

    state = folded(blocks([(sender, broken(e), at) for sender, e, at in events]))
    told = numbers(state)["clearing"]
    assert (told["voltage_shortfall_ppm"], told["voltage_shortfall_slots"]) == (2_500, 1)
    assert told["unmet_causes"] == [
        {"kind": "IMPORT", "element_id": "up", "slots": 2, "worst": 900},
        {"kind": "VOLTAGE_MAX", "element_id": "b7", "slots": 1, "worst": 2_500},
    ]
    text = table(summary(state))
    assert "voltage out of its band in 1 slots by up to 2500 ppm" in text
    assert "import up in 2 slots, voltage max b7 in 1 slots" in text
