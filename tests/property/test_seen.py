"""The ids seen are a dict, but for its size."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import seen as module
from streams.seen import DIGEST_BYTES, ID_BYTES, Seen

ids = st.integers(0, 60).map(lambda n: n.to_bytes(ID_BYTES, "big")) | st.binary(min_size=ID_BYTES, max_size=ID_BYTES)
digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)


@given(expected=st.dictionaries(ids, digests, max_size=100), newest=st.integers(1, 20))
def test_it_holds_what_a_dict_holds(expected: dict[bytes, bytes], newest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "NEWEST", newest)
        seen = Seen()
        for event_id, digest in expected.items():
            assert seen.get(event_id) is None
            seen.add(event_id, digest)
        for table in (seen, Seen(seen.packed())):
            assert len(table) == len(expected)
            for event_id in (*expected, *(n.to_bytes(ID_BYTES, "big") for n in range(70))):
                assert table.get(event_id) == expected.get(event_id)


@pytest.mark.parametrize("newest", [1, 50])
def test_ids_of_one_key_are_told_apart(newest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEWEST", newest)
    monkeypatch.setattr(module, "_key", lambda _: 7)
    seen = Seen()
    for n in range(20):
        seen.add(UUID(int=n).bytes, bytes([n]) * DIGEST_BYTES)
    assert [seen.get(UUID(int=n).bytes) for n in range(20)] == [bytes([n]) * DIGEST_BYTES for n in range(20)]
    assert seen.get(UUID(int=20).bytes) is None


def test_runs_stay_few() -> None:
    seen = Seen()
    for n in range(module.NEWEST * 9):
        seen.add(n.to_bytes(ID_BYTES, "big"), bytes(DIGEST_BYTES))
    assert len(seen._runs) <= 4
    assert len(seen) == module.NEWEST * 9
