"""Faust as the stages use it: committed records only, raw bytes, no topics of its own making.

Faust 0.15 reads committed records only under its own exactly-once, which the stages do not use. Three overrides
make it read them always; a fourth mends its book-keeping of the gaps that transaction markers leave. Two more keep it
from reading tables back: their rows come out of the journal again.
"""

from typing import Any

import faust
from faust.assignor import PartitionAssignor
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver

from flexbus.errors import FlexbusError
from streams.kafka import Connection

__all__ = ["assigned", "group_error", "new_app"]

# The broker answers as soon as there is something; this is only how long it holds an empty answer back.
_FETCH_WAIT_MS = 500
_SESSION_S, _HEARTBEAT_S = 6.0, 1.5
# Blocks that wait in memory for a slow stage, once where they are fetched and once where they are handed on: of at most
# 4 MB each. With the 4096 messages of Faust they could take gigabytes.
_MOST_BLOCKS = 16


class _CommittedThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        return consumer


class _CommittedConsumer(driver.Consumer):  # type: ignore[misc]
    def _new_consumer_thread(self) -> Any:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        # Faust counts the message that has just arrived into the gap before it, so that with a marker after every
        # transaction the committed offset would crawl.
        await super()._add_gap(tp, offset_from, offset_to - 1)


class _CommittedTransport(driver.Transport):  # type: ignore[misc]
    Consumer = _CommittedConsumer


class _WholeAssignor(PartitionAssignor):  # type: ignore[misc]
    def assign(self, cluster: Any, member_metadata: Any) -> Any:
        """Share out partitions, but only when all topics are known.

        Faust leaves out a topic that a broker just started does not tell yet, and the group would own nothing of it
        until somebody comes or goes.

        Raises:
            FlexbusError: a topic is not known; ends this member (`group_error`), and a fresh one asks again.
        """
        wanted = {topic for member in member_metadata.values() for topic in member.subscription}
        if missing := sorted(topic for topic in wanted if not cluster.partitions_for_topic(topic)):
            # aiokafka would only keep the error for somebody who asks.
            self.app.fault = FlexbusError(f"the broker does not know {', '.join(missing)}, or not yet")
            raise self.app.fault
        return super().assign(cluster, member_metadata)


class _NoRecovery(Recovery):  # type: ignore[misc]
    def need_recovery(self) -> bool:
        # A worker that took over from another was seen waiting for ever for the rows that the other had written last.
        return False


class _Tables(TableManager):  # type: ignore[misc]
    _recovery: Recovery | None

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = _NoRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class _App(faust.App):  # type: ignore[misc]
    fault: FlexbusError | None = None

    def _create_directories(self) -> None:
        """Make none: tables are in memory, and what a stage knows it folds from the journal."""

    def _new_transport(self) -> Any:
        return _CommittedTransport(self.conf.broker_consumer, self)


def new_app(service: str, connection: Connection, instance: str) -> Any:
    """Return a Faust app of a stage; nothing connects before it is started.

    Args:
        service: the stage; all its workers form one consumer group.
        connection: the broker.
        instance: name of this worker, the same again after a restart, so that its place is kept for it.

    Raises:
        EnvironmentProblem: the connection asks for a mechanism that Faust does not offer.
    """
    return _App(
        id=f"flexbus-{service}",
        broker=[f"kafka://{address.strip()}" for address in connection.bootstrap.split(",")],
        broker_credentials=_credentials(connection),
        autodiscover=False,
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        PartitionAssignor=_WholeAssignor,
        TableManager=_Tables,
        table_standby_replicas=0,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance,
        canonical_url=f"http://{instance}:6066",  # only tells workers apart: pages are served by the monitor
        broker_session_timeout=_SESSION_S,
        broker_heartbeat_interval=_HEARTBEAT_S,
        broker_max_poll_interval=600.0,
        broker_commit_interval=2.0,
        broker_max_poll_records=_MOST_BLOCKS,
        stream_buffer_maxsize=_MOST_BLOCKS,
        stream_wait_empty=False,
        web_enabled=False,
    )


def group_error(app: Any) -> BaseException | None:
    """Return what has ended an app's membership of its consumer group; None while all is well.

    When the broker goes away in the wrong moment, the task of aiokafka that keeps the membership ends with an error
    that nobody asks for: the app would wait for its partitions for ever.
    """
    if app.fault is not None:
        return app.fault  # type: ignore[no-any-return]
    consumer = _client(app)
    task = getattr(getattr(consumer, "_coordinator", None), "_coordination_task", None)
    if task is None or not task.done() or task.cancelled():
        return None
    error: BaseException | None = task.exception()
    return error


def assigned(app: Any, topic: str) -> set[int]:
    """Return the partitions of a topic that the group has given to this member; none before it has joined."""
    consumer = _client(app)
    return set() if consumer is None else {tp.partition for tp in consumer.assignment() if tp.topic == topic}


def _client(app: Any) -> Any:
    return getattr(getattr(app._consumer, "_thread", None), "_consumer", None)


def _credentials(connection: Connection) -> Any:
    known = connection.for_aiokafka()
    context = known.get("ssl_context")
    if "sasl_mechanism" in known:
        return faust.SASLCredentials(
            username=known["sasl_plain_username"],
            password=known["sasl_plain_password"],
            mechanism=known["sasl_mechanism"],
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context=context)
