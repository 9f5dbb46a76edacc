"""The registry after a history."""

from dataclasses import replace

from flexbus import events as ev
from flexbus.events import Role
from flexbus.quantities import Direction
from flexbus.views import registry
from flexbus.views.registry import Gate, Registry
from tests.market import (
    AREA,
    DSO,
    FSP_A,
    FSP_B,
    HOUR,
    PRODUCT,
    SESSION,
    START,
    Market,
    asset,
    delivery_started,
    founded,
    gate_closed,
    gate_opened,
    network,
    open_market,
    participant,
    point,
    product,
)  # fmt: skip


def folded(market: Market) -> Registry:
    state = Registry()
    for fact in market.facts:
        registry.fold(state, fact)
    return state


def test_the_operator_that_opened_the_area_is_its_fmo_also_after_registering_with_other_roles() -> None:
    market = founded()
    assert folded(market).has_role("fmo", Role.FMO)
    market.send(participant("fmo", Role.OBSERVER), "fmo")
    assert folded(market).roles["fmo"] == {Role.FMO, Role.OBSERVER}


def test_parties_are_found_by_role() -> None:
    assert folded(founded()).with_role(Role.FSP) == (FSP_A, FSP_B)


def test_a_point_that_moves_leaves_its_old_bus() -> None:
    market = founded()
    market.send(point("GCP-1", "B3", FSP_A), DSO)
    state = folded(market)
    assert list(state.points_at_bus["B1"]) == []
    assert list(state.points_at_bus["B3"]) == ["GCP-3", "GCP-1"]
    market.send(ev.ConnectionPointRemoved(area_id=AREA, connection_point_id="GCP-1", reason="torn down"), DSO)
    assert list(folded(market).points_at_bus["B3"]) == ["GCP-3"]


def test_a_changed_asset_needs_approval_again_an_unchanged_one_keeps_it() -> None:
    market = founded()
    market.send(asset("pv", "GCP-1", FSP_A), FSP_A)
    assert folded(market).validated_w("GCP-1", Direction.UP) == 0
    assert folded(market).validated_w("GCP-2", Direction.UP) is None
    market.send(ev.AssetApproved(area_id=AREA, asset_id="pv", validated_up_w=70, validated_down_w=80), DSO)
    market.send(asset("pv", "GCP-1", FSP_A), FSP_A)
    state = folded(market)
    assert (state.validated_w("GCP-1", Direction.UP), state.validated_w("GCP-1", Direction.DOWN)) == (70, 80)
    market.send(replace(asset("pv", "GCP-1", FSP_A), ramp_up_s=60), FSP_A)
    assert folded(market).validated_w("GCP-1", Direction.UP) == 0


def test_the_portfolio_knows_its_points() -> None:
    market = founded()
    market.send(asset("pv1", "GCP-2", FSP_A), FSP_A)
    market.send(asset("pv2", "GCP-1", FSP_A), FSP_A)
    pool = ev.PortfolioRegistered(area_id=AREA, portfolio_id="p", fsp_id=FSP_A, asset_ids=("pv1", "pv2"))
    market.send(pool, FSP_A)
    assert folded(market).points_of_portfolio("p") == ("GCP-1", "GCP-2")


def test_the_newest_network_counts_with_its_zones() -> None:
    market = founded()
    market.send(network(2, name="after the works"), DSO)
    state = folded(market)
    assert state.network is not None
    assert state.network.name == "after the works"
    assert state.zones == {"east": ("B2", "B3")}


def test_an_older_network_changes_nothing() -> None:
    state = folded(founded())
    (old,) = (f for f in founded().facts if isinstance(f.event, ev.NetworkModelPublished))
    registry.fold(state, replace(old, event=network(1, name="again")))
    assert state.network is not None
    assert state.network.name == ""


def test_the_gate_moves_with_the_scheduler_and_remembers_its_block() -> None:
    market = founded()
    assert folded(market).sessions[SESSION].gate is Gate.NOT_OPEN
    market.send(gate_opened(), "scheduler")
    assert folded(market).sessions[SESSION].gate is Gate.OPEN
    closed = market.send(gate_closed(), "scheduler")
    session = folded(market).sessions[SESSION]
    assert (session.gate, session.gate_block) == (Gate.CLOSED, closed.block)
    assert session.slots == 96


def test_a_product_changed_later_does_not_change_a_scheduled_session() -> None:
    market = founded()
    market.send(product(step_w=2_000, min_offer_w=2_000), "fmo")
    state = folded(market)
    assert state.products[PRODUCT].step_w == 2_000
    assert state.sessions[SESSION].product.step_w == 1_000


def test_market_time_is_the_schedulers_latest() -> None:
    market = open_market()
    market.send(gate_closed(at_ms=START - 12 * HOUR), "scheduler")
    market.send(delivery_started(START), "scheduler")
    assert folded(market).market_time_ms == START
