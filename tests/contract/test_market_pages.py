"""The examples on the pages before the gate are one market: in some order, each is taken into the journal."""

from pathlib import Path
from typing import Any

import pytest

from flexbus import codec
from flexbus.catalogue import Service, kind_of
from flexbus.events import Role
from tests.contract.test_event_pages import FENCE, PAGES
from tests.market import Market

NAMES = ["participants", "assets", "grid", "market", "congestion", "flex_offer", "traffic_light"]
SENDERS = {Role.FMO: "fmo", Role.DSO: "grid-dso", Role.FSP: "alpha"}


def examples(page: Path) -> list[Any]:
    return [codec.from_json(text) for k, text in FENCE.findall(page.read_text(encoding="utf-8")) if k == "json"]


def sender(event: Any) -> str:
    allowed = kind_of(type(event)).send
    party = next((SENDERS[r] for r in SENDERS if r in allowed), None)
    return party or next(s.value for s in allowed if isinstance(s, Service))


def test_the_examples_are_one_market() -> None:
    market = Market()
    waiting = [event for name in NAMES for event in examples(PAGES / f"{name}.md")]
    assert len(waiting) >= 2 * len(NAMES)
    while waiting:
        refused = []
        for event in waiting:
            faults = market.refuse(event, sender(event))
            if faults:
                refused.append((event, faults))
            else:
                market.send(event, sender(event))
        assert len(refused) < len(waiting), "\n".join(f"{type(e).__name__}: {f}" for e, fs in refused for f in fs)
        waiting = [event for event, _ in refused]


@pytest.mark.parametrize("name", NAMES)
def test_page_tells_its_rules(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert "\n## Rules\n" in text
    assert "\n## Example\n" in text
