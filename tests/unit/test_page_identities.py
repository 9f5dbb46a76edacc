"""Where names are removed, what is left does not give them away to who tries the few there are."""

import hashlib
import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from flexbus import codec
from flexbus import events as ev
from flexbus.events import Role
from flexbus.ids import derived_id
from flexbus.journal import Block, Entry, block_hash, next_block
from streams.page.entry import opened
from streams.page.model import PageState, fold, snapshot
from streams.page.rows import Lens
from tests import market

SUSPECTS = (market.FSP_A, market.FSP_B, "fsp-c", "fsp-d")


def entry(event: Any, sender: str, offset: int) -> Entry:
    return Entry(
        event_id=derived_id("x", str(offset)),
        event_type=type(event).__name__,
        schema_fingerprint=codec.fingerprint_of(type(event)),
        sender_id=sender,
        on_behalf_of=None,
        received_at_ms=market.START,
        inbox_partition=0,
        inbox_offset=offset,
        payload=codec.encode(event),
    )


@pytest.fixture
def chain() -> list[Block]:
    """An area, and in a block of its own a portfolio, whose provider the DSO is not told while it judges it."""
    opened_area = ev.AreaOpened(area_id=market.AREA, name="North", fmo_id="fmo", time_zone="Europe/Helsinki")
    portfolio = ev.PortfolioRegistered(
        area_id=market.AREA, portfolio_id="p", fsp_id=market.FSP_A, asset_ids=("a-1", "a-2")
    )
    first = next_block(market.AREA, None, (entry(opened_area, "fmo", 0),))
    return [first, next_block(market.AREA, (0, first.hash), (entry(portfolio, market.FSP_A, 17),))]


def guesses(shown: dict[str, Any], words: str) -> set[str]:
    """Who may have sent it, by the hashes that were told: what an observer with time would do."""
    found = set()
    for suspect, offset in itertools.product(SUSPECTS, range(50)):
        candidate = replace(codec.from_json(shown["event"]), fsp_id=suspect)
        guess = replace(entry(candidate, suspect, offset), event_id=shown["event_id"])
        hashes = {hashlib.sha256(guess.payload).hexdigest()}
        if shown["previous_hash"] is not None:
            before = bytes.fromhex(shown["previous_hash"])
            hashes.add(block_hash(market.AREA, shown["block"], before, (guess,)).hex())
        if any(h in words for h in hashes):
            found.add(suspect)
    return found


def look(chain: list[Block], lens: Lens) -> tuple[dict[str, Any], str]:
    state = PageState()
    for block in chain:
        fold(state, block)
    shown = opened(chain[1], 0, chain[0].hash, chain[1].hash, lens)
    return shown, json.dumps([shown, snapshot(state, market.AREA, lens)])


def test_by_the_hashes_the_provider_is_found_so_the_guess_is_a_good_one(chain: list[Block]) -> None:
    shown, words = look(chain, Lens())
    assert guesses(shown, words) == {market.FSP_A}


def test_who_is_not_told_the_provider_does_not_find_it_by_guessing(chain: list[Block]) -> None:
    shown, words = look(chain, Lens(Role.DSO, market.DSO, proven=True, area_id=market.AREA))
    assert shown["event"]["fsp_id"] == ""
    assert guesses(shown, words) == set()
    assert market.FSP_A not in words
    told = ("inbox_partition", "inbox_offset", "payload_bytes", "payload_sha256", "signed", "block_hash")
    assert [shown[name] for name in told] == [None] * len(told)
    assert str(len(chain[1].entries[0].payload)) not in [str(row["bytes"]) for row in json.loads(words)[1]["tail"]]
    assert all(shown["checks"].values()), "that the chain holds is told to everybody"


@pytest.mark.parametrize("role", [r for r in Role if r not in (Role.FMO, Role.AUDITOR)])
def test_hashes_over_what_others_sent_are_for_the_all_seeing(chain: list[Block], role: Role) -> None:
    state = PageState()
    for block in chain:
        fold(state, block)
    words = json.dumps(snapshot(state, market.AREA, Lens(role, "somebody", proven=True, area_id=market.AREA)))
    assert [block.number for block in chain if block.hash.hex() in words] == []


def test_whose_event_it_is_sees_its_evidence_but_not_the_hash_over_others(chain: list[Block]) -> None:
    shown, words = look(chain, Lens(Role.FSP, market.FSP_A, proven=True, area_id=market.AREA))
    assert shown["payload_sha256"] == hashlib.sha256(chain[1].entries[0].payload).hexdigest()
    assert (shown["inbox_offset"], shown["block_hash"]) == (17, None)
    assert chain[1].hash.hex() not in words
    shown, words = look(chain, Lens(Role.AUDITOR, "auditor", proven=True))
    assert shown["block_hash"] == chain[1].hash.hex()
