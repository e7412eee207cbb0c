r"""Clients of boto3 for hosts, made once and used again."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
from contextlib import AbstractContextManager
import functools
import os
import re
import sys
from typing import Any
from typing import TypeVar

from audmodel.core.backend.http import connections
from audmodel.core.backend.http import credentials
from audmodel.core.backend.http.agent import user_agent
from audmodel.core.backend.http.causes import translated
from audmodel.core.backend.http.causes import without_secrets
from audmodel.core.backend.s3 import private as s3_private
from audmodel.core.backend.s3 import responses as s3_responses
from audmodel.core.backend.s3.endpoint import Endpoint
from audmodel.core.backend.s3.session import Session
from audmodel.core.backend.s3.session import check_length
from audmodel.core.backend.s3.session import leave_circle
from audmodel.core.errors import ConfigurationError
from audmodel.core.process.shared import Shared


Result = TypeVar("Result")


# Connections that are kept alive per client, far more than workers
_POOL = 256
# Variables that the credential chain of botocore reads
_CHAIN = re.compile("AWS_|HOME$|USERPROFILE$|BOTO_CONFIG$")


_clients: Shared[Any] = Shared()


def client(endpoint: Endpoint, *, anonymous: bool = False) -> Any:
    r"""Client for an endpoint, the same one as before if nothing changed.

    It is made by the session that ``boto3.setup_default_session()`` set up,
    and otherwise by one that finds what boto3 finds.

    Args:
        endpoint: where and how to reach the host
        anonymous: whether to leave credentials aside

    Raises:
        ConfigurationError: if the configuration of botocore cannot be used
        RequestError: if credentials cannot be retrieved

    """
    session = s3_private.default_session()
    key = _key(endpoint, anonymous, session)
    return _clients.get(key, lambda: _make(endpoint, anonymous, session))


def renewed(endpoint: Endpoint, refused: Any) -> Any:
    r"""Client with other credentials than those that a server refused.

    Credentials that last for some hours may have been renewed since.

    Returns:
        client of boto3, ``None`` if there are no other credentials

    Raises:
        ConfigurationError: if the configuration of botocore cannot be used
        RequestError: if credentials cannot be retrieved

    """
    wrapper: Session = s3_private.http_session(refused)
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


def origin(endpoint: Endpoint) -> tuple[str, str | None]:
    r"""What the AWS tools contribute to how a host is reached.

    Args:
        endpoint: where and how to reach the host

    Returns:
        where credentials come from, as boto3 names it, empty if there are none,
        and file with certificates to trust, ``None`` for those of boto3

    Raises:
        ConfigurationError: if the configuration of botocore cannot be used
        RequestError: if credentials cannot be retrieved

    """
    is_looking = endpoint.keys is None

    def look() -> tuple[str, str | None]:
        session = s3_private.default_session() or _session(is_looking=is_looking)
        found = _find(session) if is_looking else None
        method = "" if found is None else str(found.method)
        return method, _ca_bundle(endpoint, session)

    return _translated(look)


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

    return translated(make, (BotoCoreError, ValueError), _meaning)


def _meaning(error: Exception) -> Exception:
    if isinstance(error, _credential_errors()):
        return s3_responses.no_response(error)
    if isinstance(error, ConfigurationError):
        return error
    unusable = ConfigurationError(
        f"The configuration of the AWS tools cannot be used: {str(error).rstrip('.')}."
    )
    unusable.__cause__ = without_secrets(error)
    return unusable


def _session(*, is_looking: bool) -> Any:
    r"""Session of our own, which takes what is configured for the AWS tools.

    Args:
        is_looking: whether it has to find credentials

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
        credentials.register_secrets(frozen.access_key, frozen.secret_key, frozen.token)
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

    keys: dict[str, str | None] = {}
    if endpoint.keys is not None:
        keys["aws_access_key_id"], keys["aws_secret_access_key"] = endpoint.keys
    elif found is not None and not _renews(found):
        frozen = found.get_frozen_credentials()
        keys["aws_access_key_id"] = frozen.access_key
        keys["aws_secret_access_key"] = frozen.secret_key
        keys["aws_session_token"] = frozen.token
    style: Any = endpoint.addressing_style
    return session.client(
        "s3",
        endpoint_url=endpoint.url,
        # A server that expects another region names it, and boto3 follows
        region_name=endpoint.region or session.region_name or "us-east-1",
        verify=_ca_bundle(endpoint, session) or True,
        config=Config(
            signature_version=UNSIGNED if anonymous else "s3v4",
            connect_timeout=endpoint.connect_timeout,
            read_timeout=endpoint.read_timeout,
            max_pool_connections=_POOL,
            tcp_keepalive=True,
            # Repeating a conditional write blindly gives wrong results
            retries={"total_max_attempts": 1},
            # Many storages do not know the newer checksum headers
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": style},
            user_agent_extra=user_agent(),
        ),
        **keys,
    )


def _ca_bundle(endpoint: Endpoint, session: Any) -> str | None:
    r"""File with certificates to trust, ``None`` for those that come with boto3."""
    configured = s3_private.core(session).get_config_variable("ca_bundle")
    if endpoint.ca_bundle or not configured:
        return endpoint.ca_bundle
    what = "ca_bundle in the configuration of the AWS tools"
    return credentials.existing_bundle(configured, what)


def _guard(client: Any, identity: int | None) -> Any:
    r"""Let no response keep a client busy for ever."""
    pools = s3_private.pool_classes(client)
    trust = connections.Trust()
    pools.update(connections.guarded(pools, trust))
    s3_private.stop_asking(client)
    session = Session(s3_private.http_session(client), identity, trust)
    s3_private.set_http_session(client, session)
    client.meta.events.register("before-parse.s3", check_length)
    client.meta.events.register_first("needs-retry.s3.HeadBucket", leave_circle)
    return client


def is_anonymous(client: Any) -> bool:
    r"""Whether a client sends requests without credentials."""
    from botocore import UNSIGNED

    return client.meta.config.signature_version is UNSIGNED


def closing_on_error(client: Any) -> AbstractContextManager[None]:
    r"""Close the body of a response if its request fails."""
    session: Session = s3_private.http_session(client)
    return session.closing_on_error()


def distrust(client: Any) -> None:
    r"""Use no connection again that is open now."""
    session: Session = s3_private.http_session(client)
    session.trust.withdraw()


@functools.cache
def _descriptions(path: str | None) -> Any:
    r"""Loader of descriptions of services, one for all clients."""
    return s3_private.descriptions(path)


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
