"""How much a participant may ask of the broker: rights bound where it writes, not how much, and inboxes are for ever.

Neither of our Kafka libraries can set quotas, so the call of Kafka's protocol is described here.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import DescribeClientQuotasRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Float64, Int16, Int32, Schema, String

from streams.kafka import Connection, environment_problem

__all__ = ["BYTES", "PERCENT", "QUOTAS", "give_quotas", "quotas_of", "set_quotas"]

# Three thousand offers a second, of which the whole bus takes some ten thousand; a market operator who sends faster
# waits a little. The share is of one thread of the broker, in percent.
BYTES, PERCENT = "producer_byte_rate", "request_percentage"
QUOTAS: Mapping[str, float] = {BYTES: 1_000_000.0, PERCENT: 100.0}
_TIMEOUT_S = 30.0
_ENTITY = ("entity", Array(("entity_type", String("utf-8")), ("entity_name", String("utf-8"))))
_ANY = 2  # Kafka's word for every name that has some


class _AlterResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 49, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("entries", Array(("error_code", Int16), ("error_message", String("utf-8")), _ENTITY)),
    )


class _AlterStruct(RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, RESPONSE_TYPE = 49, 0, _AlterResponse
    SCHEMA = Schema(
        (
            "entries",
            Array(_ENTITY, ("ops", Array(("key", String("utf-8")), ("value", Float64), ("remove", Boolean)))),
        ),
        ("validate_only", Boolean),
    )


class _Alter(Request[_AlterStruct]):  # type: ignore[misc]
    API_KEY = 49

    def __init__(self, entries: list[Any]) -> None:
        self._entries = entries

    def build(self, request_struct_class: type[_AlterStruct]) -> _AlterStruct:
        return request_struct_class(self._entries, False)


def give_quotas(connection: Connection, principals: Iterable[str]) -> None:
    """Give those of some principals that have no quotas `QUOTAS`; see `set_quotas`."""
    set_quotas(connection, set(principals) - quotas_of(connection).keys(), QUOTAS)


def set_quotas(connection: Connection, principals: Iterable[str], quotas: Mapping[str, float]) -> None:
    """Give each of some principals these quotas; all others stay.

    Args:
        connection: the broker, as a principal that may alter its configuration.
        principals: users; those of our own services should have none, as the bus would wait for itself.
        quotas: by Kafka's name: bytes per second, percent of a thread.

    Raises:
        EnvironmentProblem: the broker does not answer or refuses.
    """
    operations = [(name, value, False) for name, value in quotas.items()]
    entries = [([("user", name)], operations) for name in sorted(set(principals))]
    if entries and operations:
        answer = _asked(connection, _Alter(entries))
        _raise_for(connection, ((code, text) for code, text, _ in answer.entries))


def quotas_of(connection: Connection) -> dict[str, dict[str, float]]:
    """Return the quotas by user of all that have some.

    Raises:
        EnvironmentProblem: the broker does not answer or refuses.
    """
    answer = _asked(connection, DescribeClientQuotasRequest([("user", _ANY, None)], True))
    _raise_for(connection, [(answer.error_code, answer.error_message)])
    return {name: dict(values) for ((_, name),), values in answer.entries or ()}


def _raise_for(connection: Connection, told: Iterable[tuple[int, str | None]]) -> None:
    for code, text in told:
        if code:
            raise environment_problem(for_code(code)(f"quotas: {text}" if text else "quotas"), connection.bootstrap)


def _asked(connection: Connection, request: Any) -> Any:
    async def asked() -> Any:
        client = AIOKafkaClient(bootstrap_servers=connection.bootstrap, **connection.for_aiokafka())
        try:
            await client.bootstrap()
            # Any node takes it on to the controller.
            return await client.send(client.get_random_node(), request)
        finally:
            await client.close()

    try:
        return asyncio.run(asyncio.wait_for(asked(), _TIMEOUT_S))
    except (KafkaError, TimeoutError, OSError) as error:
        raise environment_problem(error, connection.bootstrap) from error
