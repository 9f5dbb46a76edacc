"""What holds for every split of a TSO activation, and for every order that is changed and stopped."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flexbus import events as ev
from flexbus.views import activation, aggregation
from flexbus.views.activation import Activations, owed_w
from flexbus.views.aggregation import Aggregates
from tests.story import AREA, DAY, GATE_CLOSED, SLOT, Story, award, cleared, offer, only, opened

stacks = st.lists(st.tuples(st.integers(1, 500_000), st.integers(-50_000, 50_000)), min_size=1, max_size=3).map(
    lambda steps: tuple(zip((q for q, _ in steps), sorted(p for _, p in steps), strict=True))
)
offers = st.lists(
    st.tuples(st.sampled_from(["p1", "p2", "p3"]), stacks, st.integers(1, 4), st.integers(0, 600_000) | st.none()),
    min_size=1,
    max_size=5,
)
calls = st.lists(
    st.tuples(
        st.integers(0, 5), st.lists(st.integers(0, 2_000_000), min_size=1, max_size=4), st.integers(-60_000, 60_000)
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=80, deadline=None)
@given(offers, calls, st.data())
def test_a_split_adds_up_and_never_asks_for_more_than_was_offered(
    placed: list[Any], wanted: list[Any], data: st.DataObject
) -> None:
    story = Story(aggregation, Aggregates())
    story.tell(*opened())
    awards = []
    for number, (at, steps, slots, most_wh) in enumerate(placed):
        name = f"o{number}"
        story.tell(offer(name, at, steps, slots=slots, max_energy_wh=most_wh))
        sold = data.draw(st.integers(0, sum(q for q, _ in steps)))
        if most_wh is None:
            awards.append(award(name, at, (sold,) * slots))
    story.tell(GATE_CLOSED)
    given_out: dict[str, list[int]] = {}
    for aggregate in story.tell(cleared(*awards)):
        for number, (first, power_w, price) in enumerate(wanted):
            call = ev.AggregateActivated(
                area_id=AREA,
                tso_activation_id=f"{aggregate.aggregate_id} {number}",
                aggregate_id=aggregate.aggregate_id,
                tso_id="tso",
                start_ms=DAY + first * SLOT,
                resolution_s=900,
                power_w=tuple(power_w),
                price_milli_per_mwh=price,
            )
            (split,) = story.tell(call)
            for slot, asked in enumerate(power_w):
                assert sum(s.power_w[slot] for s in split.shares) + split.unserved_w[slot] == asked
            for share in split.shares:
                total = given_out.setdefault(share.offer_id, [0] * 4)
                for slot, served in enumerate(share.power_w):
                    if served:
                        total[first + slot] += served
    taken_w = {a.offer_id: a.power_w for a in awards}
    for name, total in given_out.items():
        _, steps, slots, most_wh = placed[int(name[1:])]
        before = (*taken_w.get(name, (0,) * slots), 0, 0, 0, 0)
        offered = sum(q for q, _ in steps)
        assert all(
            t + b <= (offered if slot < slots else 0) for slot, (t, b) in enumerate(zip(total, before, strict=False))
        )
        if most_wh is not None:
            assert sum(total) * 900 <= most_wh * 3600


moves = st.lists(
    st.tuples(
        st.sampled_from(["change", "stop"]),
        st.integers(-2, 5),
        st.integers(0, 4),
        st.lists(st.integers(-5, 100), min_size=1, max_size=5),
    ),
    max_size=6,
)


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), moves)
def test_what_is_owed_only_ever_falls(ordered_w: list[int], steps: list[Any]) -> None:
    story = Story(activation, Activations())
    story.tell(*opened(), GATE_CLOSED)
    orders = only(ev.ActivationOrdered, story.tell(cleared(award("a", "p1", tuple(ordered_w)))))
    for order in orders:
        owed = order.power_w
        for number, (kind, first, length, power_w) in enumerate(steps, start=2):
            from_ms = DAY + first * SLOT
            story.tell(
                ev.ActivationChanged(
                    area_id=AREA,
                    activation_id=order.activation_id,
                    orderer_id="grid-dso",
                    revision=number,
                    from_ms=from_ms,
                    power_w=tuple(power_w),
                    reason="",
                )
                if kind == "change"
                else ev.ActivationStopped(
                    area_id=AREA,
                    activation_id=order.activation_id,
                    fsp_id="alpha",
                    from_ms=from_ms,
                    until_ms=from_ms + length * SLOT,
                    cause="",
                    reason="",
                )
            )
            now = owed_w(story.state.activations[order.activation_id])
            assert all(0 <= n <= o for n, o in zip(now, owed, strict=True))
            owed = now
