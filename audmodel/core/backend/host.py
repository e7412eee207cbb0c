r"""Hosts of repositories, without what may be secret in them."""

from __future__ import annotations

import re


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
    login = "***" if before != scheme else ""
    return f"{scheme}{login}{at}{rest}" if at else host
