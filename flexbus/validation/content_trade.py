"""Content checks of forecasts, requests, offers, limits, activations, readings and settlements."""

from collections.abc import Callable, Iterator
from typing import Any

from flexbus import events as ev
from flexbus.errors import Fault, FaultCode
from flexbus.quantities import PPM
from flexbus.validation.content_register import after
from flexbus.validation.content_terms import curve_faults, reactive_request_faults, terms_faults
from flexbus.validation.series import series
from flexbus.validation.stacks import stacks_of
from flexbus.validation.units import MAX_SLOTS, fault

__all__ = ["CHECKS"]

_HOUR_MS = 3_600_000
MAX_CAUSES = 2_000  # of a request: as many as a session of 400 hours has quarters, each forecast by itself


def _power(e: Any) -> Iterator[Fault]:
    yield from series("$.power_w", len(e.power_w))


def _reason(e: Any) -> Iterator[Fault]:
    if not e.reason.strip():
        yield fault(FaultCode.MISSING_FIELD, "$.reason", "is empty; people will read it, so say it in words")


def _congestion_forecast(e: ev.CongestionForecastReceived) -> Iterator[Fault]:
    if e.kind is ev.CongestionKind.THERMAL:
        slots = len(e.flow_w)
        yield from series("$.flow_w", slots)
        for name in ("need_up_w", "need_down_w"):
            if getattr(e, name):
                text = "belongs to VOLTAGE; a THERMAL forecast has flow_w and limits"
                yield fault(FaultCode.BAD_VALUE, f"$.{name}", text)
        yield from _limits(e)
    else:
        slots = len(e.need_up_w) or len(e.need_down_w)
        yield from series("$.need_up_w", len(e.need_up_w), slots)
        yield from series("$.need_down_w", len(e.need_down_w), slots)
        for name in ("flow_w", "limit_import_w", "limit_export_w"):
            if getattr(e, name):
                text = "belongs to THERMAL; a VOLTAGE forecast has need_up_w and need_down_w"
                yield fault(FaultCode.BAD_VALUE, f"$.{name}", text)
    if e.probability_ppm:
        yield from series("$.probability_ppm", len(e.probability_ppm), slots)
        for i, probability in enumerate(e.probability_ppm):
            if probability > PPM:
                text = f"{probability} is more than certain, 1000000 millionths"
                yield fault(FaultCode.BAD_QUANTITY, f"$.probability_ppm[{i}]", text)


def _limits(e: ev.CongestionForecastReceived) -> Iterator[Fault]:
    limits = (e.limit_import_w, e.limit_export_w)
    for name, limit in zip(("limit_import_w", "limit_export_w"), limits, strict=True):
        if limit == 0:
            yield fault(FaultCode.BAD_QUANTITY, f"$.{name}", "a limit is more than 0 W; leave it out if there is none")
    if limits == (None, None):
        yield fault(FaultCode.MISSING_FIELD, "$.limit_import_w", "at least one of the two limits is needed")


def _request(e: ev.FlexRequestSubmitted | ev.FlexRequestAmended) -> Iterator[Fault]:
    r = e.request
    yield from _first_revision(e, "request", r.revision, ev.FlexRequestSubmitted)
    if r.reactive_slots:
        yield from reactive_request_faults(r)
    else:
        yield from _active_request(r)
    if len(r.causes) > MAX_CAUSES:
        text = f"has {len(r.causes)}; at most {MAX_CAUSES}"
        yield fault(FaultCode.BAD_SERIES, "$.request.causes", text)
    if "MANUAL" in r.causes and not r.reason.strip():
        text = "a manual request says why (HEDGE-15)"
        yield fault(FaultCode.MISSING_FIELD, "$.request.reason", text)


def _active_request(r: ev.FlexRequest) -> Iterator[Fault]:
    yield from series("$.request.power_w", len(r.power_w))
    if r.power_w and not any(r.power_w):
        text = "asks for 0 W in every slot; withdraw the request instead"
        yield fault(FaultCode.BAD_QUANTITY, "$.request.power_w", text)
    if r.min_power_w > max(r.power_w, default=0):
        text = f"{r.min_power_w} W is more than any slot asks for"
        yield fault(FaultCode.BAD_QUANTITY, "$.request.min_power_w", text)
    if r.curve:
        yield from curve_faults(r)


def _offer(e: ev.FlexOfferSubmitted | ev.FlexOfferReplaced) -> Iterator[Fault]:
    o = e.offer
    yield from _first_revision(e, "offer", o.revision, ev.FlexOfferSubmitted)
    if (o.connection_point_id is None) == (o.portfolio_id is None):
        text = "exactly one of connection_point_id and portfolio_id says where the flexibility is"
        yield fault(FaultCode.BAD_VALUE, "$.offer.connection_point_id", text)
    if o.terms is not None:
        yield from terms_faults(o)
    if o.terms is None or (o.terms.reactive is None and o.terms.start_choice is None):
        yield from _slots(o)
    if o.parent_offer_id is not None and o.parent_offer_id == o.offer_id:
        yield fault(FaultCode.BAD_VALUE, "$.offer.parent_offer_id", "an offer is not its own parent")


def _slots(o: ev.FlexOffer) -> Iterator[Fault]:
    if not 1 <= len(o.slots) <= MAX_SLOTS:
        yield from series("$.offer.slots", len(o.slots))
    stacks = stacks_of(o.slots)
    if not (stacks.least_w > 0 and stacks.rise and stacks.fit):
        yield from _stacks(o)
    offered = stacks.total_w if stacks.least_w >= 0 else _offered_w(o)
    if o.slots and offered <= 0:
        text = "nothing is offered in any slot; withdraw the offer instead"
        yield fault(FaultCode.BAD_QUANTITY, "$.offer.slots", text)
    if o.min_energy_wh is not None:
        most = offered * o.resolution_s // 3600
        if o.max_energy_wh is not None and o.min_energy_wh > o.max_energy_wh:
            text = f"{o.min_energy_wh} Wh is more than max_energy_wh, {o.max_energy_wh} Wh"
            yield fault(FaultCode.BAD_QUANTITY, "$.offer.min_energy_wh", text)
        if o.min_energy_wh > most:
            text = f"{o.min_energy_wh} Wh is more than all slots together offer, {most} Wh"
            yield fault(FaultCode.BAD_QUANTITY, "$.offer.min_energy_wh", text)


def _offered_w(o: ev.FlexOffer) -> int:
    return sum(max(0, step.power_w) for slot in o.slots for step in slot.steps)


def _stacks(o: ev.FlexOffer) -> Iterator[Fault]:
    """Yield what is wrong with the price stacks of an offer, step by step."""
    for i, slot in enumerate(o.slots):
        total, last = 0, None
        for j, step in enumerate(slot.steps):
            if step.power_w == 0:
                text = "a step offers more than 0 W; leave the step out instead"
                yield fault(FaultCode.BAD_QUANTITY, f"$.offer.slots[{i}].steps[{j}].power_w", text)
            if last is not None and step.price_milli_per_mwh <= last:
                text = "prices of a stack rise from step to step; sort the steps and join equal prices"
                yield fault(FaultCode.BAD_PRICE, f"$.offer.slots[{i}].steps[{j}].price_milli_per_mwh", text)
            last = step.price_milli_per_mwh
            total += step.power_w if step.power_w > 0 else 0
        if slot.min_power_w > total:
            text = f"{slot.min_power_w} W is more than the {total} W offered in the slot"
            yield fault(FaultCode.BAD_QUANTITY, f"$.offer.slots[{i}].min_power_w", text)


def _first_revision(e: Any, part: str, revision: int, first: type[Any]) -> Iterator[Fault]:
    if isinstance(e, first) and revision > 1:
        text = f"a first submission has revision 1, not {revision}; a change is sent as its own event type"
        yield fault(FaultCode.BAD_VALUE, f"$.{part}.revision", text)
    if not isinstance(e, first) and revision == 1:
        text = "a change has a revision higher than the one it replaces, so at least 2"
        yield fault(FaultCode.BAD_VALUE, f"$.{part}.revision", text)


def _limit(e: ev.CapacityLimitForeseen | ev.CapacityLimitUnforeseen) -> Iterator[Fault]:
    yield from after(e, "start_ms", "end_ms")
    yield from _reason(e)
    stops = isinstance(e, ev.CapacityLimitUnforeseen) and e.stop_activations
    if e.max_feed_in_w is None and e.max_draw_w is None and not stops:
        text = "limits nothing; give max_feed_in_w or max_draw_w"
        yield fault(FaultCode.MISSING_FIELD, "$.max_feed_in_w", text)


def _light_set(e: ev.TrafficLightSet) -> Iterator[Fault]:
    yield from after(e, "start_ms", "end_ms")
    for name in ("start_ms", "end_ms"):
        if getattr(e, name) % _HOUR_MS:
            yield fault(FaultCode.BAD_PERIOD, f"$.{name}", "traffic lights stand for whole hours; round to one")
    limited = e.max_up_w is not None or e.max_down_w is not None
    if e.colour is ev.Colour.YELLOW and not limited:
        text = "YELLOW says up to where; give max_up_w or max_down_w"
        yield fault(FaultCode.MISSING_FIELD, "$.max_up_w", text)
    if e.colour is not ev.Colour.YELLOW and limited:
        text = f"{e.colour.value} has no limits of its own; set YELLOW, or leave them out"
        yield fault(FaultCode.BAD_VALUE, "$.max_up_w", text)


def _aggregate_activated(e: ev.AggregateActivated) -> Iterator[Fault]:
    yield from _power(e)
    if not any(e.power_w):
        yield fault(FaultCode.BAD_QUANTITY, "$.power_w", "activates 0 W in every slot; send nothing instead")


def _activation_changed(e: ev.ActivationChanged) -> Iterator[Fault]:
    yield from _power(e)
    yield from _reason(e)
    if e.revision == 1:
        yield fault(FaultCode.BAD_VALUE, "$.revision", "the order itself is revision 1; the first change is 2")


def _activation_stopped(e: ev.ActivationStopped) -> Iterator[Fault]:
    yield from after(e, "from_ms", "until_ms")
    yield from _reason(e)


def _reading(e: ev.MeterReadingReceived) -> Iterator[Fault]:
    yield from series("$.energy_wh", len(e.energy_wh))
    if e.quality:
        yield from series("$.quality", len(e.quality), len(e.energy_wh))


CHECKS: dict[type[Any], Callable[[Any], Iterator[Fault]]] = {
    ev.CongestionForecastReceived: _congestion_forecast,
    ev.FlexRequestSubmitted: _request,
    ev.FlexRequestAmended: _request,
    ev.FlexOfferSubmitted: _offer,
    ev.FlexOfferReplaced: _offer,
    ev.BaselineSubmitted: _power,
    ev.ScheduleSubmitted: _power,
    ev.CapacityLimitForeseen: _limit,
    ev.CapacityLimitUnforeseen: _limit,
    ev.TrafficLightSet: _light_set,
    ev.AggregateActivated: _aggregate_activated,
    ev.ActivationRefused: _reason,
    ev.ActivationChanged: _activation_changed,
    ev.ActivationStopped: _activation_stopped,
    ev.MeterReadingReceived: _reading,
    ev.SettlementDisputed: _reason,
}
