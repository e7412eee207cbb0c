r"""How a bucket is reached, for people who look for a fault."""

from __future__ import annotations

import os

from audmodel.core.backend.access import Access
from audmodel.core.backend.access import proxy_name
from audmodel.core.backend.http import credentials
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.s3 import client as s3_client
from audmodel.core.backend.s3.endpoint import Endpoint


def describe(endpoint: Endpoint, host: str) -> Access:
    r"""How a bucket is reached.

    Args:
        endpoint: where and how to reach the host
        host: the host, as the user gave it

    Raises:
        ConfigurationError: if the configuration of the AWS tools cannot be used
        RepositoryError: if credentials cannot be retrieved

    """
    try:
        method, ca_bundle = s3_client.origin(endpoint)
    except RequestError as failure:
        raise failure.error("Could not look up credentials") from failure
    found = f"{method} of the AWS tools" if method else ""
    if endpoint.keys is not None:
        found = credentials.MINIO.origin(host) or "arguments of the backend"
    is_encrypted = endpoint.url.startswith("https://")
    return Access(
        endpoint.url,
        found,
        credentials.minio_places(),
        (ca_bundle or "those that come with boto3") if is_encrypted else "",
        proxy_name(_proxy(endpoint.url), dict(os.environ)),
        tuple(credentials.other_settings(host)),
    )


def _proxy(url: str) -> str | None:
    from botocore.utils import get_environ_proxies

    proxies: dict[str, str] = get_environ_proxies(url)
    return proxies.get(url.partition("://")[0])
