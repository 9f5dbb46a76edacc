"""The whole bus on a broker that demands TLS and passwords: every service, the SDK and Faust get in, and clear."""

from pathlib import Path

import pytest

from streams import broker_security
from streams.broker import Broker
from streams.clock import Ticker
from streams.kafka import Connection
from streams.supervisor import Supervisor
from streams.topics import create_topics
from tests import market
from tests.contract.test_dashboard import found, seen, tell
from tests.integration import core

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(400)]


def test_a_market_clears_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All as one principal with every right: rights of the single services are another matter."""
    broker = Broker(tmp_path / "broker", secure=True)
    try:
        bootstrap = broker.start()
        properties = broker_security.properties_file(broker.data_dir, broker_security.ADMIN)
        monkeypatch.setenv("FLEXBUS_KAFKA_PROPERTIES", str(properties))
        connection = Connection.of(bootstrap)
        create_topics(connection, core.PARTIES, 4)
        ticker = Ticker(connection)
        ticker.tick(market.START - 20 * market.HOUR)
        supervisor = Supervisor(connection, tmp_path / "run", clock="played")
        supervisor.start()
        try:
            supervisor.wait_ready()
            found(connection, "north")
            ticker.tick(market.START - 14 * market.HOUR)
            core.eventually(lambda: seen(connection, "GateOpened", "north"), what="no gate opened")
            tell(connection, "north")
            ticker.tick(market.START - 12 * market.HOUR)
            core.eventually(lambda: seen(connection, "MarketCleared", "north"), what="not cleared")
        finally:
            supervisor.stop()
            ticker.close()
        logs = "".join(p.read_text(errors="replace") for p in (tmp_path / "run" / "logs").iterdir())
        assert broker.client_config()["sasl.password"] not in logs
    finally:
        broker.kill()
