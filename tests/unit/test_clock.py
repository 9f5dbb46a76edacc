import json

import pytest

from streams.clock import SystemClock, clock_of, read_tick, tick_bytes
from streams.kafka import Connection


def test_a_tick_is_json_with_the_market_time() -> None:
    assert json.loads(tick_bytes(1_750_000_000_000)) == {"market_ms": 1_750_000_000_000}
    assert read_tick(tick_bytes(42)) == 42


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"[]", b"7", b'{"market_ms": "noon"}', b'{"market_ms": 1.5}', b"{}"]
)
def test_what_is_no_tick_is_ignored(value: bytes | None) -> None:
    assert read_tick(value) is None


def test_the_system_clock_waits_until_the_next_thing_is_due_but_never_long() -> None:
    clock = SystemClock()
    assert clock.wait_s(None) == 1.0
    assert clock.wait_s(clock.now_ms() + 3_600_000) == 1.0
    assert 0.0 < clock.wait_s(clock.now_ms() + 300) <= 0.3
    assert clock.wait_s(0) == 0.0


def test_a_clock_is_named() -> None:
    assert isinstance(clock_of("system", Connection("nowhere:1")), SystemClock)
    with pytest.raises(ValueError, match="take system or played"):
        clock_of("sundial", Connection("nowhere:1"))
