"""A new broker's cluster id is an argument of Kafka's tool, never one of its options."""

from streams.broker import _cluster_id


def test_no_cluster_id_looks_like_an_option() -> None:
    found = {_cluster_id(bytes([first, *range(15)])) for first in range(256)}
    assert {len(i) for i in found} == {22}
    assert not [i for i in found if i.startswith("-")]
