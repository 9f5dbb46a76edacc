"""Settlement: what a buyer owes a provider for a session, computed, corrected, approved or disputed (SUC06.3).

Rules, rates from the session's product:
- Settled is, from `SettlementDue` on, every order of the session, per buyer and provider; one line per slot in which
  something is owed. A slot that a limit stopped is not owed and makes no line.
- Paid energy = delivered, at most owed. Remuneration = paid energy x price of the slot; a negative price (the
  provider pays) makes it negative.
- Penalised energy = shortfall beyond `tolerance_ppm` of the owed energy of the slot, the tolerance rounded up to Wh.
  Penalty = penalised energy x |price| x `penalty_ppm`, rounded down to 1e-9 EUR: both roundings favour the provider.
- Money is exact to 1e-9 EUR in the lines. An invoice line sums an order's lines and rounds its remuneration and its
  penalty to cents once (half away from zero); its amount and the total are sums of cents, so they add up.
- Reactive power and power held ready are paid as awarded, without meter, tolerance or penalty: quantity x length of
  the slot x price, one line per slot (`HoldingLine`), rounded to cents once per award. A slot that a stop touches makes
  no line. The buyer is that of the session's orders; what reactive power costs is its network cost.
- A later reading, refusal, change or stop computes the settlement afresh; if a number of the lines differs, that is a
  correction with the next revision, which replaces the last one and needs approval again.
- A settlement is one record (`PAPER_BYTES`): orders and awards that the last of their session, buyer and provider has
  no room for are in a further one, with an id of its own, and stay there.
- Deliveries are published before the settlement that rests on them.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from flexbus import events as ev
from flexbus.ids import derived_id
from flexbus.quantities import PPM, amount_nano, cents, energy_wh
from flexbus.time import iso, slot_starts
from flexbus.views import delivery
from flexbus.views.activation import Standing
from flexbus.views.delivery import Delivered, Evidence
from flexbus.views.fact import Emission, Fact, emit

__all__ = [
    "READS",
    "Computed",
    "Settlement",
    "SettlementState",
    "Settlements",
    "decide",
    "fold",
    "holdings_of",
    "invoice_of",
    "invoice_of_standing",
    "line_of",
]

# Names of the events that the fold looks at.
READS = delivery.READS | {
    "DeliveryComputed",
    "SettlementApproved",
    "SettlementComputed",
    "SettlementCorrected",
    "SettlementDisputed",
    "SettlementDue",
}

Computed = ev.SettlementComputed | ev.SettlementCorrected
_Key = tuple[str, str, str, int]  # session, buyer, provider, and which of their settlements
PAPER_BYTES = 5_000_000  # of the 6 MB that a fact of the bus may have


class SettlementState(Enum):
    """What the parties said about the newest revision."""

    COMPUTED = "COMPUTED"
    APPROVED = "APPROVED"
    DISPUTED = "DISPUTED"


@dataclass(slots=True)
class Settlement:
    """A published settlement and what the parties said about it.

    Attributes:
        newest: the newest revision.
        state: state of that revision; a correction sets it back to COMPUTED.
        dispute: the open dispute, if any.
        difference_cents: total of the newest revision less that of the first.
    """

    newest: Computed
    state: SettlementState = SettlementState.COMPUTED
    dispute: ev.SettlementDisputed | None = None
    difference_cents: int = 0


@dataclass(slots=True)
class Settlements:
    """The settlements of one market area at a position of its journal.

    Attributes:
        evidence: orders, readings and baselines.
        settlements: what is published, by settlement id.
        deliveries: newest published delivery by activation id.
        due_sessions: sessions whose settlement is due.
        delivered: newest computed delivery by activation id, published or on its way.
        computed: newest computed settlements, published or on their way.
        lines: lines of the newest computed delivery by activation id.
        parties: activations by settlement, as far as they are due.
        numbers: in which settlement of its session, buyer and provider an activation or award is; it stays there.
        filled: number of the last settlement of a session, buyer and provider, and how much of it is taken, B.
        due: what the last fact makes due.
    """

    evidence: Evidence = field(default_factory=Evidence)
    settlements: dict[str, Settlement] = field(default_factory=dict)
    deliveries: dict[str, ev.DeliveryComputed] = field(default_factory=dict)
    due_sessions: set[str] = field(default_factory=set)
    delivered: dict[str, ev.DeliveryComputed] = field(default_factory=dict)
    computed: dict[_Key, Computed] = field(default_factory=dict)
    lines: dict[str, tuple[ev.SettlementLine, ...]] = field(default_factory=dict)
    parties: dict[_Key, set[str]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    filled: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    due: tuple[Emission, ...] = ()


def fold(state: Settlements, fact: Fact) -> Settlements:
    """Return the settlements after a fact; facts that settle nothing leave them as they were."""
    state.evidence = delivery.fold(state.evidence, fact)
    state.due = ()
    match fact.event:
        case ev.SettlementDue() as e:
            if e.session_id in state.evidence.activations.registry.sessions:
                state.due_sessions.add(e.session_id)
            orders = state.evidence.activations.of_session.get(e.session_id, ())
            state.due = tuple(_recompute(state, orders, e.session_id, (e.session_id,)))
        case ev.MarketCleared() as e:
            # A clearing stage that was down may tell so late. Orders are told of by themselves.
            state.due = tuple(_recompute(state, (), e.clearing_id, (e.session_id,)))
        case ev.CapacityLimitUnforeseen(stop_activations=True) as e:
            stopped = sorted(
                session_id
                for session_id, held in state.evidence.activations.standing.items()
                if session_id in state.due_sessions and any(_is_at(s, e.connection_point_id) for s in held.values())
            )
            state.due = tuple(_recompute(state, (), f"limit {e.limit_id}", stopped)) if stopped else ()
        case ev.MeterReadingReceived() as e:
            cause = f"{e.reading_id} revision {e.revision}"
            end_ms = e.start_ms + len(e.energy_wh) * e.resolution_s * 1000
            touched = delivery.pool_of(state.evidence, (e.connection_point_id,), e.start_ms, end_ms)
            state.due = tuple(_recompute(state, touched, cause))
        case (
            ev.ActivationOrdered(activation_id=activation_id)
            | ev.ActivationRefused(activation_id=activation_id)
            | ev.ActivationChanged(activation_id=activation_id)
            | ev.ActivationStopped(activation_id=activation_id)
        ):
            cause = f"{type(fact.event).__name__} {activation_id}"
            state.due = tuple(_recompute(state, _beside(state, activation_id), cause))
        case ev.DeliveryComputed() as e:
            state.deliveries[e.activation_id] = e
        case ev.SettlementComputed() as e:
            state.settlements[e.settlement_id] = Settlement(e)
        case ev.SettlementCorrected() as e:
            before = state.settlements.get(e.settlement_id)
            so_far = before.difference_cents if before else 0
            state.settlements[e.settlement_id] = Settlement(e, difference_cents=so_far + e.difference_cents)
        case ev.SettlementApproved() as e:
            settlement = state.settlements.get(e.settlement_id)
            if settlement is not None and settlement.newest.revision == e.revision:
                settlement.state, settlement.dispute = SettlementState.APPROVED, None
        case ev.SettlementDisputed() as e:
            settlement = state.settlements.get(e.settlement_id)
            if settlement is not None and settlement.newest.revision == e.revision:
                settlement.state, settlement.dispute = SettlementState.DISPUTED, e
        case _:
            pass
    return state


def decide(state: Settlements, fact: Fact) -> tuple[Emission, ...]:
    """Return deliveries first, then settlements and corrections, that the fact just folded makes due."""
    return state.due


def line_of(
    order: ev.ActivationOrdered, slot: int, ordered_wh: int, delivered_wh: int, product: ev.MarketProductDefined
) -> ev.SettlementLine:
    """Settle one slot of one order.

    Args:
        order: the order; its price of the slot counts.
        slot: index of the slot in the order.
        ordered_wh: what is owed, Wh >= 0.
        delivered_wh: what was delivered in the ordered direction, Wh >= 0.
        product: tolerance and penalty.
    """
    price = order.price_milli_per_mwh[slot]
    paid_wh = min(delivered_wh, ordered_wh)
    tolerated_wh = -(-ordered_wh * product.tolerance_ppm // PPM)
    penalised_wh = max(0, ordered_wh - paid_wh - tolerated_wh)
    return ev.SettlementLine(
        activation_id=order.activation_id,
        award_id=order.award_id,
        connection_point_id=order.connection_point_id,
        start_ms=order.start_ms + slot * order.resolution_s * 1000,
        ordered_wh=ordered_wh,
        delivered_wh=delivered_wh,
        paid_wh=paid_wh,
        penalised_wh=penalised_wh,
        price_milli_per_mwh=price,
        remuneration_nano=amount_nano(paid_wh, price),
        penalty_nano=amount_nano(penalised_wh, abs(price)) * product.penalty_ppm // PPM,
    )


def invoice_of(order: ev.ActivationOrdered, lines: Iterable[ev.SettlementLine]) -> ev.InvoiceLine:
    """Sum the lines of one order and round them to cents, once."""
    rows = tuple(lines)
    remuneration = cents(sum(row.remuneration_nano for row in rows))
    penalty = cents(sum(row.penalty_nano for row in rows))
    paid, owed = sum(row.paid_wh for row in rows), sum(row.ordered_wh for row in rows)
    place = order.connection_point_id or order.portfolio_id or order.offer_id
    text = f"{order.direction.value} at {place} from {iso(order.start_ms)}: {paid} of {owed} Wh delivered"
    return ev.InvoiceLine(
        activation_id=order.activation_id,
        text=text,
        remuneration_cents=remuneration,
        penalty_cents=penalty,
        amount_cents=remuneration - penalty,
    )


def holdings_of(standing: Standing) -> Iterator[ev.HoldingLine]:
    """Yield the lines of an award that needs no order, one per slot in which something is owed."""
    award = standing.award
    var = award.reactive_power_var
    power_w = award.power_w if isinstance(award, ev.Reservation) else ()
    reactive = isinstance(award, ev.ReactiveAward)
    prices = award.price_milli_per_mvarh if isinstance(award, ev.ReactiveAward) else award.price_milli_per_mwh
    quantities = var if reactive or var else power_w
    starts = slot_starts(award.start_ms, award.resolution_s, len(quantities))
    for start_ms, quantity, price, stopped in zip(starts, quantities, prices, standing.stopped, strict=False):
        if quantity > 0 and not stopped:
            yield ev.HoldingLine(
                award_id=award.award_id,
                connection_point_id=award.connection_point_id,
                start_ms=start_ms,
                power_w=0 if var else quantity,
                reactive_power_var=quantity if var else 0,
                price_milli_per_mwh=price,
                remuneration_nano=amount_nano(energy_wh(quantity, award.resolution_s), price),
            )


def invoice_of_standing(standing: Standing) -> ev.InvoiceLine:
    """Sum the lines of an award that needs no order and round them to cents, once."""
    rows = tuple(holdings_of(standing))
    award = standing.award
    amount = cents(sum(row.remuneration_nano for row in rows))
    place = award.connection_point_id or award.portfolio_id or award.offer_id
    what = "reactive power" if award.reactive_power_var else "power held ready"
    return ev.InvoiceLine(
        activation_id=award.award_id,
        text=f"{what} {award.direction.value} at {place} from {iso(award.start_ms)}: {len(rows)} slots as awarded",
        remuneration_cents=amount,
        penalty_cents=0,
        amount_cents=amount,
    )


def _standing(state: Settlements, key: _Key) -> list[Standing]:
    """Return what a provider holds or delivers without an order in a session that is due."""
    session_id = key[0]
    if session_id not in state.due_sessions:
        return []
    held = state.evidence.activations.standing.get(session_id, {}).values()
    mine = (s for s in held if _key_of_standing(state, s) == key)
    return sorted(mine, key=lambda s: (s.award.start_ms, s.award.award_id))


def _key_of_order(state: Settlements, order: ev.ActivationOrdered) -> _Key:
    whose = (order.session_id, order.orderer_id, order.fsp_id)
    names = (order.activation_id, order.award_id, order.connection_point_id or order.portfolio_id)
    return _key(state, whose, order.activation_id, names, len(order.power_w))


def _key_of_standing(state: Settlements, standing: Standing) -> _Key:
    award = standing.award
    whose = (standing.session_id, standing.buyer_id, award.fsp_id)
    names = (award.award_id, award.connection_point_id or award.portfolio_id or award.offer_id)
    return _key(state, whose, award.award_id, names, len(standing.stopped))


def _key(state: Settlements, whose: tuple[str, str, str], name: str, names: tuple[str | None, ...], slots: int) -> _Key:
    """Return the settlement that an order or award is in, the last that has room for it if it is in none yet.

    What it may take there does not depend on what is delivered: each slot has a line and all have one invoice line,
    with names, at most eight numbers of 64 bits, and in the invoice less than 170 bytes of words.
    """
    if name not in state.numbers:
        room = (slots + 1) * (sum(len((n or "").encode()) + 3 for n in names) + 80) + 170
        number, taken = state.filled.get(whose, (0, 0))
        if taken + room > PAPER_BYTES:
            number, taken = number + 1, 0
        state.filled[whose] = number, taken + room
        state.numbers[name] = number
    return (*whose, state.numbers[name])


def _beside(state: Settlements, activation_id: str) -> frozenset[str]:
    """Return an order, and all whose delivery may change with what becomes of it."""
    changed = state.evidence.activations.activations.get(activation_id)
    if changed is None:
        return frozenset()
    return delivery.pool_of(state.evidence, changed.points, changed.order.start_ms, changed.over_ms) | {activation_id}


def _is_at(standing: Standing, connection_point_id: str) -> bool:
    return standing.award.connection_point_id == connection_point_id


def _recompute(
    state: Settlements, activation_ids: Collection[str], cause: str, sessions: Iterable[str] = ()
) -> Iterator[Emission]:
    """Yield what changes for orders whose session is due, and for what is held in the sessions given."""
    known = state.evidence.activations.activations
    touched = {
        _key_of_standing(state, s)
        for session_id in sessions
        if session_id in state.due_sessions
        for s in state.evidence.activations.standing.get(session_id, {}).values()
    }
    if not touched and not any(known[a].order.session_id in state.due_sessions for a in activation_ids):
        return
    for activation_id, numbers in delivery.deliveries(state.evidence, activation_ids).items():
        order = known[activation_id].order
        if order.session_id not in state.due_sessions:
            continue
        computed = _delivery(order, numbers, state.delivered.get(activation_id))
        if computed is not None:
            state.delivered[activation_id] = computed
            state.lines[activation_id] = _lines(state, order, numbers)
            key = _key_of_order(state, order)
            state.parties.setdefault(key, set()).add(activation_id)
            touched.add(key)
            yield emit(computed, activation_id, computed.revision)
    for key in sorted(touched):
        settlement = _settlement(state, key, cause)
        if settlement is not None:
            state.computed[key] = settlement
            yield emit(settlement, settlement.settlement_id, settlement.revision)


def _delivery(
    order: ev.ActivationOrdered, numbers: Delivered, before: ev.DeliveryComputed | None
) -> ev.DeliveryComputed | None:
    """Return the next revision of a delivery, or None if no number differs."""
    computed = ev.DeliveryComputed(
        area_id=order.area_id,
        session_id=order.session_id,
        delivery_id=derived_id("Delivery", order.area_id, order.activation_id),
        revision=before.revision if before else 1,
        activation_id=order.activation_id,
        award_id=order.award_id,
        fsp_id=order.fsp_id,
        connection_point_id=order.connection_point_id,
        start_ms=order.start_ms,
        resolution_s=order.resolution_s,
        baseline_wh=tuple(numbers.baseline_wh),
        metered_wh=tuple(numbers.metered_wh),
        ordered_wh=tuple(numbers.ordered_wh),
        delivered_wh=tuple(numbers.delivered_wh),
        shortfall_wh=tuple(numbers.shortfall_wh),
    )
    if computed == before:
        return None
    return replace(computed, revision=before.revision + 1) if before else computed


def _lines(state: Settlements, order: ev.ActivationOrdered, numbers: Delivered) -> tuple[ev.SettlementLine, ...]:
    session = state.evidence.activations.registry.sessions[order.session_id]
    return tuple(
        line_of(order, slot, owed, delivered, session.product)
        for slot, (owed, delivered) in enumerate(zip(numbers.ordered_wh, numbers.delivered_wh, strict=True))
        if owed
    )


def _settlement(state: Settlements, key: _Key, cause: str) -> Computed | None:
    """Return a settlement, computed afresh, or None if its lines stand."""
    session_id, buyer_id, fsp_id, number = key
    known = state.evidence.activations.activations
    orders = sorted((known[a].order for a in state.parties.get(key, ())), key=lambda o: (o.start_ms, o.activation_id))
    standing = _standing(state, key)
    holdings = tuple(line for s in standing for line in holdings_of(s))
    lines = tuple(line for order in orders for line in state.lines[order.activation_id])
    before = state.computed.get(key)
    if before is not None and (before.lines, before.holdings) == (lines, holdings):
        return None
    if before is None and not orders and not holdings:
        return None
    invoice = (
        *(invoice_of(o, state.lines[o.activation_id]) for o in orders if state.lines[o.activation_id]),
        *(invoice_of_standing(s) for s in standing if any(holdings_of(s))),
    )
    area_id = orders[0].area_id if orders else standing[0].area_id
    computed = ev.SettlementComputed(
        area_id=area_id,
        session_id=session_id,
        settlement_id=derived_id("Settlement", area_id, session_id, buyer_id, fsp_id, *((number,) if number else ())),
        revision=1,
        fsp_id=fsp_id,
        buyer_id=buyer_id,
        lines=lines,
        invoice=invoice,
        total_cents=sum(line.amount_cents for line in invoice),
        holdings=holdings,
    )
    if before is None:
        return computed
    return ev.SettlementCorrected(
        area_id=area_id,
        session_id=session_id,
        settlement_id=computed.settlement_id,
        revision=before.revision + 1,
        fsp_id=fsp_id,
        buyer_id=buyer_id,
        lines=lines,
        invoice=invoice,
        total_cents=computed.total_cents,
        difference_cents=computed.total_cents - before.total_cents,
        causes=(cause,),
        holdings=holdings,
    )
