"""One area's journal, gone through again from its first block: what follows from it must be what stands in it.

Pure. Five proofs: the chain is whole; every entry was admissible where it stands; every fact that a stage put into
the journal is derived again, byte for byte, clearings included; every fact of the scheduler is one that a scheduled
session had planned, and none is left out before a later one; and the state that the views come to, as a digest, so
that two runs in two processes can be compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from flexbus import codec
from flexbus.catalogue import Service
from flexbus.errors import ChainError, CodecError
from flexbus.journal import Block, Entry, verify_block
from flexbus.validation import Admission, admission_faults, content_faults, fold_admission, signature_faults
from flexbus.views import agenda
from flexbus.views.fact import Emission, Fact, Job, facts_of
from streams.area import Stage
from streams.digest import state_digest

__all__ = ["AreaProof", "ChainProof", "Finding", "ViewProof", "refold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        area_id: market area.
        check: which proof failed.
        place: block and entry, or what it is about.
        message: what is wrong.
    """

    area_id: str
    check: str
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.area_id}, {self.place}: {self.message} [{self.check}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewProof:
    """What going through an area again with one stage's view gave.

    Attributes:
        view: the stage.
        facts: its facts in the journal that were derived again and are the same.
        computed: computations that were run again.
        owed: ids of facts that are due and not in the journal; normal while the bus runs, never at the end of a day.
        digest: SHA-256 over the final state.
    """

    view: str
    facts: int
    computed: int
    owed: tuple[str, ...]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaProof:
    """What going through an area again gave; equal for equal journals, in whatever process."""

    area_id: str
    blocks: int
    entries: int
    head: str
    views: tuple[ViewProof, ...]
    findings: tuple[Finding, ...]


def refold(area_id: str, blocks: Sequence[Block], views: Mapping[str, Stage], *, solve: bool = True) -> AreaProof:
    """Go through an area's blocks again.

    Args:
        area_id: market area.
        blocks: its whole chain, in order.
        views: the stages by name; the scheduler's view is held against the agenda, one without outputs is folded only.
        solve: run computations (clearings) again; False trusts their results.
    """
    chain = ChainProof(area_id)
    facts = [fact for block in blocks for fact in chain.take(block)]
    entries = [entry for block in blocks[: chain.blocks] for entry in block.entries]
    proofs = tuple(
        _agenda(view, facts, entries, chain.find)
        if view.service == Service.SCHEDULER.value
        else _view(view, facts, entries, chain.find, solve)
        for view in views.values()
    )
    return AreaProof(
        area_id=area_id,
        blocks=len(blocks),
        entries=chain.entries,
        head=chain.head,
        views=proofs,
        findings=tuple(chain.findings),
    )


class ChainProof:
    """The first two proofs, block by block: nothing of a block is kept but the ids in it.

    Args:
        area_id: market area.

    Attributes:
        blocks: how many stand, from the first on.
        entries: how many are in them.
        findings: what is not as it must be.
    """

    def __init__(self, area_id: str) -> None:
        self._area_id = area_id
        self._last: tuple[int, bytes] | None = None
        self._broken = False
        self._state = Admission()
        self._seen: set[tuple[str, str]] = set()
        self.blocks = self.entries = 0
        self.findings: list[Finding] = []

    @property
    def head(self) -> str:
        """Hash of the last block that stands, hexadecimal."""
        return "" if self._last is None else self._last[1].hex()

    def find(self, check: str, place: str, message: str) -> None:
        """Note something that is not as it must be."""
        self.findings.append(Finding(area_id=self._area_id, check=check, place=place, message=message))

    def take(self, block: Block) -> tuple[Fact, ...]:
        """Go through the next block; return its facts, none after a break."""
        if self._broken:  # nothing after a break can be trusted to be this area's history
            return ()
        try:
            last, facts = verify_block(self._last, block), tuple(facts_of(block))
        except (ChainError, CodecError) as error:
            self.find("chain", f"block {block.number}", str(error))
            self._broken = True
            return ()
        self._last = last
        self.blocks += 1
        self.entries += len(block.entries)
        for fact, entry in zip(facts, block.entries, strict=True):
            self._admit(fact, entry)
        return facts

    def _admit(self, fact: Fact, entry: Entry) -> None:
        who = (fact.sender_id, fact.on_behalf_of, fact.received_at_ms)
        evidence = (entry.sender_id, entry.received_at_ms, entry.payload, entry.signature)
        faults = content_faults(fact.event) or (
            *admission_faults(self._state, fact.event, *who),
            *signature_faults(self._state, fact.event, *evidence),
        )
        for fault in faults:
            self.find("admission", _place(fact), f"{type(fact.event).__name__} had to be refused: {fault}")
        if (fact.sender_id, fact.event_id) in self._seen:
            self.find("once", _place(fact), f"event {fact.event_id} is in the journal twice")
        self._seen.add((fact.sender_id, fact.event_id))
        self._state = fold_admission(self._state, fact)


_Find = Callable[[str, str, str], None]


def _view(view: Stage, facts: Sequence[Fact], entries: Sequence[Entry], find: _Find, solve: bool) -> ViewProof:
    check = f"view {view.service}"
    state = view.new_state()
    due: dict[str, Emission] = {}
    trusted: set[str] = set()
    computed = 0
    for fact in facts:
        if view.reads is not None and type(fact.event).__name__ not in view.reads:
            continue
        state = view.fold(state, fact)
        for what in view.decide(state, fact):
            if isinstance(what, Emission):
                due.setdefault(what.event_id, what)
            elif what.job_id not in due and what.job_id not in trusted:
                computed += 1
                if solve:
                    for found in _run(what, check, _place(fact), find):
                        due.setdefault(found.event_id, found)
                else:
                    trusted.add(what.job_id)
    same = 0
    said: set[str] = set()
    for fact, entry in zip(facts, entries, strict=True) if view.outputs else ():
        if entry.sender_id != view.service:
            continue
        said.add(fact.event_id)
        emission = due.get(fact.event_id)
        if emission is None:
            if solve or not trusted:
                find(check, _place(fact), f"{entry.event_type} {fact.event_id} does not follow from what precedes it")
        elif _differs(emission.event, fact, entry):
            find(
                check,
                _place(fact),
                f"{entry.event_type} {fact.event_id} comes out differently: {_change(emission, fact)}",
            )
        else:
            same += 1
    owed = tuple(i for i in due if i not in said)
    return ViewProof(view=view.service, facts=same, computed=computed, owed=owed, digest=state_digest(state))


def _agenda(view: Stage, facts: Sequence[Fact], entries: Sequence[Entry], find: _Find) -> ViewProof:
    """Hold what the scheduler said against the agenda.

    The clock is not in the journal, so nothing tells that a fact came late; but the scheduler works off what is due
    in order. What it left out is sure where it has said something later and knew of the session, which it did if it
    has spoken of that session or of one that was scheduled after it.
    """
    check = f"view {view.service}"
    state = view.new_state()
    planned: dict[str, agenda.Entry] = {}
    scheduled: dict[str, int] = {}  # sessions in the order of their scheduling
    known = -1
    told: dict[str, Fact] = {}
    passed: dict[str, Fact] = {}  # what was still open, by id, when the scheduler first said something later
    latest_ms = 0
    for fact, entry in zip(facts, entries, strict=True):
        if entry.event_type not in (view.reads or ()):
            continue
        plan = planned.get(fact.event_id)
        if entry.sender_id == view.service:
            if plan is None:
                find(check, _place(fact), f"{entry.event_type} {fact.event_id} does not follow from what precedes it")
            elif plan.emission.event != fact.event:
                what = f"{entry.event_type} {fact.event_id}"
                find(check, _place(fact), f"{what} comes out differently: {_change(plan.emission, fact)}")
            else:
                told[fact.event_id] = fact
                known = max(known, scheduled[fact.event.session_id])
                latest_ms = max(latest_ms, plan.at_ms)
                for event_id, earlier in state.open.items():
                    if earlier.order >= plan.order:
                        break
                    if scheduled[earlier.emission.event.session_id] <= known:
                        passed.setdefault(event_id, fact)
        state = view.fold(state, fact)
        for session_id in state.sessions - scheduled.keys():
            scheduled[session_id] = len(scheduled)
            planned.update(state.open)
    for event_id, later in passed.items():
        event = planned[event_id].emission.event
        what = f"{type(event).__name__} {event_id} of session {event.session_id}"
        what += f" was due before {type(later.event).__name__}"
        if event_id not in told:
            find(check, _place(later), f"{what}, and is missing")
        elif event.session_id == later.event.session_id:  # two schedulers at once may mix their sessions, no more
            find(check, _place(told[event_id]), f"{what} in {_place(later)}, and comes after it")
    owed = tuple(i for i, e in state.open.items() if e.at_ms <= latest_ms and i not in passed)
    return ViewProof(view=view.service, facts=len(told), computed=0, owed=owed, digest=state_digest(state))


def _run(job: Job, check: str, place: str, find: _Find) -> tuple[Emission, ...]:
    try:
        return job.run(*job.arguments)
    except Exception as error:
        find(check, place, f"the computation {job.job_id} failed: {type(error).__name__}: {error}")
        return ()


def _differs(event: Any, fact: Fact, entry: Entry) -> bool:
    if entry.schema_fingerprint == codec.fingerprint_of(type(event)):
        return codec.encode(event) != entry.payload
    return bool(event != fact.event)  # written by an older schema: the same content in other bytes


def _change(emission: Emission, fact: Fact) -> str:
    if type(emission.event) is not type(fact.event):
        return f"now {type(emission.event).__name__}"
    changed = [f.name for f in fields(fact.event) if getattr(fact.event, f.name) != getattr(emission.event, f.name)]
    return f"field {', '.join(changed)}" if changed else "its bytes"


def _place(fact: Fact) -> str:
    return f"block {fact.block}, entry {fact.index}"
