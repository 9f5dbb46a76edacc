"""A market told so that everybody sends everything that the table of who may do what lets it send, and all is valid.

Each role is one party, named in `PARTY_OF`; the services speak for themselves. The order is what admission asks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flexbus import events as ev
from flexbus.catalogue import CATALOGUE, Service
from flexbus.events import Role
from flexbus.quantities import Direction
from flexbus.signing import public_key
from tests import market
from tests.specimens import specimen

__all__ = ["AREA", "OTHER", "PARTY_OF", "Sent", "story"]

AREA = "every-cell"
PARTY_OF: dict[Role, str] = {role: role.value.lower().replace("_", "-") for role in Role}  # "fmo" founds areas
FMO, DSO, TSO, FSP, BRP, METER = (
    PARTY_OF[r] for r in (Role.FMO, Role.DSO, Role.TSO, Role.FSP, Role.BRP, Role.METER_OPERATOR)
)
SPEAKING = (FMO, DSO, TSO, FSP, BRP, METER)
OTHER = "other"
START, SLOTS = market.START, 4
AT_POINT: dict[str, Any] = {"connection_point_id": "GCP-1", "portfolio_id": None}


@dataclass(frozen=True, slots=True)
class Sent:
    """One event as it is sent.

    Attributes:
        sender: party or service.
        event: the event.
        key: what signs it, if it must be signed.
    """

    sender: str
    event: Any
    key: Ed25519PrivateKey | None = None


def story() -> Iterator[Sent]:
    """Yield who sends what, in order."""
    for sent in (*_founded(), *_proven(), *_registered(), *_traded(), *_delivered(), *_settled()):
        # Specimens name no session that there is; what folds them is to find the market's.
        of_session = {"session_id": market.SESSION} if hasattr(sent.event, "session_id") else {}
        yield replace(sent, event=replace(sent.event, area_id=AREA, **of_session))


def _of(name: str, *named: str, **values: Any) -> Any:
    """Return an event of a kind: a specimen that names these parties, with these values."""
    return replace(specimen(CATALOGUE[name], AREA, *(named or (FSP, OTHER))), **values)


def _founded() -> Iterator[Sent]:
    yield Sent(FMO, ev.AreaOpened(area_id=AREA, name=AREA, fmo_id=FMO, time_zone="Europe/Helsinki"))
    for role, party in PARTY_OF.items():
        yield Sent(FMO, market.participant(party, role))
    yield Sent(FMO, market.participant(OTHER, Role.FSP))
    yield Sent(FMO, market.participant("leaver", Role.FSP))
    yield Sent(FMO, ev.ParticipantRemoved(area_id=AREA, participant_id="leaver", reason="x"))
    yield Sent(DSO, market.network())
    for number, (bus, fsp) in enumerate((("B1", FSP), ("B2", FSP), ("B3", FSP), ("B3", OTHER)), start=1):
        yield Sent(DSO, market.point(f"GCP-{number}", bus, fsp, meter_operator_id=METER))
    yield Sent(DSO, ev.ConnectionPointRemoved(area_id=AREA, connection_point_id="GCP-4", reason="x"))
    yield Sent(FMO, market.product())
    yield Sent(FMO, market.session())


def _proven() -> Iterator[Sent]:
    """Mandates and signing keys, which everybody gives and takes back for itself."""
    yield Sent(FMO, ev.SignaturePolicySet(area_id=AREA, event_types=()))
    for party in SPEAKING:
        mandate = ev.MandateGranted(
            area_id=AREA, mandate_id=party, grantor_id=party, agent_id=OTHER, event_types=(), valid_from_ms=0
        )
        yield Sent(party, mandate)
        yield Sent(party, ev.MandateRevoked(area_id=AREA, mandate_id=party, grantor_id=party))
        key = Ed25519PrivateKey.generate()
        registered = ev.SigningKeyRegistered(area_id=AREA, party_id=party, key_id="1", public_key=public_key(key))
        yield Sent(party, registered, key)
        yield Sent(party, ev.SigningKeyRevoked(area_id=AREA, party_id=party, key_id="1", reason="lost"))


def _registered() -> Iterator[Sent]:
    for number, (judge, word) in enumerate((("AssetApproved", "Approved"), ("AssetRefused", "Refused")), start=1):
        asset, portfolio = f"asset-{number}", f"portfolio-{number}"
        yield Sent(FSP, market.asset(asset, f"GCP-{number}", FSP))
        yield Sent(DSO, _of(judge, asset_id=asset))
        yield Sent(FSP, _of("PortfolioRegistered", portfolio_id=portfolio, asset_ids=(asset,)))
        yield Sent(DSO, _of(f"Portfolio{word}", portfolio_id=portfolio))
    injections = tuple(
        ev.BusInjection(bus_id=bus, power_w=(200_000,) * 96, reactive_power_var=(0,) * 96) for bus in ("B1", "B3")
    )
    yield Sent(
        DSO,
        _of(
            "NetForecastPublished",
            network_id="grid",
            start_ms=START,
            resolution_s=900,
            injections=injections,
            scenarios=(),
        ),
    )
    forecast = ev.CongestionForecastReceived(
        area_id=AREA,
        forecast_id="f",
        revision=1,
        session_id=market.SESSION,
        element_id="T1",
        kind=ev.CongestionKind.THERMAL,
        issued_at_ms=START - 14 * market.HOUR,
        start_ms=START,
        resolution_s=900,
        flow_w=(400_000,) * 96,
        limit_import_w=300_000,
        limit_export_w=300_000,
    )
    yield Sent(DSO, forecast)
    yield Sent(Service.CONGESTION.value, replace(forecast, forecast_id="f-own"))
    yield Sent(FSP, market.baseline("GCP-1", FSP))


def _traded() -> Iterator[Sent]:
    yield Sent("scheduler", market.gate_opened())
    for sender in (DSO, TSO, BRP, Service.CONGESTION.value):
        requester = DSO if sender == Service.CONGESTION.value else sender
        request = market.request(f"r-{sender}", requester_id=requester)
        yield Sent(sender, ev.FlexRequestSubmitted(area_id=AREA, request=request))
        yield Sent(sender, ev.FlexRequestAmended(area_id=AREA, request=replace(request, revision=2)))
        withdrawn = ev.FlexRequestWithdrawn(
            area_id=AREA, request_id=request.request_id, requester_id=requester, reason="x"
        )
        yield Sent(sender, withdrawn)
    offer = market.offer("o-1", FSP, "GCP-1", slots=SLOTS)
    yield Sent(FSP, ev.FlexOfferSubmitted(area_id=AREA, offer=offer))
    yield Sent(FSP, ev.FlexOfferReplaced(area_id=AREA, offer=replace(offer, revision=2)))
    yield Sent(FSP, _of("FlexOfferWithdrawn", offer_id="o-1"))
    limit = {"connection_point_id": "GCP-1", "start_ms": START, "end_ms": START + market.HOUR, "max_feed_in_w": 1}
    yield Sent(DSO, _of("CapacityLimitForeseen", limit_id="l-1", **limit))
    yield Sent(DSO, _of("CapacityLimitLifted", limit_id="l-1", from_ms=START))
    yield Sent(DSO, _of("CapacityLimitUnforeseen", limit_id="l-2", **limit))
    light = {"connection_point_id": "GCP-1", "start_ms": START, "end_ms": START + market.HOUR}
    yield Sent(DSO, _of("TrafficLightSet", **light, colour=ev.Colour.RED, max_up_w=None, max_down_w=None))
    yield from _services("NeedComputed", "NeedNotTradable", "FlexOfferClipped", "TrafficLightChanged")
    yield from _services("OffersAggregated", "FlexRequestExpired", "RequestMissedGate", "ProcurementStatusChanged")
    yield Sent("scheduler", market.gate_closed())
    yield from _services("GridStatePublished", "NodalPricesPublished")
    cleared = _of("MarketCleared")
    in_order = tuple(replace(slot, start_ms=START + n * 900_000) for n, slot in enumerate(cleared.slots))
    awards = tuple(replace(award, **AT_POINT) for award in cleared.awards)
    yield Sent(Service.CLEARING.value, replace(cleared, start_ms=START, slots=in_order, awards=awards))
    yield Sent(FSP, _of("ScheduleSubmitted", **_place("GCP-1"), power_w=(1000,) * SLOTS))


def _place(point: str) -> dict[str, Any]:
    return {"connection_point_id": point, "session_id": market.SESSION, "start_ms": START, "resolution_s": 900}


def _services(*names: str) -> Iterator[Sent]:
    """Facts of the bus's own services, which are judged by who may say them alone."""
    for name in names:
        for service in sorted(s.value for s in CATALOGUE[name].send if isinstance(s, Service)):
            yield Sent(service, _of(name))


def _delivered() -> Iterator[Sent]:
    window: dict[str, Any] = {"start_ms": START, "resolution_s": 900}
    quantities: dict[str, Any] = {"direction": Direction.UP, "power_w": (50_000,) * SLOTS, **window}
    prices = (40_000,) * SLOTS
    member = ev.AggregateMember(
        offer_id="o-1",
        fsp_id=FSP,
        **AT_POINT,
        first_slot=0,
        power_w=quantities["power_w"],
        price_milli_per_mwh=(1_000,) * SLOTS,
    )
    yield Sent(
        "aggregation",
        _of("AggregateOffered", aggregate_id="agg", **quantities, price_milli_per_mwh=prices, members=(member,)),
    )
    activated = _of("AggregateActivated", TSO, aggregate_id="agg", **window, power_w=(10_000,) * SLOTS)
    yield Sent(TSO, activated)
    yield from _services("AggregateDisaggregated")
    for orderer in (DSO, TSO):
        for number in (1, 2):
            ordered = _of(
                "ActivationOrdered",
                FSP,
                activation_id=f"act-{orderer}-{number}",
                orderer_id=orderer,
                **AT_POINT,
                **quantities,
                price_milli_per_mwh=prices,
            )
            yield Sent("activation", ordered)
        first, second = f"act-{orderer}-1", f"act-{orderer}-2"
        yield Sent(FSP, _of("ActivationAcknowledged", activation_id=first))
        lowered = {"orderer_id": orderer, "revision": 2, "from_ms": START, "power_w": (20_000,) * SLOTS}
        yield Sent(orderer, _of("ActivationChanged", activation_id=first, **lowered))
        stop = {"fsp_id": FSP, "from_ms": START, "until_ms": START + market.HOUR}
        yield Sent(orderer, _of("ActivationStopped", activation_id=first, **stop))
        yield Sent("activation", _of("ActivationStopped", activation_id=second, **stop))
        yield Sent(FSP, _of("ActivationRefused", activation_id=second))
    yield from _services("ActivationTimedOut")
    yield Sent("scheduler", market.delivery_started())
    yield Sent(
        "scheduler",
        ev.DeliveryEnded(area_id=AREA, session_id=market.SESSION, at_ms=START + market.DAY),
    )


def _settled() -> Iterator[Sent]:
    reading = ev.MeterReadingReceived(
        area_id=AREA,
        reading_id="m",
        revision=1,
        connection_point_id="GCP-1",
        meter_operator_id=METER,
        start_ms=START,
        resolution_s=900,
        energy_wh=(1000,) * SLOTS,
    )
    yield Sent(METER, reading)
    yield from _services("DeliveryComputed")
    yield Sent(
        "scheduler",
        ev.SettlementDue(area_id=AREA, session_id=market.SESSION, at_ms=START + 2 * market.DAY),
    )
    for buyer in (DSO, TSO):
        for sender, verb in ((buyer, "Approved"), (buyer, "Disputed"), (FSP, "Disputed")):
            paper = {"settlement_id": f"s-{buyer}-{sender}-{verb}", "revision": 1}
            yield Sent("settlement", _of("SettlementComputed", **paper, fsp_id=FSP, buyer_id=buyer))
            who = {"buyer_id": sender} if verb == "Approved" else {"party_id": sender}
            yield Sent(sender, _of(f"Settlement{verb}", **paper, **who))
    yield from _services("SettlementCorrected")
