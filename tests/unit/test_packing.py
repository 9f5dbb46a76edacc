"""A packed state comes back as it was; what would come back otherwise is refused."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from clearing.facts import clear_session
from flexbus import events as ev
from flexbus.quantities import Direction
from flexbus.validation import Admission, fold_admission
from flexbus.views.fact import Job
from flexbus.views.procurement import Place
from streams.area import Area, Kept
from streams.digest import state_digest
from streams.packing import PackingError, pack, unpack
from streams.stages import VIEWS
from tests import market
from tests.unit.test_area import chain, entry

VALUES: list[Any] = [
    None,
    -(2**130),
    1.5,
    float("inf"),
    "ä\n\u2028",
    b"\x00\xff",
    (),
    [[]],
    {("a", 1): {"x": (1, 2)}, None: frozenset({Direction.UP})},
    {1 << 127, 5, 0},
    {"a", "b"},
    {(1, "x"), (2, "y")},
    Counter({"a": 2}),
    Place._make("p" for _ in Place._fields),
    Job(job_id="j", run=clear_session, arguments=(1,)),
    market.submitted("o1", slots=3),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_what_is_packed_comes_back(value: Any) -> None:
    found = unpack(json.loads(json.dumps(pack(value))))
    assert found == value
    assert type(found) is type(value)


def test_an_array_comes_back_with_its_type_and_shape() -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = unpack(json.loads(json.dumps(pack({"x": value}))))["x"]
    assert (found.dtype, found.shape, found.tolist()) == (value.dtype, value.shape, value.tolist())
    found[0, 0] = 7  # and can be changed


@dataclass
class Foreign:
    x: int = 0


def test_what_is_no_value_of_ours_is_refused() -> None:
    for value in (Foreign(), object(), print, lambda: 0, np.array([object()]), type):
        with pytest.raises(PackingError):
            pack(value)
    assert unpack(pack(Foreign(3), {"tests"}), {"tests"}) == Foreign(3)


def test_two_names_for_one_list_are_refused() -> None:
    shared: list[int] = []
    with pytest.raises(PackingError, match="two places"):
        pack({"a": shared, "b": shared})
    frozen = market.offer()
    assert unpack(pack((frozen, frozen))) == (frozen, frozen)


@pytest.mark.parametrize(
    "name",
    ["os:system", "subprocess:Popen", "builtins:eval", "streams.packing:importlib", "flexbus.codec:nothing", "flexbus"],
)
def test_a_name_of_something_else_is_not_called(name: str) -> None:
    with pytest.raises(PackingError):
        unpack({"classes": [name], "value": [16, "true"]})


def test_a_class_with_other_fields_is_refused() -> None:
    packed = pack(ev.PriceStep(power_w=1, price_milli_per_mwh=2))
    packed["value"].append(3)
    with pytest.raises(PackingError, match="other fields"):
        unpack(packed)


@pytest.mark.parametrize("packed", [None, {}, {"classes": [], "value": [99]}, {"classes": 1, "value": [16]}])
def test_nonsense_is_refused(packed: Any) -> None:
    with pytest.raises(PackingError):
        unpack(packed)


@pytest.mark.parametrize("service", VIEWS)
def test_a_stage_goes_on_from_a_checkpoint_as_if_it_had_read_everything(service: str) -> None:
    told = market.open_market()
    told.send(market.submitted("o1"), market.FSP_A)
    told.send(market.baseline(), market.FSP_A)
    told.send(ev.FlexRequestSubmitted(area_id=market.AREA, request=market.request()), market.DSO)
    told.send(market.gate_closed(), "scheduler")
    ids = [f"{n:08d}-0000-4000-8000-000000000000" for n in range(len(told.facts))]
    entries = [entry(f.event, i, f.sender_id) for f, i in zip(told.facts, ids, strict=True)]
    blocks = chain(*((e,) for e in entries))
    whole = Area("A", VIEWS[service], 0)
    parts = Area("A", VIEWS[service], 0)
    for offset, block in enumerate(blocks):
        whole.take(block)
        parts.take(block)
        kept: Kept = unpack(json.loads(json.dumps(pack(parts.kept()))))
        parts, last = Area("A", VIEWS[service], 0), parts.last
        assert last is not None
        parts.restore(kept, last, offset)
    assert (parts.last, parts.counts) == (whole.last, whole.counts)
    assert list(parts.pending) == list(whole.pending)
    assert state_digest(parts.state) == state_digest(whole.state)


def test_the_state_of_admission_comes_back() -> None:
    told = market.open_market()
    told.send(market.submitted("o1"), market.FSP_A)
    limit = ev.CapacityLimitForeseen(
        area_id=market.AREA, limit_id="l", revision=1, connection_point_id="GCP-1", start_ms=market.START,
        end_ms=market.START + market.HOUR, max_draw_w=0, reason="works",
    )  # fmt: skip
    told.send(limit, market.DSO)
    state = Admission()
    for fact in told.facts:
        state = fold_admission(state, fact)
    assert state_digest(unpack(json.loads(json.dumps(pack(state))))) == state_digest(state)
