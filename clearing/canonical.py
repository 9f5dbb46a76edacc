"""One order for everything, and the hashes over it: a permuted case is the same case."""

import hashlib
import json
from dataclasses import replace
from typing import Any

from clearing.case import Case, Offer, OfferSlot
from clearing.result import Result
from flexbus.codec import to_json_values

__all__ = ["canonical_case", "case_hash", "result_hash"]


def canonical_case(case: Case) -> Case:
    """Return a case with every list that has no order of its own sorted by id."""
    net = case.network
    return replace(
        case,
        network=replace(
            net,
            buses=tuple(sorted(net.buses, key=lambda b: b.bus_id)),
            branches=tuple(sorted(net.branches, key=lambda b: b.branch_id)),
            infeed_points=tuple(sorted(net.infeed_points, key=lambda p: p.infeed_id)),
        ),
        baseline=tuple(sorted(case.baseline, key=lambda b: b.bus_id)),
        infeed_prices=tuple(sorted(case.infeed_prices, key=lambda p: p.infeed_id)),
        offers=tuple(
            replace(o, shares=tuple(sorted(o.shares, key=lambda s: s.bus_id))) if o.shares else o
            for o in sorted(case.offers, key=lambda o: o.offer_id)
        ),
        requests=tuple(sorted(case.requests, key=lambda r: r.request_id)),
        limit_prices=tuple(sorted(case.limit_prices, key=lambda p: (p.kind.value, p.element_id or ""))),
        units=tuple(sorted(case.units, key=lambda u: u.unit_id)),
        fixed_awards=tuple(sorted(case.fixed_awards, key=lambda a: a.award_id)),
        scenarios=tuple(
            replace(s, injections=tuple(sorted(s.injections, key=lambda b: b.bus_id)))
            for s in sorted(case.scenarios, key=lambda s: s.scenario_id)
        ),
    )


def case_hash(case: Case) -> str:
    """Return the SHA-256 of the canonical case as compact JSON with sorted keys."""
    case = canonical_case(case)
    known: dict[int, str] = {}  # a stack that holds for many slots is one object, and written once

    def slot_text(slot: OfferSlot) -> str:
        text = known[id(slot)] = _text(to_json_values(slot))
        return text

    def offer_text(offer: Offer) -> str:
        slots = ",".join([known.get(id(s)) or slot_text(s) for s in offer.slots])
        return _text_with(to_json_values(replace(offer, slots=())), "slots", f"[{slots}]")

    offers = f"[{','.join([offer_text(o) for o in case.offers])}]"
    return _digest(_text_with(to_json_values(replace(case, offers=())), "offers", offers))


def result_hash(result: Result) -> str:
    """Return the SHA-256 of a result as compact JSON with sorted keys, its own hash field empty."""
    return _digest(_text(to_json_values(replace(result, result_hash=""))))


_text = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def _text_with(values: dict[str, Any], name: str, text: str) -> str:
    """Return an object as text in which the value of one name is a text already."""
    parts = [_text({k: v for k, v in values.items() if k < name})[1:-1], f"{_text(name)}:{text}"]
    parts.append(_text({k: v for k, v in values.items() if k > name})[1:-1])
    return f"{{{','.join(filter(None, parts))}}}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
