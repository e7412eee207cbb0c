r"""Signatures as ``ssh-keygen -Y sign`` makes them.

The format is that of ``PROTOCOL.sshsig`` of OpenSSH.
A signature is over a digest of the message, and over a namespace,
which keeps it from being used as a signature for something else.

"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
import hashlib
import re

from audmodel.core.signing import ed25519
from audmodel.core.signing.wire import Reader
from audmodel.core.signing.wire import WireError
from audmodel.core.signing.wire import string


NAMESPACE = "audmodel"
ED25519 = b"ssh-ed25519"
_MAGIC = b"SSHSIG"
_VERSION = 1
_DIGESTS = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_ARMOR = re.compile(rf"\s*{_BEGIN}\r?\n([A-Za-z0-9+/=\s]+){_END}\s*", re.A)
_LINE = 70
_KEY_SIZE = 32
_SIGNATURE_SIZE = 64


class SignatureError(ValueError):
    r"""A signature is not valid. Its text says why."""


@dataclass(frozen=True)
class Signature:
    r"""Signature that was parsed, and not verified.

    Args:
        key: public key, as SSH encodes it
        namespace: what it is for
        digest: name of the digest of the message
        reserved: bytes without a meaning, which are signed
        content: signature by the key, as SSH encodes it

    """

    key: bytes
    namespace: bytes
    digest: bytes
    reserved: bytes
    content: bytes

    @property
    def fingerprint(self) -> str:
        r"""Fingerprint of the key."""
        return fingerprint(self.key)

    def check(self, message: bytes) -> None:
        r"""Make sure that the key has signed a message for audmodel.

        Raises:
            SignatureError: if it has not

        """
        if self.namespace != NAMESPACE.encode():
            shown = self.namespace[:50].decode(errors="replace")
            raise SignatureError(f"it is for {shown!r}, not for '{NAMESPACE}'")
        data = _signed(message, self.namespace, self.digest, self.reserved)
        public = _ed25519(self.key, _KEY_SIZE)
        signature = _ed25519(self.content, _SIGNATURE_SIZE)
        if not ed25519.verify(public, signature, data):
            raise SignatureError("it is not a signature of this header")


def fingerprint(key: bytes) -> str:
    r"""Fingerprint of a public key, as OpenSSH shows it."""
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def public_key(raw: bytes) -> bytes:
    r"""Ed25519 key as SSH encodes it."""
    return string(ED25519) + string(raw)


def sign(message: bytes, key: bytes, sign_data: Callable[[bytes], bytes]) -> bytes:
    r"""Sign a message.

    Args:
        message: what to sign
        key: public key, as SSH encodes it
        sign_data: signs bytes with the private key,
            and returns the signature as SSH encodes it

    Returns:
        signature in its text form

    """
    namespace = NAMESPACE.encode()
    content = sign_data(_signed(message, namespace, b"sha512", b""))
    parts = (key, namespace, b"", b"sha512", content)
    blob = _MAGIC + _VERSION.to_bytes(4, "big") + b"".join(map(string, parts))
    text = base64.b64encode(blob).decode()
    lines = [text[k : k + _LINE] for k in range(0, len(text), _LINE)]
    return "\n".join((_BEGIN, *lines, _END, "")).encode()


def parse(text: bytes) -> Signature:
    r"""Read a signature.

    Args:
        text: its text form

    Raises:
        SignatureError: if it is none

    """
    match = _ARMOR.fullmatch(text.decode("ascii", errors="replace"))
    if match is None:
        raise SignatureError("it is not an SSH signature")
    try:
        blob = base64.b64decode("".join(match[1].split()), validate=True)
        reader = Reader(blob)
        if reader.take(len(_MAGIC)) != _MAGIC:
            raise SignatureError("it is not an SSH signature")
        if (version := reader.number()) != _VERSION:
            raise SignatureError(f"its version {version} is not known")
        key, namespace, reserved, digest, content = (reader.string() for _ in range(5))
        reader.end()
    except (binascii.Error, WireError) as error:
        raise SignatureError(f"it is damaged: {error}") from error
    return Signature(key, namespace, digest, reserved, content)


def _signed(message: bytes, namespace: bytes, digest: bytes, reserved: bytes) -> bytes:
    r"""Bytes that the key signs."""
    make = _DIGESTS.get(digest)
    if make is None:
        raise SignatureError(f"its digest {digest[:20]!r} is not known")
    parts = (namespace, reserved, digest, make(message).digest())
    return _MAGIC + b"".join(map(string, parts))


def _ed25519(blob: bytes, size: int) -> bytes:
    r"""Key or signature of the only algorithm that is supported."""
    try:
        reader = Reader(blob)
        algorithm, content = reader.string(), b""
        if algorithm == ED25519:
            content = reader.string()
            reader.end()
    except WireError as error:
        raise SignatureError(f"it is damaged: {error}") from error
    if algorithm != ED25519:
        shown = algorithm[:40].decode(errors="replace")
        raise SignatureError(f"it is by a key of type {shown!r}, not 'ssh-ed25519'")
    if len(content) != size:
        raise SignatureError("it is damaged: a length is wrong")
    return content
