"""Ed25519 signatures (RFC 8032) over an event's value as it lies on the inbox; in the header `ce_signature`; pure."""

from functools import lru_cache
from typing import Any

__all__ = ["PUBLIC_KEY_BYTES", "is_signed_by", "private_key", "public_key", "sign"]

PUBLIC_KEY_BYTES = 32


def is_signed_by(key: bytes, signature: bytes, value: bytes) -> bool:
    """Tell whether a signature over a value was made with the private half of a key.

    Args:
        key: public key, 32 bytes; one that is no point of the curve has signed nothing.
        signature: 64 bytes.
        value: what was signed.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        _public(key).verify(signature, value)
    except (InvalidSignature, ValueError):
        return False
    return True


def private_key(pem: bytes) -> Any:
    """Return the private key of a PEM file.

    Raises:
        ValueError: it is no Ed25519 private key without a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not a PEM private key without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the private key is of another kind than Ed25519")
    return key


def public_key(key: Any) -> bytes:
    """Return the public half of a private key, 32 bytes."""
    return bytes(key.public_key().public_bytes_raw())


def sign(key: Any, value: bytes) -> bytes:
    """Return the signature over a value, 64 bytes."""
    return bytes(key.sign(value))


@lru_cache(maxsize=4096)
def _public(key: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(key)
