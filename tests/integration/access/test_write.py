"""Who may write which topic, tried by writing: on a bus of its own, as it leaves records that nobody can read."""

from collections.abc import Iterator

import pytest

from flexbus.topics import CLOCK, JOURNAL, REJECTIONS
from tests.integration.access.bus import (
    DENIED,
    PRINCIPALS,
    Bus,
    allowed,
    every_topic,
    founding_of,
    outcomes,
    secured_bus,
)


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    with secured_bus(tmp_path_factory.mktemp("written")) as bus:
        bus.found("written")
        yield bus


pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_the_broker_lets_each_principal_write_its_topics_and_no_other(bus: Bus, principal: str) -> None:
    may = allowed(principal, "WRITE")
    # What those write there who may is shown above; a stray record would stay in the chain or the clock.
    kept = may & {JOURNAL, REJECTIONS, CLOCK}
    bodies = outcomes(bus, principal, [t for t in every_topic() if t not in kept])
    assert {t for t, said in bodies.items() if said == "delivered"} == may - kept
    assert set(bodies.values()) <= {"delivered", DENIED}


def test_secrets_are_in_no_log(bus: Bus) -> None:
    logs = "".join(p.read_text(errors="replace") for p in (bus.broker.data_dir / "log").iterdir())
    assert bus.made.metrics_token.read_text().strip() not in logs
    for path in (*bus.made.properties.values(), *bus.made.readers.iterdir()):
        for line in path.read_text().splitlines():
            if "password" in line or line.startswith("token"):
                assert line.partition("=")[2] not in logs, path.name
    assert "Denied" in logs, "what was refused is on record"
    assert "sasl.password" not in repr(bus.made)
    assert len(bus.entries("written")) == len(founding_of("written")), "and the chain is as it was"
