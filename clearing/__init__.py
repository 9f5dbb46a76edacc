"""The numbers of flexbus: a local flexibility market cleared on its grid, right in AC. `clear(case) -> result`."""

from typing import TYPE_CHECKING, Any

from clearing.case import Case
from clearing.result import Result

if TYPE_CHECKING:
    from clearing.model import Model
    from clearing.pipeline import award, clear

__all__ = ["Case", "Model", "Result", "award", "clear"]


def __getattr__(name: str) -> Any:
    """Import what needs solvers when it is asked for: whoever certifies a result needs none."""
    if name in ("award", "clear"):
        from clearing import pipeline

        return getattr(pipeline, name)
    if name == "Model":
        from clearing.model import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
