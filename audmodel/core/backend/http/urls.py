r"""URLs of servers."""

from __future__ import annotations

from urllib.parse import SplitResult
from urllib.parse import urlsplit

from audmodel.core.errors import ConfigurationError


def server(url: str) -> SplitResult | None:
    r"""Parts of the URL of a server, which appears in messages.

    Returns:
        parts, ``None`` if it is no URL of a server

    Raises:
        ConfigurationError: if it holds credentials

    """
    if "@" in url:
        raise ConfigurationError(
            "The host of a repository must not hold credentials, "
            "see the documentation on authentication for their place."
        )
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None
