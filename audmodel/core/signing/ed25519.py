r"""Ed25519, of the package ``cryptography``."""

from __future__ import annotations

from audmodel.core.errors import MissingPackageError


def check() -> None:
    r"""Make sure that signatures can be made and verified.

    Raises:
        MissingPackageError: if the package ``cryptography`` is missing

    """
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401 (tried)
    except ImportError as error:
        raise MissingPackageError(
            "Signatures need the package 'cryptography'. "
            "Run pip install 'audmodel[sign]'."
        ) from error


def verify(public: bytes, signature: bytes, data: bytes) -> bool:
    r"""Whether a signature is right.

    Args:
        public: public key
        signature: 64 bytes
        data: what was signed

    Raises:
        MissingPackageError: if the package ``cryptography`` is missing

    """
    check()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
