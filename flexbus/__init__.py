"""flexbus: the open message bus for electricity flexibility markets.

The package is the language of the bus: quantities, events, the catalogue of who may send and see what,
the wire format, the journal's hash chain, and the folds that turn a journal into market views. It is pure:
only `flexbus.client` and `flexbus.cli` touch a broker, a file or a clock.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flexbus.client import Client

__all__ = ["Client", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the SDK only when it is asked for, so that the language stays free of Kafka."""
    if name == "Client":
        from flexbus.client import Client

        return Client
    raise AttributeError(f"module 'flexbus' has no attribute {name!r}")
