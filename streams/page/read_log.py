"""Every read of the page as a record on its log of reads: who, what, when, and whether it was shown."""

import asyncio
import logging
import threading
import time
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Producer

from flexbus import codec
from flexbus.events import ReadLogged
from flexbus.topics import PAGE, read_log
from streams.kafka import Connection, Trouble, environment_problem

__all__ = ["ReadLog"]

log = logging.getLogger(__name__)

_WITHIN_S = 5.0
_AGAIN_S = 1.0  # between two clients
_LOG = read_log(PAGE)


class ReadLog:
    """Writes the log and waits until the broker has it.

    Args:
        connection: the broker, as a principal that may write the log.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._trouble = Trouble()
        self._producer = self._made()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="read-log", daemon=True)
        self._thread.start()

    async def note(self, *, area_id: str, reader_id: str, role: str, resource: str, status: int) -> None:
        """Write one read; returns when the broker has it.

        Raises:
            EnvironmentProblem: the broker did not take it.
        """
        read = ReadLogged(
            area_id=area_id,
            reader_id=reader_id,
            role=role,
            interface="page",
            resource=resource[:500],
            status=status,
            at_ms=time.time_ns() // 1_000_000,
        )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[KafkaError | None] = loop.create_future()

        def delivered(error: KafkaError | None, _: object) -> None:
            loop.call_soon_threadsafe(settle, error)

        def settle(error: KafkaError | None) -> None:
            if not done.done():  # it may have been given up
                done.set_result(error)

        try:
            self._producer.produce(_LOG, codec.encode(read), area_id.encode(), partition=0, on_delivery=delivered)
            error = await asyncio.wait_for(done, _WITHIN_S + 1.0)
        except (KafkaException, BufferError, TimeoutError) as problem:
            raise environment_problem(problem, self._connection.bootstrap, self._trouble) from problem
        if error is not None:
            raise environment_problem(error, self._connection.bootstrap, self._trouble)

    def close(self) -> None:
        """Let go of Kafka."""
        self._closing.set()
        self._thread.join()
        with suppress(KafkaException):  # a fatal error; who asked for a note has waited for it and was told
            self._producer.flush(1.0)

    def _made(self) -> Producer:
        settings = {"linger.ms": 0, "delivery.timeout.ms": int(_WITHIN_S * 1000)}
        return self._connection.producer(self._trouble, **settings)

    def _poll(self) -> None:
        while not self._closing.is_set():
            try:
                self._producer.poll(0.1)
            except KafkaException as error:  # a fatal one: this client sends no more, and the next one may
                log.error("the log of reads is written by a new client: %s", error)
                self._producer = self._made()
                self._closing.wait(_AGAIN_S)
