r"""Clients of boto3 for hosts, made once and used again."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
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
import time
from typing import Any
from typing import TypeVar
from urllib.parse import urlsplit

from audmodel.core.backend.http import connections
from audmodel.core.backend.http import credentials
from audmodel.core.backend.http.agent import user_agent
from audmodel.core.backend.http.causes import without_secrets
from audmodel.core.backend.http.transfer import FailureError
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import read_body
from audmodel.core.backend.s3 import answers as s3_answers
from audmodel.core.backend.s3 import private as s3_private
from audmodel.core.errors import ConfigurationError
from audmodel.core.process.shared import Shared


Result = TypeVar("Result")


# Connections that are kept alive per client, far more than workers
_POOL = 256
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 20.0
# Largest response that is no object, e.g. a thousand names
LARGEST_ANSWER = 16 * 1024 * 1024
# Longer explanations of an error are not read
LARGEST_ERROR = 64 * 1024
_AWS_HOST = re.compile(
    r"s3(?:-fips)?(?:[.-]dualstack)?(?:[.-](?P<region>[a-z]{2}(?:-[a-z]+)+-\d))?"
    r"\.amazonaws\.com(?:\.cn)?"
)
# Variables that the credential chain of botocore reads
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


_clients: Shared[Any] = Shared()
# Seconds until credentials that were refused are looked for once more
_LOOK_AGAIN = 10.0


def client(endpoint: Endpoint, *, anonymous: bool = False) -> Any:
    r"""Client for an endpoint, the same one as before if nothing changed.

    It is made by the session that ``boto3.setup_default_session()`` set up,
    and otherwise by one that finds what boto3 finds.

    Args:
        endpoint: where and how to reach the host
        anonymous: whether to leave credentials aside

    Returns:
        client of boto3

    Raises:
        ConfigurationError: if the configuration of botocore cannot be used
        FailureError: if credentials cannot be retrieved

    """
    session = s3_private.default_session()
    key = _key(endpoint, anonymous, session)
    return _clients.get(key, lambda: _make(endpoint, anonymous, session))


def renewed(endpoint: Endpoint, refused: Any) -> Any:
    r"""Client with other credentials than those that a server refused.

    Credentials that last for some hours may have been renewed since.

    Args:
        endpoint: where and how to reach the host
        refused: client with the credentials that were refused

    Returns:
        client of boto3, ``None`` if there are no other credentials

    Raises:
        ConfigurationError: if the configuration of botocore cannot be used
        FailureError: if credentials cannot be retrieved

    """
    wrapper: _Session = s3_private.http_session(refused)
    if endpoint.keys is not None or not wrapper.may_look_again():
        return None
    session = s3_private.default_session()
    identity = _translated(
        lambda: _identity(_find(session or _session(is_looking=True)))
    )
    if identity == wrapper.identity:
        return None
    _clients.forget(_key(endpoint, False, session), refused)
    return client(endpoint)


def _key(endpoint: Endpoint, anonymous: bool, session: Any) -> Hashable:
    r"""Everything that a client depends on."""
    chain: list[tuple[str, object]] = []
    if endpoint.keys is None and not anonymous:
        chain += [item for item in os.environ.items() if _CHAIN.match(item[0])]
        # Tools that renew credentials write them there
        chain += [(path, _state(path)) for path in _files()]
    proxies = [
        item for item in os.environ.items() if item[0].lower().endswith("_proxy")
    ]
    return endpoint, anonymous, session, tuple(sorted(chain)), tuple(sorted(proxies))


def _files() -> list[str]:
    r"""Files in which the AWS tools look for credentials."""
    places = (
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        ("AWS_CONFIG_FILE", "~/.aws/config"),
    )
    return [os.path.expanduser(os.environ.get(*place)) for place in places]


def _state(path: str) -> tuple[int, ...]:
    r"""Inode, size and time of a file, which change with its content."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _make(endpoint: Endpoint, anonymous: bool, session: Any) -> Any:
    is_looking = endpoint.keys is None and not anonymous

    def make() -> Any:
        own = _session(is_looking=is_looking) if session is None else session
        found = _find(own) if is_looking else None
        is_anonymous = anonymous or (is_looking and found is None)
        return _guard(_plain(own, endpoint, is_anonymous, found), _identity(found))

    return _translated(make)


def _translated(make: Callable[[], Result]) -> Result:
    r"""Raise errors of ours in place of those of boto3."""
    from botocore.exceptions import BotoCoreError

    failure: Exception
    try:
        return make()
    except _credential_errors() as error:
        failure = s3_answers.unanswered(error)
    except ConfigurationError:
        raise
    except (BotoCoreError, ValueError) as error:
        failure = ConfigurationError(
            "The configuration of the AWS tools cannot be used: "
            f"{str(error).rstrip('.')}."
        )
        failure.__cause__ = without_secrets(error)
    try:
        # Outside of the handlers, as the frames below know secrets
        raise failure
    finally:
        # An error that refers to itself by its traceback keeps all frames
        del failure


def _session(*, is_looking: bool) -> Any:
    r"""Session of our own, which takes what is configured for the AWS tools.

    Args:
        is_looking: whether it has to find credentials

    Returns:
        session of boto3

    """
    import boto3.session
    import botocore.session

    core = botocore.session.get_session()
    session = boto3.session.Session(botocore_session=core)
    core.register_component(
        "data_loader", _descriptions(core.get_config_variable("data_path"))
    )
    if is_looking:
        # Do not wait for a metadata service on machines that have none
        core.set_config_variable("metadata_service_timeout", 1)
        core.set_config_variable("metadata_service_num_attempts", 1)
        if not _may_be_ec2():
            s3_private.leave_metadata_service(core)
    return session


def _find(session: Any) -> Any:
    r"""Credentials as they are now, ``None`` if there are none."""
    found = session.get_credentials()
    if found is not None and found.method != "explicit" and not _renews(found):
        # A session reads files once
        found = s3_private.read_credentials(session) or found
    if found is not None:
        frozen = found.get_frozen_credentials()
        credentials.hide(frozen.access_key, frozen.secret_key, frozen.token)
        credentials.check(
            "The credentials of the AWS tools", frozen.access_key, frozen.token
        )
    return found


def _renews(found: Any) -> bool:
    r"""Whether credentials renew themselves."""
    return hasattr(found, "refresh_needed")


def _identity(found: Any) -> int | None:
    r"""Hash of credentials, to notice when they change."""
    return None if found is None else hash(found.get_frozen_credentials())


def _plain(session: Any, endpoint: Endpoint, anonymous: bool, found: Any) -> Any:
    r"""Client as boto3 makes it."""
    from botocore import UNSIGNED
    from botocore.config import Config

    core = s3_private.core(session)
    keys: dict[str, str | None] = {}
    if endpoint.keys is not None:
        keys["aws_access_key_id"], keys["aws_secret_access_key"] = endpoint.keys
    elif found is not None and not _renews(found):
        frozen = found.get_frozen_credentials()
        keys["aws_access_key_id"] = frozen.access_key
        keys["aws_secret_access_key"] = frozen.secret_key
        keys["aws_session_token"] = frozen.token
    ca_bundle = endpoint.ca_bundle or core.get_config_variable("ca_bundle")
    if ca_bundle:
        what = "ca_bundle in the configuration of the AWS tools"
        credentials.existing_bundle(ca_bundle, what)
    style: Any = endpoint.addressing_style
    return session.client(
        "s3",
        endpoint_url=endpoint.url,
        # A server that expects another region names it, and boto3 follows
        region_name=endpoint.region or session.region_name or "us-east-1",
        verify=ca_bundle or True,
        config=Config(
            signature_version=UNSIGNED if anonymous else "s3v4",
            connect_timeout=endpoint.connect_timeout,
            read_timeout=endpoint.read_timeout,
            max_pool_connections=_POOL,
            tcp_keepalive=True,
            # Repeating a conditional write blindly gives wrong answers
            retries={"total_max_attempts": 1},
            # Many storages do not know the newer checksum headers
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": style},
            user_agent_extra=user_agent(),
        ),
        **keys,
    )


def _guard(client: Any, identity: int | None) -> Any:
    r"""Let no response keep a client busy for ever."""
    pools = s3_private.pool_classes(client)
    trust = connections.Trust()
    pools.update(connections.guarded(pools, trust))
    s3_private.stop_asking(client)
    session = _Session(s3_private.http_session(client), identity, trust)
    s3_private.set_http_session(client, session)
    client.meta.events.register("before-parse.s3", _check_length)
    client.meta.events.register_first("needs-retry.s3.HeadBucket", _leave_circle)
    return client


def is_anonymous(client: Any) -> bool:
    r"""Whether a client sends requests without credentials.

    Args:
        client: client of boto3

    Returns:
        whether nothing is signed

    """
    from botocore import UNSIGNED

    return client.meta.config.signature_version is UNSIGNED


def closing_on_error(client: Any) -> AbstractContextManager[None]:
    r"""Close the body of a response if its request fails.

    Args:
        client: client that asks inside the block

    """
    session: _Session = s3_private.http_session(client)
    return session.closing_on_error()


def distrust(client: Any) -> None:
    r"""Use no connection again that is open now.

    Args:
        client: client that they belong to

    """
    session: _Session = s3_private.http_session(client)
    session.trust.withdraw()


@functools.cache
def _descriptions(path: str | None) -> Any:
    r"""Loader of descriptions of services, one for all clients."""
    return s3_private.descriptions(path)


class _Session:
    r"""Sends requests for botocore, and limits the length of responses.

    Args:
        session: session of botocore
        identity: hash of the credentials
        trust: trust in the connections

    """

    def __init__(
        self, session: Any, identity: int | None, trust: connections.Trust
    ) -> None:
        self.identity = identity
        self.trust = trust
        self._session = session
        self._local = threading.local()
        self._looked = -_LOOK_AGAIN

    def may_look_again(self) -> bool:
        r"""Whether it is time to look for other credentials."""
        now = time.monotonic()
        if now - self._looked < _LOOK_AGAIN:
            return False
        self._looked = now
        return True

    @contextmanager
    def closing_on_error(self) -> Iterator[None]:
        r"""Close the body of a response if its request fails.

        Otherwise the reader of the body closes it.
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
        r"""Send a request, and read a response of limited length.

        Args:
            request: request of botocore

        Returns:
            answer of botocore

        """
        from botocore.exceptions import ResponseStreamingError

        streams = s3_private.leave_body(request)
        try:
            response = self._session.send(request)
        finally:
            # Tracebacks with variables would show its signature
            del request
        if not streams or response.status_code >= 300:
            limit = LARGEST_ERROR if response.status_code >= 300 else LARGEST_ANSWER
            body = read_body(response.raw, limit)
            if body is None:
                response.raw.close()
                if response.status_code < 300:
                    raise ResponseStreamingError(error="The response is too long.")
                # The empty body that takes its place has another length
                response.headers.pop("Content-Length", None)
            # The status says enough about an error
            s3_private.set_body(response, body or b"")
        else:
            self._local.body = response.raw
        return response

    def close(self) -> None:
        r"""Close all connections."""
        self._session.close()


def _check_length(
    operation_model: Any, response_dict: dict[str, Any], **_: Any
) -> None:
    r"""Refuse a truncated response, which botocore would accept."""
    from botocore.exceptions import ResponseStreamingError

    body = response_dict.get("body")
    length = response_dict.get("headers", {}).get("content-length", "")
    if (
        isinstance(body, bytes)
        and length.isdecimal()
        and len(body) != int(length)
        and not operation_model.name.startswith("Head")
    ):
        raise ResponseStreamingError(error="The response was truncated.")


def _leave_circle(response: tuple[Any, Any] | None, **_: Any) -> None:
    r"""Do not ask for the region of a bucket again and again.

    botocore does so if the response is a redirect,
    e.g. to the login page of a gateway.
    """
    if response is not None:
        status, headers = response[0].status_code, response[0].headers
        if 300 <= status < 400 and "x-amz-bucket-region" not in headers:
            raise FailureError(
                Kind.OTHER,
                f"the server answered {status}, a redirect that is not followed.",
            )


def _credential_errors() -> tuple[type[Exception], ...]:
    from botocore import exceptions

    return (
        exceptions.CredentialRetrievalError,
        exceptions.SSOError,
        exceptions.TokenRetrievalError,
    )


def _may_be_ec2(path: str = "/sys/class/dmi/id/sys_vendor") -> bool:
    if sys.platform != "linux":
        return True
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            vendor = file.read()
    except OSError:
        return False
    return "Amazon" in vendor or "Xen" in vendor
