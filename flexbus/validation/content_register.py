"""Content checks of participants, assets, grid and market definitions."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

from flexbus import events as ev
from flexbus.access import is_reserved
from flexbus.catalogue import CATALOGUE
from flexbus.errors import Fault, FaultCode
from flexbus.quantities import PPM
from flexbus.signing import PUBLIC_KEY_BYTES
from flexbus.validation.series import series
from flexbus.validation.units import fault

__all__ = ["CHECKS", "after"]

MAX_SCENARIOS = 20
MAX_ASSETS = 1000  # of a portfolio; each process keeps them, and goes through them for each of its offers
_EIC = re.compile(r"[A-Z0-9][A-Z0-9-]{14}[A-Z0-9]")


def after(e: Any, first: str, second: str) -> Iterator[Fault]:
    """Yield a fault unless the second instant comes after the first."""
    if getattr(e, second) is not None and getattr(e, second) <= getattr(e, first):
        yield fault(FaultCode.BAD_PERIOD, f"$.{second}", f"must be later than {first}; periods are half-open")


def _blank(e: Any, *names: str) -> Iterator[Fault]:
    for name in names:
        if not getattr(e, name).strip():
            yield fault(FaultCode.MISSING_FIELD, f"$.{name}", "is empty; people will read it, so say it in words")


def _repeated(path: str, ids: Iterable[str]) -> Iterator[Fault]:
    for name, count in Counter(ids).items():
        if count > 1:
            yield fault(FaultCode.BAD_VALUE, path, f"{name!r} occurs {count} times; each may occur once")


def _area_opened(e: ev.AreaOpened) -> Iterator[Fault]:
    yield from _blank(e, "name")
    try:
        ZoneInfo(e.time_zone)
    except (ValueError, OSError, KeyError):
        text = f"{e.time_zone!r} is no IANA time zone; write for example Europe/Helsinki"
        yield fault(FaultCode.BAD_VALUE, "$.time_zone", text)


def _participant_registered(e: ev.ParticipantRegistered) -> Iterator[Fault]:
    yield from _blank(e, "name")
    if is_reserved(e.participant_id):  # a party of that name could write as the service
        text = f"{e.participant_id!r} is the name of a service of the bus; choose another"
        yield fault(FaultCode.BAD_VALUE, "$.participant_id", text)
    if not e.roles:
        yield fault(FaultCode.MISSING_FIELD, "$.roles", "a participant has at least one role")
    yield from _repeated("$.roles", (r.value for r in e.roles))
    if e.eic is not None and not _EIC.fullmatch(e.eic):
        text = f"{e.eic!r} is no EIC: 16 characters, capital letters, digits and hyphens"
        yield fault(FaultCode.BAD_VALUE, "$.eic", text)


def _participant_removed(e: ev.ParticipantRemoved) -> Iterator[Fault]:
    yield from _blank(e, "reason")


def _mandate_granted(e: ev.MandateGranted) -> Iterator[Fault]:
    if e.grantor_id == e.agent_id:
        yield fault(FaultCode.BAD_VALUE, "$.agent_id", "a party needs no mandate to act for itself")
    yield from after(e, "valid_from_ms", "valid_until_ms")
    yield from _event_types(e)
    for index, name in enumerate(e.event_types):
        if name in CATALOGUE and not CATALOGUE[name].by_mandate:
            text = f"no mandate covers {name}, each party sends it itself; leave it out"
            yield fault(FaultCode.BAD_VALUE, f"$.event_types[{index}]", text)


def _signing_key_registered(e: ev.SigningKeyRegistered) -> Iterator[Fault]:
    if len(e.public_key) != PUBLIC_KEY_BYTES:
        text = f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes; this has {len(e.public_key)}"
        yield fault(FaultCode.BAD_VALUE, "$.public_key", text)
    yield from _blank(e, "key_id")
    if e.replaces_key_id == e.key_id:
        yield fault(FaultCode.BAD_VALUE, "$.replaces_key_id", "a key does not replace itself")


def _signature_policy_set(e: ev.SignaturePolicySet) -> Iterator[Fault]:
    yield from _event_types(e)


def _event_types(e: ev.MandateGranted | ev.SignaturePolicySet) -> Iterator[Fault]:
    yield from _repeated("$.event_types", e.event_types)
    for index, name in enumerate(e.event_types):
        if name not in CATALOGUE:
            text = f"{name!r} is no event of the catalogue; list them with `flexbus events`"
            yield fault(FaultCode.UNKNOWN_EVENT, f"$.event_types[{index}]", text)


def _connection_point_registered(e: ev.ConnectionPointRegistered) -> Iterator[Fault]:
    if e.max_feed_in_w == 0 and e.max_draw_w == 0:
        text = "feed-in and draw are both 0 W: nothing can flow; give the contracted power"
        yield fault(FaultCode.BAD_QUANTITY, "$.max_feed_in_w", text)


def _reason(e: Any) -> Iterator[Fault]:
    yield from _blank(e, "reason")


def _asset_registered(e: ev.AssetRegistered) -> Iterator[Fault]:
    if e.max_feed_in_w == 0 and e.max_draw_w == 0:
        text = "feed-in and draw are both 0 W: the asset can do nothing; give its greatest power"
        yield fault(FaultCode.BAD_QUANTITY, "$.max_feed_in_w", text)
    if e.kind is ev.AssetKind.BATTERY and not e.storage_capacity_wh:
        yield fault(FaultCode.MISSING_FIELD, "$.storage_capacity_wh", "a battery has a capacity; give it in Wh")


def _portfolio_registered(e: ev.PortfolioRegistered) -> Iterator[Fault]:
    if not e.asset_ids:
        yield fault(FaultCode.MISSING_FIELD, "$.asset_ids", "a portfolio has at least one asset")
    if len(e.asset_ids) > MAX_ASSETS:
        text = f"has {len(e.asset_ids)}; at most {MAX_ASSETS}, make several portfolios"
        yield fault(FaultCode.BAD_SERIES, "$.asset_ids", text)
    yield from _repeated("$.asset_ids", e.asset_ids)


def _network_model_published(e: ev.NetworkModelPublished) -> Iterator[Fault]:
    buses = {b.bus_id: b for b in e.buses}
    yield from _repeated("$.buses", (b.bus_id for b in e.buses))
    yield from _repeated("$.branches", (b.branch_id for b in e.branches))
    yield from _repeated("$.infeed_points", (i.infeed_id for i in e.infeed_points))
    if not e.infeed_points:
        yield fault(FaultCode.MISSING_FIELD, "$.infeed_points", "a network has at least one infeed point")
    for i, bus in enumerate(e.buses):
        if not 0 < bus.min_voltage_ppm < bus.max_voltage_ppm <= 2 * PPM:
            text = "the voltage band must be 0 < min < max <= 2000000 millionths of nominal"
            yield fault(FaultCode.BAD_QUANTITY, f"$.buses[{i}].min_voltage_ppm", text)
    for i, branch in enumerate(e.branches):
        for name in ("from_bus_id", "to_bus_id"):
            if getattr(branch, name) not in buses:
                text = f"{getattr(branch, name)!r} is none of the buses; add the bus or correct the branch"
                yield fault(FaultCode.UNKNOWN_ELEMENT, f"$.branches[{i}].{name}", text)
        if branch.from_bus_id == branch.to_bus_id:
            yield fault(FaultCode.BAD_VALUE, f"$.branches[{i}].to_bus_id", "both ends are on the same bus")
        if branch.r_ohm < 0:
            yield fault(FaultCode.BAD_QUANTITY, f"$.branches[{i}].r_ohm", "a resistance is not negative")
        if branch.ratio <= 0:
            yield fault(FaultCode.BAD_QUANTITY, f"$.branches[{i}].ratio", "a turns ratio is positive")
    for i, infeed in enumerate(e.infeed_points):
        if infeed.bus_id not in buses:
            text = f"{infeed.bus_id!r} is none of the buses"
            yield fault(FaultCode.UNKNOWN_ELEMENT, f"$.infeed_points[{i}].bus_id", text)
        if not PPM // 2 <= infeed.voltage_ppm <= 2 * PPM:
            text = f"{infeed.voltage_ppm} is no plausible voltage; 1000000 is nominal"
            yield fault(FaultCode.BAD_QUANTITY, f"$.infeed_points[{i}].voltage_ppm", text)


def _net_forecast_published(e: ev.NetForecastPublished) -> Iterator[Fault]:
    if not e.injections:
        yield fault(FaultCode.MISSING_FIELD, "$.injections", "a forecast has at least one bus")
        return
    expected = len(e.injections[0].power_w)
    yield from _injections("$.injections", e.injections, expected)
    if e.scenarios:
        yield from _scenarios(e, expected)


def _injections(at: str, injections: tuple[ev.BusInjection, ...], expected: int) -> Iterator[Fault]:
    yield from _repeated(at, (i.bus_id for i in injections))
    for i, injection in enumerate(injections):
        path = f"{at}[{i}]"
        yield from series(f"{path}.power_w", len(injection.power_w), expected)
        yield from series(f"{path}.reactive_power_var", len(injection.reactive_power_var), expected)


def _scenarios(e: ev.NetForecastPublished, expected: int) -> Iterator[Fault]:
    if len(e.scenarios) > MAX_SCENARIOS:
        text = f"{len(e.scenarios)} of them; at most {MAX_SCENARIOS}"
        yield fault(FaultCode.BAD_SERIES, "$.scenarios", text)
    yield from _repeated("$.scenarios", (s.scenario_id for s in e.scenarios))
    total = sum(s.probability_ppm for s in e.scenarios)
    if total != PPM:
        text = f"probabilities sum to {total} millionths, not to 1000000"
        yield fault(FaultCode.BAD_VALUE, "$.scenarios", text)
    for k, scenario in enumerate(e.scenarios[:MAX_SCENARIOS]):
        if scenario.probability_ppm == 0:
            text = "cannot come to pass; leave the scenario out"
            yield fault(FaultCode.BAD_VALUE, f"$.scenarios[{k}].probability_ppm", text)
        yield from _injections(f"$.scenarios[{k}].injections", scenario.injections, expected)


def _product_defined(e: ev.MarketProductDefined) -> Iterator[Fault]:
    for name in ("step_w", "min_offer_w", "max_steps", "request_step_w", "sensitivity_ppm"):
        if getattr(e, name) < 1:
            yield fault(FaultCode.BAD_QUANTITY, f"$.{name}", "must be at least 1")
    if e.step_w >= 1 and e.min_offer_w % e.step_w:
        yield fault(FaultCode.BAD_QUANTITY, "$.min_offer_w", f"must be a multiple of step_w, {e.step_w} W")
    if e.step_w >= 1 and e.request_step_w % e.step_w:
        yield fault(FaultCode.BAD_QUANTITY, "$.request_step_w", f"must be a multiple of step_w, {e.step_w} W")
    if e.min_price_milli_per_mwh > e.max_price_milli_per_mwh:
        yield fault(FaultCode.BAD_PRICE, "$.max_price_milli_per_mwh", "the highest price is below the lowest")
    cap = e.request_max_price_milli_per_mwh
    if cap is not None and not e.min_price_milli_per_mwh <= cap <= e.max_price_milli_per_mwh:
        text = f"{cap} is outside the product's price bounds"
        yield fault(FaultCode.BAD_PRICE, "$.request_max_price_milli_per_mwh", text)
    for name in ("margin_ppm", "p_min_ppm", "tolerance_ppm"):
        if getattr(e, name) > PPM:
            yield fault(FaultCode.BAD_QUANTITY, f"$.{name}", "a share is at most 1000000 millionths")


def _session_scheduled(e: ev.MarketSessionScheduled) -> Iterator[Fault]:
    yield from after(e, "gate_opens_ms", "gate_closes_ms")
    yield from after(e, "delivery_start_ms", "delivery_end_ms")
    if e.gate_closes_ms > e.delivery_start_ms:
        text = "the gate must close before delivery starts"
        yield fault(FaultCode.BAD_PERIOD, "$.gate_closes_ms", text)
    if e.settlement_due_ms < e.delivery_end_ms:
        text = "settlement cannot be due before delivery has ended"
        yield fault(FaultCode.BAD_PERIOD, "$.settlement_due_ms", text)


CHECKS: dict[type[Any], Callable[[Any], Iterator[Fault]]] = {
    ev.AreaOpened: _area_opened,
    ev.ParticipantRegistered: _participant_registered,
    ev.ParticipantRemoved: _participant_removed,
    ev.MandateGranted: _mandate_granted,
    ev.SigningKeyRegistered: _signing_key_registered,
    ev.SigningKeyRevoked: _reason,
    ev.SignaturePolicySet: _signature_policy_set,
    ev.ConnectionPointRegistered: _connection_point_registered,
    ev.ConnectionPointRemoved: _reason,
    ev.AssetRegistered: _asset_registered,
    ev.AssetRefused: _reason,
    ev.PortfolioRegistered: _portfolio_registered,
    ev.PortfolioRefused: _reason,
    ev.NetworkModelPublished: _network_model_published,
    ev.NetForecastPublished: _net_forecast_published,
    ev.MarketProductDefined: _product_defined,
    ev.MarketSessionScheduled: _session_scheduled,
}
