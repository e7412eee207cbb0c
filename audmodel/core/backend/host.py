r"""Hosts of repositories, and other texts, without what may be secret in them."""

from __future__ import annotations

from collections.abc import Iterable
import re


REDACTED = "***"
# Shorter secrets protect nothing, and are part of many words
_SHORTEST = 4
# What a URL begins with, maybe behind the name of a backend
_SCHEME = re.compile(r"(?:(?:[\w-]+:)?https?|[A-Za-z][\w+.-]*)://")


def without_login(host: str) -> str:
    r"""Host without the user and password that stand before it.

    This part may be a secret, and hosts are shown, logged and pickled.
    It may hold any characters.

    Returns:
        host, with asterisks in place of what stood before it

    """
    before, at, rest = host.rpartition("@")
    match = _SCHEME.match(before)
    scheme = match[0] if match else ""
    login = REDACTED if before != scheme else ""
    return f"{scheme}{login}{at}{rest}" if at else host


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    r"""Text with asterisks in place of secrets, but for those that are too short."""
    # One secret may be the beginning of another
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, REDACTED)
    return text
