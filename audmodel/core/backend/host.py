r"""Hosts of repositories, without what may be secret in them."""

from __future__ import annotations


def without_login(host: str) -> str:
    r"""Host without the user and password that stand before it.

    This part may be a secret, and hosts are shown, logged and pickled.

    Returns:
        host, with asterisks in place of what stood before it

    """
    scheme, separator, rest = host.rpartition("://")
    login, at, rest = rest.rpartition("@")
    return f"{scheme}{separator}{'***' if login else ''}{at}{rest}"
