"""Which of librdkafka's errors end a process, and what they tell a person."""

import pytest
from confluent_kafka import KafkaError

from streams.kafka import Trouble, environment_problem

LOST = "SASL SCRAM-SHA-256 mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms: "
REFUSED = "SASL authentication error: Authentication failed during re-authentication due to invalid credentials"


@pytest.mark.parametrize(("text", "hopeless"), [(f"{LOST}(n/a)", False), (REFUSED, True)])
def test_a_broker_that_went_away_before_it_answered_has_refused_nobody(text: str, hopeless: bool) -> None:
    trouble = Trouble()
    error = KafkaError(KafkaError._AUTHENTICATION, text)
    trouble(error)
    assert (trouble.hopeless is not None, trouble.last) == (hopeless, error)
    said = str(environment_problem(error, "kafka:9092", trouble))
    assert ("refused the user name or password" in said) == hopeless
