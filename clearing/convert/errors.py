"""What a converter cannot carry over is an error that names every element."""

from flexbus.errors import FlexbusError

__all__ = ["ConversionError"]


class ConversionError(FlexbusError):
    """A grid cannot be converted without losing something.

    Args:
        source: what was converted.
        faults: one sentence per element or finding, each naming it.
    """

    def __init__(self, source: str, faults: list[str]) -> None:
        shown = "; ".join(faults[:10]) + (f"; and {len(faults) - 10} more" if len(faults) > 10 else "")
        super().__init__(f"{source}: {shown}")
        self.source = source
        self.faults = tuple(faults)
