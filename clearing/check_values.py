"""What any number or text of a case must be, whatever it means: 64 bits, and text that can be written down."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from flexbus.errors import Fault, FaultCode

__all__ = ["unfit_values"]

# Series and stacks, whose numbers have bounds of their own; the network, which is looked at by itself.
_ELSEWHERE = frozenset({"network", "slots"})
_GREATEST = 2**63 - 1


def unfit_values(path: str, value: Any) -> Iterator[Fault]:
    """Yield every whole number beyond 64 bits and every text that is not Unicode in a dataclass.

    Args:
        path: JSON path of the value.
        value: a dataclass; stacks, series and a network in it are left out.
    """
    for name in _names(value.__class__):
        item, here = getattr(value, name), f"{path}.{name}"
        if isinstance(item, tuple):
            for k, part in enumerate(item):
                if is_dataclass(part):
                    yield from unfit_values(f"{here}[{k}]", part)
        elif isinstance(item, int):
            if not -_GREATEST <= item <= _GREATEST:
                yield Fault(code=FaultCode.BAD_VALUE, path=here, message="is out of the range of 64 bits")
        elif isinstance(item, str):
            if not item.isascii() and any("\ud800" <= c <= "\udfff" for c in item):
                message = "has half of a surrogate pair: no Unicode text"
                yield Fault(code=FaultCode.BAD_VALUE, path=here, message=message)
        elif is_dataclass(item):
            yield from unfit_values(here, item)


@cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls) if f.name not in _ELSEWHERE)
