"""The examples on the pages of the event families are events that the bus can read, and say what they claim."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flexbus import codec
from flexbus.catalogue import CATALOGUE
from flexbus.errors import FaultyInputError

PAGES = Path(__file__).parents[2] / "docs" / "events"
FENCE = re.compile(r"^```(json faulty|json|faults)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[tuple[str, str]]:
    pages = sorted(p for p in PAGES.glob("*.md") if p.name != "README.md")
    return [(p.name, text) for p in pages for k, text in FENCE.findall(p.read_text(encoding="utf-8")) if k == kind]


def says(whole: Any, part: Any) -> bool:
    """Tell whether values hold everything that an example writes; what it leaves out has its default."""
    if isinstance(part, dict):
        return all(key in whole and says(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(says, whole, part))
    return bool(whole == part)


@pytest.mark.parametrize(("page", "text"), blocks("json"))
def test_example_is_an_event_that_survives_the_wire(page: str, text: str) -> None:
    event = codec.from_json(text)
    family = CATALOGUE[type(event).__name__].family
    assert family == page.removesuffix(".md")
    assert codec.decode(codec.encode(event)) == event
    assert says(codec.to_json(event), json.loads(text))


def test_faulty_example_has_the_faults_that_the_page_lists() -> None:
    faulty, listed = blocks("json faulty"), blocks("faults")
    assert [page for page, _ in faulty] == [page for page, _ in listed] != []
    for (_, text), (_, faults) in zip(faulty, listed, strict=True):
        with pytest.raises(FaultyInputError) as found:
            codec.from_json(text)
        assert sorted(f"{f.code.value} {f.path}" for f in found.value.faults) == sorted(faults.split("\n")[:-1])


@pytest.mark.parametrize("page", ["aggregation", "clearing", "activation", "metering", "settlement", "rejection"])
def test_page_tells_its_rules(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    assert "\n## Rules\n" in text
    assert "\n## Example\n" in text
