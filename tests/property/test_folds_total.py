"""What was accepted can be folded by all that fold in production, whoever sent it: party or service of the bus."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexbus import codec
from flexbus import events as ev
from flexbus.catalogue import CATALOGUE, Service
from flexbus.validation import content_faults
from flexbus.validation.content_facts import CHECKS
from tests.every_cell import story
from tests.fuzz.folds import Readers, day, play
from tests.fuzz.mutate import meddled_avro

CHANGES = 120  # to a day; few are events still, and of these a third is accepted
STORY = {type(sent.event): sent.event for sent in story()}


def test_a_day_with_every_kind_of_event_is_folded_by_everybody() -> None:
    readers, _ = play([])
    assert set(readers.accepted) == set(CATALOGUE)
    # Worth nothing if nothing followed from it.
    assert {"NeedComputed", "TrafficLightChanged", "ActivationOrdered", "AggregateDisaggregated"} <= set(readers.due)
    assert {"DeliveryComputed", "SettlementComputed", "forecast_session", "clear_session"} <= set(readers.due)


@pytest.mark.slow
def test_changed_events_of_parties_and_services_are_folded_by_everybody_if_they_are_accepted() -> None:
    got_in: Counter[str] = Counter()

    @settings(max_examples=100, derandomize=True, deadline=None)
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        chance = random.Random(seed)
        changed = []
        for _ in range(CHANGES):
            step = chance.randrange(len(day()))
            _, value, _ = day()[step]
            other = meddled_avro(value, chance)
            if other != value:
                changed.append((step, other))
        got_in.update(play(changed)[1])

    check()
    of_services = {name for name in got_in if any(isinstance(s, Service) for s in CATALOGUE[name].send)}
    assert sum(got_in.values()) > 300, got_in
    assert len(got_in) > 0.6 * len(CATALOGUE), got_in
    assert len(of_services) > 0.6 * sum(any(isinstance(s, Service) for s in k.send) for k in CATALOGUE.values()), got_in


def _series(value: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    """Yield each series in an event, and the event with its last entry left out."""
    for field in fields(value):
        inside, at = getattr(value, field.name), f"{path}.{field.name}"
        if is_dataclass(inside):
            yield from ((p, replace(value, **{field.name: part})) for p, part in _series(inside, at))
        if not isinstance(inside, tuple) or not inside or isinstance(inside[0], str):
            continue
        if not is_dataclass(inside[0]):
            yield at, replace(value, **{field.name: inside[:-1]})
            continue
        for n, item in enumerate(inside):
            changed = _series(item, f"{at}[{n}]")
            yield from ((p, replace(value, **{field.name: (*inside[:n], i, *inside[n + 1 :])})) for p, i in changed)


ALONE = {"$.need_w", "$.remaining_w", "$.remaining_var"}  # no other series says how many slots they have
UNEQUAL = [(kind, path, event) for kind in CHECKS for path, event in _series(STORY[kind]) if path not in ALONE]


@pytest.mark.parametrize(("kind", "path", "event"), UNEQUAL, ids=[f"{k.__name__}-{p}" for k, p, _ in UNEQUAL])
def test_a_series_of_a_service_that_does_not_fit_its_record_is_refused(kind: Any, path: str, event: Any) -> None:
    record = path.rpartition(".")[0]
    faults = content_faults(event)
    assert faults
    assert {f.code.value for f in faults} == {"BAD_SERIES"}
    # Which of two is wrong nobody can tell; it is one of the same record, or of the same event.
    assert any(f.path.startswith(record) for f in faults) or kind in {ev.GridStatePublished, ev.NodalPricesPublished}


def test_a_series_that_stands_alone_is_not_empty() -> None:
    for kind, name in ((ev.NeedComputed, "need_w"), (ev.FlexRequestExpired, "remaining_w")):
        event = replace(STORY[kind], **{name: ()}, **({"remaining_var": ()} if name == "remaining_w" else {}))
        assert {(f.code.value, f.path) for f in content_faults(event)} == {("BAD_SERIES", f"$.{name}")}


def _refused(sender: str, event: Any) -> set[tuple[str, str]]:
    readers = Readers()
    steps = list(day())
    before = next(n for n, (_, value, _) in enumerate(steps) if type(codec.decode(value)) is type(event))
    assert len(readers.take(steps[:before])) == before
    (given,) = [readers._input(sender, codec.encode(event), None)]
    (rejection,) = readers.intake.take([given]).rejections
    return {(f.code.value, f.path) for f in rejection.faults}


def test_an_award_with_more_power_than_prices_is_refused() -> None:
    """It was accepted once, and the figures failed on it at every start."""
    cleared = STORY[ev.MarketCleared]
    first, *others = cleared.awards
    for prices in ((), first.price_milli_per_mwh[:-1], (*first.price_milli_per_mwh, 1)):
        bad = replace(cleared, awards=(replace(first, price_milli_per_mwh=prices), *others))
        assert _refused("clearing", bad) == {("BAD_SERIES", "$.awards[0].price_milli_per_mwh")}


def test_an_aggregate_whose_member_has_fewer_prices_or_slots_that_it_has_not_is_refused() -> None:
    """The split of its activation would look up what is not there."""
    offered = STORY[ev.AggregateOffered]
    (member,) = offered.members
    bad = replace(offered, members=(replace(member, price_milli_per_mwh=member.price_milli_per_mwh[:1]),))
    assert _refused("aggregation", bad) == {("BAD_SERIES", "$.members[0].price_milli_per_mwh")}
    for first_slot in (-1, 1):
        bad = replace(offered, members=(replace(member, first_slot=first_slot),))
        assert _refused("aggregation", bad) == {("BAD_SERIES", "$.members[0].first_slot")}


def test_a_payback_of_an_award_over_more_slots_than_there_are_is_refused() -> None:
    """Whoever reckons with it lays them all out: two thousand million would be all the memory there is."""
    cleared = STORY[ev.MarketCleared]
    terms = cleared.award_terms[0]
    for name, value in (("window_slots", 2**31), ("window_slots", 0), ("delay_slots", 2**31), ("delay_slots", -1)):
        back = replace(terms.payback, **{name: value})
        bad = replace(cleared, award_terms=(replace(terms, payback=back), *cleared.award_terms[1:]))
        assert _refused("clearing", bad) == {("BAD_VALUE", f"$.award_terms[0].payback.{name}")}


def test_slots_of_a_cleared_session_that_do_not_follow_each_other_are_refused() -> None:
    cleared = STORY[ev.MarketCleared]
    bad = replace(cleared, slots=cleared.slots[::-1])
    assert _refused("clearing", bad) == {("BAD_PERIOD", "$.slots[0].start_ms"), ("BAD_PERIOD", "$.slots[1].start_ms")}
    assert _refused("clearing", replace(cleared, slots=())) == {("BAD_SERIES", "$.slots")}
