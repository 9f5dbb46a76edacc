"""What all kinds of tests share: the real Kafka."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import settings

from streams.broker import Broker

settings.register_profile("fuzz", max_examples=10_000)  # pytest --hypothesis-profile=fuzz, as `make fuzz` does
# The same examples at every run: what fails is the change's doing, not chance's.
settings.register_profile("steady", derandomize=True)
settings.register_profile("new")  # other examples at every run, as at the end of `make fuzz`
settings.load_profile("steady")


@dataclass(frozen=True, slots=True)
class RunningKafka:
    """The broker of this test session (of this worker, under pytest-xdist)."""

    bootstrap: str
    broker: Broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKafka]:
    """A real Kafka; without Java or Maven the tests that need it fail, they do not skip.

    All tests share it: name topics, groups and parties so that nobody else's test has the same.
    """
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    try:
        yield RunningKafka(broker.start(), broker)
    finally:
        broker.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the broker, so that `-m "not kafka"` is the quick half."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker("kafka")
