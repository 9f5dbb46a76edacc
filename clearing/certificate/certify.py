"""The checks in their order, and what a reader needs to know of the outcome."""

from dataclasses import dataclass, replace

from clearing.canonical import case_hash, result_hash
from clearing.case import Case
from clearing.certificate.bound import check_certificate, check_gaps
from clearing.certificate.evidence import Finding
from clearing.certificate.explanations import check_coverage, check_reasons, check_unmet
from clearing.certificate.money import check_money
from clearing.certificate.offers import check_offers
from clearing.certificate.physics import check_physics
from clearing.certificate.prices import check_prices
from clearing.certificate.shape import misshapen, no_such_limit, unknown
from clearing.certificate.stages import check_stages, evidences, stage_frame, value_and_bound_nano
from clearing.check import check_case
from clearing.phases import ends, unfold
from clearing.result import Result

__all__ = ["Certified", "Finding", "certify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """Outcome of a check.

    Args:
        findings: what is wrong; empty = the result follows from the case.
        value_nano: cost of the dispatch, recomputed, 1e-9 EUR; None when it could not be.
        lower_bound_nano: lower bound, recomputed from the published multipliers; None when there are none.
    """

    findings: tuple[Finding, ...]
    value_nano: int | None = None
    lower_bound_nano: int | None = None


def certify(case: Case, result: Result) -> Certified:
    """Check a result against its case, from the two alone.

    Args:
        case: the case.
        result: what was published for it.
    """
    faults = tuple(Finding(f"case {f.path}", f.message) for f in check_case(case))
    if faults:
        return Certified(findings=faults)
    findings = [*_frame(case, result)]
    case = unfold(case)
    if any(f.path.startswith("$.") and not f.path.endswith("_hash") for f in findings):
        return Certified(findings=tuple(findings))
    findings += check_coverage(case, result)
    parts = evidences(case, result)
    foreign = [f for e in parts for f in no_such_limit(e)]
    if foreign:
        return Certified(findings=(*findings, *foreign))
    for k, e in enumerate(parts):
        where = f"scenario {case.scenarios[k].scenario_id}, its slots from 0: " if case.scenarios else ""
        checks = [check_offers, check_physics, check_prices, check_money]
        for check in checks if case.scenarios else [*checks, check_reasons, check_unmet]:
            findings += [replace(f, message=where + f.message) for f in check(e)]
    if case.scenarios:
        findings += check_stages(case, result)
    value, bound, gaps = value_and_bound_nano(case, result, parts)
    findings += check_certificate(result.certificate, value, bound)
    findings += check_gaps(result.slots, gaps, value)
    return Certified(findings=tuple(findings), value_nano=value, lower_bound_nano=bound)


def _frame(case: Case, result: Result) -> list[Finding]:
    found = []
    if result.case_hash != case_hash(case):
        found.append(Finding("$.case_hash", "is not the hash of this case: the result belongs to another one"))
    if result.result_hash != result_hash(replace(result, result_hash="")):
        found.append(Finding("$.result_hash", "is not the hash of this result: it was changed after publication"))
    if result.ends != ends(case):
        found.append(Finding("$.ends", "are not those of the case's phase and slots"))
    case = unfold(case)
    frame = {"case_id": case.case_id, "start_ms": case.start_ms, "resolution_s": case.resolution_s}
    for name, want in frame.items():
        if getattr(result, name) != want:
            found.append(Finding(f"$.{name}", f"published {getattr(result, name)!r}, the case has {want!r}"))
    network = case.network
    lists = (
        ("offers", [o.offer_id for o in result.offers], [o.offer_id for o in case.offers]),
        ("requests", [r.request_id for r in result.requests], [r.request_id for r in case.requests]),
        ("buses", [b.bus_id for b in result.buses], [b.bus_id for b in network.buses]),
        ("branches", [b.branch_id for b in result.branches], [b.branch_id for b in network.branches]),
        ("infeed_points", [p.infeed_id for p in result.infeed_points], [p.infeed_id for p in network.infeed_points]),
    )
    for name, have, want_ids in lists:
        if have != sorted(want_ids):
            found.append(Finding(f"$.{name}", "must have one entry per element of the case, sorted by id"))
    if len(result.slots) != case.slots:
        found.append(Finding("$.slots", f"{len(result.slots)} slots published, the case has {case.slots}"))
    return [*found, *misshapen(result, case.slots), *unknown(case, result), *stage_frame(case, result)]
