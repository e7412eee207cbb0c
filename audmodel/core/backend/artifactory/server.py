r"""Requests to an Artifactory server, and what its responses mean."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import hashlib
from http.cookiejar import DefaultCookiePolicy
import json
import os
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import cast
from urllib.parse import quote

from audmodel.core.backend.access import Access
from audmodel.core.backend.access import proxy_name
from audmodel.core.backend.errors import RepositoryNotFoundError
from audmodel.core.backend.http import connections
from audmodel.core.backend.http import credentials
from audmodel.core.backend.http.agent import user_agent
from audmodel.core.backend.http.causes import translated
from audmodel.core.backend.http.reasons import FULL
from audmodel.core.backend.http.reasons import TOO_LARGE
from audmodel.core.backend.http.reasons import message_of
from audmodel.core.backend.http.reasons import not_reached
from audmodel.core.backend.http.reasons import not_trusted
from audmodel.core.backend.http.reasons import said
from audmodel.core.backend.http.store import ObjectResponse
from audmodel.core.backend.http.store import Store
from audmodel.core.backend.http.transfer import AMBIGUOUS_STATUS
from audmodel.core.backend.http.transfer import BUSY_STATUS
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.http.transfer import Stream
from audmodel.core.backend.http.transfer import read_body
from audmodel.core.backend.http.transfer import unsendable
from audmodel.core.process import requests as interruption
from audmodel.core.process.shared import Shared
from audmodel.core.ranges import Buffer


if TYPE_CHECKING:
    import requests

    class _Session(requests.Session):
        trust: connections.Trust


MIB = 1024 * 1024

_POOL = 256
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 20.0
# No listing or description is larger
LARGEST_JSON = 64 * MIB
# Longer explanations of an error are not read
LARGEST_ERROR = 64 * 1024
_NOT_ARTIFACTORY = (
    "the server that responded to {} is not Artifactory. "
    "Check the host, which often ends with '/artifactory'."
)


_REFUSED = (
    "the server does not accept the credentials (401). They are wrong, or have expired."
)
_DENIED = (
    "access is denied (403). Check the credentials for this host, and what they permit."
)
_MEANINGS = {
    401: (Kind.DENIED, _REFUSED),
    403: (Kind.DENIED, _DENIED),
    # The checksums of what was sent and received differ
    409: (Kind.AMBIGUOUS, "the server responded with 409."),
    413: (Kind.OTHER, TOO_LARGE),
    416: (Kind.RANGE, "the object does not have these bytes (416)."),
    507: (Kind.OTHER, FULL),
}
# By URL and name, as finding out takes a request
_known_repositories: set[tuple[str, str]] = set()
_sessions: Shared[_Session] = Shared()


class Checksums:
    r"""Checksums that Artifactory knows, of content that comes in pieces."""

    _HEADERS: ClassVar = {
        "md5": "X-Checksum",
        "sha1": "X-Checksum-Sha1",
        "sha256": "X-Checksum-Sha256",
    }

    def __init__(self) -> None:
        self._digests = {
            name: hashlib.new(name, usedforsecurity=False) for name in self._HEADERS
        }

    def update(self, data: Buffer) -> None:
        r"""Add content."""
        for digest in self._digests.values():
            digest.update(data)

    @property
    def sha256(self) -> str:
        r"""The one that serves as etag."""
        return self._digests["sha256"].hexdigest()

    @property
    def headers(self) -> dict[str, str]:
        r"""Headers with which the server checks what it receives."""
        return {
            header: self._digests[name].hexdigest()
            for name, header in self._HEADERS.items()
        }

    def match(self, found: dict[str, Any]) -> bool:
        r"""Whether the checksums that the server found are the same."""
        return all(
            found.get(name) in (None, digest.hexdigest())
            for name, digest in self._digests.items()
        )


class Server(Store):
    r"""Repository of an Artifactory server.

    Args:
        url: URL of the server
        repository: name of the repository
        login: user name and secret, ``None`` for anonymous access

    """

    # Requests to Artifactory have no conditions
    other_etag = Kind.CONDITION

    def __init__(
        self, url: str, repository: str, login: tuple[str, str] | None
    ) -> None:
        super().__init__()
        self._url = url
        self._repository = repository
        self._login = login

    def url(self, path: str) -> str:
        r"""Location of an object."""
        return f"{self._url}/{self._repository}{quote(path)}"

    def storage_url(self, path: str) -> str:
        r"""Location of what the server knows about an object or folder."""
        return f"{self._url}/api/storage/{self._repository}{quote(path)}".rstrip("/")

    def management_url(self) -> str:
        r"""Location of the settings of the repository."""
        return f"{self._url}/api/repositories/{self._repository}"

    def send(
        self,
        method: str,
        url: str,
        *,
        timeout: float | None = None,
        **arguments: Any,
    ) -> requests.Response:
        r"""Send a request once.

        A request that changes something is not cancelled before its response.

        Args:
            method: HTTP method
            url: where to send it
            timeout: seconds to wait for data, if not the usual ones
            arguments: arguments for requests

        Returns:
            response, to be closed

        Raises:
            RequestError: if it fails

        """
        from requests.exceptions import RequestException

        session = self._session()

        def request() -> requests.Response:
            return session.request(
                method,
                url,
                stream=True,
                timeout=(CONNECT_TIMEOUT, timeout or READ_TIMEOUT),
                # A write that is redirected would become a read
                allow_redirects=method == "GET",
                **arguments,
            )

        response = translated(
            request if method == "GET" else lambda: interruption.finish(request),
            (RequestException, ValueError),
            lambda error: self.failed(_no_response(error, self._url)),
        )
        self.arrived(response.headers)
        if 200 <= response.status_code < 300:
            return response
        with contextlib.closing(response):
            raise self.failed(_failure_of(response, anonymous=self._login is None))

    def access(self, host: str) -> Access:
        r"""How the server is reached.

        Args:
            host: the server, as the user gave it

        """
        from requests.utils import get_environ_proxies
        from requests.utils import select_proxy

        found = credentials.ARTIFACTORY.origin(host) or "arguments of the backend"
        proxies = get_environ_proxies(self._url, no_proxy=None)
        proxy = select_proxy(self._url, proxies)
        authorities = credentials.ca_bundle("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        is_encrypted = self._url.startswith("https://")
        return Access(
            self._url,
            found if self._login else "",
            credentials.artifactory_places(),
            (authorities or "those that come with requests") if is_encrypted else "",
            proxy_name(proxy, dict(os.environ)),
        )

    def distrust(self) -> None:  # noqa: D102
        self._session().trust.withdraw()

    def _session(self) -> _Session:
        return _sessions.get(
            (self._url, self._login), lambda: _make_session(self._url, self._login)
        )

    def call(
        self,
        action: str,
        path: str,
        send: Callable[[], requests.Response],
        *,
        body: bool = False,
        expected: Container[Kind] = (Kind.ABSENT,),
        is_write: bool = False,
    ) -> dict[str, Any]:
        r"""Send a request until it succeeds, or the retry budget is spent.

        Args:
            action: what it is for, in messages
            path: path of the object it is about
            send: sends it once
            body: whether the response has to have a body
            expected: failures that the caller handles
            is_write: whether it stores something

        Raises:
            RequestError: if it fails as expected
            RepositoryError: if the request fails

        """

        def attempt() -> dict[str, Any]:
            with contextlib.closing(send()) as response:
                return _json(response, required=body)

        return self.repeat(action, path, attempt, expected, is_write=is_write)

    @contextmanager
    def get(  # noqa: D102
        self, path: str, bytes_: str = "", etag: str = ""
    ) -> Iterator[ObjectResponse]:
        headers = {"Range": bytes_} if bytes_ else {}
        with contextlib.closing(
            self.send("GET", self.url(path), headers=headers)
        ) as found:
            # It may have redirected to another server that has the content
            if not any(map(_is_marked, [*found.history, found])):
                raise RequestError(
                    Kind.OTHER, _NOT_ARTIFACTORY.format(found.status_code)
                )
            stream: Stream = found.raw
            yield ObjectResponse(found.status_code, found.headers, stream)

    def found_absent(self) -> None:  # noqa: D102
        # Once per process
        key = (self._url, self._repository)
        if key in _known_repositories:
            return
        what = f"Could not find the repository '{self._url}/{self._repository}'"

        def attempt() -> None:
            try:
                self.send("GET", self.storage_url("/")).close()
            except RequestError as failure:
                if failure.kind is Kind.ABSENT:
                    raise RepositoryNotFoundError(
                        f"{what}: it does not exist. "
                        "Create it, or correct name and host.",
                        failure.cause,
                    ) from failure
                # An account without access to the repository may still read objects
                if failure.is_transient:
                    raise

        self.retry().run(attempt, what)
        _known_repositories.add(key)


def _make_session(url: str, login: tuple[str, str] | None) -> _Session:
    import requests
    from requests.adapters import HTTPAdapter

    trust = connections.Trust()

    def guard(manager: Any) -> None:
        manager.pool_classes_by_scheme = connections.guarded(
            manager.pool_classes_by_scheme, trust
        )

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            guard(self.poolmanager)

        def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(*arguments, **options)
            guard(manager)
            return manager

    class Session(requests.Session):
        def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
            # requests would read ~/.netrc for the target of a redirect
            old, new = response.request.url, prepared_request.url
            if self.should_strip_auth(old, new):  # type: ignore[no-untyped-call]
                prepared_request.headers.pop("Authorization", None)

    session = cast("_Session", Session())
    session.trust = trust
    session.mount("https://", Adapter(_POOL, _POOL))
    if url.startswith("https://"):
        # The error of requests for a missing file does not name the variable
        credentials.ca_bundle("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        # No redirect may lead away from TLS
        del session.adapters["http://"]
    else:
        session.mount("http://", Adapter(_POOL, _POOL))
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": user_agent()})
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def authenticate(request: Any) -> Any:
        # With a function of our own, requests does not read ~/.netrc
        if login is None:
            return request
        if login[0]:
            return requests.auth.HTTPBasicAuth(*login)(request)
        request.headers["Authorization"] = f"Bearer {login[1]}"
        return request

    session.auth = authenticate
    return session


def _failure_of(response: requests.Response, *, anonymous: bool) -> RequestError:
    r"""What a response other than success means."""
    from requests.exceptions import HTTPError

    after = response.headers.get("Retry-After", "")
    body = _body(response)
    kind, reason = _meaning(response, body, anonymous=anonymous)
    words = said(message_of(body), response.headers.get("X-Request-Id", ""))
    cause = HTTPError(f"{response.status_code} {response.reason}")
    return RequestError(
        kind, f"{reason}{words}", cause, float(after) if after.isdecimal() else 0.0
    )


def _meaning(
    response: requests.Response, body: bytes, *, anonymous: bool
) -> tuple[Kind, str]:
    status = response.status_code
    if status in BUSY_STATUS | AMBIGUOUS_STATUS:
        kind = Kind.BUSY if status in BUSY_STATUS else Kind.AMBIGUOUS
        return kind, f"the server responded with {status}."
    if status == 404:
        if _is_artifactory(response, body):
            return Kind.ABSENT, "there is no such object (404)."
        return Kind.OTHER, _NOT_ARTIFACTORY.format(status)
    if status in (401, 403) and anonymous:
        return Kind.DENIED, (
            f"access is denied ({status}), and no credentials were found. "
            f"Looked in {credentials.artifactory_places()}."
        )
    return _MEANINGS.get(status, (Kind.OTHER, f"the server responded with {status}."))


def _body(response: requests.Response) -> bytes:
    r"""Body of an error response, empty if it cannot be read."""
    from urllib3.exceptions import HTTPError

    try:
        return read_body(response.raw, LARGEST_ERROR) or b""
    except (HTTPError, ValueError, OSError):
        return b""


def _is_artifactory(response: requests.Response, body: bytes) -> bool:
    r"""Whether a response is from Artifactory, and not from a proxy."""
    if _is_marked(response):
        return True
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, dict) and isinstance(data.get("errors"), list)


def _is_marked(response: requests.Response) -> bool:
    r"""Whether a response has HTTP headers that only Artifactory sends."""
    return any(
        name.lower().startswith(("x-artifactory-", "x-checksum-", "x-jfrog-"))
        for name in response.headers
    )


def _no_response(error: Exception, url: str) -> RequestError:
    r"""What it means that there was no response."""
    from requests import exceptions
    from urllib3.exceptions import MaxRetryError
    from urllib3.exceptions import NewConnectionError

    cause = error.args[0] if error.args else None
    if isinstance(error, exceptions.SSLError):
        return not_trusted(error)
    if isinstance(error, exceptions.ConnectTimeout | exceptions.ProxyError) or (
        isinstance(cause, MaxRetryError)
        and isinstance(cause.reason, NewConnectionError)
    ):
        is_proxy = isinstance(error, exceptions.ProxyError)
        return not_reached(error, url, proxy=is_proxy)
    if isinstance(error, exceptions.InvalidSchema | exceptions.TooManyRedirects):
        return RequestError(
            Kind.OTHER, "the server redirects to another server, or in a circle.", error
        )
    if isinstance(error, ValueError):
        return unsendable(error)
    return RequestError(
        Kind.AMBIGUOUS, f"there was no response ({type(error).__name__}).", error
    )


def _json(response: requests.Response, *, required: bool) -> dict[str, Any]:
    r"""Body of a response."""
    from urllib3.exceptions import HTTPError

    length = ObjectResponse(response.status_code, response.headers, response.raw).length
    if length is not None and length > LARGEST_JSON:
        raise RequestError(Kind.OTHER, f"the response has {length} bytes.")
    kinds = (HTTPError, ValueError, RecursionError, OSError)

    def load() -> Any:
        with contextlib.suppress(*(() if required else kinds)):
            body = read_body(response.raw, LARGEST_JSON)
            if body is None:
                raise RequestError(Kind.OTHER, "the response is too long.")
            return json.loads(body)
        return {}

    def meaning(error: Exception) -> RequestError:
        return RequestError(Kind.AMBIGUOUS, "the response was truncated.", error)

    data = translated(load, kinds, meaning)
    return data if isinstance(data, dict) else {}


def forget_repository(url: str, name: str) -> None:
    r"""Find out again whether a repository exists."""
    _known_repositories.discard((url, name))
