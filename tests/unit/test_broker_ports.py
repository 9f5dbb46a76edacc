from collections.abc import Iterator

import pytest

from streams import broker


class Probe:
    """A socket of a system that names ports as told."""

    ports: Iterator[int]

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *_: object) -> None: ...

    def bind(self, _address: tuple[str, int]) -> None: ...

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", next(self.ports)


def test_a_port_that_the_system_names_twice_is_not_taken_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    Probe.ports = iter((4000, 4000, 4001))
    monkeypatch.setattr("streams.broker.socket.socket", Probe)
    port = broker.free_port()
    assert broker.free_port(besides=port) == 4001
