"""The secure mode of the local broker: SASL/SCRAM over TLS with a certificate authority of its own.

Everything lies in `DATA_DIR/security`, readable by its owner only.
"""

import os
from pathlib import Path

__all__ = ["ADMIN", "client_config", "format_arguments", "is_secure", "prepare", "write_private"]

ADMIN = "admin"


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody but its owner can read, not even for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def is_secure(data_dir: Path) -> bool:
    """Say whether a broker directory was made secure."""
    return (data_dir / "security").is_dir()


def prepare(data_dir: Path) -> dict[str, str]:
    raise NotImplementedError


def format_arguments(data_dir: Path) -> list[str]:
    raise NotImplementedError


def client_config(data_dir: Path, principal: str) -> dict[str, str]:
    raise NotImplementedError
