r"""Where and how to reach a bucket, by configuration and environment."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
import re
from urllib.parse import urlsplit

from audmodel.core.backend.http import credentials
from audmodel.core.backend.http.urls import server
from audmodel.core.errors import ConfigurationError


CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 20.0
_AWS_HOST = re.compile(
    r"s3(?:-fips)?(?:[.-]dualstack)?(?:[.-](?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?"
    r"\.amazonaws\.com(?:\.cn)?"
)


@dataclass(frozen=True)
class Endpoint:
    r"""Where and how to reach the buckets of a host.

    Args:
        url: URL of the host
        region: region that requests are signed for, if it is known
        addressing_style: ``"path"`` or ``"virtual"``
        connect_timeout: seconds to wait for a connection
        read_timeout: seconds to wait for data
        ca_bundle: file with certificates to trust,
            ``None`` for those that come with boto3
        keys: access key and secret key, ``None`` for what boto3 finds
        encryption: arguments of requests that store an object,
            which make the storage encrypt it

    """

    url: str
    region: str | None
    addressing_style: str
    connect_timeout: float
    read_timeout: float | None
    ca_bundle: str | None
    keys: tuple[str, str] | None = field(repr=False)
    encryption: tuple[tuple[str, str], ...] = ()


def endpoint(
    host: str,
    bucket: str,
    *,
    keys: tuple[str, str] | None = None,
    secure: bool | None = None,
) -> Endpoint:
    r"""How to reach a bucket, from host name, environment and configuration.

    Args:
        host: host name, ``host:port`` or URL
        bucket: name of the bucket
        keys: access key and secret key, looked up if not given
        secure: whether to use TLS, looked up if not given

    Raises:
        ConfigurationError: if host or configuration cannot be used

    """
    settings = credentials.minio_settings(host)
    url = urlsplit(_url(host, settings, secure))
    where = f"for {host!r} in the configuration file of S3 hosts"
    name = url.hostname or ""
    aws = _AWS_HOST.fullmatch(name)
    style = settings.get("addressing_style") or (
        # The certificates of AWS cover no bucket names with dots
        "virtual" if aws and "." not in bucket else "path"
    )
    if style not in ("path", "virtual"):
        raise ConfigurationError(
            f"addressing_style {where} has to be path or virtual, not {style!r}."
        )
    access_key, secret_key = settings.get("access_key"), settings.get("secret_key")
    if keys is None and access_key and secret_key:
        keys = access_key, secret_key
    if keys is not None:
        credentials.register_secrets(*keys)
        # The secret key signs what is sent, and is not sent itself
        credentials.check(f"The credentials for {host!r}", keys[0])
    connect = credentials.seconds(
        settings.get("connect_timeout") or str(CONNECT_TIMEOUT),
        f"connect_timeout {where}",
    )
    return Endpoint(
        url.geturl(),
        settings.get("region") or (aws["region"] if aws else None),
        style,
        # Without a limit it would be up to the operating system: minutes
        CONNECT_TIMEOUT if connect is None else connect,
        credentials.seconds(
            settings.get("read_timeout") or str(READ_TIMEOUT),
            f"read_timeout {where}",
        ),
        credentials.ca_bundle("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
        keys,
        _encryption(settings, where),
    )


def _encryption(settings: dict[str, str], where: str) -> tuple[tuple[str, str], ...]:
    kind, key = settings.get("server_side_encryption"), settings.get("sse_kms_key_id")
    credentials.check(f"server_side_encryption and sse_kms_key_id {where}", kind, key)
    if key:
        return (
            ("ServerSideEncryption", kind or "aws:kms"),
            ("SSEKMSKeyId", key),
        )
    return (("ServerSideEncryption", kind),) if kind else ()


def _url(host: str, settings: dict[str, str], secure: bool | None) -> str:
    scheme, separator, rest = host.rpartition("://")
    if separator:
        if scheme not in ("http", "https"):
            raise ConfigurationError(
                f"The host {host!r} has to start with https:// or http://, "
                "or with neither."
            )
    else:
        if secure is None:
            secure = credentials.boolean(
                settings.get("secure", "True"),
                f"secure for {host!r} in the configuration file of S3 hosts",
            )
        scheme = "https" if secure else "http"
    url = server(f"{scheme}://{rest.rstrip('/')}")
    if url is None or url.path or url.query or url.fragment:
        raise ConfigurationError(
            f"{host!r} is not a host name, host:port, or URL of a host."
        )
    return url.geturl()
