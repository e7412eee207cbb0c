r"""Which storage a repository is, however it is spelled."""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult
from urllib.parse import urlsplit


_FOLDER = "audmodel.core.backend.filesystem:FileSystem"
_S3 = "audmodel.core.backend.s3.backend:S3"
_ARTIFACTORY = "audmodel.core.backend.artifactory.backend:Artifactory"
_DEFAULT_PORTS = (None, 80, 443)
# Names of buckets are unique among all regions
_AMAZON = re.compile(r"s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com")


def identity(backend: object, host: str, name: str) -> tuple[str, ...]:
    r"""Values that are equal for repositories that are the same.

    Folders are the same if their paths lead to the same place,
    links are followed.
    Servers are the same if host name and port are;
    ports that HTTP and HTTPS use by default count as one.
    For other kinds of storages,
    host and name have to be spelled alike.

    Args:
        backend: class of the backend, or where to import it from
        host: host of the repository
        name: name of the repository

    Returns:
        values to compare

    """
    kind = backend if isinstance(backend, str) else _class_name(backend)
    if kind == _FOLDER:
        path = os.path.join(os.path.expanduser(host), name)
        return kind, os.path.realpath(path)
    if kind in (_S3, _ARTIFACTORY):
        try:
            return kind, *_server(host), name
        except ValueError:
            pass  # the error comes when the repository is used
    return kind, host, name


def is_server(backend: object) -> bool:
    r"""Whether the hosts of a backend are known to be servers.

    Args:
        backend: class of the backend, or where to import it from

    Returns:
        ``False`` if they may be anything

    """
    kind = backend if isinstance(backend, str) else _class_name(backend)
    return kind in (_S3, _ARTIFACTORY)


def server_name(backend: object, host: str) -> str | None:
    r"""Name of the server that a repository is on.

    Args:
        backend: class of the backend, or where to import it from
        host: host of the repository

    Returns:
        name, ``None`` if it is on none, or on a storage
        of a kind that is not known here

    """
    if not is_server(backend):
        return None
    try:
        return _parsed(host).hostname
    except ValueError:
        return None


def _server(host: str) -> tuple[str, str, str]:
    r"""Host name, port and path of a server."""
    url = _parsed(host)
    port = "" if url.port in _DEFAULT_PORTS else str(url.port)
    server = (url.hostname or "").rstrip(".")
    if _AMAZON.fullmatch(server):
        server = "s3.amazonaws.com"
    return server, port, url.path.rstrip("/")


def _parsed(host: str) -> SplitResult:
    return urlsplit(host if "://" in host else f"https://{host}")


def _class_name(backend: object) -> str:
    kind = backend if isinstance(backend, type) else type(backend)
    return f"{kind.__module__}:{kind.__qualname__}"
