"""Whether an event's fields are all within their ranges, by a function compiled once per class.

Almost all events are fine, and an offer has a hundred numbers: this is the sequencer's hot path. It says only yes or
no; what is wrong, and where, is found out by the slow way in `flexbus.validation.units`, from the same plan.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["fine_of"]


def fine_of(
    plan: Any,
    texts: Mapping[str, Callable[[str], object]],
    lengths_s: tuple[int, ...],
    lists: Mapping[Any, Callable[[Any], bool]],
) -> Callable[[Any], bool]:
    """Return the function that tells whether a value is fine.

    Args:
        plan: what to look at, a plan of `flexbus.validation.units`.
        texts: what tells by kind whether a text is fine.
        lengths_s: slot lengths that there are, s.
        lists: by the plan of their items, what tells quicker of whole lists whether all items are fine.
    """
    names: dict[str, Any] = {"finite": math.isfinite, "lengths": lengths_s}
    names |= {f"{kind}_fine": fine for kind, fine in texts.items()}
    names |= {f"list_{number}": fine for number, fine in enumerate(lists.values())}
    short = {item: f"list_{number}" for number, item in enumerate(lists)}
    body = "\n".join(f"    {line}" for line in _lines(plan, "v", 0, short))
    exec(f"def fine(v):\n{body}\n    return True", names)
    function: Callable[[Any], bool] = names["fine"]
    return function


def _lines(plan: Any, value: str, depth: int, lists: Mapping[Any, str]) -> Iterator[str]:
    """Yield the source that returns False when a value is not fine."""
    x = f"x{depth}"
    for name, allowed in plan.numbers:
        yield f"{x} = {value}.{name}"
        yield f"if {x} is not None and not {allowed.low} <= {x} <= {allowed.high}: return False"
    for name, allowed in plan.series:
        yield f"for {x} in {value}.{name}:"
        yield f"    if {x} is not None and not {allowed.low} <= {x} <= {allowed.high}: return False"
    for name, kind in plan.texts:
        yield f"{x} = {value}.{name}"
        yield f"if {x} is not None and not {kind}_fine({x}): return False"
    for name, kind in plan.text_lists:
        yield f"for {x} in {value}.{name}:"
        yield f"    if not {kind}_fine({x}): return False"
    for name in plan.floats:
        yield f"{x} = {value}.{name}"
        yield f"if {x} is not None and not finite({x}): return False"
    if plan.sliced:
        yield f"if {value}.resolution_s not in lengths: return False"
    if plan.aligned:
        yield f"if {value}.start_ms % ({value}.resolution_s * 1000): return False"
    inner = f"v{depth + 1}"
    for name, record in plan.records:
        yield f"{inner} = {value}.{name}"
        yield f"if {inner} is not None:"
        yield from (f"    {line}" for line in (*_lines(record, inner, depth + 1, lists), "pass"))
    for name, record in plan.record_lists:
        if record in lists:
            yield f"if not {lists[record]}({value}.{name}): return False"
            continue
        yield f"for {inner} in {value}.{name}:"
        yield from (f"    {line}" for line in (*_lines(record, inner, depth + 1, lists), "pass"))
