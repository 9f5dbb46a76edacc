"""Activations: what is ordered when, who answered, what is still owed (BeFlexible SUC06.2)."""

from typing import Any

from flexbus import events as ev
from flexbus.quantities import Direction
from flexbus.views import activation
from flexbus.views.activation import Activations, ActivationState, owed_w
from tests.story import (
    AREA,
    DAY,
    GATE,
    GATE_CLOSED,
    NETWORK,
    SLOT,
    Story,
    award,
    begins,
    cleared,
    only,
    opened,
    party,
    session,
)


def story(**product: Any) -> Story:
    told = Story(activation, Activations())
    told.tell(*opened(**product), GATE_CLOSED)
    return told


def unforeseen(from_slot: float, until_slot: float, at: str = "p1", **changes: Any) -> ev.CapacityLimitUnforeseen:
    values: dict[str, Any] = {"limit_id": "limit", "stop_activations": True, "reason": "cable fault"}
    return ev.CapacityLimitUnforeseen(
        area_id=AREA,
        connection_point_id=at,
        start_ms=int(DAY + from_slot * SLOT),
        end_ms=int(DAY + until_slot * SLOT),
        **(values | changes),
    )


def answers(order: ev.ActivationOrdered) -> tuple[ev.ActivationAcknowledged, ev.ActivationRefused]:
    return (
        ev.ActivationAcknowledged(area_id=AREA, activation_id=order.activation_id, fsp_id=order.fsp_id),
        ev.ActivationRefused(area_id=AREA, activation_id=order.activation_id, fsp_id=order.fsp_id, reason="broken"),
    )


def test_one_order_per_run_of_slots_each_ordered_a_lead_before_it_starts() -> None:
    #  slot     0     1     2     3
    #  award   10    20     0    30        -> orders [10, 20] and [30]
    told = story()
    (first,) = told.tell(cleared(award("a", "p1", (10, 20, 0, 30))))
    assert first.power_w == (10, 20)
    assert (first.start_ms, first.price_milli_per_mwh) == (DAY, (60_000, 60_000))
    assert (first.orderer_id, first.fsp_id, first.award_id) == ("grid-dso", "alpha", "award-a")
    assert first.acknowledge_by_ms == GATE + 60_000
    told.tell(answers(first)[0])
    assert told.tell(begins(0), begins(1)) == []
    (second,) = told.tell(begins(2))
    assert (second.start_ms, second.power_w) == (DAY + 3 * SLOT, (30,))
    assert second.acknowledge_by_ms == DAY + 2 * SLOT + 60_000
    assert told.tell(begins(3))[0].activation_id == second.activation_id  # only its time-out


def test_the_dso_that_published_the_network_buys() -> None:
    told = Story(activation, Activations())
    told.tell(*opened(), party("own-grid-dso", ev.Role.DSO))
    told.hear(NETWORK, sender="own-grid-dso")
    assert [o.orderer_id for o in told.tell(GATE_CLOSED, cleared(award("a", "p1", (1, 1, 1, 1))))] == ["own-grid-dso"]


def test_a_longer_lead_orders_earlier_so_that_it_is_always_kept() -> None:
    told = story(activation_lead_s=2000)
    orders = told.tell(cleared(award("a", "p1", (1, 0, 1, 0)), award("b", "p2", (0, 0, 0, 1))))
    assert [o.start_ms for o in orders] == [DAY, DAY + 2 * SLOT]  # nothing after the gate keeps 2000 s to 00:30
    assert [o.start_ms for o in only(ev.ActivationOrdered, told.tell(begins(0)))] == [DAY + 3 * SLOT]


def test_orders_do_not_depend_on_when_the_earlier_ones_come_back() -> None:
    told = story()
    due = told.hear(cleared(award("a", "p1", (1, 1, 1, 1))))
    assert len(due) == 1
    assert told.hear(begins(0)) == ()
    assert [e.event_id for e in due] == [e.event_id for e in story().hear(cleared(award("a", "p1", (1, 1, 1, 1))))]


def test_slots_that_have_begun_when_the_market_is_cleared_are_not_ordered() -> None:
    told = story()
    told.tell(begins(0), begins(1))
    orders = told.tell(cleared(award("a", "p1", (5, 5, 5, 5))))
    assert [(o.start_ms, o.power_w) for o in orders] == [(DAY + SLOT, (5, 5, 5))]


def test_no_answer_by_the_deadline_is_a_time_out_and_still_owed() -> None:
    told = story()
    (order,) = told.tell(cleared(award("a", "p1", (7, 7, 0, 0))))
    (late,) = told.tell(begins(0))
    assert isinstance(late, ev.ActivationTimedOut)
    assert (late.activation_id, late.at_ms) == (order.activation_id, DAY)
    assert told.tell(begins(1)) == []
    kept = told.state.activations[order.activation_id]
    assert (kept.state, owed_w(kept)) == (ActivationState.TIMED_OUT, (7, 7))


def test_an_answer_before_the_time_out_enters_the_chain_stands() -> None:
    told = story()
    (order,) = told.tell(cleared(award("a", "p1", (7, 7, 0, 0))))
    (late,) = told.hear(begins(0))
    told.hear(answers(order)[0])
    told.hear(late.event, late.event_id)
    assert told.state.activations[order.activation_id].state is ActivationState.ACKNOWLEDGED


def test_a_refused_order_is_still_owed_and_an_acknowledgement_does_not_undo_the_refusal() -> None:
    told = story()
    (order,) = told.tell(cleared(award("a", "p1", (7, 7, 0, 0))))
    yes, no = answers(order)
    assert told.tell(no, yes, begins(0)) == []
    kept = told.state.activations[order.activation_id]
    assert (kept.state, owed_w(kept)) == (ActivationState.REFUSED, (7, 7))


def test_a_change_lowers_and_never_raises_and_an_old_one_is_ignored() -> None:
    told = story()
    (order,) = told.tell(cleared(award("a", "p1", (70, 70, 70, 70))))

    def change(revision: int, from_slot: int, *power_w: int) -> ev.ActivationChanged:
        return ev.ActivationChanged(
            area_id=AREA,
            activation_id=order.activation_id,
            orderer_id="grid-dso",
            revision=revision,
            from_ms=DAY + from_slot * SLOT,
            power_w=power_w,
            reason="less wind",
        )

    told.tell(change(3, 1, 40, 90), change(2, 0, 0, 0, 0, 0))
    assert owed_w(told.state.activations[order.activation_id]) == (70, 40, 70, 70)


def test_an_unforeseen_limit_stops_what_runs_and_what_comes_at_its_point_only() -> None:
    #  slot      0     1     2     3
    #  p1       10    10     -    10    order A (0-1), B (3) still to come
    #  p2       20    20    20    20    order C
    #  limit           |---------------  at p1, from the middle of slot 1 on
    told = story()
    a, c = told.tell(cleared(award("a", "p1", (10, 10, 0, 10)), award("c", "p2", (20, 20, 20, 20), fsp="beta")))
    if a.connection_point_id != "p1":
        a, c = c, a
    (stop,) = told.tell(unforeseen(1.5, 4))
    assert (stop.activation_id, stop.cause, stop.reason) == (a.activation_id, "limit", "cable fault")
    assert (stop.from_ms, stop.until_ms) == (DAY + SLOT * 3 // 2, DAY + 2 * SLOT)
    assert owed_w(told.state.activations[a.activation_id]) == (10, 0)
    order, stop = [e for e in told.tell(begins(0), begins(1), begins(2)) if not isinstance(e, ev.ActivationTimedOut)]
    assert (order.start_ms, stop.activation_id) == (DAY + 3 * SLOT, order.activation_id)
    assert owed_w(told.state.activations[order.activation_id]) == (0,)
    assert owed_w(told.state.activations[c.activation_id]) == (20, 20, 20, 20)


def test_a_lifted_limit_stops_nothing_that_comes_later_but_revives_nothing() -> None:
    told = story()
    (first,) = told.tell(cleared(award("a", "p1", (10, 10, 0, 10))))
    told.tell(unforeseen(0, 4), ev.CapacityLimitLifted(area_id=AREA, limit_id="limit", from_ms=DAY + 2 * SLOT))
    assert owed_w(told.state.activations[first.activation_id]) == (0, 0)
    (second,) = only(ev.ActivationOrdered, told.tell(begins(0), begins(1), begins(2)))
    assert owed_w(told.state.activations[second.activation_id]) == (10,)


def test_a_limit_without_stop_stops_nothing() -> None:
    told = story()
    told.tell(cleared(award("a", "p1", (10, 10, 0, 10))))
    assert told.tell(unforeseen(0, 4, stop_activations=False)) == []


def test_a_share_of_a_tso_activation_is_ordered_at_once_and_the_tso_pays() -> None:
    told = story()
    share = ev.AggregateShare(
        offer_id="o", fsp_id="beta", connection_point_id="p2", portfolio_id=None, power_w=(0, 30, 30, 0)
    )
    (order,) = told.tell(
        ev.AggregateDisaggregated(
            area_id=AREA,
            session_id="s1",
            tso_activation_id="t",
            aggregate_id="agg",
            tso_id="tso",
            direction=Direction.DOWN,
            start_ms=DAY,
            resolution_s=900,
            price_milli_per_mwh=-5_000,
            shares=(share,),
            unserved_w=(0, 0, 0, 0),
        )
    )
    assert (order.orderer_id, order.tso_activation_id, order.award_id) == ("tso", "t", None)
    assert (order.start_ms, order.power_w) == (DAY + SLOT, (30, 30))
    assert (order.direction, order.price_milli_per_mwh) == (Direction.DOWN, (-5_000, -5_000))


def test_two_sessions_of_an_area_share_the_market_clock() -> None:
    told = story()
    told.tell(session("s2"), party("delta", ev.Role.FSP))
    (order,) = told.tell(cleared(award("a", "p1", (1, 0, 0, 0))))
    assert [type(e) for e in told.tell(begins(0, "s2"))] == [ev.ActivationTimedOut]
    assert order.activation_id in told.state.of_session["s1"]
