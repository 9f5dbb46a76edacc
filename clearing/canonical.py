"""One order for everything, and the hashes over it: a permuted case is the same case."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from clearing.case import Case
from clearing.result import Result
from flexbus.codec import to_json_values
from flexbus.events.grid import NetworkModelPublished

__all__ = ["canonical_case", "canonical_network", "case_hash", "network_text", "result_hash"]


def canonical_network(network: NetworkModelPublished) -> NetworkModelPublished:
    """Return a network with every list that has no order of its own sorted by id."""
    return replace(
        network,
        buses=tuple(sorted(network.buses, key=lambda b: b.bus_id)),
        branches=tuple(sorted(network.branches, key=lambda b: b.branch_id)),
        infeed_points=tuple(sorted(network.infeed_points, key=lambda p: p.infeed_id)),
    )


def canonical_case(case: Case, network: NetworkModelPublished | None = None) -> Case:
    """Return a case with every list that has no order of its own sorted by id.

    Args:
        case: the case.
        network: its network, sorted already.
    """
    return replace(
        case,
        network=network or canonical_network(case.network),
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


def network_text(network: NetworkModelPublished) -> str:
    """Return a canonical network as compact JSON with sorted keys."""
    return _text(to_json_values(network))


def case_hash(case: Case, text_of_network: str | None = None) -> str:
    """Return the SHA-256 of the canonical case as compact JSON with sorted keys.

    Args:
        case: the case.
        text_of_network: the text of its network if that is known; the case is canonical then.
    """
    case = canonical_case(case) if text_of_network is None else case
    stacks = {id(s): s for o in case.offers for s in o.slots}  # one that holds for many slots is written once
    texts = dict(zip(stacks, _texts([to_json_values(s) for s in stacks.values()]), strict=True))
    slots = (f'"slots":[{",".join(map(texts.__getitem__, map(id, o.slots)))}]' for o in case.offers)
    offers = _filled([replace(o, slots=()) for o in case.offers], '"slots":[]', slots)
    if text_of_network is None:
        return _digest(_around(replace(case, offers=()), offers))
    bare = replace(case.network, buses=(), branches=(), infeed_points=())
    before, *rest = _around(replace(case, offers=(), network=bare), offers)
    place = f'"network":{network_text(bare)}'
    return _digest([before.replace(place, f'"network":{text_of_network}', 1), *rest])


def result_hash(result: Result) -> str:
    """Return the SHA-256 of a result as compact JSON with sorted keys, its own hash field empty."""
    # A series that many offers have is one object, and written once.
    series = {id(s): s for o in result.offers for s in (o.quantity, o.price_milli_per_mwh)}
    texts = dict(zip(series, _texts(list(series.values())), strict=True))
    bare = [replace(o, quantity=(), price_milli_per_mwh=()) for o in result.offers]
    both = (
        f'"price_milli_per_mwh":{texts[id(o.price_milli_per_mwh)]},"quantity":{texts[id(o.quantity)]}'
        for o in result.offers
    )
    offers = _filled(bare, '"price_milli_per_mwh":[],"quantity":[]', both)
    return _digest(_around(replace(result, result_hash="", offers=()), offers))


_text = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def _texts(values: list[Any]) -> list[str]:
    """Return each of many values, in which there are no strings, as text: one call is much faster than many."""
    parted = [part for value in values for part in (value, "|")][:-1]
    return _text(parted)[1:-1].split(',"|",') if values else []


def _filled(values: Any, place: str, texts: Iterable[str]) -> Iterator[str]:
    """Yield values as text in which what stands at some places is, in turn, these texts.

    No string of JSON can hold a place: its quotes would have a backslash before them.

    Args:
        values: what `to_json_values` takes.
        place: what to look for in their text, beginning with a quote.
        texts: what to put there.
    """
    first, *parts = _text(to_json_values(values)).split(place)
    yield first
    for text, part in zip(texts, parts, strict=True):
        yield text
        yield part


def _around(values: Any, offers: Iterable[str]) -> Iterator[str]:
    """Yield values as text in which the empty list of offers is these texts, one after the other."""
    before, after = _text(to_json_values(values)).split('"offers":[]')
    yield before + '"offers":'
    yield from offers
    yield after


def _digest(parts: Iterable[str]) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(part.encode())
    return made.hexdigest()
