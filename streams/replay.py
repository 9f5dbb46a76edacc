"""The journal gone through again, twice and in two processes: chain, views, clearings, and what was published."""

import json
import multiprocessing
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from flexbus import codec
from flexbus.catalogue import CATALOGUE
from flexbus.codec import Registry
from flexbus.errors import CodecError
from flexbus.journal import Block
from flexbus.sight import public_view
from streams.journal_reader import end_offset, read_blocks, read_records
from streams.kafka import Connection
from streams.refold import AreaProof, Finding, refold
from streams.registry import configured
from streams.topics import existing_topics, journal_partitions

__all__ = ["Verification", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a verification came to.

    Attributes:
        areas: the proof of each area, in the order of their ids.
        published: records of public topics that are what follows from the journal.
        unpublished: records that are still to come; 0 once the publisher has caught up.
        findings: everything that is not as it must be.
    """

    areas: tuple[AreaProof, ...]
    published: int
    unpublished: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Tell whether nothing was found."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"ok": self.ok, **values}

    def text(self) -> str:
        """Return the table for people, then the findings."""
        lines = [
            f"{'area':16} {'blocks':>7} {'entries':>8} {'re-derived':>10} {'re-computed':>11} {'still due':>9}  "
            "chain head"
        ]
        for a in self.areas:
            facts, runs = sum(v.facts for v in a.views), sum(v.computed for v in a.views)
            owed = sum(len(v.owed) for v in a.views)
            lines.append(f"{a.area_id:16} {a.blocks:7} {a.entries:8} {facts:10} {runs:11} {owed:9}  {a.head[:16]}")
        lines.append(
            f"published records that follow from the journal: {self.published}, still to come: {self.unpublished}"
        )
        lines += [f"MISMATCH {f}" for f in self.findings]
        lines.append("verified: chain, views, computations and publications agree" if self.ok else "NOT verified")
        return "\n".join(lines)


def verify(connection: Connection, *, solve: bool = True) -> Verification:
    """Go through the whole journal again, in two fresh processes, and compare.

    Args:
        connection: the broker, as a principal that may read the journal and the public topics.
        solve: run clearings and other computations again.

    Raises:
        EnvironmentProblem: the broker does not answer.
    """
    ends = [end_offset(connection, p) for p in range(journal_partitions(connection))]
    # Fresh processes hash differently, so what depends on the order of a set shows.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        runs = [pool.submit(_run, connection, ends, solve) for _ in range(2)]
        published, unpublished, findings = _publications(connection, ends)
        first, second = (run.result() for run in runs)
    findings += [f for proof in first for f in proof.findings]
    findings += list(_differences(first, second))
    return Verification(areas=first, published=published, unpublished=unpublished, findings=tuple(findings))


def _run(connection: Connection, ends: list[int], solve: bool) -> tuple[AreaProof, ...]:
    # Imported here, as the stages bring the solver with them.
    from streams import figures, scheduler
    from streams.stages import VIEWS

    views = {**VIEWS, **{view.service: view for view in (scheduler.VIEW, figures.VIEW)}}
    proofs = []
    for partition, end in enumerate(ends):
        chains: dict[str, list[Block]] = defaultdict(list)
        for _, block in read_blocks(connection, partition, end=end):
            chains[block.area_id].append(block)
        proofs += [refold(area_id, blocks, views, solve=solve) for area_id, blocks in chains.items()]
    return tuple(sorted(proofs, key=lambda p: p.area_id))


def _differences(first: tuple[AreaProof, ...], second: tuple[AreaProof, ...]) -> Iterator[Finding]:
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one.views, other.views, strict=True):
            if a != b:
                message = f"two runs over the same journal differ: {a.digest[:16]} and {b.digest[:16]}"
                yield Finding(area_id=one.area_id, check=f"view {a.view}", place="final state", message=message)


def _publications(connection: Connection, ends: list[int]) -> tuple[int, int, list[Finding]]:
    """Compare the public topics with what follows from the journal; each partition follows its journal partition."""
    there, registry = existing_topics(connection), configured()
    published = unpublished = 0
    findings: list[Finding] = []
    for partition, end in enumerate(ends):
        expected: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        for _, block in read_blocks(connection, partition, end=end):
            for entry in block.entries:
                kind = CATALOGUE[entry.event_type]
                if kind.out_topic is not None:
                    event = codec.decode_entry(entry.payload, entry.schema_fingerprint)
                    view = public_view(event, kind)
                    expected[kind.out_topic].append((block.area_id, codec.encode(view)))
        for topic, wanted in expected.items():
            found = [value for _, value in read_records(connection, topic, partition)] if topic in there else []
            # Compared as far as both go: the publisher may lag, and may be ahead of our end of the journal.
            for number, ((area_id, value), given) in enumerate(zip(wanted, found, strict=False)):
                message = _contradiction(value, given, registry)
                if message is not None:
                    place = f"{topic}, partition {partition}, record {number}"
                    findings.append(Finding(area_id=area_id, check="publication", place=place, message=message))
                    break
            else:
                published += min(len(wanted), len(found))
                unpublished += max(len(wanted) - len(found), 0)
    return published, unpublished, findings


def _contradiction(expected: bytes, given: bytes, registry: Registry | None) -> str | None:
    try:
        same = codec.says_the_same(expected, given, registry)
    except CodecError as error:
        return f"is not what follows from the journal: {error}"
    return None if same else "is not what follows from the journal"
