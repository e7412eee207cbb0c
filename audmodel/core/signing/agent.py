r"""Keys that an SSH agent holds."""

from __future__ import annotations

import os
import socket

from audmodel.core.errors import InvalidInputError
from audmodel.core.signing.wire import Reader
from audmodel.core.signing.wire import WireError
from audmodel.core.signing.wire import string


VARIABLE = "SSH_AUTH_SOCK"
_LIST, _LISTED = 11, 12
_SIGN, _SIGNED = 13, 14
_MAX_BYTES = 1 << 18
# Seconds: an agent may ask its user first
_TIMEOUT = 120


def public_keys() -> list[bytes]:
    r"""Public keys of the agent, none if there is no agent."""
    try:
        reader = _request(bytes([_LIST]), _LISTED)
        found = []
        for _ in range(reader.number()):
            found.append(reader.string())
            reader.string()
    except (OSError, WireError):
        return []
    return found


def sign(key: bytes, data: bytes) -> bytes:
    r"""Signature by a key of the agent.

    Args:
        key: public key, as SSH encodes it
        data: what to sign

    Raises:
        InvalidInputError: if the agent does not sign

    """
    message = bytes([_SIGN]) + string(key) + string(data) + bytes(4)
    try:
        return _request(message, _SIGNED).string()
    except (OSError, WireError) as error:
        raise InvalidInputError(f"The SSH agent did not sign: {error}.") from error


def _request(message: bytes, expected: int) -> Reader:
    r"""Response of the agent."""
    path = os.environ.get(VARIABLE)
    if not path:
        raise OSError(f"{VARIABLE} is not set")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(path)
        connection.sendall(string(message))
        with connection.makefile("rb") as file:
            size = int.from_bytes(file.read(4), "big")
            if not 0 < size <= _MAX_BYTES:
                raise WireError("its response is not valid")
            response = file.read(size)
    if response[:1] != bytes([expected]):
        raise WireError("it refuses")
    return Reader(response[1:])
