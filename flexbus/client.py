"""The SDK: produce events as a party, read out topics, get frames."""

__all__ = ["Client"]


class Client:
    """Placeholder until the module is written in this same change set."""
