"""The numbers of flexbus: a local flexibility market cleared on its grid, right in AC. `clear(case) -> result`."""

from clearing.case import Case
from clearing.pipeline import clear
from clearing.result import Result

__all__ = ["Case", "Result", "clear"]
