"""Storages and slices that must have something taken, and cannot: they are set aside, and the others are cleared.

Nothing taken keeps every rule of a market but those of a storage that its baseline or losses lead out of its bounds,
and of slices that do not contain zero. For these a dispatch that keeps the rules is looked for first, by a program of
the market's own rows in which only theirs may be broken. Those that it breaks are set aside: nothing of their offers
takes part. The same holds for those that could have it only at a loss, or against a decision that somebody else's loss
forbids (`clearing.pipeline`). So no unit, however contradictory, keeps others from being cleared (the model is always
feasible).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clearing.case import Case, Offer, OfferSlot, UnitKind
from clearing.market import Market, is_plain_block
from clearing.market_offers import build_market
from clearing.network import Grid
from clearing.phases import alone
from clearing.reach import must_run
from clearing.rows import LinearProgram, solve_linear
from clearing.steps import step_table

__all__ = ["MustRun", "opening", "put_aside", "settle"]

# MWh: a rule broken by more than this is broken.
BROKEN = 1e-9


@dataclass(frozen=True, slots=True)
class MustRun:
    """Storages and offers with slices that need a delivery; `aside` are those that cannot have it.

    Args:
        storages: ids of the storages.
        sliced: ids of the offers with slices.
        aside: ids of the offers that are set aside.
    """

    storages: frozenset[str]
    sliced: frozenset[str]
    aside: frozenset[str] = frozenset()

    def wants(self, offer: Offer) -> bool:
        """Tell whether an offer belongs to them."""
        return offer.offer_id in self.sliced or offer.unit_id in self.storages

    def names(self, kind: str, name: str) -> bool:
        """Tell whether a row of the market, by its tag, is one of their rules."""
        return (kind == "STORAGE" and name in self.storages) or (kind == "POLYGON" and name in self.sliced)


def settle(case: Case, grid: Grid, live: NDArray[np.bool_]) -> tuple[Case, MustRun]:
    """Return the case without the offers that are set aside, and what must run.

    Args:
        case: the case as it is cleared, canonical.
        grid: its grid.
        live: slots that have an AC solution.
    """
    if not any(u.kind is UnitKind.STORAGE for u in case.units) and not any(o.polygons for o in case.offers):
        return case, MustRun(frozenset(), frozenset())
    found = MustRun(*must_run(alone(case, 0)))
    while found.storages or found.sliced:
        market = _rules_only(case, grid, live)
        broken = _least_broken(market, found)[1]
        # A storage or slice whose buses or slots are dead has no row, and nothing to be taken.
        if not broken:
            break
        storages = frozenset(name for kind, name in broken if kind == "STORAGE")
        sliced = frozenset(name for kind, name in broken if kind == "POLYGON")
        case, found = put_aside(case, found, storages, sliced)
    return case, found


def put_aside(case: Case, found: MustRun, storages: frozenset[str], sliced: frozenset[str]) -> tuple[Case, MustRun]:
    """Return the case without some storages and offers with slices, and what must still run.

    Args:
        case: the case as it is cleared.
        found: what must run.
        storages: ids of storages.
        sliced: ids of offers with slices.
    """
    gone = {o.offer_id for o in case.offers if o.offer_id in sliced or o.unit_id in storages}
    case = replace(case, offers=tuple(_emptied(o) if o.offer_id in gone else o for o in case.offers))
    return case, MustRun(found.storages - storages, found.sliced - gone, found.aside | gone)


def opening(market: Market, found: MustRun) -> NDArray[np.float64] | None:
    """Return a dispatch of a market that keeps its rules, MW; None if nothing taken does."""
    if not (found.storages or found.sliced):
        return None
    return _least_broken(market, found)[0]


def _emptied(offer: Offer) -> Offer:
    return replace(offer, slots=(OfferSlot(),) * len(offer.slots), polygons=(), min_energy_wh=None)


def _rules_only(case: Case, grid: Grid, live: NDArray[np.bool_]) -> Market:
    """Return the market of all steps without its requests: they are elastic and forbid nothing."""
    case = replace(case, requests=())
    table = step_table(case.offers, [o.start_choice is not None or is_plain_block(o) for o in case.offers])
    return build_market(case, grid, live, table, np.ones(len(table.offer), dtype=bool))


def _least_broken(market: Market, found: MustRun) -> tuple[NDArray[np.float64], frozenset[tuple[str, str]]]:
    """Return the dispatch that breaks rules least, at the least cost, and the rules (kind, id) that it breaks."""
    n, rows = len(market.cost), market.rows.matrix(len(market.cost))
    mine = [r for r, (kind, name, _) in enumerate(market.row_tag) if found.names(kind, name)]
    count = len(mine)
    slack = sparse.csr_matrix((np.ones(count), (mine, np.arange(count))), shape=(rows.shape[0], count))
    dearest = 1e4 * (1.0 + float(np.abs(market.cost).max(initial=0.0)))
    upper = np.array(market.upper)
    upper[[c for m in market.measured for c in m.columns]] = 0.0  # what a flow delivers shows in AC alone
    program = LinearProgram(
        cost=np.r_[market.cost, np.full(2 * count, dearest)],
        lower=np.zeros(n + 2 * count),
        upper=np.r_[upper, np.full(2 * count, np.inf)],
        matrix=sparse.csr_matrix(sparse.hstack([rows, slack, -slack], format="csr")),
        row_low=np.array(market.rows.low),
        row_high=np.array(market.rows.high),
        integer=np.r_[np.array(market.integer, dtype=bool), np.zeros(2 * count, dtype=bool)],
    )
    solved = solve_linear(program)
    if solved is None:  # cannot be, as every rule that nothing taken breaks may be broken here
        return np.zeros(n), frozenset(market.row_tag[r][:2] for r in mine)
    off = solved.x[n : n + count] + solved.x[n + count :]
    broken = frozenset(market.row_tag[r][:2] for r, by in zip(mine, off.tolist(), strict=True) if by > BROKEN)
    x = np.clip(solved.x[:n], 0.0, upper)
    x[np.array(market.integer, dtype=bool)] = np.round(x[np.array(market.integer, dtype=bool)])
    return x, broken
