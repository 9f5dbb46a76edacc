"""What one `MarketCleared` has room for: offers and requests cost nothing, and there may be far too many of a session.

A session must be cleared all the same, and all that is awarded must be told: an award that is in no record is none.
So what could not be told does not take part. Each party has an equal part of the room, as in `flexbus.fitting`.
"""

from collections.abc import Collection
from typing import NamedTuple

from clearing.asked import asked_slots
from clearing.left_out import LeftOut
from clearing.outcomes import MAX_REASON_BYTES
from clearing.snapshot import Snapshot
from clearing.taken import award_part
from flexbus import events as ev
from flexbus.fitting import fitting, size_of
from flexbus.quantities import MAX_PRICE_MILLI_PER_MWH
from flexbus.views.offered import footprint
from flexbus.views.procurement import wanted

__all__ = ["ROOM_BYTES", "without_room"]

ROOM_BYTES = 5_000_000  # of the 6 MB that a fact of the bus may have; its slots and elements need the rest
_MOST = 2**62

_NO_ROOM = "the market has more offers and requests than one record can tell of; send fewer and larger ones"


class _Part(NamedTuple):
    name: str
    party_id: str
    size: int
    is_offer: bool


def without_room(snapshot: Snapshot, told: Collection[str] | None) -> LeftOut:
    """Return which offers and requests the record of a session has no room for, whatever becomes of them.

    Args:
        snapshot: what stood before the gate.
        told: offers and requests of which something was taken when all took part; of each party these come first.
            None = no offer takes part.
    """
    taken = told or ()
    parts = [_Part(o.offer_id, o.fsp_id, _offer_bytes(snapshot, o), True) for o in snapshot.offers if told is not None]
    parts += [_Part(r.request_id, r.requester_id, _request_bytes(r), False) for r in snapshot.requests]
    parts.sort(key=lambda part: part.name not in taken)
    kept = set(fitting(parts, ROOM_BYTES, party=lambda part: part.party_id, size=lambda part: part.size))
    out = [part for part in parts if part not in kept]
    requests = {part.name: _NO_ROOM for part in out if not part.is_offer}
    return LeftOut(
        offers={part.name: _NO_ROOM for part in out if part.is_offer}, requests=requests, untold=frozenset(requests)
    )


def _offer_bytes(snapshot: Snapshot, offer: ev.FlexOffer) -> int:
    """Return what an award of an offer can take at most, with its terms."""
    stacks = snapshot.stacks[offer.offer_id]  # a snapshot's offers are without their slots
    slots = min(max(footprint(offer), len(stacks)), snapshot.slots)
    most = max((sum(stack[1::2]) for stack in stacks), default=0) if offer.terms is None else _MOST
    if offer.offer_id not in snapshot.places:
        return 0
    part = award_part(snapshot, offer, (most,) * slots, (MAX_PRICE_MILLI_PER_MWH,) * slots)
    if part is None:
        return 0
    series, prices, common = part
    # A reservation of reactive power is the largest of the three kinds of award.
    largest = ev.Reservation(**common, power_w=(), reactive_power_var=series, price_milli_per_mwh=prices)
    if offer.terms is None:
        return size_of((largest,))
    terms = ev.AwardTerms(award_id=common["award_id"], payback=offer.terms.payback, tan_phi_ppm=offer.terms.tan_phi_ppm)
    return size_of((largest, terms))


def _request_bytes(request: ev.FlexRequest) -> int:
    most = max(wanted(request), default=0)
    outcome = ev.RequestOutcome(
        request_id=request.request_id,
        requester_id=request.requester_id,
        requested_w=(most,) * asked_slots(request),
        matched_w=(most,) * asked_slots(request),
        reason="." * MAX_REASON_BYTES,
    )
    return size_of((outcome,))
