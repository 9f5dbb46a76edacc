"""The settings of the local Kafka: one KRaft node, broker and controller in one process, on loopback only."""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["LOG4J", "as_java_properties", "server_properties"]

NODE_ID = 1
FOREVER_MS = 2**63 - 1

_COMMON: dict[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": NODE_ID,
    "controller.listener.names": "CONTROLLER",
    # Topics come from the one catalogue; a misspelt name is an error, not a new topic.
    "auto.create.topics.enable": "false",
    # The journal is the truth: nothing is deleted by age, and an event may carry the time of a played day,
    # long past or still to come.
    "log.retention.ms": -1,
    "log.message.timestamp.after.max.ms": FOREVER_MS,
    # What a client says that its request will have is taken from the heap before it comes; the bus's own largest, a
    # rejection, has 16 MB.
    "socket.request.max.bytes": 33_554_432,
    # One node: nothing to replicate to, so what a power failure can take is bounded by flushing instead.
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "log.flush.interval.ms": 5000,
    "log.flush.scheduler.interval.ms": 5000,
    # Light and quick on a laptop.
    "offsets.topic.num.partitions": 8,
    "transaction.state.log.num.partitions": 8,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    # Consumers come and go at once, and a killed worker's or broker's place is free soon.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    "broker.heartbeat.interval.ms": 500,
    # A busy machine may hold a heartbeat back: a broker that is given up leads nothing until it is heard of again.
    "broker.session.timeout.ms": 6000,
}

LOG4J = """\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = ${sys:flexbus.log}
appender.file.filePattern = ${sys:flexbus.log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
# One line per segment and snapshot is for those who debug Kafka itself.
logger.log.name = org.apache.kafka.storage.internals.log
logger.log.level = warn
logger.config.name = org.apache.kafka.common.config
logger.config.level = warn
logger.server.name = kafka.server.KafkaConfig
logger.server.level = warn
"""


def server_properties(
    data: Path, *, port: int, controller_port: int, security: Mapping[str, str] | None = None
) -> dict[str, str | int]:
    """Return Kafka's settings.

    Args:
        data: directory of the log segments.
        port: where clients connect.
        controller_port: where the node's two halves meet.
        security: what `streams.broker_security` adds; None for plain listeners.
    """
    client = "SASL_SSL" if security else "PLAINTEXT"
    return {
        **_COMMON,
        "log.dirs": str(data),
        "listeners": f"CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"CLIENT://127.0.0.1:{port}",
        "inter.broker.listener.name": "CLIENT",
        "listener.security.protocol.map": f"CLIENT:{client},CONTROLLER:{'SSL' if security else 'PLAINTEXT'}",
        # Voters by id: the stored quorum does not pin the port, which may be another after a restart.
        "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{controller_port}",
        **(security or {}),
    }


def as_java_properties(settings: Mapping[str, str | int]) -> str:
    """Return the text of a properties file, one setting a line, that says the same to a Java of any encoding.

    Java reads the bytes of such a file as Latin-1, so anything beyond ASCII is written as its UTF-16 units.
    """
    return "".join(f"{name}={_escaped(str(value))}\n" for name, value in settings.items())


def _escaped(value: str) -> str:
    units = value.replace("\\", "\\\\").encode("utf-16-be", "surrogatepass")
    codes = (int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))
    return "".join(chr(code) if code < 0x80 else f"\\u{code:04x}" for code in codes)
