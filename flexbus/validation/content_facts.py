"""Content checks of what the bus's own services say: series that belong together have one entry per slot.

Services are checked like everybody else: a fact that a fold cannot take would keep its reader down for good, as the
journal holds it ever after.
"""

from collections.abc import Callable, Iterator
from typing import Any

from flexbus import events as ev
from flexbus.errors import Fault, FaultCode
from flexbus.validation.content_terms import payback_faults
from flexbus.validation.series import series
from flexbus.validation.units import fault

__all__ = ["CHECKS"]

_Check = Callable[[Any], Iterator[Fault]]


def _alike(record: Any, *names: str, at: str = "$", expected: int | None = None) -> Iterator[Fault]:
    """Yield a fault for each series that has not one entry per slot, as the others of its record have.

    Args:
        record: event or part of one.
        names: its series.
        at: JSON path of the record.
        expected: number of slots; None = that of the first series that has any.
    """
    lengths = [len(getattr(record, name)) for name in names]
    slots = next((n for n in lengths if n), 0) if expected is None else expected
    for name, length in zip(names, lengths, strict=True):
        yield from series(f"{at}.{name}", length, slots)


def _given(record: Any, *families: tuple[str, ...]) -> tuple[str, ...]:
    """Return the series of the families of which something is given (W, var), those of the first if nothing is."""
    given = [family for family in families if any(getattr(record, name) for name in family)]
    return tuple(name for family in given or families[:1] for name in family)


def _of_slots(*names: str) -> _Check:
    return lambda e: _alike(e, *names)


def _of_either(*families: tuple[str, ...]) -> _Check:
    return lambda e: _alike(e, *_given(e, *families))


def _aggregate_offered(e: ev.AggregateOffered) -> Iterator[Fault]:
    yield from _alike(e, "power_w", "price_milli_per_mwh")
    for n, member in enumerate(e.members):
        at = f"$.members[{n}]"
        yield from _alike(member, "power_w", "price_milli_per_mwh", at=at)
        if not 0 <= member.first_slot <= len(e.power_w) - len(member.power_w):
            text = f"its {len(member.power_w)} slots from {member.first_slot} on are not among the {len(e.power_w)}"
            yield fault(FaultCode.BAD_SERIES, f"{at}.first_slot", f"{text} of the aggregate")


def _disaggregated(e: ev.AggregateDisaggregated) -> Iterator[Fault]:
    yield from _alike(e, "unserved_w")
    for n, share in enumerate(e.shares):
        yield from _alike(share, "power_w", at=f"$.shares[{n}]", expected=len(e.unserved_w))


def _market_cleared(e: ev.MarketCleared) -> Iterator[Fault]:
    yield from _alike(e, "slots")
    for n, slot in enumerate(e.slots):
        if slot.start_ms != e.start_ms + n * e.resolution_s * 1000:
            text = f"{slot.start_ms} is not the start of slot {n}; slots follow each other from start_ms on"
            yield fault(FaultCode.BAD_PERIOD, f"$.slots[{n}].start_ms", text)
    for n, award in enumerate(e.awards):
        yield from _alike(award, "power_w", "price_milli_per_mwh", at=f"$.awards[{n}]")
    for n, taken in enumerate(e.reactive_awards):
        yield from _alike(taken, "reactive_power_var", "price_milli_per_mvarh", at=f"$.reactive_awards[{n}]")
    for n, held in enumerate(e.reservations):
        names = _given(held, ("power_w",), ("reactive_power_var",))
        yield from _alike(held, *names, "price_milli_per_mwh", at=f"$.reservations[{n}]")
    for n, terms in enumerate(e.award_terms):
        if terms.payback is not None:
            yield from payback_faults(f"$.award_terms[{n}].payback", terms.payback)
    for n, asked in enumerate(e.requests):
        yield from _alike(asked, "requested_w", "matched_w", at=f"$.requests[{n}]")
    for n, reactive in enumerate(e.reactive_requests):
        yield from _alike(reactive, "requested_var", "matched_var", at=f"$.reactive_requests[{n}]")


def _nodal_prices(e: ev.NodalPricesPublished) -> Iterator[Fault]:
    slots = len(e.buses[0].price_milli_per_mwh) if e.buses else None
    for n, bus in enumerate(e.buses):
        yield from _alike(bus, "price_milli_per_mwh", at=f"$.buses[{n}]", expected=slots)


def _grid_state(e: ev.GridStatePublished) -> Iterator[Fault]:
    slots = len(e.buses[0].voltage_ppm) if e.buses else None
    for n, bus in enumerate(e.buses):
        yield from _alike(bus, "voltage_ppm", at=f"$.buses[{n}]", expected=slots)
    for n, branch in enumerate(e.branches):
        yield from _alike(branch, "power_w", "loading_ppm", at=f"$.branches[{n}]", expected=slots)


CHECKS: dict[type[Any], _Check] = {
    ev.NeedComputed: _of_slots("need_w"),
    ev.ProcurementStatusChanged: _of_either(
        ("needed_w", "procured_w", "remaining_w"), ("needed_var", "procured_var", "remaining_var")
    ),
    ev.FlexRequestExpired: _of_either(("remaining_w",), ("remaining_var",)),
    ev.FlexOfferClipped: _of_either(("offered_w", "allowed_w"), ("offered_var", "allowed_var")),
    ev.TrafficLightChanged: _of_slots("colours", "max_up_w", "max_down_w"),
    ev.OffersAggregated: _of_slots("power_w", "mean_price_milli_per_mwh"),
    ev.AggregateOffered: _aggregate_offered,
    ev.AggregateDisaggregated: _disaggregated,
    ev.GridStatePublished: _grid_state,
    ev.NodalPricesPublished: _nodal_prices,
    ev.MarketCleared: _market_cleared,
    ev.ActivationOrdered: _of_slots("power_w", "price_milli_per_mwh"),
    ev.DeliveryComputed: _of_slots("baseline_wh", "metered_wh", "ordered_wh", "delivered_wh", "shortfall_wh"),
}
