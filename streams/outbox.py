"""The inbox of one of our own services, from the writing side: derived facts on their way to the sequencer."""

from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException

from flexbus import codec
from flexbus.partition import partition_of
from flexbus.time import iso
from flexbus.topics import inbox
from flexbus.views.fact import Emission
from streams.kafka import Connection, Trouble, environment_problem
from streams.topics import journal_partitions

__all__ = ["Outbox"]

_BATCH_BYTES = 7_000_000  # the results of a clearing are one batch; an inbox takes 8 MB


class Outbox:
    """Sends facts as a service, in order, retrying by itself.

    Args:
        connection: the broker, as the service's principal.
        service: the service.
        failed: called once when a fact could not be delivered; the process must end, since its successor
            finds out from the journal what is missing.
    """

    def __init__(self, connection: Connection, service: str, failed: Callable[[Exception], None]) -> None:
        self._connection, self._service, self._failed = connection, service, failed
        self._trouble = Trouble()
        self._topic = inbox(service)
        self._partitions = journal_partitions(connection)
        self._producer = connection.producer(self._trouble, **{"linger.ms": 2, "batch.size": _BATCH_BYTES})

    def send(self, facts: Iterable[tuple[Emission, int]]) -> None:
        """Hand facts to the producer, all of them at once: what goes out together becomes one block.

        Args:
            facts: each fact with its derived id, and when the event was received from which it follows, UTC ms; never
                the time of sending, so that a repeat is the same record.

        Raises:
            EnvironmentProblem: the broker refuses.
        """
        records = [(codec.encode_trusted(emission.event), emission, cause_ms) for emission, cause_ms in facts]
        for value, emission, cause_ms in records:
            self._produce(value, emission, cause_ms)

    def _produce(self, value: bytes, emission: Emission, cause_ms: int) -> None:
        event = emission.event
        headers = {
            "ce_specversion": "1.0",
            "ce_id": emission.event_id,
            "ce_source": f"/flexbus/{self._service}",
            "ce_type": type(event).__name__,
            "ce_subject": event.area_id,
            "ce_time": iso(cause_ms),
        }
        key = event.area_id.encode()
        place = partition_of(key, self._partitions)  # a producer that has just started may not know all partitions
        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, partition=place, headers=headers, on_delivery=self._delivered
                )
            except BufferError:  # the local queue is full: let deliveries make room
                self._producer.poll(0.1)
            except KafkaException as error:
                raise environment_problem(error, self._connection.bootstrap, self._trouble) from error
            else:
                break
        self._producer.poll(0)

    def poll(self) -> None:
        """Let deliveries and errors be noticed; call it now and then."""
        self._producer.poll(0)
        if self._trouble.hopeless is not None:
            self._failed(environment_problem(self._trouble.hopeless, self._connection.bootstrap))

    def close(self, within_s: float = 5.0) -> None:
        """Send what is under way; what does not go out in time is found missing by the successor."""
        self._producer.flush(within_s)

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._failed(environment_problem(error, self._connection.bootstrap, self._trouble))
