"""What was taken of offers as facts: awards of active and of reactive power, reservations, and their terms."""

from collections.abc import Iterator
from typing import Any

from clearing.result import Result
from clearing.snapshot import Snapshot
from clearing.states import States
from flexbus import events as ev
from flexbus.events import MarketPhase
from flexbus.ids import derived_id
from flexbus.quantities import amount_nano, energy_wh
from flexbus.time import slot_starts
from flexbus.views.offered import is_reactive
from flexbus.views.registry import HELD_READY

__all__ = ["award_part", "award_terms", "awards", "holding_nano", "reactive_awards", "reservations"]


def awards(snapshot: Snapshot, result: Result) -> Iterator[ev.Award]:
    """Yield one award per offer of which active power was taken, from its first to its last slot with quantity.

    The award of a profile with a choice of start begins at the start that was chosen: profiles begin with a quantity.
    """
    for offer, series, prices, common in _taken(snapshot, result):
        if not is_reactive(offer):
            yield ev.Award(**common, power_w=series, price_milli_per_mwh=prices)


def reactive_awards(snapshot: Snapshot, result: Result) -> Iterator[ev.ReactiveAward]:
    """Yield one award per offer of which reactive power was taken."""
    for offer, series, prices, common in _taken(snapshot, result):
        if is_reactive(offer):
            yield ev.ReactiveAward(**common, reactive_power_var=series, price_milli_per_mvarh=prices)


def award_terms(snapshot: Snapshot, result: Result) -> Iterator[ev.AwardTerms]:
    """Yield what comes with awards beside their power: payback, and the reactive power of a fixed tan phi."""
    for offer, _, _, common in _taken(snapshot, result):
        terms = offer.terms
        if terms is not None and (terms.payback is not None or terms.tan_phi_ppm):
            yield ev.AwardTerms(award_id=common["award_id"], payback=terms.payback, tan_phi_ppm=terms.tan_phi_ppm)


def reservations(snapshot: Snapshot, result: Result) -> Iterator[ev.Reservation]:
    """Yield what is held ready per offer, of an auction of phase CAPACITY or STOCHASTIC."""
    phase, states = snapshot.product.phase, States(snapshot, result)
    offers = {o.offer_id: o for o in snapshot.offers}
    rows: Any = result.offers if phase is MarketPhase.CAPACITY else result.reservations
    for row in rows if phase in HELD_READY else ():
        offer = offers[row.offer_id]
        quantity, price = row.quantity, row.price_milli_per_mwh
        if phase is MarketPhase.CAPACITY:
            quantity, price = states.end(quantity, offer.direction), states.end(price, offer.direction)
        found = award_part(snapshot, offer, quantity, price)
        if found is not None:
            series, prices, common = found
            var = is_reactive(offer)
            yield ev.Reservation(
                **common,
                power_w=() if var else series,
                reactive_power_var=series if var else (),
                price_milli_per_mwh=prices,
            )


def holding_nano(held: ev.Reservation, at_ms: int | None = None) -> int:
    """Return what holding power ready is paid, 1e-9 EUR.

    Args:
        held: the reservation.
        at_ms: start of the slot, UTC ms; None = all slots.
    """
    starts = slot_starts(held.start_ms, held.resolution_s, len(held.price_milli_per_mwh))
    return sum(
        amount_nano(energy_wh(quantity, held.resolution_s), price)
        for start_ms, quantity, price in zip(
            starts, held.power_w or held.reactive_power_var, held.price_milli_per_mwh, strict=True
        )
        if at_ms is None or start_ms == at_ms
    )


def _taken(
    snapshot: Snapshot, result: Result
) -> Iterator[tuple[ev.FlexOffer, tuple[int, ...], tuple[int, ...], dict[str, Any]]]:
    """Yield each offer of which something is to be delivered, with quantities, prices and what all awards say."""
    if snapshot.product.phase in HELD_READY:
        return
    offers = {o.offer_id: o for o in snapshot.offers}
    for row in result.offers:
        offer = offers[row.offer_id]
        found = award_part(snapshot, offer, row.quantity, row.price_milli_per_mwh)
        if found is not None:
            yield offer, *found


def award_part(
    snapshot: Snapshot, offer: ev.FlexOffer, quantity: tuple[int, ...], price: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]] | None:
    """Return quantities, prices and what all awards say of what is taken of an offer; None if nothing is.

    Args:
        snapshot: what is cleared.
        offer: one that has a place.
        quantity: taken per slot of the session, W or var.
        price: per slot of the session, 1/1000 EUR per MWh (Mvarh).
    """
    used = [t for t, taken in enumerate(quantity) if taken]
    if not used:
        return None
    first, last = used[0], used[-1] + 1
    common = {
        "award_id": derived_id("Award", snapshot.area_id, snapshot.session.session_id, offer.offer_id),
        "offer_id": offer.offer_id,
        "offer_revision": offer.revision,
        "fsp_id": offer.fsp_id,
        "connection_point_id": offer.connection_point_id,
        "portfolio_id": offer.portfolio_id,
        "bus_id": snapshot.places[offer.offer_id][0],
        "direction": offer.direction,
        "start_ms": snapshot.period.start_ms + first * snapshot.product.resolution_s * 1000,
        "resolution_s": snapshot.product.resolution_s,
    }
    return quantity[first:last], price[first:last], common
