"""Are the reasons those of the case, the awards and the published prices?

Which slots, how much energy and in which words is exact. Numbers follow from published prices, which are rounded:
they may be off by that. Of two reasons that are both true the one that was told is not disputed.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clearing.case import Case, Location, Offer, Quantity
from clearing.certificate.evidence import PPM, Evidence, Finding, places
from clearing.certificate.money import delivered, nodal_worth, wh, worth_of
from clearing.certificate.physics import excesses
from clearing.certificate.prices import RELATIVE, TOLERANCE, VOLTAGE, price_parts, pulls
from clearing.result import NonAward, Result, UnmetReason
from clearing.wording import reason_text, set_aside_text, short_slot, unmet_text
from flexbus.events.clearing import LimitKind, NonAwardReason

__all__ = ["check_coverage", "check_reasons", "check_unmet"]

Real = NDArray[np.float64]
Span = tuple[float, float]
# 1/1000 EUR per MWh: rounded nodal prices, and numbers rounded up.
NOISE = 3.0
UNTOLD: Span = (np.inf, -np.inf)  # no number at all
TIED = (NonAwardReason.EXCLUSIVE_SIBLING, NonAwardReason.PARENT_NOT_TAKEN, NonAwardReason.PARADOXICAL_BLOCK)
LIMITS = (NonAwardReason.VOLTAGE_LIMIT, NonAwardReason.BRANCH_LIMIT)
IN_SLOTS = (*LIMITS, NonAwardReason.MINIMUM_QUANTITY, NonAwardReason.ENERGY_BUDGET)


def check_coverage(case: Case, result: Result) -> Iterator[Finding]:
    """Yield a finding where what was not taken has no reason, or two, or its energy, order or words are others.

    Args:
        case: the case, unfolded.
        result: its result.
    """
    offers = {o.offer_id: o for o in case.offers}
    taken = {o.offer_id: o.quantity for o in result.offers}
    order = [(n.offer_id, n.reason.value, n.element_id or "") for n in result.non_awards]
    if order != sorted(set(order)):
        yield Finding("$.non_awards", "are not in order: one entry per offer, reason and element, sorted by these")
    told: dict[str, list[int]] = {}
    length = case.slots // max(len(case.scenarios), 1)
    for j, row in enumerate(result.non_awards):
        path, offer = f"$.non_awards[{j}]", offers[row.offer_id]
        missing = _missing(case, offer, taken[row.offer_id], length)
        told.setdefault(row.offer_id, []).extend(row.slots)
        if row.slots != tuple(sorted(set(row.slots) & missing.keys())):
            yield Finding(f"{path}.slots", "are not slots, in order, in which less was taken than offered")
            continue
        energy = sum(wh(missing[t], case.resolution_s) for t in row.slots)
        if row.rejected_energy_wh != energy:
            yield Finding(f"{path}.rejected_energy_wh", f"published {row.rejected_energy_wh}, not taken is {energy}")
        words = reason_text(offer, row.reason, row.element_id, row.amount, row.price_distance_milli_per_mwh)
        aside = row.reason is NonAwardReason.OTHER_CONSTRAINT and row.text == set_aside_text(offer)
        if row.text != words and not (aside and not any(taken[row.offer_id])):
            yield Finding(f"{path}.text", f"says other than code and numbers, which say: {words}")
    for offer_id, offer in offers.items():
        slots = told.get(offer_id, [])
        if sorted(slots) != sorted(_missing(case, offer, taken[offer_id], length)):
            yield Finding("$.non_awards", f"{offer_id}: not every slot in which less was taken has exactly one reason")


def _missing(case: Case, offer: Offer, taken: tuple[int, ...], length: int) -> dict[int, int]:
    """Return what was not taken per slot, W or var; of a rigid profile all at its first possible start."""
    if offer.start_choice is None:
        offered = (sum(s.quantity for s in e.steps) for e in offer.slots)
        return {t: a - b for t, (a, b) in enumerate(zip(offered, taken, strict=True)) if a > b}
    first = offer.start_choice.earliest_slot
    days = range(0, case.slots, length)
    return {d + first: sum(offer.start_choice.profile) for d in days if not any(taken[d : d + length])}


def check_reasons(e: Evidence) -> Iterator[Finding]:
    """Yield a finding for every element and number of a reason that case, awards and prices do not give."""
    if any(any(o.reservation_price_milli_per_mwh) for o in e.case.offers):
        return
    yield from _Reasons(e).all()


class _Reasons:
    def __init__(self, e: Evidence) -> None:
        self.e, self.value = e, nodal_worth(e)
        self.number = {o.offer_id: k for k, o in enumerate(e.case.offers)}
        self.awarded = {o.offer_id for o, a in zip(e.case.offers, e.taken, strict=True) if a.any()}
        self.bus = {b.bus_id: k for k, b in enumerate(e.case.network.buses)}
        self.zone = {b.bus_id: b.zone_id for b in e.case.network.buses}
        self.pulled: dict[int, list[tuple[str, bool, float, Real, Real]]] = {}

    def all(self) -> Iterator[Finding]:
        for j, row in enumerate(self.e.result.non_awards):
            k = self.number[row.offer_id]
            offer = self.e.case.offers[k]
            if row.text == set_aside_text(offer):
                continue
            path = f"$.non_awards[{j}]"
            if not row.slots or (offer.start_choice is None and not all(offer.slots[t].steps for t in row.slots)):
                continue  # told already: not slots in which anything was offered
            if (offer.all_or_nothing or offer.start_choice is not None) and row.reason in IN_SLOTS:
                yield Finding(f"{path}.reason", f"{row.reason.value} is no reason of what is taken whole or not at all")
                continue
            fault = self._element(offer, row)
            if fault:
                yield Finding(f"{path}.element_id", fault)
                continue
            amount, distance, may_lack = self._numbers(offer, k, row)
            if not amount[0] <= row.amount <= amount[1]:
                yield Finding(f"{path}.amount", f"published {row.amount}, follows {_words(amount)}")
            said = row.price_distance_milli_per_mwh
            if said is None and not may_lack:
                yield Finding(f"{path}.price_distance_milli_per_mwh", f"is not told; follows {_words(distance)}")
            if said is not None and not distance[0] <= said <= distance[1]:
                yield Finding(f"{path}.price_distance_milli_per_mwh", f"published {said}, follows {_words(distance)}")

    def _element(self, offer: Offer, row: NonAward) -> str:
        dead = [b for b, _ in places(offer) if not self.e.grid.energised[self.bus[b]]]
        group = {o.offer_id for o in self.e.case.offers if o.exclusive_group_id == offer.exclusive_group_id}
        siblings = (group & self.awarded) - {offer.offer_id} if offer.exclusive_group_id is not None else set()
        possible: dict[NonAwardReason, set[str | None]] = {
            NonAwardReason.PRICE: {offer.bus_id},
            NonAwardReason.EXCLUSIVE_SIBLING: set(siblings),
            NonAwardReason.PARENT_NOT_TAKEN: {offer.parent_offer_id} - self.awarded - {None},
            NonAwardReason.OTHER_CONSTRAINT: {None, offer.unit_id, *dead},
        }
        if row.reason in LIMITS:
            volt = row.reason is NonAwardReason.VOLTAGE_LIMIT
            for t in row.slots:
                found = {b.element_id for b in self.e.result.slots[t].binding if (b.kind in VOLTAGE) == volt}
                if row.element_id not in found:
                    return f"{row.element_id} does not bind in slot {t}"
            return ""
        if row.element_id not in possible.get(row.reason, {None}):
            return f"{row.element_id} cannot be what stands in the way ({row.reason.value})"
        return ""

    def _numbers(self, offer: Offer, k: int, row: NonAward) -> tuple[Span, Span, bool]:
        """Return what amount and distance may be, and whether no distance is told."""
        noise = NOISE * (1 + abs(offer.tan_phi_ppm) / PPM + (2 if offer.payback is not None else 0))
        whole = offer.all_or_nothing or offer.start_choice is not None
        surplus, size = self._surplus(offer, k), self._size(offer)
        slack = noise * size * self.e.hours + 2
        lacks = ((-surplus - slack) / (size * self.e.hours), (-surplus + slack) / (size * self.e.hours) + 1)
        lacks = (max(lacks[0], 0.0), max(lacks[1], 1.0))
        gaps, may_lack = (lacks, surplus > -slack) if whole else self._gaps(offer, k, row, noise)
        if whole and surplus > slack:
            gaps = UNTOLD
        match row.reason:
            case NonAwardReason.PRICE | NonAwardReason.NO_DEMAND:
                if not whole:
                    own = self._own_price(offer, k, row, noise)
                    gaps = (min(gaps[0], own[0]), max(gaps[1], own[1]))
                said = float(row.price_distance_milli_per_mwh or 0)
                return (said, said), gaps, False
            case NonAwardReason.VOLTAGE_LIMIT | NonAwardReason.BRANCH_LIMIT:
                worth, own = self._limit(offer, k, row, noise)
                return worth, (min(gaps[0], own[0]), max(gaps[1], own[1])), False
            case NonAwardReason.MINIMUM_QUANTITY:
                least = max((offer.slots[t].min_quantity for t in row.slots), default=0)
                energy = offer.min_energy_wh
                amount = float(energy) if energy is not None and row.amount == energy else float(least)
                return (amount, amount), UNTOLD, True
            case NonAwardReason.ENERGY_BUDGET:
                most = float(offer.max_energy_wh or 0)
                step = max(self.e.case.settings.quantity_step_w, self.e.case.resolution_s // 100, 2) + 1
                used = float(self.e.taken[k].sum()) * self.e.hours
                spent = offer.max_energy_wh is not None and used >= most - step
                return ((most, most) if spent else (-1.0, -1.0)), gaps, may_lack
            case NonAwardReason.CLIPPED:
                cut = max((self._cut(offer, t) for t in (range(self.e.case.slots) if whole else row.slots)), default=0)
                return (float(cut), float(cut)), gaps, may_lack
            case reason if reason in TIED:
                from_slot = not whole and row.reason is NonAwardReason.EXCLUSIVE_SIBLING
                if surplus < -slack and not from_slot:
                    return UNTOLD, UNTOLD, True
                low, high = surplus - slack, surplus + slack
                return (min(low, 0.0) if from_slot else low, max(high, 0.0)), UNTOLD, True
            case _:
                return (0.0, 0.0), gaps, True

    def _bid(self, offer: Offer, t: int, got: int) -> int:
        filled = 0
        for step in offer.slots[t].steps:
            filled += step.quantity
            if got < filled:
                return step.price_milli_per_mwh
        return offer.slots[t].steps[-1].price_milli_per_mwh

    def _gaps(self, offer: Offer, k: int, row: NonAward, noise: float) -> tuple[Span, bool]:
        """Return by how much the next units were too dear at most, and whether it may be that they were not."""
        lacks = [self._bid(offer, t, int(self.e.taken[k, t])) - float(self.value[k, t]) for t in row.slots]
        most = max(lacks)
        if most < -noise:
            return UNTOLD, True
        return (max(most - noise, 0.0), max(most + noise + 1, 1.0)), most <= noise

    def _own_price(self, offer: Offer, k: int, row: NonAward, noise: float) -> Span:
        """Return how far a bid is from what it would be worth without need, in the slots where it sets the price."""
        far = []
        for t in row.slots:
            bid = self._bid(offer, t, int(self.e.taken[k, t]))
            if self.value[k, t] >= bid - noise - 10:
                far.append(max(bid - self._bare(offer, k, t), 0.0))
        if not far:
            return UNTOLD
        return 0.0 if row.reason is NonAwardReason.PRICE else max(far) - 10 * noise, max(far) + 10 * noise

    def _limit(self, offer: Offer, k: int, row: NonAward, noise: float) -> tuple[Span, Span]:
        """Return what one more unit costs at the limit that is named, and the distance where it sets the price."""
        costs, far = [], []
        for t in row.slots:
            at, full = self._against(offer, t, str(row.element_id), row.reason is NonAwardReason.VOLTAGE_LIMIT)
            costs.append(at)
            bid = self._bid(offer, t, int(self.e.taken[k, t]))
            if self.value[k, t] >= bid - noise - 10:
                far.append(bid - min(self._bare(offer, k, t), float(self.value[k, t])) + full)
        most = max(costs)
        off = 1e3 * TOLERANCE + 10 * RELATIVE * abs(most) + noise
        wide = max(far, default=0.0)
        own = (wide * 0.99 - 10 * noise, wide * 1.01 + 10 * noise) if far else UNTOLD
        return (max(most - off, 0.0), most + off), own

    def _against(self, offer: Offer, t: int, element: str, voltage: bool) -> tuple[float, float]:
        """Return what a unit costs at a limit, now and if it were broken, 1/1000 EUR per MWh."""
        if t not in self.pulled:
            prices = {(kind, name): price for kind, name, _, price in self.limits}
            self.pulled[t] = [
                (
                    b.element_id,
                    b.kind in VOLTAGE,
                    prices.get((b.kind, b.element_id), 0.0) * 1e3 / (b.price_milli or 1),
                    p,
                    q,
                )
                for b, p, q in pulls(self.e, t)
            ]
        best = (0.0, 0.0)
        for name, is_voltage, times, p, q in self.pulled[t]:
            if name == element and is_voltage == voltage:
                pull = p if offer.quantity is Quantity.ACTIVE else q
                cost = -1e3 * offer.direction.sign * sum(float(pull[self.bus[b]]) * w for b, w in places(offer))
                best = max(best, (cost, cost * times))
        return best

    @cached_property
    def limits(self) -> list[tuple[LimitKind, str, Real, float]]:
        return list(excesses(self.e, self.e.after))

    def _cut(self, offer: Offer, t: int) -> int:
        if offer.start_choice is not None:
            return 0
        entry = offer.slots[t]
        total = sum(s.quantity for s in entry.steps)
        return 0 if entry.max_quantity is None else total - min(total, entry.max_quantity)

    def _size(self, offer: Offer) -> int:
        if offer.start_choice is not None:
            return sum(offer.start_choice.profile)
        return max(sum(s.quantity for entry in offer.slots for s in entry.steps), 1)

    def _surplus(self, offer: Offer, k: int) -> float:
        """Return what an offer would earn if it were taken whole at the prices, 1e-9 EUR."""
        choice, value = offer.start_choice, self.value[k]
        if choice is not None:
            starts = range(choice.earliest_slot, choice.latest_slot + 1)
            gains = [
                sum((value[s + i] - choice.price_milli_per_mwh) * q for i, q in enumerate(choice.profile))
                for s in starts
            ]
            return float(max(gains)) * self.e.hours
        total = 0.0
        for t, entry in enumerate(offer.slots):
            each = [(value[t] - s.price_milli_per_mwh) * s.quantity for s in entry.steps]
            total += sum(each) if offer.all_or_nothing else sum(max(g, 0.0) for g in each)
        return total * self.e.hours

    @cached_property
    def bare(self) -> Real:
        """What every offer is worth in every slot for energy and its losses alone, 1/1000 EUR per MWh."""
        parts = price_parts(self.e)
        return worth_of(self.e, (parts["p", "energy"] + parts["p", "losses"]) * 1e3, parts["q", "losses"] * 1e3)

    def _bare(self, offer: Offer, k: int, t: int) -> float:
        """Return what one more unit is worth if nobody needs it and whoever asked for the opposite pays."""
        back, against = offer.payback, 0.0
        acts = [(1.0, t, offer.direction.sign)]
        if back is not None:
            first = t + 1 + back.delay_slots
            share = back.factor_ppm / PPM / back.window_slots
            last = min(first + back.window_slots, self.e.case.slots)
            acts += [(share, s, -offer.direction.sign) for s in range(first, last)]
        tan = offer.tan_phi_ppm / PPM
        for share, s, sign in acts:
            against += share * self._opposed(offer, s, sign, offer.quantity)
            if tan:
                against += share * abs(tan) * self._opposed(offer, s, sign if tan > 0 else -sign, Quantity.REACTIVE)
        return float(self.bare[k, t]) - against

    def _opposed(self, offer: Offer, t: int, sign: int, quantity: Quantity) -> float:
        here, most = {b for b, _ in places(offer)}, dict[tuple[object, ...], int]()
        zones = {self.zone[b] for b in here}
        for request in self.e.case.requests:
            steps, where = request.slots[t].steps, request.location_kind
            if not steps or request.quantity is not quantity or request.direction.sign == sign:
                continue
            if where is Location.BUS and request.location_id not in here:
                continue
            if where is Location.ZONE and request.location_id not in zones:
                continue
            pool = (request.kind, where, request.location_id)
            most[pool] = max(most.get(pool, 0), steps[0].price_milli_per_mwh)
        return float(sum(most.values()))


def check_unmet(e: Evidence) -> Iterator[Finding]:
    """Yield a finding where a request's reason does not fit what it got, or says other than its code and number."""
    asked = {r.request_id: r for r in e.case.requests}
    pools: dict[tuple[object, ...], int] = {}
    for j, got in enumerate(e.result.requests):
        request, path = asked[got.request_id], f"$.requests[{j}]"
        pool = (request.kind, request.location_kind, request.location_id, request.quantity, request.direction)
        for t, price in enumerate(got.price_milli_per_mwh):
            first = pools.setdefault((*pool, t), price) if request.slots[t].steps else 0
            if price != first:
                yield Finding(f"{path}.price_milli_per_mwh[{t}]", f"published {price}, delivery there is worth {first}")
        if got.matched == got.requested or got.unmet_reason is None:
            told = (got.unmet_reason, got.price_distance_milli_per_mwh, got.reason)
            if got.matched != got.requested or told != (None, None, ""):
                yield Finding(
                    f"{path}.unmet_reason", "must be told, with words, where less is met than asked, else not"
                )
            continue
        distance = got.price_distance_milli_per_mwh
        if (distance is None) == (got.unmet_reason in (UnmetReason.PRICE, UnmetReason.MINIMUM_QUANTITY)):
            message = f"{distance} does not belong to {got.unmet_reason.value}"
            yield Finding(f"{path}.price_distance_milli_per_mwh", message)
        t = short_slot(got.requested, got.matched)
        short = [s for s, (a, b) in enumerate(zip(got.requested, got.matched, strict=True)) if b < a]
        against = round(-float(delivered(e, request)[t])) if e.before.converged[t] and e.after.converged[t] else 0
        numbers = {0, 1, against - 1, against, against + 1, sum(not e.before.converged[s] for s in short)}
        texts = {
            unmet_text(request, got.requested, got.matched, got.unmet_reason, distance, n) for n in numbers if n >= 0
        }
        if got.reason not in texts:
            yield Finding(f"{path}.reason", f"says other than code and numbers, which say: {min(texts)}")


def _words(span: Span) -> str:
    return f"{span[0]:.0f} to {span[1]:.0f}" if span[0] <= span[1] else "none"
