r"""How a storage on a server is reached."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from urllib.parse import urlsplit

from audmodel.core.backend.host import without_login


_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Access:
    r"""How a storage on a server is reached, without anything secret.

    Args:
        url: URL of the server
        credentials: where they come from, empty if there are none
        places: where they were looked for
        authorities: certificates that are trusted, empty without TLS
        proxy: URL of the proxy, and what names it, empty if there is none
        settings: other settings of the host, and where they come from

    """

    url: str
    credentials: str
    places: str
    authorities: str
    proxy: str
    settings: tuple[str, ...] = field(default=())

    @property
    def is_here(self) -> bool:
        r"""Whether the server runs on this machine."""
        return urlsplit(self.url).hostname in _HERE


def proxy_name(url: str | None, variables: dict[str, str]) -> str:
    r"""URL of a proxy without its password, and the variable that names it.

    Args:
        url: URL of the proxy, if there is one
        variables: environment

    Returns:
        text, empty if there is no proxy

    """
    if not url:
        return ""
    names = (
        name
        for name, value in variables.items()
        if name.lower().endswith("_proxy") and value and url.endswith(value)
    )
    origin = next(names, "")
    return f"{without_login(url)} ({origin})" if origin else without_login(url)
