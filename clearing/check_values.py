"""What any number or text of a case must be, whatever it means: 64 bits, and text that can be written down."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
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
    names, values = _fields(value.__class__)
    for name, item in zip(names, values(value), strict=True):
        kind = _kind(item.__class__)
        if kind is None:
            continue
        here = f"{path}.{name}"
        if kind is tuple:
            if any(_kind(t) is object for t in set(map(type, item))):
                for k, part in enumerate(item):
                    if _kind(part.__class__) is object:
                        yield from unfit_values(f"{here}[{k}]", part)
        elif kind is int:
            if not -_GREATEST <= item <= _GREATEST:
                yield Fault(code=FaultCode.BAD_VALUE, path=here, message="is out of the range of 64 bits")
        elif kind is str:
            if not item.isascii() and any("\ud800" <= c <= "\udfff" for c in item):
                message = "has half of a surrogate pair: no Unicode text"
                yield Fault(code=FaultCode.BAD_VALUE, path=here, message=message)
        else:
            yield from unfit_values(here, item)


@cache
def _fields(cls: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Return the names of the fields of a dataclass that are looked at, and what reads them all."""
    names = tuple(f.name for f in fields(cls) if f.name not in _ELSEWHERE)
    return names, attrgetter(*names) if len(names) > 1 else lambda value: tuple(getattr(value, n) for n in names)


@cache
def _kind(cls: type) -> type | None:
    """Return how values of a type are looked at: as tuple, int, str or dataclass (object); None = not at all."""
    for kind in (tuple, int, str):
        if issubclass(cls, kind):
            return kind
    return object if is_dataclass(cls) else None
