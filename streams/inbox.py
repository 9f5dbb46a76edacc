"""A record of an inbox, as a client of Kafka has read it, as the input that it is."""

from confluent_kafka import Message

from flexbus.reader import quickly
from streams.inputs import Input

__all__ = ["input_of"]

_quick_input = quickly(Input)


def input_of(message: Message) -> Input:
    """Return what a record of an inbox says.

    Args:
        message: the record; a header whose name is no text leaves it without headers, which nobody accepts.
    """
    try:
        headers = tuple(message.headers() or ())
    except UnicodeDecodeError:  # it is the input that is rejected, not the process that ends
        headers = ()
    return _quick_input(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        received_at_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=headers,
    )
