r"""Private keys that models are signed with: in files of OpenSSH, or in an agent."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

from audmodel.core.errors import InvalidInputError
from audmodel.core.signing import agent
from audmodel.core.signing import ed25519
from audmodel.core.signing import sshsig
from audmodel.core.signing.wire import string


_MAX_BYTES = 1 << 16
_ADVICE = "Make one with ssh-keygen -t ed25519."


@dataclass(frozen=True)
class SigningKey:
    r"""Key that can sign.

    Args:
        public: public key, as SSH encodes it
        sign_data: signs bytes, returns the signature as SSH encodes it

    """

    public: bytes
    sign_data: Callable[[bytes], bytes]

    def sign(self, message: bytes) -> bytes:
        r"""Signature of a message, in its text form."""
        return sshsig.sign(message, self.public, self.sign_data)


def load(path: str, passphrase: Callable[[], str] | None = None) -> SigningKey:
    r"""Key of a file.

    The agent signs if the file is a public key,
    or the key is encrypted and the agent has it.

    Args:
        path: file with a private key, or with a public key that the agent has
        passphrase: returns the passphrase of a key that is encrypted

    Raises:
        MissingPackageError: if the package ``cryptography`` is missing
        InvalidInputError: if the file holds no key that can be used

    """
    ed25519.check()
    content = _content(path)
    if not content.lstrip().startswith(b"-----BEGIN"):
        return _of_agent(_public(content, path), path)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = _unencrypted(content)
        if key is None:
            public = _public_beside(path)
            if public is not None and public in agent.public_keys():
                return _of_agent(public, path)
            if passphrase is None:
                raise InvalidInputError(
                    f"The key '{path}' is encrypted. Add it to the agent with "
                    "ssh-add, or give its passphrase."
                )
            key = serialization.load_ssh_private_key(content, passphrase().encode())
    except InvalidInputError:
        raise
    except UnsupportedAlgorithm as error:
        raise InvalidInputError(
            f"The key '{path}' cannot be decrypted: {error}. "
            "Add it to the agent with ssh-add, or run pip install bcrypt."
        ) from error
    except Exception as error:
        raise InvalidInputError(
            f"The key '{path}' cannot be used: it is damaged, of an unknown type, "
            f"or its passphrase is another one. {_ADVICE}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInputError(
            f"The key '{path}' is not of type ssh-ed25519, the only one "
            f"that signs models. {_ADVICE}"
        )
    return SigningKey(
        sshsig.public_key(key.public_key().public_bytes_raw()),
        lambda data: string(sshsig.ED25519) + string(key.sign(data)),
    )


def _unencrypted(content: bytes) -> object | None:
    r"""Private key, ``None`` if it is encrypted."""
    from cryptography.hazmat.primitives import serialization

    try:
        return serialization.load_ssh_private_key(content, None)
    except (TypeError, ValueError) as error:
        # The type depends on the release of the package
        if "password" not in str(error).lower():
            raise
        return None


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise InvalidInputError(
            f"The key '{path}' cannot be read: {error.strerror}."
        ) from error


def _public_beside(path: str) -> bytes | None:
    r"""Public key that belongs to a private one, if its file is there."""
    try:
        return _public(_content(f"{path}.pub"), path)
    except InvalidInputError:
        return None


def _public(content: bytes, path: str) -> bytes:
    words = content.split(maxsplit=2)
    if len(words) < 2 or words[0] != sshsig.ED25519:
        raise InvalidInputError(
            f"'{path}' is not a key of type ssh-ed25519, the only one "
            f"that signs models. {_ADVICE}"
        )
    try:
        return base64.b64decode(words[1], validate=True)
    except binascii.Error as error:
        raise InvalidInputError(f"The key '{path}' is damaged.") from error


def _of_agent(public: bytes, path: str) -> SigningKey:
    if public not in agent.public_keys():
        raise InvalidInputError(
            f"'{path}' is a public key, and no agent has the private one. "
            "Add it with ssh-add, or name the file of the private key."
        )
    return SigningKey(public, lambda data: agent.sign(public, data))
