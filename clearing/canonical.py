"""One order for everything, and the hashes over it: a permuted case is the same case."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

from clearing.case import Case, Offer
from clearing.result import Result
from clearing.stacks import stacks_of
from flexbus.codec import to_json_values
from flexbus.events.grid import NetworkModelPublished
from flexbus.reader import changer

__all__ = ["canonical_case", "canonical_network", "case_hash", "network_text", "offers_text", "result_hash"]


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
        offers=tuple(_with_sorted_shares(o) for o in sorted(case.offers, key=lambda o: o.offer_id)),
        requests=tuple(sorted(case.requests, key=lambda r: r.request_id)),
        limit_prices=tuple(sorted(case.limit_prices, key=lambda p: (p.kind.value, p.element_id or ""))),
        units=tuple(sorted(case.units, key=lambda u: u.unit_id)),
        fixed_awards=tuple(sorted(case.fixed_awards, key=lambda a: a.award_id)),
        scenarios=tuple(
            replace(s, injections=tuple(sorted(s.injections, key=lambda b: b.bus_id)))
            for s in sorted(case.scenarios, key=lambda s: s.scenario_id)
        ),
    )


def _with_sorted_shares(offer: Offer) -> Offer:
    """Return an offer with its shares sorted by bus; the same one if they are."""
    if not offer.shares:
        return offer
    shares = tuple(sorted(offer.shares, key=lambda s: s.bus_id))
    return offer if shares == offer.shares else replace(offer, shares=shares)


def network_text(network: NetworkModelPublished) -> str:
    """Return a canonical network as compact JSON with sorted keys."""
    return _text(to_json_values(network))


def offers_text(offers: tuple[Offer, ...]) -> Iterator[str]:
    """Yield canonical offers as compact JSON with sorted keys, piece by piece."""
    stacks = stacks_of(offers)
    texts = [f"{text}," for text in _texts([to_json_values(s) for s in stacks.distinct])]
    slots = [""] * len(offers)
    for offer, stack, times in zip(*stacks.runs(), strict=True):
        slots[offer] += texts[stack] * times
    bare = changer(Offer, ("slots",))
    yield from _filled(
        to_json_values([bare(o, ()) for o in offers]), '"slots":[]', (f'"slots":[{text[:-1]}]' for text in slots)
    )


def case_hash(case: Case, text_of_network: str | None = None, text_of_offers: str | None = None) -> str:
    """Return the SHA-256 of the canonical case as compact JSON with sorted keys.

    Args:
        case: the case.
        text_of_network: the text of its network if that is known; the case is canonical then.
        text_of_offers: likewise of its offers.
    """
    case = canonical_case(case) if text_of_network is None else case
    lists: dict[str, Iterable[str]] = {
        "baseline": [_flat(case.baseline)],
        "offers": offers_text(case.offers) if text_of_offers is None else [text_of_offers],
    }
    if text_of_network is None:
        return _digest(_around(replace(case, baseline=(), offers=()), lists))
    bare = replace(case.network, buses=(), branches=(), infeed_points=())
    place = f'"network":{network_text(bare)}'
    parts = _around(replace(case, baseline=(), offers=(), network=bare), lists)
    return _digest(part.replace(place, f'"network":{text_of_network}', 1) for part in parts)


def result_hash(result: Result) -> str:
    """Return the SHA-256 of a result as compact JSON with sorted keys, its own hash field empty."""
    # A series that many offers have is one object, and written once.
    series = {id(s): s for o in result.offers for s in (o.quantity, o.price_milli_per_mwh)}
    texts = dict(zip(series, _texts(list(series.values())), strict=True))
    bare = [{**part, "quantity": (), "price_milli_per_mwh": ()} for part in _records(result.offers)]
    both = (
        f'"price_milli_per_mwh":{texts[id(o.price_milli_per_mwh)]},"quantity":{texts[id(o.quantity)]}'
        for o in result.offers
    )
    lists: dict[str, Iterable[str]] = {
        "branches": [_flat(result.branches)],
        "buses": [_flat(result.buses)],
        "infeed_points": [_flat(result.infeed_points)],
        "offers": _filled(bare, '"price_milli_per_mwh":[],"quantity":[]', both),
    }
    empty = replace(result, result_hash="", offers=(), buses=(), branches=(), infeed_points=())
    return _digest(_around(empty, lists))


_text = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def _texts(values: list[Any]) -> list[str]:
    """Return each of many values, in which there are no strings, as text: one call is much faster than many."""
    parted = [part for value in values for part in (value, "|")][:-1]
    return _text(parted)[1:-1].split(',"|",') if values else []


def _records(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Return dataclasses that hold texts, numbers and series of numbers alone, as what they look like in JSON."""
    if not items:
        return []
    names = tuple(f.name for f in fields(items[0]))
    return [dict(zip(names, values, strict=True)) for values in map(attrgetter(*names), items)]


def _flat(items: Sequence[Any]) -> str:
    return _text(_records(items))


def _filled(values: Any, place: str, texts: Iterable[str]) -> Iterator[str]:
    """Yield values as text in which what stands at some places is, in turn, these texts.

    No string of JSON can hold a place: its quotes would have a backslash before them.

    Args:
        values: JSON values.
        place: what to look for in their text, beginning with a quote.
        texts: what to put there.
    """
    first, *parts = _text(values).split(place)
    yield first
    for text, part in zip(texts, parts, strict=True):
        yield text
        yield part


def _around(values: Any, lists: dict[str, Iterable[str]]) -> Iterator[str]:
    """Yield values as text in which empty lists are these texts.

    Args:
        values: a dataclass.
        lists: by name, in the order of the names, what stands in the place of an empty list.
    """
    left = _text(to_json_values(values))
    for name, texts in lists.items():
        before, left = left.split(f'"{name}":[]')
        yield f'{before}"{name}":'
        yield from texts
    yield left


def _digest(parts: Iterable[str]) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(part.encode())
    return made.hexdigest()
