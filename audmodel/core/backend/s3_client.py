r"""Clients of botocore for hosts, made once and used again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
import functools
import os
import re
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

from audmodel.core.backend import connections
from audmodel.core.backend import credentials
from audmodel.core.backend import s3_answers
from audmodel.core.backend.shared import Shared
from audmodel.core.backend.transfer import FailureError
from audmodel.core.backend.transfer import Kind
from audmodel.core.backend.transfer import read_body
from audmodel.errors import ConfigurationError


# Connections that are kept alive per client, far more than workers
_POOL = 256
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 20.0
# Largest answer that is no object, e.g. a thousand names
LARGEST_ANSWER = 16 * 1024 * 1024
# Longer explanations of an error are not read
LARGEST_ERROR = 64 * 1024
_AWS_HOST = re.compile(
    r"s3(?:-fips)?(?:[.-]dualstack)?(?:[.-](?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?"
    r"\.amazonaws\.com(?:\.cn)?"
)
# What the chain of botocore looks at
_CHAIN = re.compile("AWS_|HOME$|USERPROFILE$|BOTO_CONFIG$")


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
            ``None`` for those that come with botocore
        keys: access key and secret key, ``None`` for the chain of botocore

    """

    url: str
    region: str | None
    addressing_style: str
    connect_timeout: float
    read_timeout: float | None
    ca_bundle: str | None
    keys: tuple[str, str] | None = field(repr=False)


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

    Returns:
        endpoint

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
        credentials.hide(*keys)
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
        _ca_bundle(),
        keys,
    )


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
    if "@" in rest:
        # The URL appears in messages
        raise ConfigurationError(
            "The host of a repository must not hold credentials, "
            "see the documentation on authentication for their place."
        )
    try:
        url = urlsplit(f"{scheme}://{rest.rstrip('/')}")
        valid = bool(url.hostname) and url.port != 0
    except ValueError:
        valid = False
    if not valid or url.path or url.query or url.fragment:
        raise ConfigurationError(
            f"{host!r} is not a host name, host:port, or URL of a host."
        )
    return url.geturl()


def _ca_bundle() -> str | None:
    r"""File with certificates, from the variables that tools commonly use.

    A variable that is set but empty must not switch verification off,
    as it does in botocore.
    """
    for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        path = os.environ.get(name)
        if path:
            return path
    return None


_clients: Shared[Any] = Shared()


def client(endpoint: Endpoint, *, anonymous: bool = False) -> Any:
    r"""Client for an endpoint, the same one as before if nothing changed.

    Args:
        endpoint: where and how to reach the host
        anonymous: whether to leave credentials aside

    Returns:
        client of botocore

    Raises:
        ConfigurationError: if the configuration of botocore cannot be used
        FailureError: if credentials cannot be had

    """
    chain: tuple[tuple[str, str], ...] = ()
    if endpoint.keys is None and not anonymous:
        chain = tuple(
            sorted(item for item in os.environ.items() if _CHAIN.match(item[0]))
        )
    proxies = tuple(
        sorted(
            item for item in os.environ.items() if item[0].lower().endswith("_proxy")
        )
    )
    key = (endpoint, anonymous, chain, proxies)
    return _clients.get(key, lambda: _make(endpoint, anonymous))


def _make(endpoint: Endpoint, anonymous: bool) -> Any:
    from botocore import UNSIGNED
    from botocore import handlers
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    import botocore.session

    try:
        core = botocore.session.get_session()
        keys = endpoint.keys
        if keys is not None:
            core.set_credentials(*keys)
        elif not anonymous:
            _skip_metadata_service(core)
            _check(core.get_credentials())
        anonymous = anonymous or core.get_credentials() is None
        ca_bundle = endpoint.ca_bundle or core.get_config_variable("ca_bundle")
        style: Any = endpoint.addressing_style
        # A server that wants another one names it, and boto3 listens
        region = endpoint.region or core.get_config_variable("region") or "us-east-1"
        core.register_component(
            "data_loader", _descriptions(core.get_config_variable("data_path"))
        )
        # Objects for everything in a bucket, which boto3 adds, take as long again
        made: Any = core.create_client(
            "s3",
            endpoint_url=endpoint.url,
            region_name=region,
            verify=ca_bundle or True,
            config=Config(
                signature_version=UNSIGNED if anonymous else "s3v4",
                connect_timeout=endpoint.connect_timeout,
                read_timeout=endpoint.read_timeout,
                max_pool_connections=_POOL,
                tcp_keepalive=True,
                # Repeating a conditional write blindly gives wrong answers
                retries={"total_max_attempts": 1},
                # Many stores do not know the newer checksum headers
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": style},
                user_agent_extra="audmodel",
            ),
        )
        # All managers of connections share this dictionary
        pools = made._endpoint.http_session._pool_classes_by_scheme  # noqa: SLF001
        pools.update(connections.guarded(pools))
        # Asking whether a body is welcome takes a round trip for each write
        made.meta.events.unregister("before-call.s3", handlers.add_expect_header)
        made._endpoint.http_session = _Session(made._endpoint.http_session)  # noqa: SLF001
        made.meta.events.register("before-parse.s3", _check_length)
        made.meta.events.register_first("needs-retry.s3.HeadBucket", _leave_circle)
        return made
    except _credential_errors() as error:
        raise s3_answers.unanswered(error) from error
    except ConfigurationError:
        raise
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"The configuration of the AWS tools cannot be used: {error}"
        ) from error


def closing_on_error(client: Any) -> AbstractContextManager[None]:
    r"""Close the body of an answer that nobody gets to see.

    Args:
        client: client that asks inside the block

    """
    session: _Session = client._endpoint.http_session  # noqa: SLF001
    return session.closing_on_error()


@functools.cache
def _descriptions(path: str | None) -> Any:
    r"""What reads descriptions of services, once for all clients."""
    from botocore.loaders import create_loader

    return create_loader(path)


class _Session:
    r"""What sends requests for botocore, which reads answers of any length.

    Args:
        session: session of botocore

    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._local = threading.local()

    @contextmanager
    def closing_on_error(self) -> Iterator[None]:
        r"""Close the body of an answer that nobody gets to see.

        That is up to who reads it, unless something else of the answer is wrong.
        """
        self._local.body = None
        try:
            yield
        except BaseException:
            if self._local.body is not None:
                self._local.body.close()
            raise
        finally:
            self._local.body = None

    def send(self, request: Any) -> Any:
        r"""Send a request, and read no more than makes sense of the answer.

        Args:
            request: request of botocore

        Returns:
            answer of botocore

        """
        from botocore.exceptions import ResponseStreamingError

        streams = request.stream_output
        request.stream_output = True
        try:
            response = self._session.send(request)
        finally:
            # Tracebacks with variables would show who signed it
            del request
        if not streams or response.status_code >= 300:
            limit = LARGEST_ERROR if response.status_code >= 300 else LARGEST_ANSWER
            body = read_body(response.raw, limit)
            if body is None:
                response.raw.close()
                if response.status_code < 300:
                    raise ResponseStreamingError(error="The answer is too long.")
                # What is left of it has another length
                response.headers.pop("Content-Length", None)
            # The status says enough about an error
            response._content = body or b""  # noqa: SLF001
        else:
            self._local.body = response.raw
        return response

    def close(self) -> None:
        r"""Close all connections."""
        self._session.close()


def _check_length(
    operation_model: Any, response_dict: dict[str, Any], **_: Any
) -> None:
    r"""Refuse an answer that was cut off, which botocore takes as it is."""
    from botocore.exceptions import ResponseStreamingError

    body = response_dict.get("body")
    length = response_dict.get("headers", {}).get("content-length", "")
    if (
        isinstance(body, bytes)
        and length.isdecimal()
        and len(body) != int(length)
        and not operation_model.name.startswith("Head")
    ):
        raise ResponseStreamingError(error="The answer was cut off.")


def _leave_circle(response: tuple[Any, Any] | None, **_: Any) -> None:
    r"""Do not ask for the region of a bucket again and again.

    That is what botocore does if the answer is a redirection,
    as that of a gateway that wants people to log in.
    """
    if response is not None:
        status, headers = response[0].status_code, response[0].headers
        if 300 <= status < 400 and "x-amz-bucket-region" not in headers:
            raise FailureError(
                Kind.OTHER, f"the server answered {status}, which leads elsewhere."
            )


def _credential_errors() -> tuple[type[Exception], ...]:
    from botocore import exceptions

    return (
        exceptions.CredentialRetrievalError,
        exceptions.SSOError,
        exceptions.TokenRetrievalError,
    )


def _skip_metadata_service(session: Any) -> None:
    r"""Do not wait for a metadata service on machines that have none."""
    session.set_config_variable("metadata_service_timeout", 1)
    session.set_config_variable("metadata_service_num_attempts", 1)
    if not _may_be_ec2():
        session.get_component("credential_provider").remove("iam-role")


def _may_be_ec2(path: str = "/sys/class/dmi/id/sys_vendor") -> bool:
    if sys.platform != "linux":
        return True
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            vendor = file.read()
    except OSError:
        return False
    return "Amazon" in vendor or "Xen" in vendor


def _check(found: Any) -> None:
    if found is not None:
        frozen = found.get_frozen_credentials()
        credentials.hide(frozen.access_key, frozen.secret_key, frozen.token)
        credentials.check(
            "The credentials of the AWS tools", frozen.access_key, frozen.token
        )
