"""Which of librdkafka's errors end a process, and what they tell a person."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from confluent_kafka import KafkaError

from flexbus.errors import EnvironmentProblem
from streams.kafka import Connection, Trouble, environment_problem
from streams.page.feed import Feed
from streams.transaction import Member

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


def test_what_aiokafka_is_not_allowed_is_said_as_for_librdkafka_and_an_errno_is_no_code_of_kafka() -> None:
    said = str(environment_problem(TopicAuthorizationFailedError("flexbus.reads.fsp.v1"), "kafka:9092"))
    assert "does not allow this to this principal" in said
    assert "flexbus.reads.fsp.v1" in said
    assert "allow" not in str(environment_problem(OSError(TopicAuthorizationFailedError.errno, "x"), "kafka:9092"))


def test_a_request_that_was_under_way_when_its_connection_was_refused_ends_its_reader_with_the_reason() -> None:
    trouble = Trouble()
    trouble(KafkaError(KafkaError._AUTHENTICATION, REFUSED))
    message = SimpleNamespace(error=lambda: KafkaError(KafkaError._AUTHENTICATION, "FindCoordinator response error"))
    consumer: Any = SimpleNamespace(consume=lambda *_: [message])
    member = Member(consumer, lambda e: environment_problem(e, "kafka:9092", trouble), print, print)
    with pytest.raises(EnvironmentProblem, match="refused the user name or password: SASL authentication error"):
        member.consume(1, 0.0)


def test_the_page_ends_when_its_connection_is_refused_though_no_record_says_so() -> None:
    feed: Any = Feed(Connection("kafka:9092"))
    feed._consumer = SimpleNamespace(poll=lambda _: None, consume=lambda *_: [])
    assert feed.read(1, 0.0) == []
    feed._trouble(KafkaError(KafkaError._AUTHENTICATION, REFUSED))
    with pytest.raises(EnvironmentProblem, match="refused the user name or password"):
        feed.read(1, 0.0)
