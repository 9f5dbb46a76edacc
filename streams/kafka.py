"""Every Kafka client of flexbus: one place for librdkafka's settings, and for what its errors mean to a person."""

import os
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from flexbus.errors import EnvironmentProblem
from streams.properties import read_properties

__all__ = ["TRANSACTION_TIMEOUT_MS", "Connection", "Trouble", "environment_problem", "patiently"]

T = TypeVar("T")
TRANSACTION_TIMEOUT_MS = 10_000
SESSION_TIMEOUT_MS = 6_000
MAX_RECORD_BYTES = 16_000_000  # a rejection holds an input of up to 8 MB beside its faults
# Of records read ahead, over all partitions of a reader, once its last fetch is in; a larger record comes alone.
PREFETCH_KBYTES = 16_384
# A fetch is counted as it is stored, where what repeats takes a thirtieth: hence so little from each partition.
FETCH_BYTES = 4_000_000
PARTITION_BYTES = 65_536
QUEUE_KBYTES = 65_536  # of records that wait for the broker; who sends faster has to wait too

# The broker refuses these for as long as nobody acts, so waiting for them would only hide the cause.
_HOPELESS = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
# librdkafka says "authentication" of a connection that was lost before the broker had answered, too: as when the broker
# ends one that is to be proven again, or is itself ended in that moment.
_UNANSWERED = "handshake failed: Local:"
# A topic just made, a broker just started or given up for a moment: such answers pass by themselves.
_PASSING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._NOENT,  # no leader is known
        KafkaError.FENCED_LEADER_EPOCH,  # the leader has changed since it was asked for
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
    }
)
_TIME_OUTS = frozenset({KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT})
# Of a request that was under way when its connection was refused, librdkafka says no more than that.
_VAGUE = _TIME_OUTS | {KafkaError._AUTHENTICATION}
_UNREACHABLE = _TIME_OUTS | {KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}
PATIENCE_S = 30.0  # a busy broker takes its time to lead what was just made
_SILENT = 0  # librdkafka's own log would go to stderr; what matters arrives in error_cb


@dataclass(slots=True)
class Trouble:
    """What a client's `error_cb` last said: the cause that its own calls only show as a time-out."""

    last: KafkaError | None = None
    hopeless: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        """Remember an error; librdkafka calls this."""
        self.last = error
        if error.code() in _HOPELESS and _UNANSWERED not in error.str():
            self.hopeless = error


def environment_problem(
    error: Any, bootstrap: str, trouble: Trouble | None = None, client: Any = None
) -> EnvironmentProblem:
    """Say what an error of librdkafka means and what to do.

    Args:
        error: a KafkaError, KafkaException or any exception; of aiokafka's, too, which have the same codes.
        bootstrap: address that was tried.
        trouble: what the client's error_cb has seen; its cause is nearer to the truth than a time-out.
        client: the client, to be asked for what it has not told its error_cb yet.
    """
    if client is not None:
        client.poll(0)
    if isinstance(error, KafkaException):
        error = error.args[0]
    cause = error
    if trouble is not None and trouble.hopeless is not None:
        cause = trouble.hopeless
    elif trouble is not None and trouble.last is not None and _is_vague(error):
        cause = trouble.last
    code = cause.code() if isinstance(cause, KafkaError) else None
    if code is None and hasattr(cause, "retriable"):  # aiokafka's; an OSError has another kind of errno
        code = cause.errno
    text = cause.str() if isinstance(cause, KafkaError) else str(cause)
    if _UNANSWERED in text:
        return EnvironmentProblem(f"Kafka at {bootstrap} went away before it answered: {text}")
    if code in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
        return EnvironmentProblem(f"Kafka at {bootstrap} refused the user name or password: {text}")
    if code == KafkaError._SSL:
        return EnvironmentProblem(f"TLS with Kafka at {bootstrap} failed; is it the right ssl.ca.location? {text}")
    if code in _HOPELESS:
        return EnvironmentProblem(f"Kafka at {bootstrap} does not allow this to this principal: {text}")
    if code in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART):
        return EnvironmentProblem(
            f"Kafka at {bootstrap} has no such topic: {text}. Create what is missing by `flexbus topics --create`."
        )
    if code in _UNREACHABLE:
        return EnvironmentProblem(
            f"Kafka at {bootstrap} cannot be reached ({text}). Start one by `flexbus broker start`, "
            "or name a running one by FLEXBUS_BOOTSTRAP or --bootstrap; if it is secure, also its settings by "
            "FLEXBUS_KAFKA_PROPERTIES or --kafka-properties."
        )
    return EnvironmentProblem(f"Kafka at {bootstrap}: {text}")


def _is_vague(error: Any) -> bool:
    return not isinstance(error, KafkaError) or error.code() in _VAGUE


def patiently(call: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """Return a call's result; repeat it while its error is one that passes by itself.

    Raises:
        KafkaException: any other error, or the patience is over.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except KafkaException as error:
            if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


PLAIN_NETWORK = "FLEXBUS_PLAIN_NETWORK"  # "1": who runs the process says that the network keeps others from Kafka
_told_of: list[str] = []  # once per process, whatever it connects to and however often


def _plain_beyond_loopback(address: str) -> None:
    """Refuse a plain Kafka that others may reach, unless the environment says so; then say it loudly.

    Raises:
        EnvironmentProblem: nobody has said so.
    """
    if os.environ.get(PLAIN_NETWORK) != "1":
        raise EnvironmentProblem(
            f"Kafka at {address} would be used without TLS beyond loopback, where whoever is on the way reads and "
            "changes everything, and without passwords anybody writes as anybody. Name TLS and SASL settings by "
            "FLEXBUS_KAFKA_PROPERTIES or --kafka-properties; or, if its network is closed to everybody else, say so by "
            f"{PLAIN_NETWORK}=1."
        )
    if _told_of:
        return
    _told_of.append(address)
    sys.stderr.write(
        f"flexbus: WARNING: PLAIN MODE beyond loopback: Kafka at {address} is used without TLS, as {PLAIN_NETWORK}=1 "
        "allows. Whoever is on the way reads and changes everything, and without passwords anybody writes as anybody. "
        "Name TLS and SASL settings by FLEXBUS_KAFKA_PROPERTIES or --kafka-properties.\n"
    )


def _tls(security: Mapping[str, str]) -> ssl.SSLContext:
    """Return what librdkafka's names of certificates come to."""
    try:
        context = ssl.create_default_context(cafile=security.get("ssl.ca.location"))
        if (certificate := security.get("ssl.certificate.location")) is not None:
            key, password = security.get("ssl.key.location"), security.get("ssl.key.password", "")
            context.load_cert_chain(certificate, key, password)
    except OSError as error:  # what it says may repeat values: only names are told
        raise EnvironmentProblem(
            "A certificate cannot be read: mend ssl.ca.location, ssl.certificate.location, ssl.key.location or "
            f"ssl.key.password ({type(error).__name__})"
        ) from None
    return context


def _is_loopback(address: str) -> bool:
    """Tell whether a broker's address, `host:port` as librdkafka takes it, never leaves this machine."""
    host = address.strip().rpartition("://")[2]
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the broker is, and as whom one connects.

    Attributes:
        bootstrap: host:port of one broker or several, comma-separated.
        security: librdkafka properties of TLS and SASL; empty on a plain broker.
    """

    bootstrap: str
    security: Mapping[str, str] = field(default_factory=dict, repr=False)  # it holds the password

    @classmethod
    def of(
        cls, bootstrap: str | None, properties: Path | None = None, security: Mapping[str, str] | None = None
    ) -> "Connection":
        """Return the connection named by the arguments, else by the environment; say so if anybody could listen.

        Without TLS it is on loopback only, unless FLEXBUS_PLAIN_NETWORK=1 says that nobody else reaches the network.

        Args:
            bootstrap: address, or None for FLEXBUS_BOOTSTRAP.
            properties: file of librdkafka properties, one `name=value` a line, or None for FLEXBUS_KAFKA_PROPERTIES.
            security: the properties themselves; then no file is read.

        Raises:
            EnvironmentProblem: no address is known, the file cannot be read (see `read_properties`), or it is plain
                beyond loopback.
        """
        address = bootstrap or os.environ.get("FLEXBUS_BOOTSTRAP")
        if not address:
            raise EnvironmentProblem(
                "No Kafka is named: set FLEXBUS_BOOTSTRAP or --bootstrap; `flexbus broker start` starts one."
            )
        named = properties or os.environ.get("FLEXBUS_KAFKA_PROPERTIES")
        if security is None:
            security = read_properties(Path(named)) if named else {}
        connection = cls(address, security)
        if connection.is_plain and not all(_is_loopback(one) for one in address.split(",")):
            _plain_beyond_loopback(address)
        return connection

    @property
    def is_plain(self) -> bool:
        """Whether what goes to and fro, passwords included, can be read and changed on its way."""
        return not self.security.get("security.protocol", "plaintext").lower().endswith("ssl")

    def for_aiokafka(self) -> dict[str, Any]:
        """Return what an aiokafka client has to know of the connection beside the address.

        Raises:
            EnvironmentProblem: it asks for a mechanism that aiokafka does not offer.
        """
        security = self.security
        protocol = security.get("security.protocol", "PLAINTEXT").upper()
        if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
            raise EnvironmentProblem(
                f"security.protocol={protocol} is unknown; take PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
            )
        found: dict[str, Any] = {"security_protocol": protocol}
        if protocol.endswith("SSL"):
            found["ssl_context"] = _tls(security)
        if protocol.startswith("SASL"):
            mechanism = security.get("sasl.mechanism", security.get("sasl.mechanisms", "SCRAM-SHA-256"))
            if mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
                raise EnvironmentProblem(
                    f"sasl.mechanism={mechanism} is not offered; take SCRAM-SHA-256, SCRAM-SHA-512 or PLAIN, or prove "
                    "yourself by a certificate (ssl.certificate.location, ssl.key.location)"
                )
            found["sasl_mechanism"] = mechanism
            found["sasl_plain_username"] = security["sasl.username"]
            found["sasl_plain_password"] = security["sasl.password"]
        return found

    def _base(self, trouble: Trouble | None) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap,
            "error_cb": trouble or Trouble(),
            "log_level": _SILENT,
            "reconnect.backoff.max.ms": 500,
            "retry.backoff.ms": 20,
            **self.security,
        }

    def _made(self, client: Callable[[dict[str, Any]], T], settings: dict[str, Any]) -> T:
        try:
            return client(settings)
        except (KafkaException, TypeError, ValueError) as error:  # librdkafka looks at its settings here
            # Its own words repeat values, which may be passwords and keys: only names are told, and no cause.
            text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            names = [name for name in ("bootstrap.servers", *self.security) if name in text]
            what = "does not know the setting" if "No such configuration" in text else "does not take the value of"
            named = ", ".join(names) or "a setting, or not all of them together"
            raise EnvironmentProblem(
                f"Kafka's client {what} {named}. Mend the properties file (FLEXBUS_KAFKA_PROPERTIES or "
                "--kafka-properties) or the address (FLEXBUS_BOOTSTRAP or --bootstrap)."
            ) from None

    def admin(self, trouble: Trouble | None = None) -> AdminClient:
        """Return an admin client; keep it in a variable until its futures are done."""
        return self._made(AdminClient, self._base(trouble))

    def producer(self, trouble: Trouble | None = None, **settings: Any) -> Producer:
        """Return an idempotent producer: retries neither lose, double nor reorder records."""
        return self._made(
            Producer,
            self._base(trouble)
            | {
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "message.max.bytes": MAX_RECORD_BYTES,
                "queue.buffering.max.kbytes": QUEUE_KBYTES,
                "linger.ms": 5,
                "compression.type": "lz4",
                "delivery.timeout.ms": 30_000,
            }
            | settings,
        )

    def transactional_producer(self, transactional_id: str, trouble: Trouble | None = None) -> Producer:
        """Return a producer whose id fences every earlier process of the same id."""
        return self.producer(
            trouble,
            **{
                "transactional.id": transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "delivery.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "linger.ms": 0,
            },
        )

    def reader(self, trouble: Trouble | None = None, **settings: Any) -> Consumer:
        """Return a consumer of committed records without a group: it says itself where it reads."""
        return self._made(
            Consumer,
            self._base(trouble)
            | {
                "group.id": "flexbus-reader",  # librdkafka wants one; nothing is ever committed under it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.queue.backoff.ms": 5,
                "queued.max.messages.kbytes": PREFETCH_KBYTES,
                "fetch.max.bytes": FETCH_BYTES,
                "max.partition.fetch.bytes": PARTITION_BYTES,
            }
            | settings,
        )

    def member(self, group: str, instance: str, trouble: Trouble | None = None, **settings: Any) -> Consumer:
        """Return a static group member of a consume-transform-produce loop; offsets go with its transactions."""
        return self.reader(
            trouble,
            **{
                "group.id": group,
                "group.instance.id": instance,
                "enable.partition.eof": False,
                # range gives the same partition of every topic to the same worker: inboxes stay beside their journal
                "partition.assignment.strategy": "range",
                "session.timeout.ms": SESSION_TIMEOUT_MS,
                "heartbeat.interval.ms": 1_000,
                # Somebody who reads thousands of inboxes asks seldom and is answered at once when anything comes.
                "fetch.wait.max.ms": 2_000,
                "max.poll.interval.ms": 600_000,
                **settings,
            },
        )
