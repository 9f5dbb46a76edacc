"""Admission of offers, baselines and schedules of providers, and of requests of buyers."""

from collections.abc import Callable, Iterator
from typing import Any

from flexbus import events as ev
from flexbus.errors import Fault, FaultCode
from flexbus.events import LocationKind
from flexbus.validation.rules_common import delivery, gate, known, own_point, powers, revised, stale, unused
from flexbus.validation.rules_terms import curve_rules, reactive_rules, terms_rules
from flexbus.validation.stacks import stacks_of
from flexbus.validation.state import Admission, Record
from flexbus.validation.units import fault
from flexbus.views.offered import footprint
from flexbus.views.registry import Gate, Session

__all__ = ["RULES"]


def _submitted(s: Admission, e: ev.FlexOfferSubmitted, acting: str) -> Iterator[Fault]:
    yield from unused("$.offer.offer_id", e.offer.offer_id, s.offers, "offer")
    yield from _offer(s, e.offer, acting)


def _replaced(s: Admission, e: ev.FlexOfferReplaced, acting: str) -> Iterator[Fault]:
    o = e.offer
    yield from _change_of("$.offer", o.offer_id, o.revision, o.session_id, s.offers.get(o.offer_id), acting, "offer")
    yield from _offer(s, o, acting)


def _change_of(
    path: str, name: str, revision: int, session_id: str, record: Record | None, acting: str, what: str
) -> Iterator[Fault]:
    if record is None or record.owner_id != acting:
        text = f"{what} {name!r} is unknown or not of {acting!r}"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, f"{path}.{what}_id", text)
        return
    if not record.live:
        text = f"{what} {name!r} was withdrawn; submit a new one under another id"
        yield fault(FaultCode.WRONG_STATE, f"{path}.{what}_id", text)
    if record.scope_id != session_id:
        text = f"{what} {name!r} is in session {record.scope_id!r}; withdraw it there and submit a new one here"
        yield fault(FaultCode.BAD_VALUE, f"{path}.session_id", text)
    if revision <= record.revision:
        yield stale(f"{path}.revision", revision, record.revision)


def _withdrawn(s: Admission, e: ev.FlexOfferWithdrawn, acting: str) -> Iterator[Fault]:
    yield from _end_of(s, "offer", e.offer_id, s.offers.get(e.offer_id), acting)


def _end_of(s: Admission, what: str, name: str, record: Record | None, acting: str) -> Iterator[Fault]:
    if record is None or record.owner_id != acting:
        text = f"{what} {name!r} is unknown or not of {acting!r}"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, f"$.{what}_id", text)
        return
    if not record.live:
        yield fault(FaultCode.WRONG_STATE, f"$.{what}_id", f"{what} {name!r} was withdrawn already")
    yield from gate(s, f"$.{what}_id", record.scope_id)[1]


def _offer(s: Admission, o: ev.FlexOffer, acting: str) -> Iterator[Fault]:
    if o.connection_point_id is not None:
        yield from own_point(s, "$.offer.connection_point_id", o.connection_point_id, acting)
        yield from _approved_point(s, o.connection_point_id)
    elif o.portfolio_id is not None:
        yield from _approved_portfolio(s, o.portfolio_id, acting)
    session, faults = gate(s, "$.offer.session_id", o.session_id)
    yield from faults
    if session is not None:
        slots = len(o.slots) if o.terms is None else footprint(o)
        yield from delivery(session, "$.offer", o.start_ms, o.resolution_s, slots)
        yield from _stacks(s, o, session)
        if o.terms is not None:
            yield from terms_rules(s, o, session)
    group = o.exclusive_group_id
    if group is not None and s.exclusive_groups.get(group, acting) != acting:
        text = f"exclusive group {group!r} is another provider's; choose another id"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.offer.exclusive_group_id", text)
    parent = o.parent_offer_id
    if parent is not None:
        record = s.offers.get(parent)
        if record is None or record.owner_id != acting or record.scope_id != o.session_id or not record.live:
            text = f"parent {parent!r} is no live offer of {acting!r} in session {o.session_id!r}; submit it first"
            yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, "$.offer.parent_offer_id", text)


def _stacks(s: Admission, o: ev.FlexOffer, session: Session) -> Iterator[Fault]:
    product = session.product
    step_w, least_w, most_steps = product.step_w, product.min_offer_w, product.max_steps
    low, high = product.min_price_milli_per_mwh, product.max_price_milli_per_mwh
    point = s.registry.connection_points.get(o.connection_point_id or "")
    swing = None if point is None else point.max_feed_in_w + point.max_draw_w
    if _stacks_fine(o, product, swing):
        return
    for i, slot in enumerate(o.slots):
        if len(slot.steps) > most_steps:
            text = f"{len(slot.steps)} price steps; the product allows {most_steps}"
            yield fault(FaultCode.BAD_SERIES, f"$.offer.slots[{i}].steps", text)
        total = 0
        for j, step in enumerate(slot.steps):
            total += step.power_w
            if step.power_w % step_w:
                text = f"{step.power_w} W is not a multiple of the product's step, {step_w} W"
                yield fault(FaultCode.BAD_QUANTITY, f"$.offer.slots[{i}].steps[{j}].power_w", text)
            elif step.power_w < least_w:
                text = f"{step.power_w} W is less than the product's least quantity, {least_w} W"
                yield fault(FaultCode.BAD_QUANTITY, f"$.offer.slots[{i}].steps[{j}].power_w", text)
            if not low <= step.price_milli_per_mwh <= high:
                text = f"{step.price_milli_per_mwh} is outside the product's bounds, {low} to {high}"
                yield fault(FaultCode.BAD_PRICE, f"$.offer.slots[{i}].steps[{j}].price_milli_per_mwh", text)
        if slot.min_power_w % step_w:
            text = f"{slot.min_power_w} W is not a multiple of the product's step, {step_w} W"
            yield fault(FaultCode.BAD_QUANTITY, f"$.offer.slots[{i}].min_power_w", text)
        if swing is not None and total > swing:
            text = f"{total} W is more than the point can swing from full draw to full feed-in, {swing} W"
            yield fault(FaultCode.IMPLAUSIBLE, f"$.offer.slots[{i}].steps", text)


def _stacks_fine(o: ev.FlexOffer, product: ev.MarketProductDefined, swing_w: int | None) -> bool:
    """Tell whether `_stacks` finds nothing; almost always so, and told without paths."""
    step_w, least_w, most_steps = product.step_w, product.min_offer_w, product.max_steps
    low, high = product.min_price_milli_per_mwh, product.max_price_milli_per_mwh
    stacks = stacks_of(o.slots)
    return (
        stacks.least_w >= least_w
        and stacks.divisor_w % step_w == 0
        and low <= stacks.low_milli_per_mwh
        and stacks.high_milli_per_mwh <= high
        and stacks.most_steps <= most_steps
        and (swing_w is None or stacks.most_total_w <= swing_w)
    )


def _approved_point(s: Admission, point_id: str) -> Iterator[Fault]:
    # The registration by the DSO is its approval of the point; where assets are named, one must have passed.
    assets = s.registry.assets_at_point.get(point_id)
    if assets and not any(a in s.registry.asset_approvals for a in assets):
        text = f"no asset behind {point_id!r} is approved by the DSO: {', '.join(assets)}"
        yield fault(FaultCode.NOT_APPROVED, "$.offer.connection_point_id", text)


def _approved_portfolio(s: Admission, portfolio_id: str, acting: str) -> Iterator[Fault]:
    path = "$.offer.portfolio_id"
    portfolio = s.registry.portfolios.get(portfolio_id)
    if portfolio is None or portfolio.fsp_id != acting:
        text = f"portfolio {portfolio_id!r} is unknown or not of {acting!r}; register it first"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, path, text)
        return
    if portfolio_id not in s.registry.portfolios_approved:
        yield fault(FaultCode.NOT_APPROVED, path, f"portfolio {portfolio_id!r} is not qualified by the DSO")
    waiting = [a for a in portfolio.asset_ids if a not in s.registry.asset_approvals]
    if waiting:
        text = f"assets of {portfolio_id!r} are not approved by the DSO: {', '.join(waiting[:10])}"
        yield fault(FaultCode.NOT_APPROVED, path, text)
    points = s.registry.connection_points
    gone = [a for a in portfolio.asset_ids if a in s.registry.assets and not _marketed(points, s, a, acting)]
    if gone:
        text = f"assets of {portfolio_id!r} are behind points that {acting!r} no longer markets: {', '.join(gone[:10])}"
        yield fault(FaultCode.NOT_YOURS_OR_UNKNOWN, path, text)


def _marketed(points: dict[str, ev.ConnectionPointRegistered], s: Admission, asset_id: str, acting: str) -> bool:
    point = points.get(s.registry.assets[asset_id].connection_point_id)
    return point is not None and point.fsp_id == acting


def _baseline(s: Admission, e: ev.BaselineSubmitted, acting: str) -> Iterator[Fault]:
    yield from _profile(s, e, acting)
    scope = f"{e.session_id}\x1f{e.connection_point_id}"
    yield from revised("$.baseline_id", e.baseline_id, e.revision, s.baselines, acting, scope, "baseline")
    session, faults = gate(s, "$.session_id", e.session_id, early=True)
    yield from faults
    if session is not None:
        yield from delivery(session, "$", e.start_ms, e.resolution_s, len(e.power_w))


def _schedule(s: Admission, e: ev.ScheduleSubmitted, acting: str) -> Iterator[Fault]:
    yield from _profile(s, e, acting)
    scope = f"{e.session_id}\x1f{e.connection_point_id}"
    yield from revised("$.schedule_id", e.schedule_id, e.revision, s.schedules, acting, scope, "schedule")
    session = s.registry.sessions.get(e.session_id)
    yield from known("$.session_id", e.session_id, s.registry.sessions, "session")
    if session is not None:
        if session.gate is not Gate.CLOSED:
            text = "a schedule follows the award; the gate of the session has not closed yet"
            yield fault(FaultCode.WRONG_STATE, "$.session_id", text)
        yield from delivery(session, "$", e.start_ms, e.resolution_s, len(e.power_w))


def _profile(s: Admission, e: ev.BaselineSubmitted | ev.ScheduleSubmitted, acting: str) -> Iterator[Fault]:
    yield from own_point(s, "$.connection_point_id", e.connection_point_id, acting)
    point = s.registry.connection_points.get(e.connection_point_id)
    if point is not None and point.fsp_id == acting:
        most = 3 * max(point.max_feed_in_w, point.max_draw_w)
        for index, power_w in enumerate(e.power_w):
            if abs(power_w) > most:
                text = f"{power_w} W is more than three times the contracted power; check the unit"
                yield fault(FaultCode.IMPLAUSIBLE, f"$.power_w[{index}]", text)


def _requested(s: Admission, e: ev.FlexRequestSubmitted, acting: str) -> Iterator[Fault]:
    yield from unused("$.request.request_id", e.request.request_id, s.requests, "request")
    yield from _request(s, e.request)


def _amended(s: Admission, e: ev.FlexRequestAmended, acting: str) -> Iterator[Fault]:
    r = e.request
    record = s.requests.get(r.request_id)
    yield from _change_of("$.request", r.request_id, r.revision, r.session_id, record, acting, "request")
    yield from _request(s, r)


def _request_withdrawn(s: Admission, e: ev.FlexRequestWithdrawn, acting: str) -> Iterator[Fault]:
    yield from _end_of(s, "request", e.request_id, s.requests.get(e.request_id), acting)


def _request(s: Admission, r: ev.FlexRequest) -> Iterator[Fault]:
    area = s.registry.area
    places: dict[LocationKind, tuple[Any, str]] = {
        LocationKind.BUS: (s.registry.buses, "bus"),
        LocationKind.ZONE: (s.registry.zones, "zone"),
        LocationKind.BRANCH: (s.registry.branches, "branch"),
        LocationKind.INFEED_POINT: (s.registry.infeed_points, "infeed point"),
        LocationKind.AREA: ({"" if area is None else area.area_id}, "id"),
    }
    yield from known("$.request.location_id", r.location_id, *places[r.location_kind])
    session, faults = gate(s, "$.request.session_id", r.session_id)
    yield from faults
    if session is not None:
        product = session.product
        slots = len(r.reactive_slots) or len(r.power_w)
        yield from delivery(session, "$.request", r.start_ms, r.resolution_s, slots)
        yield from reactive_rules("$.request.reactive_slots", r.reactive_slots, product, 0)
        yield from curve_rules(r, product)
        yield from powers("$.request.power_w", r.power_w, product.step_w)
        low, high = product.min_price_milli_per_mwh, product.max_price_milli_per_mwh
        if not low <= r.max_price_milli_per_mwh <= high:
            text = f"{r.max_price_milli_per_mwh} is outside the product's bounds, {low} to {high}"
            yield fault(FaultCode.BAD_PRICE, "$.request.max_price_milli_per_mwh", text)


RULES: dict[type[Any], Callable[[Admission, Any, str], Iterator[Fault]]] = {
    ev.FlexOfferSubmitted: _submitted,
    ev.FlexOfferReplaced: _replaced,
    ev.FlexOfferWithdrawn: _withdrawn,
    ev.BaselineSubmitted: _baseline,
    ev.ScheduleSubmitted: _schedule,
    ev.FlexRequestSubmitted: _requested,
    ev.FlexRequestAmended: _amended,
    ev.FlexRequestWithdrawn: _request_withdrawn,
}
